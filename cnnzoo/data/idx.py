"""The format of the MNIST family: a header of big-endian sizes, then bytes; compressed or not."""

import gzip
import zlib
from pathlib import Path

import torch
from torch import Tensor

from cnnzoo.errors import DataError

IDX_FILES = {"train": "train-{}-ubyte", "test": "t10k-{}-ubyte"}


def idx_file(place: Path, split: str, part: str) -> Path | None:
    """Where a part (`images-idx3` or `labels-idx1`) of a split is, if it is in that folder."""
    name = IDX_FILES[split].format(part)
    return next((path for path in (place / f"{name}.gz", place / name) if path.is_file()), None)


def read_split(place: Path, split: str) -> tuple[Tensor, Tensor]:
    """The images (N, 1, H, W) and labels (N,) of a split.

    Raises:
        DataError: a file is missing or damaged, or they do not fit each other.
    """
    parts = []
    for part in ("images-idx3", "labels-idx1"):
        path = idx_file(place, split, part)
        if path is None:
            raise DataError(
                f"{place} lacks {IDX_FILES[split].format(part)}(.gz); a data set is used whole: add the file"
            )
        parts.append(read_idx(path))
    images, labels = parts
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{place} holds {split} images of shape {tuple(images.shape)} and labels of shape "
            f"{tuple(labels.shape)}; expected (N, H, W) and (N,): the files do not belong together"
        )
    return images.unsqueeze(1), labels.long()


def read_bytes(path: Path) -> bytes:
    """Read a file, which is decompressed if its name ends in .gz.

    Raises:
        DataError: it cannot be read, or is truncated.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; download it again") from None


def read_idx(path: Path) -> Tensor:
    """The bytes of a file, in the shape that its header states.

    Raises:
        DataError: the file is not of that format, or not as long as its header says.
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path} is not an IDX file of bytes: it starts with {content[:4].hex() or 'nothing'}; download it again"
        )
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    expected = 4 + 4 * axes + torch.Size(shape).numel()
    if len(content) != expected:
        raise DataError(
            f"{path} holds {len(content)} bytes; its header {tuple(shape)} promises {expected}: download it again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)
