"""Images read from disk, side by side with the network that is busy with those before them."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cnnzoo.data.image_files import open_image
from cnnzoo.errors import DataError
from cnnzoo.extraction.tables.folder import ImageFolder
from cnnzoo.support.workers import own_processors

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_WORKERS = 16
"""More decode faster than one device computes, and each holds two batches."""

Transforms = Callable[["Image"], Tensor]


@dataclass(frozen=True)
class Batch:
    """Images with consecutive numbers.

    Attributes:
        numbers: of all of them.
        images: (n, C, H, W), of those that could be read.
        unread: why the others could not, by number.
    """

    numbers: range
    images: Tensor
    unread: dict[int, str]

    def pin_memory(self) -> "Batch":
        """The loader calls this, for a GPU."""
        return replace(self, images=self.images.pin_memory())


class Images(Dataset):
    """Images by number and name, a batch at a time."""

    def __init__(self, root: Path, transforms: Transforms) -> None:
        self.root, self.transforms = root, transforms

    def __getitem__(self, index: Sequence[tuple[int, str]]) -> Batch:
        images, unread = [], {}
        for number, name in index:
            try:
                images.append(self.transforms(open_image(self.root / name)))
            except Exception as error:  # PIL raises anything on a damaged file, and one must not end a run of a million
                unread[number] = error.text if isinstance(error, DataError) else f"{name}: {error!r}"
        stacked = default_collate(images) if images else torch.empty(0)  # of a worker, in shared memory at once
        return Batch(range(index[0][0], index[-1][0] + 1), stacked, unread)


class Batches:
    """The batches of some parts, in order; none has images of two parts."""

    def __init__(self, files: Sequence[str], spans: Iterable[range], size: int) -> None:
        self.files, self.spans, self.size = files, spans, size

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        for span in self.spans:
            for start in range(span.start, span.stop, self.size):
                yield [(number, self.files[number]) for number in range(start, min(start + self.size, span.stop))]


@contextmanager
def loaded(
    folder: ImageFolder, spans: Iterable[range], transforms: Transforms, *, size: int, workers: int, pin: bool
) -> Iterator[Iterator[Batch]]:
    """The images of some parts, decoded by `workers` processes while the block lasts, by this one where there are 0.

    Raises:
        DataError: a worker was killed, or the folder has gone.
    """
    loader: DataLoader[Any] = DataLoader(
        Images(folder.root, transforms),
        batch_size=None,  # the data set makes the batches
        sampler=Batches(folder.files, spans, size),
        num_workers=workers,
        pin_memory=pin,
    )
    batches = _checked(iter(loader), folder.root)  # its processes start here, before there are threads
    try:
        yield batches
    finally:
        batches.close()  # which ends them


def _checked(batches: Iterator[Batch], root: Path) -> Generator[Batch]:
    try:
        for batch in batches:
            if batch.unread and not _there(root):
                raise DataError(
                    f"{root} has gone: {next(iter(batch.unread.values()))}; bring it back, and the same command goes on"
                )
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a process that reads images was killed, most likely for want of memory: {error}; lower "
            "workers or batch_size, and the same command goes on"
        ) from None


def _there(root: Path) -> bool:
    """A disk that has gone leaves an error, or an empty folder, where it was."""
    try:
        with os.scandir(root) as entries:
            return any(entries)
    except OSError:
        return False


def own_share() -> int:
    """The workers that a process has by default, where torchrun started several of them on this machine."""
    return min(MOST_WORKERS, max(1, own_processors()))
