"""The data sets of the recipes: small pictures whole in memory, large ones as files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnzoo.data.captchas import captchas
from cnnzoo.data.idx import idx_file, read_split
from cnnzoo.data.images import ImageSet, PictureFiles
from cnnzoo.data.pictures import class_names, open_picture
from cnnzoo.errors import DataError, unknown

# Where the Debian package dataset-fashion-mnist puts its files, and where a download goes.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DOWNLOADS = Path("~/.cache/cnnzoo/data")

SPLITS = ("train", "test")


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
    return _mnist("fashion_mnist", "FashionMNIST", FASHION_MNIST, folder, download)


def mnist(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """MNIST, the digits: 60,000 pictures in `"train"` and 10,000 in `"test"`, (N, 1, 28, 28), ten classes.

    Arguments and errors as for `fashion_mnist`; there is no package of it, only an earlier download.
    """
    return _mnist("mnist", "MNIST", None, folder, download)


def cifar10(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """CIFAR-10: 50,000 pictures in `"train"` and 10,000 in `"test"`, (N, 3, 32, 32), ten classes.

    Args:
        folder: holds `cifar-10-batches-py`, the unpacked archive of the version for Python; by default an earlier
            download.
        download: fetch it through torchvision, into `folder` or a cache, where it is not there.

    Raises:
        DataError: there is no such data, or a file has not the MD5 sum that its authors state.
    """
    return _cifar("cifar10", "CIFAR10", folder, download)


def cifar100(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """CIFAR-100, with a hundred classes, in `cifar-100-python`; otherwise as `cifar10`."""
    return _cifar("cifar100", "CIFAR100", folder, download)


def image_folder(folder: Path | str | None = None, *, download: bool = False) -> dict[str, PictureFiles]:
    """Pictures in folders, one for each class, as ImageNet is unpacked: `train/<class>/*` and `val/<class>/*`.

    Args:
        folder: holds `train`, and `val` or `test`.
        download: not possible, and an error.

    Raises:
        DataError: no folder was named, it holds something else, or its two parts have different classes.
    """
    if folder is None or download:
        raise DataError(
            "image_folder: pictures of your own cannot be downloaded; name a folder with --data, which holds "
            "train/<class>/<picture> and val/<class>/<picture>"
        )
    root = Path(folder)
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), root / "val")
    splits = {"train": _listed(root / "train"), "test": _listed(held_out)}
    train, test = (split.classes for split in splits.values())
    if train != test:
        only = sorted({*train} ^ {*test})[:5]
        raise DataError(
            f"image_folder: {root}/train and {held_out} have different classes, such as {', '.join(only)}; each holds "
            "a folder for every class"
        )
    return splits


DATA_SETS: dict[str, Callable[..., dict[str, Any]]] = {
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "image_folder": image_folder,
    "captchas": captchas,
}
"""The data sets that a recipe can name."""


def _mnist(name: str, dataset: str, package: Path | None, folder: Path | str | None, download: bool) -> dict[str, Any]:
    """A data set of four IDX files, or of pictures in folders."""
    classes = class_names(name)
    root = DOWNLOADS.expanduser() if folder is None else Path(folder)
    if (root / "train").is_dir() and (root / "test").is_dir():
        return {split: _picture_folders(name, root / split, classes) for split in ("train", "test")}
    first = package if folder is None and package else root
    places = [first, root / dataset / "raw"]
    if download and not any(idx_file(place, "train", "images-idx3") for place in places):
        _download(name, dataset, root)
    if folder is not None and not root.is_dir():
        raise DataError(f"{name}: {root} is not a folder")
    for place in places:
        if idx_file(place, "train", "images-idx3"):
            return {split: ImageSet(*read_split(name, place, split, len(classes)), classes) for split in SPLITS}
    raise DataError(
        f"{name}: no train-images-idx3-ubyte(.gz) in {' or '.join(map(str, places))}"
        + (", nor folders train/ and test/; " if folder is not None else "; ")
        + ("install Debian's dataset-fashion-mnist, " if package else "")
        + "name a folder with --data, or allow --download"
    )


def _cifar(name: str, dataset: str, folder: Path | str | None, download: bool) -> dict[str, ImageSet]:
    from torchvision import datasets

    root = DOWNLOADS.expanduser() if folder is None else Path(folder)
    kind = getattr(datasets, dataset)
    if download:
        _download(name, dataset, root)
    try:  # what is in there is pickled; torchvision unpickles only files of the MD5 sums that it knows
        splits = {split: kind(root, train=split == "train") for split in SPLITS}
    except RuntimeError:
        raise DataError(
            f"{name}: {root / kind.base_folder} is missing, or not what its authors published; name the folder that "
            "holds it with --data, or allow --download"
        ) from None
    return {
        split: ImageSet(
            torch.from_numpy(one.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(one.targets), tuple(one.classes)
        )
        for split, one in splits.items()
    }


def _download(name: str, dataset: str, root: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, dataset)(root, download=True)
    except (OSError, RuntimeError) as error:  # no connection is an OSError of urllib's
        raise DataError(f"{name}: the download into {root} failed: {error}") from None


def _listed(root: Path) -> PictureFiles:
    """What torchvision's ImageFolder finds."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise DataError(f"image_folder: {root} holds no <class>/<picture>: {error}") from None
    paths, labels = zip(*found.samples, strict=True)
    return PictureFiles(paths, labels, tuple(found.classes))


def _picture_folders(name: str, root: Path, classes: tuple[str, ...]) -> ImageSet:
    """A folder of pictures for each class, under the class's name or number."""
    by_slug = {_slug(one): label for label, one in enumerate(classes)}
    by_slug |= {str(label): label for label in range(len(classes))}
    images, labels = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if _slug(folder.name) not in by_slug:
            raise unknown(f"{name}: {root}", "class", folder.name, [_slug(one) for one in classes])
        for path in sorted(folder.iterdir()):
            images.append(_small_grey(path))
            labels.append(by_slug[_slug(folder.name)])
    if not images:
        raise DataError(f"{name}: {root} holds no pictures; expected {root}/<class>/<picture>")
    return ImageSet(torch.stack(images), torch.tensor(labels), classes)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _small_grey(path: Path) -> Tensor:
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    return functional.pil_to_tensor(v2.Compose([v2.Grayscale(), v2.Resize((28, 28))])(open_picture(path)))
