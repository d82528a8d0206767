"""CAPTCHAs that the `captcha` package draws: an endless sequence, each image of which follows from seed and number.

The package draws from the operating system's randomness; here it is given a generator with a seed. An image costs
some two milliseconds, so that all but a few are drawn by processes of their own, ahead of their use. They do without
torch: nothing in this file imports it but the functions that give tensors.
"""

import io
import json
import random
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import DataError, operation
from cnnzoo.support.workers import end_with_parent, helpers

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnnzoo.data.images import ImageSet

Drawing = tuple[str, bytes]
"""A text, and its image's pixels or file."""

SHARE = 64
"""Images that a process draws at a time; so few are drawn without one."""


@dataclass(frozen=True)
class Captcha:
    """What the images of a sequence have in common.

    Attributes:
        charset: the characters that occur.
        length: characters in an image.
        width: of an image in pixels.
        height: likewise.
        seed: the sequences of two seeds have nothing in common.
    """

    charset: str = "0123456789"
    length: int = 4
    width: int = 180
    height: int = 100
    seed: int = 0

    def draw(self, split: str, number: int) -> tuple[str, "Image"]:
        """The text and the image of that number in the sequence of a split.

        The text is the same everywhere; the pixels are as long as Pillow and FreeType draw alike. One thread at a time.

        Raises:
            DataError: the `captcha` package is not installed, or takes its random numbers from elsewhere.
        """
        chance = random.Random(f"{self.seed}/{split}/{number}")
        text = "".join(chance.choices(self.charset, k=self.length))
        package = _package()
        theirs, package.secrets = package.secrets, _Secrets(chance)
        try:
            return text, package.ImageCaptcha(width=self.width, height=self.height).generate_image(text)
        finally:
            package.secrets = theirs


class _Secrets:
    """The functions of `secrets` that the package draws from, out of a generator that has a seed."""

    def __init__(self, chance: random.Random) -> None:
        self.choice, self.randbelow, self.randbits = chance.choice, chance.randrange, chance.getrandbits


def _package() -> Any:
    try:
        from captcha import image
    except ImportError:
        raise DataError(
            "drawing them takes the captcha package, which is not installed: pip install 'cnnzoo[captcha]', "
            "or name a file that `cnnzoo captchas` has written with --data"
        ) from None
    if not hasattr(image, "secrets"):
        raise DataError("this version of the captcha package cannot be given a seed; install 0.7 or newer")
    return image


class DrawnCaptchas:
    """The sequence of a split, drawn by processes that live as long as this object."""

    def __init__(self, captcha: Captcha, split: str, processes: int | None = None) -> None:
        self.captcha, self.split, self.processes = captcha, split, processes or helpers()
        self.pool: ProcessPoolExecutor | None = None

    def begin(self, numbers: Sequence[int], *, encoded: bool = False) -> Iterator[list[Drawing]]:
        """Have images drawn while something else is done; `encoded` ones are lossless WebP files."""
        shares = [numbers[i : i + SHARE] for i in range(0, len(numbers), SHARE)]
        if len(shares) <= 1:
            return iter([_draw(self.captcha, self.split, share, encoded) for share in shares])
        if self.pool is None:
            _package()  # a missing package is said here, not by a process that died
            self.pool = ProcessPoolExecutor(self.processes, get_context("spawn"), end_with_parent)
            weakref.finalize(self, self.pool.shutdown, wait=False, cancel_futures=True)
        count = len(shares)
        return self.pool.map(_draw, [self.captcha] * count, [self.split] * count, shares, [encoded] * count)

    def stop(self) -> None:
        """Give up what was begun; the processes end with what they have in hand."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = None

    def take(self, numbers: Sequence[int], begun: Iterator[list[Drawing]] | None = None) -> "ImageSet":
        """The images of these numbers in memory, as far as possible those that were begun."""
        import torch

        shape = (self.captcha.height, self.captcha.width, 3)
        images = torch.empty(len(numbers), 3, *shape[:2], dtype=torch.uint8)
        texts: list[str] = []
        for share in self.begin(numbers) if begun is None else begun:
            for text, pixels in share:
                image = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(shape)
                images[len(texts)] = image.permute(2, 0, 1)
                texts.append(text)
        return _image_set(self.captcha, images, texts)


def _draw(captcha: Captcha, split: str, numbers: Sequence[int], encoded: bool) -> list[Drawing]:
    """What a process does."""
    drawings = (captcha.draw(split, number) for number in numbers)
    return [(text, _webp(image) if encoded else image.tobytes()) for text, image in drawings]


def _webp(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, quality=50, method=2)  # three quarters of a PNG
    return file.getvalue()


class FreshCaptchas:
    """A training set of which every epoch takes the next images of a sequence.

    Args:
        count: images in an epoch.
        source: the endless sequence, or its beginning, which then starts again when it is used up.
    """

    def __init__(self, count: int, source: "DrawnCaptchas | ImageSet") -> None:
        self.count, self.source = count, source
        self.begun: tuple[list[int], Iterator[list[Drawing]]] | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def classes(self) -> tuple[str, ...]:
        source = self.source
        return tuple(source.captcha.charset) if isinstance(source, DrawnCaptchas) else source.classes

    def begin(self, epoch: int, rows: Sequence[int]) -> None:
        """Have these images of an epoch drawn while the one before it is used."""
        if isinstance(self.source, DrawnCaptchas):
            numbers = self._numbers(epoch, rows)
            self.begun = (numbers, self.source.begin(numbers))

    def stop(self) -> None:
        """Give up what was begun: a program that ends would wait for it."""
        self.begun = None
        if isinstance(self.source, DrawnCaptchas):
            self.source.stop()

    def take(self, epoch: int, rows: Sequence[int]) -> "ImageSet":
        """These images of an epoch (counted from 1), in that order."""
        numbers = self._numbers(epoch, rows)
        if not isinstance(self.source, DrawnCaptchas):
            held = [number % len(self.source) for number in numbers]
            return replace(self.source, images=self.source.images[held], labels=self.source.labels[held])
        begun, self.begun = self.begun, None
        return self.source.take(numbers, begun[1] if begun and begun[0] == numbers else None)

    def _numbers(self, epoch: int, rows: Sequence[int]) -> list[int]:
        return [(epoch - 1) * self.count + row for row in rows]


@operation
def captchas(
    folder: Path | str | None = None,
    *,
    download: bool = False,
    train: int = 8000,
    test: int = 2000,
    fresh: bool = False,
    processes: int | None = None,
    charset: str = Captcha.charset,
    length: int = Captcha.length,
    width: int = Captcha.width,
    height: int = Captcha.height,
    seed: int = Captcha.seed,
) -> dict[str, Any]:
    """CAPTCHAs in colour, with a label for each position: (N, 3, height, width) and (N, length).

    Args:
        folder: a file that `write_captchas` has written, or a folder with `train` and `test`, which hold images that
            are called after their text: `4821.png`, or `17-4821.png` where a text occurs twice. By default they are
            drawn.
        download: not possible, and ignored.
        train: training images (in an epoch).
        test: test images; they are the same in every run.
        fresh: every epoch takes the next `train` images of an endless sequence, or of the file.
        processes: that draw; by default one less than there are processors.
        charset: the characters that occur.
        length: characters in an image.
        width: of an image in pixels.
        height: likewise.
        seed: of the sequences.

    Raises:
        DataError: the `captcha` package is not installed, or the file or folder holds too few or other images.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> sets = cnnzoo.data.captchas(train=2, test=1, length=5, processes=0)
        >>> sets["test"].labels.shape
        torch.Size([1, 5])
    """
    kind = Captcha(charset, length, width, height, seed)
    if folder is None:
        drawn = {split: DrawnCaptchas(kind, split, processes) for split in ("train", "test")}
        images = FreshCaptchas(train, drawn["train"]) if fresh else drawn["train"].take(range(train))
        return {"train": images, "test": drawn["test"].take(range(test))}
    found = {
        "train": read_captchas(folder, "train", kind, None if fresh else train),
        "test": read_captchas(folder, "test", kind, test),
    }
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
        archive.writestr("captchas.json", json.dumps(asdict(captcha) | {"train": train, "test": test}))
        for split, count in (("train", train), ("test", test)):
            number = 0
            for share in DrawnCaptchas(captcha, split, processes).begin(range(count), encoded=True):
                for text, content in share:
                    archive.writestr(f"{split}/{number:07d}-{text}.webp", content)
                    number += 1
                advance(len(share))


def read_captchas(place: Path | str, split: str, captcha: Captcha, count: int | None = None) -> "ImageSet":
    """The first `count` images of a split, by default all, of an archive or a folder.

    Raises:
        DataError: there are fewer, or one is damaged, of another size, or not called after its text.
    """
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor

    from cnnzoo.data.image_files import open_image

    files = _files(Path(place), split)
    if not files or len(files) < (count or 1):
        raise DataError(
            f"{place} holds {len(files)} images in {split}/, expected {count or 'some'}; "
            "`cnnzoo captchas --out FILE` writes them, --set data.train=N takes fewer"
        )
    images, texts = [], []
    for name, content in files[:count]:
        text = name.rpartition(".")[0].rpartition("/")[2].rpartition("-")[2]
        if len(text) != captcha.length or not set(text) <= set(captcha.charset):
            raise DataError(
                f"{name} is not called after its text; expected {captcha.length} characters of "
                f"{captcha.charset!r}, such as 17-{(captcha.charset * captcha.length)[: captcha.length]}.png"
            )
        image = open_image(name, content()).convert("RGB")
        if image.size != (captcha.width, captcha.height):
            raise DataError(
                f"{name} is {image.width}x{image.height} pixels; expected "
                f"{captcha.width}x{captcha.height} (--set data.width=..., data.height=...)"
            )
        images.append(pil_to_tensor(image))
        texts.append(text)
    return _image_set(captcha, torch.stack(images), texts)


def _files(place: Path, split: str) -> list[tuple[str, Callable[[], Any]]]:
    """The images of a split in an archive or a folder: what they are called, and what opens them."""
    if not place.is_file():
        return [(str(file), partial(file.open, "rb")) for file in sorted((place / split).glob("*.*"))]
    try:
        archive = zipfile.ZipFile(place)
    except zipfile.BadZipFile:
        raise DataError(f"{place} is not an archive that `cnnzoo captchas` has written") from None
    names = sorted(name for name in archive.namelist() if name.startswith(f"{split}/") and not name.endswith("/"))
    return [(f"{place}/{name}", partial(archive.open, name)) for name in names]


def _image_set(captcha: Captcha, images: Any, texts: Sequence[str]) -> "ImageSet":
    import torch

    from cnnzoo.data.images import ImageSet

    labels = torch.tensor([[captcha.charset.index(character) for character in text] for text in texts])
    return ImageSet(images, labels, tuple(captcha.charset))
