"""What the tables and plots of throughput are made of: the latest results of each machine."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.harness import Samples
from benchmarks.throughput.cases import OURS, WAYS
from benchmarks.throughput.journal import Case, Limit, Results, Run

STEPS = {"infer": 1, "train": 3}
"""How many times the multiply-accumulates of a forward a call takes: a backward pass takes those of two."""

Setting = tuple[str, str]
"""A mode and a dtype."""


@dataclass(frozen=True)
class Pair:
    """A peer's network and ours, each run in a way."""

    library: str
    theirs: str
    ours: str


PEERS = ("torchvision", "timm")
PAIRS = [
    Pair(library, theirs, ours)
    for theirs, ours in (*((way, way) for way in WAYS if WAYS[way].peers), ("eager", "optimized"))
    for library in PEERS
]
"""What is compared for every network: the same way, and what we make of a network beside a peer's as it comes."""


@dataclass
class Row:
    """A network in one setting: the latest case of each library and way."""

    network: str
    classic: bool
    machine: "Machine"
    cases: dict[tuple[str, str], Case] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.network + (", classic" if self.classic else "")

    def ours(self, way: str) -> Case | None:
        """What we reach in a way."""
        return self.cases.get((OURS, way))

    @property
    def best(self) -> Case:
        """The fastest of our ways."""
        return max((case for (library, _), case in self.cases.items() if library == OURS), key=lambda case: case.rate)

    def ratio(self, pair: Pair) -> Samples | None:
        """How many times as many images per second we reach, by the round; None where the two never took turns."""
        peer = self.cases.get((pair.library, pair.theirs))
        return peer and self.machine.ratio(peer, pair.ours)

    @property
    def share(self) -> float | None:
        """The share of the machine's own limit that the fastest way reaches."""
        limit = self.machine.limit(self.best)
        return limit and self.best.rate * self.best.macs * STEPS[self.best.mode] / (limit * self.best.devices)


@dataclass
class Machine:
    """What was measured on one kind of device.

    Attributes:
        runs: the starts of the program that it comes from.
        cases: in the order in which they were measured.
        limits: likewise.
    """

    runs: list[Run]
    cases: list[Case]
    limits: list[Limit]

    @property
    def title(self) -> str:
        threads = self.runs[-1].environment.threads
        return self.device if self.runs[-1].device == "cuda" else f"{self.device}, {threads} threads"

    @property
    def device(self) -> str:
        return self.runs[-1].hardware

    @property
    def slug(self) -> str:
        """The title in names of files."""
        words = "".join(letter if letter.isalnum() else " " for letter in self.title.lower()).split()
        return "-".join((self.runs[-1].device, *words))

    @cached_property
    def turns(self) -> dict[tuple, dict[tuple, Case]]:
        """What took turns, by library and way: a group of a run after the other."""
        found: dict[tuple, dict[tuple, Case]] = {}
        for case in self.cases:
            if case.status == "measured":
                found.setdefault((case.run, case.group), {})[case.library, case.way] = case
        return found

    def ratio(self, peer: Case, way: str) -> Samples | None:
        """Our rates in a way over those of a peer's case, from the last group in which they took turns."""
        for group in reversed(self.turns.values()):
            theirs, ours = group.get((peer.library, peer.way)), group.get((OURS, way))
            if theirs and ours and theirs.key[:4] == peer.key[:4]:
                return ours.samples.over(theirs.samples)
        return None

    def limit(self, case: Case) -> float | None:
        """Multiply-accumulates per second of large matrices in the run and dtype of a case."""
        found = (one.macs_per_second for one in self.limits if (one.run, one.dtype) == (case.run, case.dtype))
        return next(found, None)

    def latest(self) -> dict[tuple, Case]:
        """The last case of each network, setting, library, way and number of devices, whatever its batch."""
        kept: dict[tuple, Case] = {}
        for case in self.cases:
            identity = (*case.key[:4], case.library, case.way, case.devices)
            if case.status == "measured" or kept.get(identity, case).status != "measured":
                kept[identity] = case
        return kept

    @cached_property
    def settings(self) -> dict[Setting, list[Row]]:
        """The networks in each mode and dtype, with all that ran on one device."""
        rows: dict[Setting, dict[tuple[str, bool], Row]] = {}
        for case in self.latest().values():
            if case.status == "measured" and case.devices == 1 and case.way in WAYS:
                networks = rows.setdefault((case.mode, case.dtype), {})
                row = networks.setdefault((case.network, case.classic), Row(case.network, case.classic, self))
                row.cases[case.library, case.way] = case
        return {setting: in_order(networks) for setting, networks in rows.items()}

    def side_by_side(self) -> Iterator[tuple[Case, Case]]:
        """What several devices reached, each with what one alone did."""
        kept = self.latest()
        for (*of, devices), case in kept.items():
            alone = kept.get((*of, 1))
            if devices > 1 and case.status == "measured" and alone and alone.status == "measured":
                yield case, alone

    def unmeasured(self) -> list[Case]:
        """What did not run."""
        return [case for case in self.latest().values() if case.status != "measured"]


def in_order(networks: dict[tuple[str, bool], Row]) -> list[Row]:
    """Those with one of our cases, resnet18 before resnet101."""
    rows = (row for row in networks.values() if any(library == OURS for library, _ in row.cases))
    return sorted(rows, key=lambda row: (numerically(row.network), row.classic))


def numerically(name: str) -> list[tuple[int, str]]:
    """Sorts names by the numbers in them."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def machines(results: Results) -> list[Machine]:
    """The machines that there are results of, GPUs last."""
    found: dict[tuple, Machine] = {}
    of_run: dict[str, Machine] = {}
    for run in results.runs.values():
        threads = run.environment.threads if run.device == "cpu" else 0
        of_run[run.run] = found.setdefault((run.device, run.hardware, threads), Machine([], [], []))
        of_run[run.run].runs.append(run)
    for case in results.cases:
        of_run[case.run].cases.append(case)
    for limit in results.limits:
        of_run[limit.run].limits.append(limit)
    return [found[key] for key in sorted(found) if found[key].cases]
