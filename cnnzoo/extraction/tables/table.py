"""The file that features end up in: safetensors, written as a stream and mapped when it is read."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnzoo.errors import DataError, operation

KEY = "cnnzoo.features"
"""The entry of the header's metadata that says what made a table."""

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


@dataclass(frozen=True, eq=False, repr=False)
class FeatureTable:
    """Features of a folder's images, one row for each.

    Attributes:
        features: (N, F), mapped from the file, which must not be changed in place while they are used.
        files: of each row, relative to the folder, with `/` between folders.
        labels: (N,), int64: the index of the image's class, -1 where it lies in no sub-folder; None where all lie in
            the folder itself.
        classes: the names of the sub-folders.
        origin: what made the table: `model` and `options`, `checkpoint` (its tag), `weights` (a sha256), `layers`,
            `transforms`, `dtype` and `folder` (a sha256 of names, sizes and times of change).
        skipped: the images that could not be read and have no row, and why.
    """

    features: Tensor
    files: list[str]
    labels: Tensor | None
    classes: list[str]
    origin: dict[str, Any]
    skipped: dict[str, str]

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        rows, columns = self.features.shape
        return f"FeatureTable({rows:,} images x {columns:,} features of {self.model})"

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.origin["model"]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose outputs the features are; none stands for what the classifier sees."""
        return tuple(self.origin["layers"])


@operation
def load_features(path: Path | str) -> FeatureTable:
    """Load a table of features that `save_features` or `cnnzoo features` wrote.

    Args:
        path: of the file. Its features are mapped: they take memory as they are looked at.

    Raises:
        DataError: there is no such file, or it is damaged or something else.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.load_pretrained("lenet5")
        >>> made = cnnzoo.save_features(model, "photos/train", "features.safetensors", progress=False, workers=0)
        >>> cnnzoo.load_features("features.safetensors").labels
        tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            origin = origin_in(opened.metadata(), path)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        files, classes, skipped = (_decoded(tensors[name]) for name in ("files", "classes", "skipped"))
        rows, _ = tensors["features"].shape
        if len(files) != rows:
            raise ValueError(f"it has {len(files)} names for {rows} rows")
        return FeatureTable(tensors["features"], files, tensors.get("labels"), classes, origin, skipped)
    except DataError:
        raise
    except (SafetensorError, OSError, LookupError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a whole table of features: {error}; make it again") from None


def origin_in(metadata: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    """What made a table, from the header of its file."""
    try:
        origin = json.loads((metadata or {})[KEY])
    except (KeyError, ValueError, RecursionError):
        origin = None
    if not isinstance(origin, dict):
        raise DataError(f"{path} is no table of features; `cnnzoo features` writes them")
    return origin


def encoded(value: Any) -> Tensor:
    """Names as bytes of JSON: a header has room for the names of some hundred thousand files only, a tensor for all."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decoded(written: Tensor) -> Any:
    return json.loads(written.numpy().tobytes())


@dataclass(frozen=True)
class Column:
    """A tensor that is written piece by piece along its first axis."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Iterable[Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> "Column":
        """A tensor that is at hand."""
        return cls(tensor.dtype, tuple(tensor.shape), [tensor])

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_stream(path: Path, columns: Mapping[str, Column], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file of any size with no more than a piece of it in memory.

    safetensors' own functions take whole tensors. When this returns, the disk has the file.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, column in columns.items():
        offsets = [end, end := end + column.nbytes]
        header[name] = {"dtype": DTYPES[column.dtype], "shape": column.shape, "data_offsets": offsets}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)  # the numbers begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for column in columns.values():
            for piece in column.pieces:
                file.write(piece.contiguous().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
