"""Measures one workload after the other, and writes down what came of each."""

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
from benchmarks.harness import Timed, event_time, rounded, seconds_per_call, take_turns, wall_time
from benchmarks.throughput.batches import SEARCH, out_of_memory
from benchmarks.throughput.execution import PREPARE, Job, Prepared
from benchmarks.throughput.matmul import matmul_rate
from benchmarks.throughput.networks import Networks, precision
from benchmarks.throughput.plan import OURS, Candidate, Workload
from benchmarks.throughput.results import Journal, Key, Matmul, Measurement, Run
from benchmarks.throughput.stopping import Stop

TIMED: dict[str, Timed] = {"cpu": wall_time, "cuda": event_time}


class DeviceLost(click.ClickException):
    """The device answers every call of this process with an error from now on; the same command resumes."""


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
    """Goes through workloads, and may be stopped at any moment.

    Attributes:
        run: where it measures.
        journal: where the results go.
        stop: whether to end.
        show: takes a line for each workload.
        batches: those found so far, by setting.
    """

    run: Run
    journal: Journal
    effort: Effort
    stop: Stop = field(default_factory=Stop)
    show: Callable[[str], None] = print
    batches: dict[Key, int] = field(default_factory=dict)

    @property
    def timed(self) -> Timed:
        """How to time on this device."""
        return TIMED[self.run.device]

    def prepared(self, resume: bool) -> set[Key]:
        """Take the batches that earlier runs have found here; the keys of what need not be measured again."""
        results = self.journal.read()
        self.batches = results.batches(self.run.place)
        return results.finished(self.run.place) if resume else set()

    def measure(self, workloads: Sequence[Workload]) -> None:
        """Measure workloads in their order.

        Raises:
            Stopped: it was told to end; what came of all workloads before is in the journal.
            DeviceLost: a fault has made the device unusable for this process.
        """
        self.journal.write([self.run])
        dtypes: set[str] = set()
        with imports_kept():
            for number, workload in enumerate(workloads, start=1):
                self.stop.check()
                with precision(workload.dtype):
                    if workload.dtype not in dtypes:
                        self._matmul(workload.dtype)
                        dtypes.add(workload.dtype)
                    found = self._workload(number, workload)
                self.show(f"{number}/{len(workloads)}  {workload.title}: {in_words(found)}")

    def _matmul(self, dtype: str) -> None:
        effort = {"rounds": self.effort.rounds, "min_time": self.effort.min_time}
        rate = matmul_rate(self.run.device, dtype, **effort, timed=self.timed)
        self.journal.write([Matmul(self.run.run, dtype, rate, clock(self.run.device))])
        self.show(f"{dtype}: large matrices reach {2e-12 * rate:.3g} TFLOP/s")

    def _workload(self, number: int, workload: Workload) -> list[Measurement]:
        """One for each candidate, and for each batch at which they did not fit side by side."""
        written: list[Measurement] = []
        batch = workload.batch or 0
        while True:
            again = lost = False
            try:
                networks = Networks(workload, self.run.device)
                batch = batch or self.searched(workload, networks)
                found = self._candidates(number, workload, networks, batch)
            except Exception as error:
                self.stop.check()
                batch, full = batch or 1, out_of_memory(error)
                what = {"batch": batch, "status": "out of memory" if full else "failed", "error": first_line(error)}
                found = [self.measurement(number, workload, one, **what) for one in workload.candidates]
                again, lost = full and batch > 1, isinstance(error, torch.AcceleratorError)
            networks = None
            free(self.run.device)
            self.journal.write(found)
            written += found
            if lost:
                raise DeviceLost(f"{workload.title}: {found[0].error}")
            if not again:
                return written
            batch //= 2

    def measurement(self, number: int, workload: Workload, one: Candidate, **found: Any) -> Measurement:
        """What came of a candidate."""
        of = (*workload.setting, one.library, one.execution)
        return Measurement(self.run.run, number, *of, asked=workload.batch, **found)

    def searched(self, workload: Workload, networks: Networks) -> int:
        """The batch to measure a network with, the same in all its workloads."""
        if workload.setting not in self.batches:
            found = SEARCH[self.run.device].run(partial(self._rate, workload, networks))
            self.batches[workload.setting] = found
        return self.batches[workload.setting]

    def _rate(self, workload: Workload, networks: Networks, batch: int) -> float:
        """Images per second at a batch, of ours as it comes."""
        job = Job(networks.copy(OURS), networks.batches(batch), workload.mode, self.timed)
        return batch / seconds_per_call(PREPARE["eager"](job).call, self.effort.min_time, self.timed)

    def _candidates(self, number: int, workload: Workload, networks: Networks, batch: int) -> list[Measurement]:
        """Prepare all of a workload, and let them take turns."""
        batches = networks.batches(batch)
        common: dict[str, Any] = {"batch": batch, "macs": networks.macs}
        ready: dict[Candidate, Prepared] = {}
        found = []
        with choosing_algorithms(self.effort.algorithms):
            for one in workload.candidates:
                held = torch.cuda.memory_allocated() if self.run.device == "cuda" else 0
                try:
                    model = networks.copy(one.library)
                    job = Job(model, batches, workload.mode, self.timed, held, self.effort.backend)
                    ready[one] = PREPARE[one.execution](job)
                except Exception as error:
                    self.stop.check()
                    if out_of_memory(error) or isinstance(error, torch.AcceleratorError):
                        raise
                    what = {"status": "failed", "error": first_line(error)}
                    found.append(self.measurement(number, workload, one, **common, **what))
            measures = {
                one: partial(seconds_per_call, prepared.call, self.effort.min_time, self.timed)
                for one, prepared in ready.items()
            }
            taken = take_turns(measures, self.effort.rounds) if measures else {}
        for one, samples in taken.items():
            rates = tuple(rounded(batch / seconds, 5) for seconds in samples.values)
            what = {"rates": rates, "peak_bytes": ready[one].peak_bytes, "detail": ready[one].detail}
            found.append(self.measurement(number, workload, one, status="measured", **common, **what))
        return found


@contextmanager
def imports_kept() -> Iterator[None]:
    """Spare garbage collection what is there already: looking through it takes longer than most measurements."""
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


def in_words(found: Sequence[Measurement]) -> str:
    """What came of a workload, in one line: our rates, and those of the others as a share of ours."""
    ours = {one.execution: one for one in found if one.library == OURS and one.measured}
    words = []
    for one in found:
        name = one.execution if one.library == OURS else f"{one.library} {one.execution}"
        if not one.measured:
            words.append(f"{name} {one.status} at {one.batch}: {one.error}")
        elif one.library != OURS and one.execution in ours:
            words.append(f"{name} {one.samples.over(ours[one.execution].samples).median:.2f} x")
        else:
            words.append(f"{name} {one.rate:,.4g} images/s")
    batch = next((f"batch {one.batch}, " for one in found if one.measured), "")
    return batch + ", ".join(words)
