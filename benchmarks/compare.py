"""Whether one file of results is slower than another: each case beside the same case."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Result
from benchmarks.report.machines import PAIRS, Machine, machines
from benchmarks.report.timings import hardware, timings
from benchmarks.throughput.plan import OURS
from benchmarks.throughput.results import read


class Speed(NamedTuple):
    """How fast cnnzoo is: images or calls per second, or how many times as many as a peer. The more the faster."""

    median: float
    quartiles: tuple[float, float]

    def inverse(self) -> "Speed":
        """Of a time, or of a ratio of times the other way round."""
        lower, upper = self.quartiles
        return Speed(1 / self.median, (1 / upper, 1 / lower))


@dataclass
class Measured:
    """One case: the hardware on which its rate can be compared, cnnzoo's rate, and ratios to peers in the same run."""

    hardware: str
    rate: Speed
    ratios: dict[str, Speed] = field(default_factory=dict)


class Change(NamedTuple):
    """A case in both files; `beside` names the peer that both speeds are relative to, if there is one."""

    case: str
    beside: str
    old: Speed
    new: Speed

    @property
    def ratio(self) -> float:
        return self.new.median / self.old.median

    def slower(self, tolerance: float) -> bool:
        """Whether it is slower by more than the tolerance, and by more than either measurement scatters."""
        return self.ratio < 1 - tolerance and self.new.quartiles[1] < self.old.quartiles[0]


@click.command()
@click.argument("old", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tolerance", default=0.05, show_default=True, help="The share by which a case may be slower.")
def compare(old: Path, new: Path, tolerance: float) -> None:
    """Compare two files of results; exit with status 1 if the new one is slower.

    A case with a peer is judged by its ratio to the peer in the same run, whatever the hardware. One without is judged
    by its rate, if both files are from the same hardware. It is slower if it is so by more than the tolerance, and the
    quartiles of both measurements lie apart.
    """
    changes = list(in_both(measured(old), measured(new)))
    if not changes:
        raise click.ClickException(
            f"{old} and {new} have no case of cnnzoo's in common; without a peer, the hardware has to be the same, too"
        )
    table = Table("case", "beside", "old", "new", "new / old", "", title=f"{old} and {new}")
    for one in changes:
        numbers = (f"{one.old.median:,.4g}", f"{one.new.median:,.4g}", f"{one.ratio:.3f}")
        table.add_row(one.case, one.beside, *numbers, "SLOWER" if one.slower(tolerance) else "")
    Console().print(table)
    slower = sum(change.slower(tolerance) for change in changes)
    click.echo(f"{len(changes)} compared, {slower} slower by more than {tolerance:.0%}")
    if slower:
        raise SystemExit(1)


def in_both(old: dict[str, Measured], new: dict[str, Measured]) -> Iterator[Change]:
    """The cases that both files have: their ratios to the same peers, or else their rates on the same hardware."""
    for case in (case for case in old if case in new):
        before, after = old[case], new[case]
        peers = [peer for peer in before.ratios if peer in after.ratios]
        for peer in peers:
            yield Change(case, peer, before.ratios[peer], after.ratios[peer])
        if not peers and before.hardware == after.hardware:
            yield Change(case, "", before.rate, after.rate)


def measured(path: Path) -> dict[str, Measured]:
    """The cases of a file, be it of throughput or of another command."""
    found = machines(read([path]))
    if found:
        return dict(one for machine in found for one in of_throughput(machine))
    return of_times(timings(map(json.loads, path.read_text("utf-8").splitlines())))


def of_throughput(machine: Machine) -> Iterator[tuple[str, Measured]]:
    """Images per second."""
    for (mode, dtype), rows in machine.settings.items():
        for row in rows:
            for (library, execution), one in row.measurements.items():
                if library == OURS:
                    pairs = (pair for pair in PAIRS if pair.ours == execution)
                    ratios = {f"{pair.library}, {pair.theirs}": row.ratio(pair) for pair in pairs}
                    speeds = {peer: Speed(ratio.median, ratio.quartiles) for peer, ratio in ratios.items() if ratio}
                    name = f"{row.title}, {mode}, {dtype}, {execution}, {machine.runs[-1].device}"
                    yield name, Measured(machine.title, Speed(one.rate, one.samples.quartiles), speeds)


def of_times(results: Iterable[Result]) -> dict[str, Measured]:
    """Times for a call, of which those of cnnzoo's candidates count."""
    results = list(results)
    found: dict[str, Measured] = {}
    for one in results:
        if one.candidate.startswith(OURS):
            rate = Speed(one.median, one.quartiles).inverse()
            found[f"{one.case}, {one.candidate}"] = Measured(f"{one.environment.gpu}, {hardware(one)}", rate)
    for one in results:
        ratio = Speed(one.ratio, one.ratio_quartiles)  # how many times as long as the reference it takes
        ours, theirs = f"{one.case}, {one.candidate}", f"{one.case}, {one.reference}"
        if ours in found and theirs not in found:
            found[ours].ratios[one.reference] = ratio.inverse()
        elif theirs in found and ours not in found:
            found[theirs].ratios[one.candidate] = ratio
    return found
