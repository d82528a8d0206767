"""Published data sets of small images: the forms in which people keep them, and the search for one of these."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnzoo.data.image_files import class_names, open_image
from cnnzoo.data.images import ImageSet
from cnnzoo.data.places import Archive, Folder, Place
from cnnzoo.errors import DataError, suggestion

SPLITS = ("train", "test")
TEST_FOLDERS = ("test", "val")

Read = Callable[[Place, str], tuple[Tensor, Tensor]]
"""From a place and a split to its images (N, C, H, W) in uint8 and labels (N,)."""


@dataclass(frozen=True)
class Form:
    """An official form of a data set: files of these names, in a folder or an archive.

    Attributes:
        files: the files of which it consists; any of them shows that this form is meant.
        folders: where they may be below the folder that the user named; `"."` is that folder itself.
        archive: the official archive with the files, or `""`.
        read: reads a split.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    archive: str
    read: Read

    def find(self, root: Path) -> Place | None:
        """The place below a folder, or the archive, that has this form."""
        return next((place for place in self._places(root) if any(name in place for name in self.files)), None)

    def _places(self, root: Path) -> Iterator[Place]:
        if root.is_file():
            if self.archive:
                yield Archive(root)
            return
        yield from (Folder(root / name) for name in self.folders)
        if self.archive and (root / self.archive).is_file():
            yield Archive(root / self.archive)

    def __str__(self) -> str:
        """What was looked for, for messages."""
        below = " or ".join("the folder itself" if name == "." else f"{name}/" for name in self.folders)
        return f"{self.files[0]} in {below}" + (f", {self.archive}" if self.archive else "")


@dataclass(frozen=True)
class Published:
    """A published data set of small images.

    Attributes:
        name: that recipes use.
        torchvision: the name of torchvision's class, which downloads it.
        shape: of an image.
        sizes: images in each published split.
        forms: the official forms; each data set can also be image folders.
        labels: the MD5 sum of the test set's labels, by which data sets with the same file names are told apart.
        package: where a package of the operating system puts the files.
        install: which package that is.
    """

    name: str
    torchvision: str
    shape: tuple[int, int, int]
    sizes: dict[str, int]
    forms: tuple[Form, ...]
    labels: str = ""
    package: Path | None = None
    install: str = ""

    def load(
        self, folder: Path | str | None, download: bool, downloads: Path, others: Sequence["Published"]
    ) -> dict[str, ImageSet]:
        """Load both splits from the first form that is found.

        Args:
            folder: a folder, or an official archive; by default the package, then earlier downloads.
            download: download through torchvision where there is nothing.
            downloads: where downloads go where no folder is named.
            others: the other data sets, to say which of them a folder holds instead.
        """
        root = downloads if folder is None else Path(folder)
        roots = [self.package, root] if folder is None and self.package else [root]
        found = self._find(roots)
        if found is None and download:
            self._download(root)
            found = self._find(roots)
        if found is None:
            if folder is not None and not root.exists():
                raise DataError(f"{self.name}: there is no folder {root}; name one with --data")
            raise DataError(self._missing(roots, others))
        form, place, where = found
        if form is None:
            splits = {"train": self._folders(where / "train"), "test": self._folders(_test_folder(where))}
        else:
            assert place is not None
            self._require_own_labels(place, others)
            splits = {split: form.read(place, split) for split in SPLITS}
        return {split: self._checked(split, *parts, where) for split, parts in splits.items()}

    def _find(self, roots: Sequence[Path]) -> tuple[Form | None, Place | None, Path] | None:
        """The first form that is there: it and its place, or None for image folders, and the root."""
        for root in roots:
            for form in self.forms:
                place = form.find(root)
                if place is not None:
                    return form, place, root
            if (root / "train").is_dir() and _test_folder(root).is_dir():
                return None, None, root
        return None

    def _missing(self, roots: Sequence[Path], others: Sequence["Published"]) -> str:
        looked = "; ".join(
            [
                *map(str, self.forms),
                "images in train/<class>/ with " + " or ".join(f"{one}/<class>/" for one in TEST_FOLDERS),
            ]
        )
        places = [(other, form.find(root)) for other in others for form in other.forms for root in roots]
        found = [(other, place) for other, place in places if place is not None]
        sure = [(other, place) for other, place in found if other.labels and other._label_sum(place) == other.labels]
        instead = [other.name for other, _ in sure or found]
        holds = f"; there is {' and '.join(instead)} instead (data.name={instead[0]})" if instead else ""
        install = f"install {self.install}, " if self.install else ""
        return (
            f"{self.name}: nothing found in {' or '.join(map(str, roots))}{holds}. Looked for {looked}: "
            f"{install}name a folder with --data, or allow --download"
        )

    def _label_sum(self, place: Place) -> str:
        """The MD5 sum of the label file of the test set, where data sets are told apart by it."""
        from cnnzoo.data.idx import idx_file, read_bytes

        path = idx_file(place.path, "test", "labels-idx1") if self.labels and isinstance(place, Folder) else None
        return hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest() if path else ""

    def _require_own_labels(self, place: Place, others: Sequence["Published"]) -> None:
        found = self._label_sum(place)
        for other in others:
            if found and found == other.labels:
                raise DataError(
                    f"{self.name}: {place.shown('')} holds {other.name}, whose files have the same names; set "
                    f"data.name={other.name}, or name another folder with --data"
                )

    def _download(self, root: Path) -> None:
        from torchvision import datasets

        try:
            getattr(datasets, self.torchvision)(root, download=True)
        except (OSError, RuntimeError) as error:  # no connection is an OSError of urllib's
            raise DataError(
                f"{self.name}: the download into {root} failed: {error}; name a folder that holds it with --data"
            ) from None

    def _folders(self, root: Path) -> tuple[Tensor, Tensor]:
        """Images in a folder for each class, which is called after the class or its number."""
        classes = class_names(self.name)
        by_slug = {_slug(one): label for label, one in enumerate(classes)}
        by_slug |= {str(label): label for label in range(len(classes))}
        images, labels = [], []
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            label = by_slug.get(_slug(folder.name))
            if label is None:
                raise DataError(
                    f"{self.name}: {folder} is called after no class of this data set: "
                    f"{suggestion(folder.name, [_slug(one) for one in classes])} For images of other classes set "
                    "data.name=image_folder"
                )
            for path in sorted(folder.iterdir()):
                images.append(self._image(path))
                labels.append(label)
        if not images:
            raise DataError(f"{self.name}: {root} holds no images; expected {root}/<class>/<image>")
        return torch.stack(images), torch.tensor(labels)

    def _image(self, path: Path) -> Tensor:
        from PIL import Image
        from torchvision.transforms.v2.functional import pil_to_tensor

        channels, height, width = self.shape
        image = open_image(path).convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return pil_to_tensor(image)

    def _checked(self, split: str, images: Tensor, labels: Tensor, where: Path) -> ImageSet:
        """A split, if it is one of this data set."""
        classes = class_names(self.name)
        counts = labels.bincount(minlength=len(classes))
        if len(counts) > len(classes):
            raise DataError(
                f"{self.name}: {where} has the {split} label {len(counts) - 1}; this data set has the labels 0 to "
                f"{len(classes) - 1}: it is damaged, or another data set (data.name=)"
            )
        missing = [classes[label] for label in (counts == 0).nonzero().flatten().tolist()]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DataError(
                f"{self.name}: {where} has no {split} image of {', '.join(missing[:3])}{more}: every class has to "
                "occur: add the images, or use data.name=image_folder for a data set with fewer classes"
            )
        if tuple(images.shape[1:]) != self.shape:
            raise DataError(
                f"{self.name}: {where} has {split} images of shape {tuple(images.shape[1:])}; those of this data set "
                f"have {self.shape}: it is another data set (data.name=)"
            )
        return ImageSet(images.contiguous(), labels, classes, whole=self.sizes[split])


def _test_folder(root: Path) -> Path:
    return next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), root / TEST_FOLDERS[0])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
