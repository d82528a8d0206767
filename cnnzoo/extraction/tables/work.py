"""The work: batches through the network, part by part, while images are read and finished parts are written."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cnnzoo.errors import DataError
from cnnzoo.extraction.tables.batches import Batch, Transforms, loaded, own_share
from cnnzoo.extraction.tables.folder import ImageFolder
from cnnzoo.extraction.tables.parts import Begun, Parts
from cnnzoo.extraction.tables.ranks import Ranks
from cnnzoo.support.progress import Display


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
        """Make this process's share of the parts; the error that ended it, if one did.

        Whatever ends it, what is done of a part is kept.
        """
        left = sum(len(self.parts.left(number)) for number in self.missing)
        workers = own_share() if self.workers is None else self.workers
        empty = torch.empty(0, self.parts.width, dtype=self.parts.dtype, device=self.device)
        try:
            with (
                torch.cuda.device_of(empty),  # the loader would set up the first GPU besides
                loaded(
                    self.folder,
                    map(self.parts.left, ranks.take(self.missing)),
                    self.transforms,
                    size=self.batch_size,
                    workers=min(workers, -(-left // self.batch_size)),
                    pin=empty.is_cuda,
                ) as batches,
                Display(enabled=progress and ranks.rank == 0) as display,
            ):
                display.begin("images", self.parts.images, before=self.parts.images - left, unit="image")
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
    def _compute(self, batches: Iterable[Batch], empty: Tensor, ranks: Ranks, display: Display) -> None:
        at: tuple[int, Begun] | None = None  # the part that is being made, replaced as a whole: Ctrl-C comes any time
        with _aside() as write:
            try:
                for batch in batches:
                    if ranks.failed:
                        return
                    for why in batch.unread.values():
                        if self.strict:
                            raise DataError(why)
                        display.say(f"left out: {why}")
                    number = batch.numbers.start // self.parts.size
                    rows = self._rows(batch, empty)
                    part = at[1] if at else self.parts.begun(number)
                    done, skipped = part.done + len(batch.numbers), part.skipped | batch.unread
                    at = number, Begun(done, (*part.rows, rows), skipped)
                    if batch.numbers.stop == self.parts.span(number).stop:
                        write(partial(self.parts.write, *at))
                        at = None
                    done = ranks.count("done", len(batch.numbers))
                    display.step(done, partial(display.rate, done))
            finally:
                if at is not None:
                    write(partial(self.parts.write, *at))

    def _rows(self, batch: Batch, empty: Tensor) -> Tensor:
        """The features of a batch (n, F), on the device."""
        if not len(batch.images):
            return empty
        images = batch.images.to(empty.device, non_blocking=True)
        # Convolutions are faster where the channels of a pixel lie side by side.
        return self.extractor(images.to(empty.dtype, memory_format=torch.channels_last))


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
        try:
            yield hand_over
        finally:  # also what is handed over when the work is stopped
            if pending:
                pending.pop().result()
