"""What a data set gives: pictures in memory, or the names of their files."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Pictures in memory, which small ones are trained on faster than they are read.

    Attributes:
        images: (N, C, H, W) in uint8.
        labels: (N,), or (N, positions) where a picture shows several things in a row.
        classes: the names of the classes.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PictureFiles:
    """Pictures of any size, which are read when they are needed, their labels, and the names of the classes."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)
