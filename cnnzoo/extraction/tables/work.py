"""The work: batches through the network, part by part, while images are read and finished parts are written."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from cnnzoo.errors import DataError
from cnnzoo.extraction.tables.batches import Batch, Transforms, loaded, own_share
from cnnzoo.extraction.tables.folder import ImageFolder
from cnnzoo.extraction.tables.parts import Parts
from cnnzoo.extraction.tables.ranks import Ranks


@dataclass(frozen=True)
class Work:
    """What is to be done, and with what: the parts that are missing of the features of some images."""

    extractor: nn.Module
    device: torch.device
    transforms: Transforms
    folder: ImageFolder
    parts: Parts
    missing: list[int]
    batch_size: int
    workers: int | None
    strict: bool

    def attempt(self, ranks: Ranks, progress: bool) -> Exception | None:
        """Make this process's share of the parts; the error that ended it, if one did."""
        left = sum(len(self.parts.span(number)) for number in self.missing)
        workers = own_share() if self.workers is None else self.workers
        empty = torch.empty(0, self.parts.width, dtype=self.parts.dtype, device=self.device)
        try:
            with (
                torch.cuda.device_of(empty),  # the loader would set up the first GPU besides
                loaded(
                    self.folder,
                    map(self.parts.span, ranks.take(self.missing)),
                    self.transforms,
                    size=self.batch_size,
                    workers=min(workers, -(-left // self.batch_size)),
                    pin=empty.is_cuda,
                ) as batches,
                Display(self.parts.images, self.parts.images - left, progress and ranks.rank == 0) as display,
            ):
                self._compute(batches, empty, ranks, display)
        except torch.OutOfMemoryError as error:
            return DataError(
                f"the device has too little memory for batches of {self.batch_size}: {error}; lower "
                "batch_size, and the same command goes on"
            )
        except Exception as error:
            return error
        return None

    @torch.inference_mode()
    def _compute(self, batches: Iterable[Batch], empty: Tensor, ranks: Ranks, display: "Display") -> None:
        rows, skipped = [empty], {}
        with _aside() as write:
            for batch in batches:
                if ranks.failed:
                    return
                for why in batch.unread.values():
                    if self.strict:
                        raise DataError(f"{why}")
                    display.say(f"left out: {why}")
                skipped |= batch.unread
                if len(batch.images):
                    images = batch.images.to(empty.device, non_blocking=True)
                    # Convolutions are faster where the channels of a pixel lie side by side.
                    rows.append(self.extractor(images.to(empty.dtype, memory_format=torch.channels_last)))
                number = batch.numbers.start // self.parts.size
                if batch.numbers.stop == self.parts.span(number).stop:
                    write(partial(self.parts.write, number, torch.cat(rows), skipped))
                    rows, skipped = [empty], {}
                display.show(ranks.count("done", len(batch.numbers)))


@contextmanager
def _aside() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Does one thing at a time while the network goes on; an error of it is raised when the next is handed over.

    What comes from a GPU is waited for here as well, so that the GPU always has the next batch to work on.
    """
    pending: list[Future[None]] = []

    def hand_over(work: Callable[[], None]) -> None:
        if pending:
            pending.pop().result()
        pending.append(thread.submit(work))

    with ThreadPoolExecutor(1) as thread:
        yield hand_over
        if pending:
            pending.pop().result()


class Display:
    """A bar of the images that are done, with their rate and the time that is left, or nothing."""

    def __init__(self, total: int, before: int, enabled: bool) -> None:
        self.total, self.before, self.enabled = total, before, enabled

    def __enter__(self) -> Self:
        if self.enabled:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            rate = TextColumn("{task.fields[rate]}")
            self.bar = Progress(TextColumn("images"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
            self.task = self.bar.add_task("", total=self.total, completed=self.before, rate="")
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.enabled:
            self.bar.stop()

    def show(self, done: int) -> None:
        """So many images are done since the run began."""
        if self.enabled:
            speed = self.bar.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            self.bar.update(self.task, completed=self.before + done, rate=rate)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.enabled:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
