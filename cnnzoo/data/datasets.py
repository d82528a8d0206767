"""The data sets of the recipes, whole in memory: small pictures are trained on faster than they are read."""

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnzoo.data.pictures import class_names, open_picture
from cnnzoo.errors import DataError, unknown

# Where the Debian package dataset-fashion-mnist puts its files, and where a download goes.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DOWNLOADS = Path("~/.cache/cnnzoo/data")

IDX_FILES = {"train": "train-{}-ubyte", "test": "t10k-{}-ubyte"}


@dataclass(frozen=True)
class ImageSet:
    """Pictures (N, C, H, W) in uint8, their labels (N,), and the names of the classes."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def fashion_mnist(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """Fashion-MNIST: 60,000 pictures in `"train"` and 10,000 in `"test"`, (N, 1, 28, 28), ten classes.

    Args:
        folder: holds the four IDX files (compressed or not), or `train` and `test` with a folder of pictures for each
            class. By default the files of the Debian package dataset-fashion-mnist, or an earlier download.
        download: fetch the files through torchvision, into `folder` or a cache, where they are not there.

    Raises:
        DataError: there is no such data, a file is damaged, or a picture cannot be read.
        UnknownNameError: a class's folder has a name that is not a class.
    """
    classes = class_names("fashion_mnist")
    root = DOWNLOADS.expanduser() if folder is None else Path(folder)
    if (root / "train").is_dir() and (root / "test").is_dir():
        return {split: _picture_folders(root / split, classes) for split in ("train", "test")}
    places = [FASHION_MNIST if folder is None else root, root / "FashionMNIST" / "raw"]
    if download and not any(_idx(place, "train", "images-idx3") for place in places):
        from torchvision.datasets import FashionMNIST

        FashionMNIST(root, download=True)
    if folder is not None and not root.is_dir():
        raise DataError(f"fashion_mnist: {root} is not a folder")
    for place in places:
        if _idx(place, "train", "images-idx3"):
            return {split: _idx_split(place, split, classes) for split in ("train", "test")}
    raise DataError(
        f"fashion_mnist: no train-images-idx3-ubyte(.gz) in {' or '.join(map(str, places))}"
        + (", nor folders train/ and test/" if folder is not None else "")
        + "; install Debian's dataset-fashion-mnist, name a folder with --data, or allow --download"
    )


DATA_SETS = {"fashion_mnist": fashion_mnist}
"""The data sets that a recipe can name."""


def _idx(place: Path, split: str, part: str) -> Path | None:
    name = IDX_FILES[split].format(part)
    return next((path for path in (place / f"{name}.gz", place / name) if path.is_file()), None)


def _idx_split(place: Path, split: str, classes: tuple[str, ...]) -> ImageSet:
    parts = []
    for part in ("images-idx3", "labels-idx1"):
        path = _idx(place, split, part)
        if path is None:
            raise DataError(f"fashion_mnist: {place} lacks {IDX_FILES[split].format(part)}(.gz)")
        parts.append(read_idx(path))
    images, labels = parts
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or int(labels.max()) >= len(classes):
        raise DataError(
            f"fashion_mnist: {place} holds {split} images {tuple(images.shape)} and labels {tuple(labels.shape)} up to "
            f"{int(labels.max())}; expected (N, H, W) and (N,) up to {len(classes) - 1}"
        )
    return ImageSet(images.unsqueeze(1), labels.long(), classes)


def read_idx(path: Path) -> Tensor:
    """A file of the MNIST family: a header of big-endian sizes, then bytes; compressed or not.

    Raises:
        DataError: the file is not of that format, or not as long as its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"read_idx: {path} cannot be read: {error}") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"read_idx: {path} is not an IDX file of bytes: it starts with {content[:4].hex() or 'nothing'}"
        )
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    expected = 4 + 4 * axes + torch.Size(shape).numel()
    if len(content) != expected:
        raise DataError(f"read_idx: {path} holds {len(content)} bytes; its header {tuple(shape)} promises {expected}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)


def _picture_folders(root: Path, classes: tuple[str, ...]) -> ImageSet:
    """A folder of pictures for each class, under the class's name or number."""
    by_slug = {_slug(name): label for label, name in enumerate(classes)}
    by_slug |= {str(label): label for label in range(len(classes))}
    images, labels = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if _slug(folder.name) not in by_slug:
            raise unknown(f"fashion_mnist: {root}", "class", folder.name, [_slug(name) for name in classes])
        for path in sorted(folder.iterdir()):
            images.append(_small_grey(path))
            labels.append(by_slug[_slug(folder.name)])
    if not images:
        raise DataError(f"fashion_mnist: {root} holds no pictures; expected {root}/<class>/<picture>")
    return ImageSet(torch.stack(images), torch.tensor(labels), classes)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _small_grey(path: Path) -> Tensor:
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    return functional.pil_to_tensor(v2.Compose([v2.Grayscale(), v2.Resize((28, 28))])(open_picture(path)))
