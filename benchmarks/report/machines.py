"""What the tables and plots of throughput are made of: the latest results of each machine."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.harness import Samples
from benchmarks.peers import PEERS
from benchmarks.throughput.plan import EXECUTIONS, OURS
from benchmarks.throughput.results import Key, Matmul, Measurement, Results, Run

FORWARDS = {"infer": 1, "train": 3}
"""How many times the multiply-adds of a forward a call takes: a backward pass takes those of two."""


@dataclass(frozen=True)
class Pair:
    """A peer's network and ours, and how each is run."""

    library: str
    theirs: str
    ours: str


PAIRS = [
    Pair(library, theirs, ours)
    for theirs, ours in (*((name, name) for name, one in EXECUTIONS.items() if one.peers), ("eager", "optimized"))
    for library in PEERS
]
"""What is compared for every network: the same execution, and what we make of a network beside a peer's as it comes."""


@dataclass
class Row:
    """A network in one mode and dtype: the latest measurement of each library and execution."""

    network: str
    classic: bool
    machine: "Machine"
    measurements: dict[tuple[str, str], Measurement] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return titled(self)

    def ours(self, execution: str) -> Measurement | None:
        """What we reach in an execution."""
        return self.measurements.get((OURS, execution))

    @property
    def best(self) -> Measurement:
        """The fastest of ours."""
        return max(
            (one for (library, _), one in self.measurements.items() if library == OURS), key=lambda one: one.rate
        )

    def ratio(self, pair: Pair) -> Samples | None:
        """How many times as many images per second we reach, by the round; None where the two never took turns."""
        peer = self.measurements.get((pair.library, pair.theirs))
        return self.machine.ratio(peer, pair.ours) if peer else None

    @property
    def share(self) -> float | None:
        """The share of the multiply-adds per second of large matrices, in the same run and dtype, that the best has."""
        best = self.best
        limits = (one.macs_per_second for one in self.machine.matmuls if (one.run, one.dtype) == (best.run, best.dtype))
        limit = next(limits, None)
        return best.rate * best.macs * FORWARDS[best.mode] / limit if limit else None


@dataclass
class Machine:
    """What was measured on one kind of device, in the order in which it was measured."""

    runs: list[Run] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    matmuls: list[Matmul] = field(default_factory=list)

    @property
    def title(self) -> str:
        last = self.runs[-1]
        return last.hardware if last.device == "cuda" else f"{last.hardware}, {last.environment.threads} threads"

    @property
    def slug(self) -> str:
        """The title in names of files."""
        return "-".join((self.runs[-1].device, *re.findall(r"[^\W_]+", self.title.lower())))

    @cached_property
    def turns(self) -> dict[Key, dict[tuple[str, str], Measurement]]:
        """What took turns, by library and execution: a workload of a run after the other."""
        found: dict[Key, dict[tuple[str, str], Measurement]] = {}
        for one in self.measurements:
            if one.measured:
                found.setdefault((one.run, one.group), {})[one.library, one.execution] = one
        return found

    def ratio(self, peer: Measurement, execution: str) -> Samples | None:
        """Our rates over those of a peer, from the last workload in which they took turns."""
        for group in reversed(self.turns.values()):
            theirs, ours = group.get((peer.library, peer.execution)), group.get((OURS, execution))
            if theirs and ours and theirs.setting == peer.setting:
                return ours.samples.over(theirs.samples)
        return None

    @cached_property
    def latest(self) -> dict[Key, Measurement]:
        """The last of each network, setting, library, execution and number of devices, whatever its batch."""
        kept: dict[Key, Measurement] = {}
        for one in self.measurements:
            identity = (*one.setting, one.library, one.execution, one.devices)
            if one.measured or not kept.get(identity, one).measured:
                kept[identity] = one
        return kept

    @cached_property
    def settings(self) -> dict[tuple[str, str], list[Row]]:
        """The networks in each mode and dtype, resnet18 before resnet101, with all that ran on one device."""
        rows: dict[tuple[str, str], dict[Key, Row]] = {}
        for one in self.latest.values():
            if one.measured and one.devices == 1 and one.execution in EXECUTIONS:
                networks = rows.setdefault((one.mode, one.dtype), {})
                row = networks.setdefault((one.network, one.classic), Row(one.network, one.classic, self))
                row.measurements[one.library, one.execution] = one
        return {setting: sorted(filter(has_ours, found.values()), key=numbered) for setting, found in rows.items()}

    def side_by_side(self) -> Iterator[tuple[Measurement, Measurement]]:
        """What several devices reached, each with what one alone did."""
        for (*of, devices), one in self.latest.items():
            alone = self.latest.get((*of, 1))
            if devices > 1 and one.measured and alone and alone.measured:
                yield one, alone


def has_ours(row: Row) -> bool:
    return any(library == OURS for library, _ in row.measurements)


def numbered(row: Row) -> tuple[list[tuple[int, str]], bool]:
    """Sorts networks by the numbers in their names."""
    parts = re.split(r"(\d+)", row.network)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts], row.classic


def titled(one: Row | Measurement) -> str:
    return one.network + (", classic" if one.classic else "")


def machines(results: Results) -> list[Machine]:
    """The machines that there are results of, GPUs last."""
    found: dict[Key, Machine] = {}
    for run in results.runs.values():
        found.setdefault(run.machine, Machine()).runs.append(run)
    of = {run.run: found[run.machine] for run in results.runs.values()}
    for one in results.measurements:
        of[one.run].measurements.append(one)
    for one in results.matmuls:
        of[one.run].matmuls.append(one)
    return [found[key] for key in sorted(found) if found[key].measurements]
