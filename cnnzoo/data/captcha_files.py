"""CAPTCHAs in files that are called after their text: a folder, a ZIP archive, or what cnnzoo has drawn into one.

What they have in common (characters, length, size) follows from the files. A name ends for the text at the first `_`
or `.`: `4821.png` and `4821_17.png` say 4821. Characters that a name cannot have, those two among them, are written as
in an address on the web: `%2F` is `/`.
"""

import json
import random
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cnnzoo.data.captcha import Captcha, DrawnCaptchas, FreshCaptchas, image_set
from cnnzoo.errors import DataError, operation

if TYPE_CHECKING:
    from cnnzoo.data.images import ImageSet

FACTS = "captchas.json"
"""What an archive that cnnzoo has written says of itself."""
IMAGES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])
HELD_OUT = 5
"""Of a folder without `train` and `test`, every so many-th image is held out."""
SHOWN = 5


class SkippedFilesWarning(UserWarning):
    """Files beside the images of a data set that are not images."""


@dataclass(frozen=True)
class File:
    """An image that is not read yet: where it is, and the text that its name says."""

    name: str
    text: str
    open: Callable[[], Any]


def named(text: str, number: int) -> str:
    """What an image is called, without what stands behind the last dot; texts may come more than once."""
    return f"{''.join(map(_escaped, text))}_{number:07d}"


def _escaped(character: str) -> str:
    plain = character.isascii() and character.isalnum()
    return character if plain else "".join(f"%{byte:02X}" for byte in character.encode())


def text_of(name: str) -> str:
    """The text that the name of a file says.

    Raises:
        DataError: it says none.
    """
    stem = re.split(r"[_.]", name.rpartition("/")[2], maxsplit=1)[0]
    try:
        text = unicodedata.normalize("NFC", unquote(stem, errors="strict"))
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise DataError(
            f"{name} is not called after its text; expected 4821.png or 4821_17.png for a CAPTCHA that says 4821, with "
            "%5F for _ and %2E for ."
        )
    return text


class CaptchaFiles:
    """The images of a folder or an archive, by split.

    Args:
        place: a folder or a ZIP archive with `train` and `test` (or `val`), or with images alone, of which every
            fifth is held out.
        seed: which are held out.

    Attributes:
        splits: the images of `train` and `test`.
        drawn: what cnnzoo has drawn here; None for images from elsewhere.
        skipped: names of what are no images.

    Raises:
        DataError: there are no images, or one is not called after its text.
    """

    def __init__(self, place: Path | str, seed: int = 0) -> None:
        self.place = Path(place)
        found = _in_folder(self.place) if self.place.is_dir() else _in_archive(self.place)
        drawn = found.pop(FACTS, None)
        self.drawn = None if drawn is None else self._facts(drawn)
        self.skipped = sorted(name for name in found if not _is_image(name))
        images = {name: read for name, read in found.items() if _is_image(name)}
        self.splits = {split: self._files(names, images) for split, names in self._split(images, seed).items()}
        if self.skipped:
            shown = ", ".join(self.skipped[:SHOWN]) + ("" if len(self.skipped) <= SHOWN else ", ...")
            warnings.warn(
                f"skipped {len(self.skipped)} of the files in {self.place}, which are no images to train or "
                f"test on: {shown}",
                SkippedFilesWarning,
                stacklevel=4,
            )

    def _split(self, images: Iterable[str], seed: int) -> dict[str, list[str]]:
        """The names of the images of each split."""
        parts: dict[str, list[str]] = {"train": [], "test": [], "val": [], "": []}
        for name in images:
            parts[name.partition("/")[0] if "/" in name else ""].append(name)
        if parts["train"] or parts["test"] or parts["val"]:
            self.skipped = sorted([*self.skipped, *parts[""], *(parts["val"] if parts["test"] else [])])
            return {"train": parts["train"], "test": parts["test"] or parts["val"]}
        # Sorted by their texts first: the same images are held out wherever the folder is.
        order = sorted(parts[""])
        random.Random(f"{seed}/held out").shuffle(order)
        held_out = round(len(order) / HELD_OUT)
        return {"train": sorted(order[held_out:]), "test": sorted(order[:held_out])}

    def _files(self, names: Iterable[str], images: dict[str, Callable[[], Any]]) -> list[File]:
        files = [File(f"{self.place}/{name}", text_of(f"{self.place}/{name}"), images[name]) for name in names]
        return sorted(files, key=lambda file: (_number(file.name), file.name))

    def _facts(self, read: Callable[[], Any]) -> Captcha:
        try:
            with read() as file:
                facts = json.load(file)
            return Captcha(**{key: facts[key] for key in ("charset", "length", "width", "height", "seed")})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{self.place}/{FACTS} does not say what was drawn: {error}; remove it") from None

    @cached_property
    def captcha(self) -> Captcha:
        """What the images have in common.

        Raises:
            DataError: there are none, or they differ in size.
        """
        if self.drawn is not None:
            return self.drawn
        files = [file for split in self.splits.values() for file in split]
        if not files:
            raise DataError(
                f"{self.place} holds no images; expected some that are called after their text, in train/ and test/ or "
                "all in one folder"
            )
        from cnnzoo.data.image_files import open_image

        lengths = {len(file.text) for file in files}
        length = min(lengths) if len(lengths) == 1 else (min(lengths), max(lengths))
        charset = "".join(sorted(set().union(*(file.text for file in files))))
        width, height = open_image(files[0].name, files[0].open()).size
        return Captcha(charset, length, width, height)

    def stated(self, **facts: Any) -> Captcha:
        """What the images have in common, and is stated; None is not.

        Raises:
            DataError: they contradict what is stated.
        """
        found = self.captcha
        charset = facts.pop("charset")
        if charset is not None and (others := {*found.charset} - {*charset}):
            file = next(one for split in self.splits.values() for one in split if {*one.text} & others)
            raise DataError(
                f"got charset={charset!r}, and {file.name} says {file.text!r}, with other characters: state "
                f"{''.join(sorted({*charset} | others))!r}, or leave out charset= (data.charset), which follows from "
                "the images"
            )
        length = facts.pop("length")
        if length is not None and not {*found.lengths} <= {*Captcha(length=length).lengths}:
            files = [one for split in self.splits.values() for one in split]
            file = next((one for one in files if len(one.text) not in Captcha(length=length).lengths), files[0])
            raise DataError(
                f"got length={length}, and {file.name} says {file.text!r}, with {len(file.text)} characters; leave out "
                "length= (data.length), which follows from the images"
            )
        for what, value in facts.items():
            if value is not None and value != getattr(found, what):
                raise DataError(
                    f"got {what}={value}, and the images of {self.place} are {found.width}x{found.height} pixels; "
                    f"leave out {what}= (data.{what}), which follows from the images"
                )
        known = asdict(found) | {key: value for key, value in (("charset", charset), ("length", length)) if value}
        return Captcha(**known)

    def read(self, split: str, captcha: Captcha, count: int | None = None) -> "ImageSet":
        """The first `count` images of a split, by default all.

        Raises:
            DataError: there are fewer, or one is damaged or of another size.
        """
        import torch
        from torchvision.transforms.v2.functional import pil_to_tensor

        from cnnzoo.data.image_files import open_image

        files = self.splits[split]
        if not files or len(files) < (count or 1):
            raise DataError(
                f"{self.place} holds {len(files)} images in {split}/, expected {count or 'some'}; "
                + ("`cnnzoo captchas --out FILE` writes more, --set data.train=N takes fewer" if self.drawn else _HOW)
            )
        files = files[:count]
        images = torch.empty(len(files), 3, captcha.height, captcha.width, dtype=torch.uint8)
        for place, file in zip(images, files, strict=True):
            image = open_image(file.name, file.open()).convert("RGB")
            if image.size != (captcha.width, captcha.height):
                raise DataError(
                    f"{file.name} is {image.width}x{image.height} pixels, and the others are "
                    f"{captcha.width}x{captcha.height}; make them all of one size"
                )
            place.copy_(pil_to_tensor(image))
        return image_set(captcha, images, [file.text for file in files])


_HOW = "a folder holds images in train/ and test/, or all beside each other, of which every fifth is held out"


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    deep = len(path.parts) - (path.parts[0] in ("train", "test", "val")) > 1
    return path.suffix.lower() in IMAGES and not hidden and not deep


def _number(name: str) -> int:
    """What cnnzoo has numbered is in the order in which it was drawn."""
    hit = re.search(r"_(\d{7})\.", name)
    return int(hit[1]) if hit else -1


def _in_folder(place: Path) -> dict[str, Callable[[], Any]]:
    files = sorted(file for file in place.rglob("*") if file.is_file())
    return {file.relative_to(place).as_posix(): partial(file.open, "rb") for file in files}


def _in_archive(place: Path) -> dict[str, Callable[[], Any]]:
    """The files of an archive; where all are in one folder, by their places in it."""
    if not place.exists():
        raise DataError(f"there is no folder or archive {place}; name the one that holds the images")
    try:
        archive = zipfile.ZipFile(place)
    except zipfile.BadZipFile:
        raise DataError(f"{place} is no folder and no ZIP archive; name one that holds the images") from None
    names = sorted(name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/"))
    outer = {name.partition("/")[0] if "/" in name else "" for name in names}
    prefix = f"{outer.pop()}/" if len(outer) == 1 else ""
    prefix = "" if prefix in ("train/", "test/", "val/", "/") else prefix
    return {name.removeprefix(prefix): partial(archive.open, name) for name in names}


@operation
def captchas(
    folder: Path | str | None = None,
    *,
    download: bool = False,
    train: int = 8000,
    test: int = 2000,
    fresh: bool = False,
    processes: int | None = None,
    charset: str | None = None,
    length: int | tuple[int, int] | None = None,
    width: int | None = None,
    height: int | None = None,
    seed: int = Captcha.seed,
) -> dict[str, Any]:
    """Load or draw CAPTCHAs in colour, with a label for each position: (N, 3, height, width) and (N, length).

    Without a folder they are drawn. What those of a folder have in common follows from its files, and need not be
    stated.

    Args:
        folder: of images that are called after their text, `4821.png`, or `4821_17.png` where a text occurs twice: in
            `train` and `test`, or all beside each other, of which a fifth is held out to test on. Or a ZIP archive
            of one, or a file that `write_captchas` has written.
        download: not possible, and ignored.
        train: images to draw for training (in an epoch), or to take of what `write_captchas` has drawn; of images from
            elsewhere all are taken.
        test: likewise to test on; they are the same in every run.
        fresh: every epoch takes the next `train` images of an endless sequence, or of the file. It says nothing of
            images from elsewhere, which are all taken in every epoch.
        processes: that draw; by default one less than there are processors.
        charset: the characters that occur; by default those of the images, sorted, or the digits where they are drawn.
        length: characters in an image, or the fewest and the most; by default those of the images, or 4.
        width: of an image in pixels; by default that of the images, or 180.
        height: likewise; by default that of the images, or 100.
        seed: of the sequences, and of which images are held out.

    Raises:
        DataError: the `captcha` package is not installed, or the file or folder holds too few or other images.
        OptionError: there are no such CAPTCHAs.

    Examples:
        >>> import cnnzoo
        >>> sets = cnnzoo.data.captchas(train=2, test=1, length=5, processes=0)
        >>> sets["test"].labels.shape
        torch.Size([1, 5])
    """
    facts = {"charset": charset, "length": length, "width": width, "height": height}
    if folder is None:
        kind = Captcha(**{key: value for key, value in facts.items() if value is not None}, seed=seed)
        drawn = {split: DrawnCaptchas(kind, split, processes) for split in ("train", "test")}
        images = FreshCaptchas(train, drawn["train"]) if fresh else drawn["train"].take(range(train))
        return {"train": images, "test": drawn["test"].take(range(test))}
    files = CaptchaFiles(folder, seed)
    kind = files.stated(**facts)
    if files.drawn is None:
        return {split: files.read(split, kind) for split in ("train", "test")}
    found = {"train": files.read("train", kind, None if fresh else train), "test": files.read("test", kind, test)}
    return found | {"train": FreshCaptchas(train, found["train"])} if fresh else found


@operation
def write_captchas(
    path: Path | str,
    captcha: Captcha,
    *,
    train: int,
    test: int,
    processes: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Draw images into a ZIP archive of lossless WebP files, some 6 kB each, for machines that cannot draw.

    Args:
        path: of the archive.
        captcha: what to draw.
        train: training images.
        test: test images.
        processes: that draw; by default one less than there are processors.
        advance: is told how many more images are done.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.data.write_captchas("captchas.zip", cnnzoo.data.Captcha(), train=2, test=1)
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(FACTS, json.dumps(asdict(captcha) | {"train": train, "test": test}))
        for split, count in (("train", train), ("test", test)):
            number = 0
            for share in DrawnCaptchas(captcha, split, processes).begin(range(count), encoded=True):
                for text, content in share:
                    archive.writestr(f"{split}/{named(text, number)}.webp", content)
                    number += 1
                advance(len(share))
