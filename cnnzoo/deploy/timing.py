"""Candidates that do the same work, tried one after the other against the best so far."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnnzoo.deploy.backends import Backend
from cnnzoo.deploy.checking import Reference
from cnnzoo.errors import DeployError
from cnnzoo.support.text import as_text, first_line, html_table, rich_table

if TYPE_CHECKING:
    from cnnzoo.support.text import Table

ROUNDS = 5
SAMPLE = 0.05  # seconds that a measurement takes at least


@dataclass(frozen=True)
class Candidate:
    """A backend, how it is made, and whether the network's branches are merged for it."""

    backend: type[Backend]
    make: Callable[[], Backend]
    merged: bool = False


@dataclass(frozen=True)
class Trial:
    """What came of one candidate.

    Attributes:
        backend: its name.
        merged: whether the parallel 1x1 convolutions of the Inception blocks were merged for it.
        preparing: seconds until it could run.
        seconds: for one batch; None where it was not timed.
        deviation: of its scores from the original's, as a share of the largest.
        note: why it could not be used.
    """

    backend: str
    merged: bool = False
    preparing: float | None = None
    seconds: float | None = None
    deviation: float | None = None
    note: str = ""


@dataclass(frozen=True)
class OptimizationReport:
    """What was tried, and what was chosen; prints as a table, in notebooks as HTML.

    Attributes:
        title: the network, its batch and what it calculates in.
        batch_size: images in a batch.
        trials: in the order in which they were made.
        chosen: the one that runs the network.
        note: what was not done to the network before.
    """

    title: str
    batch_size: int
    trials: tuple[Trial, ...]
    chosen: Trial
    note: str = ""

    COLUMNS = ("backend", "ready after", "a batch", "images / s", "differs by", "")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row of text for each trial, under `COLUMNS`."""
        for one in self.trials:
            yield (
                one.backend + (", merged" if one.merged else ""),
                "" if one.preparing is None else f"{one.preparing:.1f} s",
                "" if one.seconds is None else f"{one.seconds * 1e3:.3g} ms",
                "" if one.seconds is None else f"{self.batch_size / one.seconds:,.0f}",
                "" if one.deviation is None else f"{one.deviation:.1g}",
                "chosen" if one is self.chosen else one.note,
            )

    def __rich__(self) -> "Table":
        columns, prose = self.COLUMNS, [""]
        return rich_table(columns, self.rows(), right=columns[1:5], prose=prose, title=self.title, total=self.note)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return html_table(self.COLUMNS, self.rows(), ": ".join(filter(None, (self.title, self.note))))


class Contest:
    """The best candidate so far, and what came of all.

    No more than two are alive at a time. Their rounds alternate, and their times are compared within a round: what
    else the machine does meanwhile slows both.

    Args:
        reference: the original, and images to compare scores on.
        images: a batch to time with.
        dtype: what the candidates calculate in.
        progress: show on a terminal what is being prepared.
        note: for the report.
    """

    def __init__(
        self, reference: Reference, images: Tensor, dtype: torch.dtype, *, progress: bool, note: str = ""
    ) -> None:
        self.note = note
        self.reference, self.images, self.dtype, self.progress = reference, images, dtype, progress
        self.trials: list[Trial] = []
        self.best: Backend | None = None
        self.chosen: Trial | None = None

    def enter(self, candidate: Candidate) -> None:
        """Prepare, compare and time a candidate; it stays if it is the fastest."""
        trial = Trial(candidate.backend.name, candidate.merged)
        unavailable = candidate.backend.unavailable(self.images.device, self.dtype)
        if unavailable:
            self.trials.append(replace(trial, note=unavailable))
            return
        started = time.perf_counter()
        try:
            with waiting(f"preparing {trial.backend}", enabled=self.progress):
                runner = candidate.make()
                scores = runner(self.reference.images)
            preparing = time.perf_counter() - started
            apart = self.reference.compare(scores, self.dtype)
        except Exception as error:  # compilers raise whatever they like, and the others are still there
            self.trials.append(replace(trial, note=f"{type(error).__name__}: {first_line(error)}"))
            return
        trial = replace(trial, preparing=preparing, deviation=apart, seconds=self._seconds(runner))
        self.trials.append(trial)
        if self.chosen is None or _time(trial) < _time(self.chosen):
            self.best, self.chosen = runner, trial

    def _seconds(self, runner: Backend) -> float:
        """For one batch; where there is a best already, its time times what this one takes in proportion."""
        calls = self._calls(runner)
        if self.best is None or self.chosen is None:
            return median(self._sample(runner, calls) for _ in range(ROUNDS))
        own = self._calls(self.best)
        ratios = [self._sample(runner, calls) / self._sample(self.best, own) for _ in range(ROUNDS)]
        return _time(self.chosen) * median(ratios)

    def _calls(self, runner: Backend) -> int:
        """How many calls fill a measurement."""
        return max(1, round(SAMPLE / min(self._sample(runner, 1) for _ in range(2))))

    def _sample(self, runner: Backend, calls: int) -> float:
        """Seconds for one call, the mean of some."""
        self._synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            runner(self.images)
        self._synchronize()
        return (time.perf_counter() - started) / calls

    def _synchronize(self) -> None:
        if self.images.is_cuda:
            torch.cuda.synchronize(self.images.device)

    def conclude(self) -> tuple[Backend, OptimizationReport]:
        """The winner, and the report.

        Raises:
            DeployError: no candidate could run the network.
        """
        network = type(self.reference.model).__name__
        if self.best is None or self.chosen is None:
            why = "; ".join(f"{one.backend}: {one.note}" for one in self.trials)
            raise DeployError(f"no backend can run this {network}: {why}")
        where = f"{len(self.images)} x {'x'.join(map(str, self.images.shape[1:]))}, {self.images.device.type}"
        title = f"{network}, {where}, {str(self.dtype).removeprefix('torch.')}"
        return self.best, OptimizationReport(title, len(self.images), tuple(self.trials), self.chosen, self.note)


def _time(trial: Trial) -> float:
    return float("inf") if trial.seconds is None else trial.seconds


@contextmanager
def waiting(what: str, *, enabled: bool) -> Iterator[None]:
    """On a terminal, what is going on and for how long; a compiler may take minutes."""
    if not enabled:
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        shown.add_task(what, total=None)
        yield
