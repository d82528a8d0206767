"""Measures one group after the other, and writes down what came of each."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
import torch

from benchmarks.environment import clock
from benchmarks.harness import Timed, event_time, seconds_per_call, take_turns, wall_time
from benchmarks.throughput.batches import SEARCH, out_of_memory
from benchmarks.throughput.cases import OURS, Candidate, Group
from benchmarks.throughput.journal import Case, Journal, Limit, Run, significant
from benchmarks.throughput.limit import matrix_rate
from benchmarks.throughput.networks import Networks, precision
from benchmarks.throughput.stopping import Stop
from benchmarks.throughput.ways import PREPARE, Job, Prepared

TIMED: dict[str, Timed] = {"cpu": wall_time, "cuda": event_time}


class DeviceLost(click.ClickException):
    """The device answers every call of this process with an error from now on; the same command goes on."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: in which every candidate takes its turn.
        min_time: seconds that a sample takes at least.
        algorithms: of a convolution that cuDNN tries.
        backend: of `cnnzoo.optimize`.
    """

    rounds: int
    min_time: float
    algorithms: int = 10
    backend: str = "auto"


@dataclass
class Runner:
    """Goes through groups, and may be stopped at any moment.

    Attributes:
        run: where it measures.
        journal: where the results go.
        stop: whether to end.
        show: takes a line for each group.
        batches: those found so far, by network, variant, mode and dtype.
    """

    run: Run
    journal: Journal
    effort: Effort
    stop: Stop = field(default_factory=Stop)
    show: Callable[[str], None] = print
    batches: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def prepared(self, resume: bool) -> set[tuple[Any, ...]]:
        """Take the batches that earlier runs have found here; the keys of what need not be measured again."""
        results = self.journal.read()
        self.batches = results.batches(self.run.place)
        return results.finished(self.run.place) if resume else set()

    def measure(self, groups: Sequence[Group]) -> None:
        """Measure groups in their order.

        Raises:
            Stopped: it was told to end; what came of all groups before is in the journal.
            DeviceLost: a fault has made the device unusable for this process.
        """
        self.journal.write([self.run])
        limits: set[str] = set()
        with imports_kept():
            for number, group in enumerate(groups, start=1):
                self.stop.check()
                with precision(group.dtype):
                    if group.dtype not in limits:
                        self._limit(group.dtype)
                        limits.add(group.dtype)
                    cases = self._group(number, group)
                self.show(f"{number}/{len(groups)}  {group.title}: {in_words(cases)}")

    @property
    def timed(self) -> Timed:
        """How to time on this device."""
        return TIMED[self.run.device]

    def _limit(self, dtype: str) -> None:
        rate = matrix_rate(
            self.run.device, dtype, rounds=self.effort.rounds, min_time=self.effort.min_time, timed=self.timed
        )
        self.journal.write([Limit(self.run.run, dtype, rate, clock(self.run.device))])
        self.show(f"{dtype}: large matrices reach {2e-12 * rate:.3g} TFLOP/s")

    def _group(self, number: int, group: Group) -> list[Case]:
        """A case for each candidate, and for each batch at which they did not fit side by side."""
        written: list[Case] = []
        batch = group.asked or 0
        while True:
            again = lost = False
            try:
                networks = Networks(group, self.run.device)
                batch = batch or self.searched(group, networks)
                cases = self._candidates(number, group, networks, batch)
            except Exception as error:
                self.stop.check()
                batch, full = batch or 1, out_of_memory(error)
                found = {"batch": batch, "status": "out of memory" if full else "failed", "error": first_line(error)}
                cases = [self.case(number, group, one, **found) for one in group.candidates]
                again, lost = full and batch > 1, isinstance(error, torch.AcceleratorError)
            networks = None
            free(self.run.device)
            self.journal.write(cases)
            written += cases
            if lost:
                raise DeviceLost(f"{group.title}: {cases[0].error}")
            if not again:
                return written
            batch //= 2

    def case(self, number: int, group: Group, one: Candidate, **found: Any) -> Case:
        """What came of a candidate."""
        of = (group.network, group.classic, group.mode, group.dtype)
        return Case(self.run.run, number, *of, one.library, one.way, asked=group.asked, **found)

    def searched(self, group: Group, networks: Networks) -> int:
        """The batch to measure a network with, the same in all its groups."""
        key = (group.network, group.classic, group.mode, group.dtype)
        if key not in self.batches:
            self.batches[key] = SEARCH[self.run.device].run(partial(self._rate, group, networks))
        return self.batches[key]

    def _rate(self, group: Group, networks: Networks, batch: int) -> float:
        """Images per second at a batch, of ours as it comes."""
        job = Job(networks.copy(OURS), networks.batches(batch), group.mode, self.timed)
        return batch / seconds_per_call(PREPARE["eager"](job).call, self.effort.min_time, self.timed)

    def _candidates(self, number: int, group: Group, networks: Networks, batch: int) -> list[Case]:
        """Prepare all of a group, and let them take turns."""
        batches = networks.batches(batch)
        found: dict[str, Any] = {"batch": batch, "macs": networks.macs}
        ready: dict[Candidate, Prepared] = {}
        cases = []
        for one in group.candidates:
            held = torch.cuda.memory_allocated() if self.run.device == "cuda" else 0
            try:
                job = Job(networks.copy(one.library), batches, group.mode, self.timed, held, self.effort.backend)
                with choosing_algorithms(self.effort.algorithms):
                    ready[one] = PREPARE[one.way](job)
            except Exception as error:
                self.stop.check()
                if out_of_memory(error) or isinstance(error, torch.AcceleratorError):
                    raise
                cases.append(self.case(number, group, one, status="failed", error=first_line(error), **found))
        measures = {
            one: partial(seconds_per_call, prepared.call, self.effort.min_time, self.timed)
            for one, prepared in ready.items()
        }
        with choosing_algorithms(self.effort.algorithms):
            taken = take_turns(measures, self.effort.rounds) if measures else {}
        for one, samples in taken.items():
            rates = tuple(significant(batch / seconds) for seconds in samples.values)
            more = {"rates": rates, "peak_bytes": ready[one].peak_bytes, "detail": ready[one].detail}
            cases.append(self.case(number, group, one, status="measured", **found, **more))
        return cases


@contextmanager
def imports_kept() -> Iterator[None]:
    """Spare garbage collection what is there already: to look through it takes longer than to measure most groups."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def choosing_algorithms(count: int) -> Iterator[None]:
    """Let cuDNN try so many algorithms for each convolution that it has not met yet, and take the fastest."""
    cudnn = torch.backends.cudnn
    if cudnn.is_available():
        cudnn.benchmark_limit = count
    cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.benchmark = False


def free(device: str) -> None:
    """Give back the memory of networks that are no longer there, and forget what was compiled for them."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def first_line(error: Exception) -> str:
    """What was raised, in one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:300]


def in_words(cases: Sequence[Case]) -> str:
    """What came of a group, in one line: our rates, and those of the others as a share of ours."""
    ours = {case.way: case for case in cases if case.library == OURS and case.status == "measured"}
    words = []
    for case in cases:
        name = case.way if case.library == OURS else f"{case.library} {case.way}"
        if case.status != "measured":
            words.append(f"{name} {case.status} at {case.batch}: {case.error}")
        elif case.library != OURS and case.way in ours:
            words.append(f"{name} {case.samples.over(ours[case.way].samples).median:.2f} x")
        else:
            words.append(f"{name} {case.rate:,.4g} images/s")
    batch = next((f"batch {case.batch}, " for case in cases if case.status == "measured"), "")
    return batch + ", ".join(words)
