"""The data sets of the recipes: small images whole in memory, large ones as files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from cnnzoo.data.captcha_files import captchas
from cnnzoo.data.cifar import read_binary, read_pickled
from cnnzoo.data.idx import IDX_FILES, read_split
from cnnzoo.data.images import ImageFiles, ImageSet
from cnnzoo.data.places import Folder, Place
from cnnzoo.data.published import Form, Published
from cnnzoo.errors import DataError, operation

# Where the Debian package dataset-fashion-mnist puts its files, and where a download goes.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DOWNLOADS = Path("~/.cache/cnnzoo/data")

TEST_LABELS = {"mnist": "27ae3e4e09519cfbb04c329615203637", "fashion_mnist": "15d484375f8d13e6eb1aabb0c3f46965"}
"""MD5 sums of the decompressed label files of test sets whose files all have the same names."""


@operation
def fashion_mnist(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """Load Fashion-MNIST: 60,000 images in `"train"` and 10,000 in `"test"`, (N, 1, 28, 28), ten classes.

    Args:
        folder: holds the four IDX files (compressed or not), torchvision's `FashionMNIST/raw`, or image folders
            `train/<class>/` and `test/<class>/` or `val/<class>/`. By default the files of the Debian package
            dataset-fashion-mnist, or an earlier download.
        download: download the files through torchvision, into `folder` or a cache, where there is nothing.

    Raises:
        DataError: the data set is in none of these forms, a file is damaged or of another data set, or a class is
            missing.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.data.fashion_mnist("data/mnist")["train"].classes[9]
        'Ankle boot'
    """
    return _load("fashion_mnist", folder, download)


@operation
def mnist(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """Load MNIST, the digits: 60,000 images in `"train"` and 10,000 in `"test"`, (N, 1, 28, 28), ten classes.

    Arguments and errors are those of `fashion_mnist`, with `MNIST/raw`; there is no Debian package of it.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> sets = cnnzoo.data.mnist("data/mnist")
        >>> sets["test"].images.shape[1:], sets["test"].classes[3]
        (torch.Size([1, 28, 28]), '3')
    """
    return _load("mnist", folder, download)


@operation
def cifar10(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """Load CIFAR-10: 50,000 images in `"train"` and 10,000 in `"test"`, (N, 3, 32, 32), ten classes.

    Args:
        folder: holds the version for Python (`cifar-10-batches-py`, as torchvision unpacks it, or
            `cifar-10-python.tar.gz`), the binary version (`cifar-10-batches-bin`, its files `data_batch_1.bin`..., or
            `cifar-10-binary.tar.gz`), or image folders `train/<class>/` and `test/<class>/` or `val/<class>/`; or it is
            one of these archives. By default an earlier download.
        download: download it through torchvision, into `folder` or a cache, where there is nothing.

    Raises:
        DataError: the data set is in none of these forms, a file is damaged, a pickle does not have the MD5 sum
            that its authors state, or a class is missing.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> cnnzoo.data.cifar10("data/cifar-10-batches-bin")["test"].images.shape  # doctest: +SKIP
        torch.Size([10000, 3, 32, 32])
    """
    return _load("cifar10", folder, download)


@operation
def cifar100(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageSet]:
    """Load CIFAR-100, with a hundred classes; arguments and errors are those of `cifar10`.

    The folders are `cifar-100-python` and `cifar-100-binary`, the archives `cifar-100-python.tar.gz` and
    `cifar-100-binary.tar.gz`.

    Examples:
        >>> import cnnzoo
        >>> len(cnnzoo.data.cifar100("data/cifar-100-binary")["test"].classes)  # doctest: +SKIP
        100
    """
    return _load("cifar100", folder, download)


@operation
def image_folder(folder: Path | str | None = None, *, download: bool = False) -> dict[str, ImageFiles]:
    """List images in folders, one for each class, as ImageNet is unpacked: `train/<class>/*` and `val/<class>/*`.

    Args:
        folder: holds `train`, and `val` or `test`.
        download: not possible, and an error.

    Raises:
        DataError: no folder was named, it holds something else, or its two parts have different classes.

    Examples:
        >>> import cnnzoo
        >>> sets = cnnzoo.data.image_folder("photos")
        >>> sets["train"].classes, len(sets["test"])
        (('green', 'red'), 2)
    """
    if folder is None or download:
        raise DataError(
            "images of your own cannot be downloaded; name a folder with --data, which holds "
            "train/<class>/<image> and val/<class>/<image>"
        )
    root = Path(folder)
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), root / "val")
    splits = {"train": _listed(root / "train"), "test": _listed(held_out)}
    train, test = (split.classes for split in splits.values())
    if train != test:
        only = sorted({*train} ^ {*test})[:5]
        raise DataError(
            f"{root}/train and {held_out} have different classes, such as {', '.join(only)}; each holds "
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


def _load(name: str, folder: Path | str | None, download: bool) -> dict[str, ImageSet]:
    known = _published()
    others = [one for one in known if one.name != name]
    (own,) = (one for one in known if one.name == name)
    return own.load(folder, download, DOWNLOADS.expanduser(), others)


def _published() -> list[Published]:
    """The published data sets of small images."""
    small = {"train": 60_000, "test": 10_000}
    return [
        Published("mnist", "MNIST", (1, 28, 28), small, (_idx_form("MNIST"),), TEST_LABELS["mnist"]),
        Published(
            *(
                "fashion_mnist",
                "FashionMNIST",
                (1, 28, 28),
                small,
                (_idx_form("FashionMNIST"),),
                TEST_LABELS["fashion_mnist"],
            ),
            package=FASHION_MNIST,
            install="Debian's dataset-fashion-mnist",
        ),
        _cifar("cifar10", "CIFAR10", "labels", _CIFAR10_BINARY),
        _cifar("cifar100", "CIFAR100", "fine_labels", _CIFAR100_BINARY),
    ]


_CIFAR10_BINARY = Form(
    files=(*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
    folders=("cifar-10-batches-bin", "."),
    archive="cifar-10-binary.tar.gz",
    read=lambda place, split: read_binary(place, _BATCHES[split], 1),
)
_BATCHES = {"train": _CIFAR10_BINARY.files[:5], "test": _CIFAR10_BINARY.files[5:]}
_CIFAR100_BINARY = Form(
    files=("train.bin", "test.bin"),
    folders=("cifar-100-binary", "."),
    archive="cifar-100-binary.tar.gz",
    read=lambda place, split: read_binary(place, [f"{split}.bin"], 2),
)


def _cifar(name: str, dataset: str, key: str, binary: Form) -> Published:
    from torchvision import datasets

    theirs = getattr(datasets, dataset)  # which knows the MD5 sums that the authors state
    files = {"train": theirs.train_list, "test": theirs.test_list}
    pickles = Form(
        files=tuple(one for split in files.values() for one, _ in split),
        folders=(theirs.base_folder, "."),
        archive=theirs.filename,
        read=lambda place, split: read_pickled(place, files[split], key),
    )
    return Published(name, dataset, (3, 32, 32), {"train": 50_000, "test": 10_000}, (pickles, binary))


def _idx_form(dataset: str) -> Form:
    names = [name.format(part) for name in IDX_FILES.values() for part in ("images-idx3", "labels-idx1")]
    return Form(
        files=tuple(f"{name}{suffix}" for name in names for suffix in ("", ".gz")),
        folders=(".", f"{dataset}/raw"),
        archive="",
        read=_read_idx_split,
    )


def _read_idx_split(place: Place, split: str) -> tuple[Tensor, Tensor]:
    assert isinstance(place, Folder)
    return read_split(place.path, split)


def _listed(root: Path) -> ImageFiles:
    """What torchvision's ImageFolder finds."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise DataError(f"{root} holds no <class>/<image>: {error}") from None
    paths, labels = zip(*found.samples, strict=True)
    return ImageFiles(paths, labels, tuple(found.classes))
