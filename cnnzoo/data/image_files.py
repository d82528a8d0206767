"""Images from files, in the terminal, and the ten that come with cnnzoo."""

import warnings
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnnzoo.data.as_seen import as_seen
from cnnzoo.errors import DataError, operation, unknown
from cnnzoo.support.files import read_table

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SAMPLES = ("mnist", "fashion_mnist")

SHADES = " .:-=+*#%@"


@dataclass(frozen=True)
class Sample:
    """An image that comes with cnnzoo, and the name of its class."""

    image: "Image"
    label: str


class LargeImageWarning(UserWarning):
    """An image has so many pixels that it may be meant to fill the memory; it was read nevertheless."""


@operation
def open_image(path: Path | str, content: BinaryIO | None = None) -> "Image":
    """Open an image as a person sees it: turned as its EXIF orientation says, with eight bits a channel.

    Grey images of 16 bits or in floating point (0 to 1) are scaled to 0 to 255. This is how cnnzoo opens every image;
    as `loader` of torchvision's `ImageFolder` it does the same for your own training.

    Args:
        path: of the file.
        content: what to read in its place, such as a file in an archive.

    Raises:
        DataError: there is no such file, it is not an image, or nothing says what black and white are in it.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.data.open_image("photos/train/red/0.png").size
        (80, 60)
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(record=True) as caught, open(path, "rb") if content is None else content as file:
            warnings.simplefilter("always", Image.DecompressionBombWarning)
            image = Image.open(file)
            image.load()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that PIL knows") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which may be meant to fill the "
            "memory; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust where it is from"
        ) from None
    except Warning:  # where the user has made errors of them
        raise
    except Exception as error:  # PIL raises anything on a damaged file
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read: {said}") from None
    for one in caught:
        if not issubclass(one.category, Image.DecompressionBombWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        else:
            warnings.warn(
                f"{path} has {image.width:,} x {image.height:,} pixels; reading it takes long, and a smaller copy "
                "serves a network as well",
                LargeImageWarning,
                stacklevel=3,
            )
    return as_seen(image, str(path))


def known_classes() -> list[str]:
    """The data sets of whose classes the names are known."""
    return list(read_table("data/classes.toml"))


def class_names(data: str) -> tuple[str, ...]:
    """The names of a data set's classes, in the order of its labels; of none (`""`) there are none.

    Raises:
        UnknownNameError: there is no such list.
    """
    if not data:
        return ()
    known = read_table("data/classes.toml")
    if data not in known:
        raise unknown("", "list of classes", data, known)
    names = known[data]
    if isinstance(names, list):
        return tuple(names)
    from torchvision.models import get_weight

    return tuple(get_weight(names["torchvision"]).meta["categories"])


@operation
def samples(data: str = "mnist") -> list[Sample]:
    """Load ten images that come with cnnzoo, 28x28 and grey: the first test image of each class.

    Args:
        data: `"mnist"` (handwritten digits) or `"fashion_mnist"` (things to wear).

    Raises:
        UnknownNameError: there are no images of that data set.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.data.samples()[7].label
        '7'
    """
    if data not in SAMPLES:
        raise unknown("", "data set", data, SAMPLES)
    names = class_names(data)
    with as_file(files("cnnzoo").joinpath(f"data/samples/{data}")) as folder:
        paths = sorted(folder.glob("*.png"))
        return [Sample(open_image(path), names[int(path.name[0])]) for path in paths]


def captcha_sample() -> Sample:
    """A CAPTCHA that comes with cnnzoo, 180x100 in colour, and its text."""
    with as_file(files("cnnzoo").joinpath("data/samples/captchas")) as folder:
        (path,) = folder.glob("*.png")
        return Sample(open_image(path), path.stem)


def drawn(image: "Tensor") -> str:
    """A grey uint8 image (H, W) as text, two rows of pixels to a line, for the terminal."""
    height, width = image.shape
    pairs = image[: height // 2 * 2].view(height // 2, 2, width).float().mean(1)
    levels = (pairs / 256 * len(SHADES)).int().tolist()
    return "\n".join("".join(SHADES[level] for level in line) for line in levels)
