"""CAPTCHAs that the `captcha` package draws: an endless sequence, each image of which follows from seed and number.

The package draws from the operating system's randomness; here it is given a generator with a seed. An image costs
some two milliseconds, so that all but a few are drawn by processes of their own, ahead of their use. They do without
torch: nothing in this file imports it but the functions that give tensors.
"""

import io
import random
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import DataError, OptionError
from cnnzoo.support.workers import end_with_parent, helpers

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnnzoo.data.images import ImageSet

Drawing = tuple[str, bytes]
"""A text, and its image's pixels or file."""

ANY_LENGTH = (4, 6)
"""The fewest and the most characters that are drawn for a network that reads texts of any length."""
SHARE = 64
"""Images that a process draws at a time; so few are drawn without one."""


@dataclass(frozen=True)
class Captcha:
    """What the images of a sequence have in common.

    Attributes:
        charset: the characters that occur.
        length: characters in an image, or the fewest and the most of them.
        width: of an image in pixels.
        height: likewise.
        seed: the sequences of two seeds have nothing in common.
    """

    charset: str = "0123456789"
    length: int | tuple[int, int] = 4
    width: int = 180
    height: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.length, list):  # TOML and JSON have lists
            object.__setattr__(self, "length", tuple(self.length))
        ends = (self.length, self.length) if isinstance(self.length, int) else self.length
        if len(ends) != 2 or not all(isinstance(end, int) for end in ends) or not 1 <= ends[0] <= ends[1]:
            raise OptionError(
                f"got length={self.length!r}; it is a number of characters, or the fewest and the most: (4, 6)"
            )
        if not self.charset or len({*self.charset}) < len(self.charset):
            raise OptionError(f"got charset={self.charset!r}; it holds at least one character, each once")
        if min(self.width, self.height) < 1:
            raise OptionError(f"got {self.width}x{self.height} pixels; width and height are at least 1")

    @property
    def lengths(self) -> range:
        """How many characters an image may show."""
        fewest, most = (self.length, self.length) if isinstance(self.length, int) else self.length
        return range(fewest, most + 1)

    def draw(self, split: str, number: int) -> tuple[str, "Image"]:
        """The text and the image of that number in the sequence of a split.

        The text is the same everywhere; the pixels are as long as Pillow and FreeType draw alike. One thread at a time.

        Raises:
            DataError: the `captcha` package is not installed, or takes its random numbers from elsewhere.
        """
        chance = random.Random(f"{self.seed}/{split}/{number}")
        length = self.length if isinstance(self.length, int) else chance.randint(*self.length)
        text = "".join(chance.choices(self.charset, k=length))
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
            "drawing CAPTCHAs takes the captcha package, which is not installed: pip install 'cnnzoo[captcha]', "
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
        return image_set(self.captcha, images, texts)


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


def image_set(captcha: Captcha, images: Any, texts: Sequence[str]) -> "ImageSet":
    """Images (N, 3, height, width) and their texts: labels (N, positions) are -1 behind the end of a shorter text."""
    import torch

    from cnnzoo.data.images import ImageSet

    longest = captcha.lengths[-1]
    rows = [[captcha.charset.index(character) for character in text] for text in texts]
    labels = torch.tensor([row + [-1] * (longest - len(row)) for row in rows])
    return ImageSet(images, labels, tuple(captcha.charset))
