"""Images as a person sees them: turned as the camera was held, and with eight bits a channel.

Pillow keeps a grey image with more than eight bits in the modes `I;16`, `I` and `F`, and cuts its values off at 255
when it converts one. A ramp of 65,536 greys becomes black and white that way; what the values mean is settled here.
"""

from typing import TYPE_CHECKING, Any

from cnnzoo.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held; 1 is upright."""

PHOTOMETRIC, BITS, SAMPLE_FORMAT = 262, 258, 339
"""TIFF tags: whether 0 is white (0) or black (1), the bits of a value, and whether it is signed (2)."""

BEYOND = 0.5
"""Of the range from 0 to 1, by which floating-point pixels may leave it: resizing overshoots at edges by less."""


def as_seen(image: "Image", name: str = "the image") -> "Image":
    """An image turned as its EXIF orientation says, with eight bits a channel.

    Args:
        image: of any mode; it is not changed.
        name: of the image, for messages.

    Raises:
        DataError: nothing says what black and white are in a grey image of more than eight bits.
    """
    return _eight_bits(_upright(image), name, _white(image, name))


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    try:
        if image.getexif().get(ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    except Exception:  # of a damaged EXIF block, which PIL reads with no check; viewers show such an image as it is
        return image
    return image


def _white(image: "Image", name: str) -> int | None:
    """The value of white, as far as the file says it; negative where 0 is white and that is black."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        bits, signed = tags.get(BITS, (1,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == 2
        if image.mode.startswith("I") and bits == 16 and signed:
            raise DataError(f"{name} holds signed values of 16 bits, which say nothing of black and white; {REMEDY}")
        white = 2**bits - 1 if image.mode.startswith("I;16") else 1 if image.mode == "F" else None
        return white and (-white if tags.get(PHOTOMETRIC) == 0 else white)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 0xFFFF
    return 1 if image.mode == "F" else None


REMEDY = "scale them to 0 to 255 and save the image in 8 bits"


def _eight_bits(image: "Image", name: str, white: int | None) -> "Image":
    """The same with eight bits a channel, in a mode that PIL converts to grey and to colour."""
    from PIL import Image as images

    if image.mode == "LAB":
        return image.convert("RGB")  # PIL has no way from there to grey
    if image.mode == "La":
        return image.convert("LA")
    if not image.mode.startswith(("I", "F")):
        return image
    import numpy as np

    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if white is None:  # whole numbers of 32 bits
        white = 0xFF if high <= 0xFF else 0xFFFF
    if not 0 <= low <= high <= abs(white):  # nor NaN
        held = "from 0 to 1" if image.mode == "F" else f"from 0 to {abs(white):,}"
        raise DataError(
            f"{name} is of mode {image.mode} and holds values from {low:,g} to {high:,g}, expected {held}; {REMEDY}"
        )
    scaled = np.rint(values.astype(np.float64) * (255 / abs(white))).astype(np.uint8)
    return images.fromarray(255 - scaled if white < 0 else scaled)


class AsSeen:
    """The first step of a network's transforms: what it is given as images in uint8, or in floats from 0 to 1.

    Raises:
        DataError: it is no PIL image or tensor, or holds numbers that say nothing of black and white.
    """

    def __call__(self, image: Any) -> Any:
        from PIL.Image import Image
        from torch import Tensor

        if isinstance(image, Image):
            return as_seen(image)
        if isinstance(image, Tensor):
            return _pixels(image)
        raise DataError(
            f"transforms: got {type(image).__name__}; expected a PIL image or a tensor (..., C, H, W): "
            "PIL.Image.fromarray turns an array (H, W, C) into an image"
        )

    def __repr__(self) -> str:
        return "AsSeen()"


def _pixels(image: "Tensor") -> "Tensor":
    import torch

    if image.dtype == torch.uint8:
        return image
    if image.dtype == torch.uint16:
        return ((image.int() + 128) // 257).to(torch.uint8)
    if not image.is_floating_point():
        raise DataError(
            f"transforms: got a tensor of {image.dtype}, which says nothing of black and white; expected torch.uint8 "
            "(0 to 255), torch.uint16 (0 to 65,535) or floating point (0 to 1): image.to(torch.uint8)"
        )
    low, high = image.aminmax() if image.numel() else (0.0, 0.0)
    if not -BEYOND <= low <= high <= 1 + BEYOND:  # nor NaN
        raise DataError(
            f"transforms: got a tensor of {image.dtype} with values from {float(low):g} to {float(high):g}, expected "
            "0 (black) to 1 (white): divide it by what white is, or pass it as torch.uint8"
        )
    return image
