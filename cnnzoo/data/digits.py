"""Handwritten digits of your own: found in a photograph or drawing, and brought to the form of MNIST's digits.

NIST's digits were made for MNIST this way (LeCun et al. 1998, section III-A): scaled into 20x20 pixels with their
aspect ratio kept, and placed in a field of 28x28 so that their center of mass is in its middle; light on dark.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnzoo.data.as_seen import as_seen
from cnnzoo.errors import DataError, operation

if TYPE_CHECKING:
    from PIL.Image import Image

FIELD, BOX = 28, 20
"""Pixels of a side: of the image, and of the box that a digit is scaled into."""

MIDDLE = FIELD / 2 + 0.5
"""Where MNIST's centers of mass are, on average over its test set, from the edge: 14.49 and 14.50 pixels."""

LARGEST = 640
"""Pixels of the longer side that are enough to find digits in."""

GROUND = 32
"""Pixels of the longer side of the small image in which the ground is looked for."""

CONTRAST = 20
"""Levels of 255 by which ink differs from paper at least, for there to be a digit."""

SPECK = 0.08
"""Of the height of the highest digit; what is lower and narrower than this is dirt."""

THIN, THICK = 1.6, 4.5
"""Pixels, in the box, that strokes of MNIST's digits are wide; others are made wider or narrower."""


@dataclass(frozen=True)
class Part:
    """Connected pixels: the first and the last row and column, and how many pixels there are."""

    top: int
    bottom: int
    left: int
    right: int
    area: int

    @property
    def height(self) -> int:
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        return self.right - self.left + 1

    def joined(self, other: "Part") -> "Part":
        """Both parts as one."""
        return Part(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
            self.area + other.area,
        )


@operation
def find_digits(image: "Image", name: str = "the image") -> list["Image"]:
    """Find the handwritten digits of an image, in reading order, each as MNIST has it.

    Digits may be dark on light or light on dark, of any size, place and stroke width, on paper that is lit unevenly;
    neighbours must not touch. An image of 28x28 pixels that is light on dark, as those of MNIST are, is one digit and
    is returned as it is.

    Args:
        image: a photograph, scan or drawing.
        name: of the image, for messages.

    Returns:
        Grey images of 28x28 pixels.

    Raises:
        DataError: nothing in the image stands out from its ground.

    Examples:
        >>> import cnnzoo
        >>> found = cnnzoo.data.find_digits(cnnzoo.data.samples("mnist")[7].image)
        >>> [image.size for image in found]
        [(28, 28)]
    """
    from PIL import Image as images

    image = as_seen(image, name)
    grey = _grey(image)
    if image.size == (FIELD, FIELD) and _border(grey).float().mean() < 64:
        return [image.convert("L")]
    strength = _ink(grey)
    threshold = _otsu(strength)
    mask = strength > threshold
    contrast = strength[mask].mean() - strength[~mask].mean() if mask.any() and not mask.all() else torch.zeros(())
    digits = _digits(mask) if contrast >= CONTRAST else []
    if not digits:
        raise DataError(
            f"nothing in {name} stands out from its ground; take an image of dark digits on light "
            "paper, or of light ones on a dark ground, with nothing else in it"
        )
    fields = (_field(_cut(strength, mask, threshold, digit)) for digit in digits)
    return [images.fromarray(field.mul(255).round().to(torch.uint8).numpy()) for field in fields]


def _grey(image: "Image") -> Tensor:
    """The pixels (H, W) from 0 to 255, transparency on white, and not too large."""
    from PIL import Image as images
    from torchvision.transforms.v2.functional import pil_to_tensor

    if image.has_transparency_data:
        image = images.alpha_composite(images.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L")
    image.thumbnail((LARGEST, LARGEST), images.Resampling.BOX)
    return pil_to_tensor(image)[0].float()


def _border(grey: Tensor) -> Tensor:
    return torch.cat([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _ink(grey: Tensor) -> Tensor:
    """By how many levels each pixel differs from the paper around it, towards the ink."""
    paper = _border(grey).median()
    darker, lighter = (paper - grey).clamp_min(0), (grey - paper).clamp_min(0)
    strongest = max(1, grey.numel() // 200)
    if lighter.flatten().topk(strongest).values.mean() > darker.flatten().topk(strongest).values.mean():
        grey = 255 - grey
    # The paper is the lightest of what is around a pixel, looked for in an image so small that noise has gone.
    height, width = grey.shape
    few = [max(1, size * GROUND // max(height, width)) for size in (height, width)]
    small = F.interpolate(grey[None, None], few, mode="area")
    reach = GROUND // 4
    lightest = F.max_pool2d(F.pad(small, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
    ground = F.avg_pool2d(F.pad(lightest, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
    ground = F.interpolate(ground, (height, width), mode="bilinear", align_corners=False)[0, 0]
    return (ground - grey).clamp_min(0)


def _otsu(values: Tensor) -> float:
    """The threshold that parts values from 0 to 255 into two groups whose means are farthest apart (Otsu 1979)."""
    counts = torch.histc(values, 256, 0, 256).double()
    levels = torch.arange(256, dtype=torch.float64)
    below, total = counts.cumsum(0), counts.sum()
    sums = (counts * levels).cumsum(0)
    above = total - below
    apart = (sums / below.clamp_min(1) - (sums[-1] - sums) / above.clamp_min(1)).square() * below * above
    return apart.argmax().item() + 0.5


def _digits(mask: Tensor) -> list[Part]:
    """The digits of a mask (H, W) in reading order: lines from above, and each from the left."""
    parts = _parts(mask)
    height = max((part.height for part in parts), default=0)
    parts = [part for part in parts if max(part.height, part.width) > max(2, SPECK * height)]
    parts = _merged(parts)
    largest = max((part.height for part in parts), default=0)
    parts = [part for part in parts if part.height > 0.35 * largest]
    lines: list[list[Part]] = []
    for part in sorted(parts, key=lambda one: one.top + one.bottom):
        middle = (part.top + part.bottom) / 2
        line = next((line for line in lines if any(one.top <= middle <= one.bottom for one in line)), None)
        if line is None:
            lines.append(line := [])
        line.append(part)
    return [part for line in lines for part in sorted(line, key=lambda one: one.left + one.right)]


def _merged(parts: list[Part]) -> list[Part]:
    """Parts of one digit as one: those that stand over each other, such as the bar of a 5 and its body."""
    parts = sorted(parts, key=lambda part: -part.area)
    while True:
        for i, one in enumerate(parts):
            other = next((other for other in parts[i + 1 :] if _belong(one, other)), None)
            if other is not None:
                parts = [part for part in parts if part is not one and part is not other] + [one.joined(other)]
                parts.sort(key=lambda part: -part.area)
                break
        else:
            return parts


def _belong(one: Part, other: Part) -> bool:
    shared = min(one.right, other.right) - max(one.left, other.left) + 1
    apart = max(one.top, other.top) - min(one.bottom, other.bottom) - 1
    return shared >= 0.5 * min(one.width, other.width) and apart <= 0.35 * max(one.height, other.height)


def _parts(mask: Tensor) -> list[Part]:
    """The connected parts of a mask (H, W), corners counted as connections."""
    parts: list[Part] = []
    before: list[tuple[int, int, int]] = []  # first and last column of the runs in the row above, and their parts
    owner: list[int] = []  # parts that turned out to be one point to each other

    def root(number: int) -> int:
        while owner[number] != number:
            number = owner[number]
        return number

    for row, line in enumerate(mask.to(torch.int8)):
        edges = F.pad(line, (1, 1)).diff()
        runs = zip((edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist(), strict=True)
        now = []
        for left, end in runs:
            own = Part(row, row, left, end - 1, end - left)
            touching = {root(number) for first, last, number in before if first <= end and last >= left - 1}
            number = min(touching, default=len(parts))
            if not touching:
                parts.append(own)
                owner.append(number)
            else:
                parts[number] = parts[number].joined(own)
                for merged in touching - {number}:
                    parts[number] = parts[number].joined(parts[merged])
                    owner[merged] = number
            now.append((left, end - 1, number))
        before = now
    return [part for number, part in enumerate(parts) if owner[number] == number]


def _cut(strength: Tensor, mask: Tensor, threshold: float, part: Part) -> Tensor:
    """A digit alone, (H, W) from 0 (paper) to 1 (ink), with strokes as wide as MNIST's are."""
    rows, columns = slice(part.top, part.bottom + 1), slice(part.left, part.right + 1)
    own = mask[rows, columns]
    ink = strength[rows, columns]
    full = ink[own].quantile(0.5).item()
    digit = ((ink - 0.5 * threshold) / max(full - 0.5 * threshold, 1)).clamp(0, 1)
    scale = BOX / max(digit.shape)
    wide = 2 * own.sum().item() / max(_outline(own), 1) * scale
    if wide < THIN:
        return _wider(digit, (THIN - wide) / scale / 2)
    if wide > THICK:
        return 1 - _wider(1 - digit, (wide - THICK) / scale / 2, outside=1.0)
    return digit


def _outline(mask: Tensor) -> float:
    """How long the outline of a mask is, in pixels: each edge between two pixels, corners rounded off."""
    padded = F.pad(mask.to(torch.int8), (1, 1, 1, 1))
    edges = padded.diff(dim=0).abs().sum() + padded.diff(dim=1).abs().sum()
    return edges.item() * 0.785  # a slanted line crosses 4 / pi as many edges as it is long, on average


def _wider(digit: Tensor, by: float, outside: float = 0.0) -> Tensor:
    """Strokes that are wider by so many pixels on each side."""
    reach = round(by)
    if reach < 1:
        return digit
    edge = reach if outside == 0.0 else 0
    padded = F.pad(digit[None, None], (edge,) * 4)
    return F.max_pool2d(padded, 2 * reach + 1, 1, reach)[0, 0]


def _field(digit: Tensor) -> Tensor:
    """A digit (H, W) scaled into the box, with its center of mass in the middle of the field: (28, 28), from 0 to 1."""
    height, width = digit.shape
    scale = BOX / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(digit[None, None], size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
    small = small / small.max().clamp_min(1e-6)
    mass = small.sum().clamp_min(1e-6)
    middle = [(small.sum(1 - axis) * (torch.arange(size[axis]) + 0.5)).sum() / mass for axis in (0, 1)]
    top, left = (
        min(max(round(MIDDLE - place.item()), 0), FIELD - extent) for place, extent in zip(middle, size, strict=True)
    )
    return F.pad(small, (left, FIELD - left - size[1], top, FIELD - top - size[0]))
