"""What a data set gives: images in memory, or the names of their files."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnzoo.errors import DataError, operation


@dataclass(frozen=True)
class ImageSet:
    """Images in memory, which small ones are trained on faster than they are read.

    Attributes:
        images: (N, C, H, W) in uint8.
        labels: (N,), or (N, positions) where an image shows several things in a row.
        classes: the names of the classes.
        whole: images in the split as it was published, where it is one of a published data set.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    whole: int | None = None

    @property
    def is_part(self) -> bool:
        """Whether the split has fewer images than were published."""
        return self.whole is not None and len(self) < self.whole

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "ImageSet":
        return replace(self, images=self.images[rows], labels=self.labels[rows], whole=None)


@dataclass(frozen=True)
class ImageFiles:
    """Images of any size, which are read when they are needed, their labels, and the names of the classes."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "ImageFiles":
        paths, labels = ([values[row] for row in rows.tolist()] for values in (self.paths, self.labels))
        return replace(self, paths=tuple(paths), labels=tuple(labels))


@operation
def hold_out(
    images: ImageSet | ImageFiles, count: int, seed: int
) -> tuple[ImageSet | ImageFiles, ImageSet | ImageFiles]:
    """Split a training set: the images to train on, and `count` others, drawn at random.

    Args:
        images: the training set.
        count: images to hold out.
        seed: the same seed holds out the same images.

    Raises:
        DataError: nothing would be left to train on.

    Examples:
        >>> import cnnzoo
        >>> training, held_out = cnnzoo.data.hold_out(cnnzoo.data.mnist("data/mnist")["train"], 5, seed=0)
        >>> len(training), len(held_out)
        (15, 5)
    """
    if not 0 < count < len(images):
        raise DataError(
            f"got {count:,} images to hold out of a training set of {len(images):,}; at least one is held "
            "out and at least one is left to train on (validation=)"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    held_out, training = order[:count].sort().values, order[count:].sort().values
    return images[training], images[held_out]
