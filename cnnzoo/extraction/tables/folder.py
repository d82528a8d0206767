"""The images below a folder, in one order, and the classes that its sub-folders are."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.errors import DataError

NO_CLASS = -1
"""The label of an image that lies in no sub-folder."""


@dataclass(frozen=True)
class ImageFolder:
    """The images below a folder.

    Attributes:
        root: the folder.
        files: relative to it, with `/` between folders, sorted folder by folder.
        fingerprint: sha256 of their names, sizes and times of change.
    """

    root: Path
    files: list[str]
    fingerprint: str

    @property
    def classes(self) -> list[str]:
        """The sub-folders that hold images, sorted; none where all images lie in the folder itself."""
        return sorted({name for name in map(_class, self.files) if name is not None})


def labels(files: Sequence[str], classes: Sequence[str]) -> list[int]:
    """For each file the index of its class."""
    number = {name: label for label, name in enumerate(classes)}
    return [number.get(_class(file) or "", NO_CLASS) for file in files]


def _class(file: str) -> str | None:
    first, slash, _ = file.partition("/")
    return first if slash else None


def list_images(root: Path) -> ImageFolder:
    """Everything below a folder that torchvision's `ImageFolder` would take for an image, by the end of its name.

    What is hidden (`.thumbnails/`, `._1.jpg`) is left out. Links are followed; one that leads nowhere counts as an
    image, which then cannot be read.

    Raises:
        DataError: there is no such folder, it holds no images, or a link in it leads back to where it is from.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; name the one that the images are in")
    found = sorted(_below(root, "", ()), key=lambda one: one[0].split("/"))
    if not found:
        raise DataError(
            f"{root} holds no images; expected {root}/<image> or {root}/<class>/<image>, with "
            f"names that end in {', '.join(_suffixes())}"
        )
    digest = hashlib.sha256()
    for name, size, changed in found:
        digest.update(os.fsencode(name) + f"\0{size}\0{changed}\n".encode())
    return ImageFolder(root, [name for name, _, _ in found], digest.hexdigest())


def _below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int, int]]:
    """Name, bytes and time of change, in nanoseconds, of each image."""
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above:
        raise DataError(f"{folder} is a link that leads back to a folder around it; remove the link")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside = (*above, (here.st_dev, here.st_ino))
                yield from _below(folder / entry.name, f"{prefix}{entry.name}/", inside)
            elif entry.name.lower().endswith(_suffixes()):
                yield (prefix + entry.name, *_state(entry))


def _state(entry: os.DirEntry) -> tuple[int, int]:
    try:
        now = entry.stat()
    except OSError:  # a link that leads nowhere
        return -1, 0
    return now.st_size, now.st_mtime_ns


def _suffixes() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return IMG_EXTENSIONS
