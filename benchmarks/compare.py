"""Whether one file of results is slower than another: each case beside the same case."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console

from benchmarks.harness import Result, Samples
from benchmarks.report.measured import PAIRS, Machine, machines
from benchmarks.report.others import timings
from benchmarks.throughput.cases import OURS
from benchmarks.throughput.journal import read
from cnnzoo.support.text import rich_table

COLUMNS = ("case", "beside", "old", "new", "new / old", "")


@dataclass(frozen=True)
class Speed:
    """How fast cnnzoo is: images or calls per second, or how many times as many as a peer. The more the faster."""

    median: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, samples: Samples) -> "Speed":
        return cls(samples.median, samples.quartiles)

    def inverse(self) -> "Speed":
        """Of a time, or of a ratio of times the other way round."""
        lower, upper = self.quartiles
        return Speed(1 / self.median, (1 / upper, 1 / lower))


@dataclass
class Measured:
    """One case.

    Attributes:
        hardware: which rates can be compared on.
        rate: cnnzoo's.
        ratios: to the peers that took turns with it.
    """

    hardware: str
    rate: Speed
    ratios: dict[str, Speed] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
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
    rows = []
    for change in changes:
        numbers = (f"{change.old.median:,.4g}", f"{change.new.median:,.4g}", f"{change.ratio:.3f}")
        rows.append((change.case, change.beside, *numbers, "SLOWER" if change.slower(tolerance) else ""))
    slower = sum(change.slower(tolerance) for change in changes)
    total = f"{len(changes)} compared, {slower} slower by more than {tolerance:.0%}"
    Console().print(rich_table(COLUMNS, rows, right=COLUMNS[2:5], title=f"{old} and {new}", total=total))
    if slower:
        raise SystemExit(1)


def in_both(old: dict[str, Measured], new: dict[str, Measured]) -> Iterator[Change]:
    """The cases that both files have: their ratios to the same peers, or else their rates on the same hardware."""
    for case, before in old.items():
        after = new.get(case)
        if after is None:
            continue
        peers = [peer for peer in before.ratios if peer in after.ratios]
        for peer in peers:
            yield Change(case, peer, before.ratios[peer], after.ratios[peer])
        if not peers and before.hardware == after.hardware:
            yield Change(case, "", before.rate, after.rate)


def measured(path: Path) -> dict[str, Measured]:
    """The cases of a file, be it of throughput or of another command."""
    found = machines(read([path]))
    if found:
        return {case: one for machine in found for case, one in of_throughput(machine)}
    return of_times(timings(map(json.loads, path.read_text("utf-8").splitlines())))


def of_throughput(machine: Machine) -> Iterator[tuple[str, Measured]]:
    """Images per second."""
    for (mode, dtype), rows in machine.settings.items():
        for row in rows:
            for (library, way), case in row.cases.items():
                if library == OURS:
                    pairs = (pair for pair in PAIRS if pair.ours == way)
                    ratios = {f"{pair.library}, {pair.theirs}": row.ratio(pair) for pair in pairs}
                    speeds = {peer: Speed.of(ratio) for peer, ratio in ratios.items() if ratio}
                    name = f"{row.title}, {mode}, {dtype}, {way}, {machine.runs[-1].device}"
                    yield name, Measured(machine.title, Speed.of(case.samples), speeds)


def of_times(results: Iterable[Result]) -> dict[str, Measured]:
    """Times for a call, of which those of cnnzoo's candidates count."""
    results = list(results)
    found: dict[str, Measured] = {}
    for one in results:
        if one.candidate.startswith(OURS):
            rate = Speed(one.median, one.quartiles).inverse()
            hardware = f"{one.environment.gpu}, {one.environment.cpu}, {one.environment.threads} threads"
            found[f"{one.case}, {one.candidate}"] = Measured(hardware, rate)
    for one in results:
        ratio = Speed(one.ratio, one.ratio_quartiles)  # how many times as long as the reference it takes
        ours, theirs = f"{one.case}, {one.candidate}", f"{one.case}, {one.reference}"
        if ours in found and theirs not in found:
            found[ours].ratios[one.reference] = ratio.inverse()
        elif theirs in found and ours not in found:
            found[theirs].ratios[one.candidate] = ratio
    return found
