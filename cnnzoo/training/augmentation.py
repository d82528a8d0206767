"""How training images are changed at random.

A recipe states at most one crop, which gives images of any size the network's, and then other changes. What has
files is cropped image by image where they are read, by torchvision. Everything else is done to whole batches on
the training device, since that is far less work than one image after the other; every image still has random
numbers of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnzoo.errors import OptionError
from cnnzoo.training.world import World


class Chance:
    """Random numbers for the images of a batch, of which each process takes those of its own.

    All processes draw the same ones, so that it makes no difference how many there are.

    Args:
        generator: the same in every process.
        total: images in the batches of all processes together.
        world: the processes.
    """

    def __init__(self, generator: torch.Generator, total: int, world: World) -> None:
        self.generator, self.total, self.world = generator, total, world

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to 1, (images, *shape)."""
        return self._mine(torch.rand, (self.total, *shape))

    def normal(self, *shape: int) -> Tensor:
        """With mean 0 and standard deviation 1, (images, *shape)."""
        return self._mine(torch.randn, (self.total, *shape))

    def integers(self, high: int) -> Tensor:
        """From 0 to high - 1, (images,)."""
        return self._mine(partial(torch.randint, high), (self.total,))

    def _mine(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return self.world.mine(draw(shape, generator=self.generator, device=self.generator.device))


class Augmentation(Protocol):
    """Changes images (N, C, H, W): in float from 0 (black) to 1 if it is one of colours, else in uint8."""

    of_colors: ClassVar[bool]

    def __call__(self, images: Tensor, chance: Chance) -> Tensor: ...


@dataclass(frozen=True)
class Flip:
    """Half of the images are mirrored, left to right."""

    of_colors: ClassVar[bool] = False

    def __call__(self, images: Tensor, chance: Chance) -> Tensor:
        return torch.where(chance.uniform(1, 1, 1) < 0.5, images.flip(-1), images)


@dataclass(frozen=True)
class PrincipalColors:
    """Adds to each image's colours multiples of ImageNet's principal components.

    Krizhevsky et al. 2012, section 4.1. The components are those that Facebook's `fb.resnet.torch` (2016) and many
    after it use, for colours from 0 to 1; the paper prints none.

    Attributes:
        std: standard deviation of the multiples.
    """

    std: float = 0.1
    of_colors: ClassVar[bool] = True

    def __call__(self, images: Tensor, chance: Chance) -> Tensor:
        if images.shape[1] != 3:
            raise OptionError(f"principal_colors: got images of {images.shape[1]} channels; it is for colours, of 3")
        scaled = torch.tensor(COMPONENTS) * torch.tensor(VALUES)  # (channels, components)
        shift = self.std * chance.normal(3) @ scaled.T.to(images.device)
        return images + shift[:, :, None, None]


@dataclass(frozen=True)
class Distort:
    """Each image is turned, slanted, stretched and bent a little, around its middle; its edges go on outside.

    Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis"
    (2003), section 2, train readers so, on affine and elastic distortions. Here the field that bends is drawn at points
    `MESH` pixels apart and is smooth between them.

    Attributes:
        turn: degrees, in both directions at most.
        slant: degrees that verticals are slanted, likewise.
        stretch: share by which height and width each become larger or smaller at most.
        bend: standard deviation in pixels of how far a point moves.
    """

    turn: float = 0.0
    slant: float = 0.0
    stretch: float = 0.0
    bend: float = 0.0
    of_colors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.stretch < 1 or min(self.turn, self.slant, self.bend) < 0 or max(self.turn, self.slant) >= 90:
            raise OptionError(
                f"distort: got turn={self.turn}, slant={self.slant}, stretch={self.stretch}, bend={self.bend}; all are "
                "0 or more, the angles less than 90 degrees, stretch less than 1"
            )

    def __call__(self, images: Tensor, chance: Chance) -> Tensor:
        height, width = images.shape[2:]
        turn, slant, tall, wide = (2 * chance.uniform(4) - 1).unbind(1)
        turn, slant = turn * math.radians(self.turn), (slant * math.radians(self.slant)).tan()
        tall, wide = 1 + self.stretch * tall, 1 + self.stretch * wide
        # From pixels of the new image to those of the old one, in halves of height and width.
        rows = [
            [turn.cos() / wide, (turn.cos() * slant - turn.sin()) / tall * (height / width), torch.zeros_like(turn)],
            [turn.sin() / wide * (width / height), (turn.sin() * slant + turn.cos()) / tall, torch.zeros_like(turn)],
        ]
        turned = torch.stack([torch.stack(row, 1) for row in rows], 1)
        grid = F.affine_grid(turned, list(images.shape), align_corners=False)
        if self.bend:
            points = [side // MESH + 2 for side in (height, width)]
            field = F.interpolate(chance.normal(2, *points), (height, width), mode="bicubic", align_corners=True)
            halves = torch.tensor([2 / width, 2 / height], device=images.device)
            grid = grid + self.bend * field.permute(0, 2, 3, 1) * halves
        moved = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return moved.round().to(images.dtype)


MESH = 16
VALUES = (0.2175, 0.0188, 0.0045)
COMPONENTS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "flip": Flip,
    "principal_colors": PrincipalColors,
    "distort": Distort,
}


Frame = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class RandomCrop:
    """A part of the image at a random place.

    Attributes:
        size: height and width of the part; by default that of test images.
        padding: black pixels added on each side first.
        resize: pixels that the shorter side is resized to before: a number, or `[least, most]` for a size that is
            drawn anew for each image (of files only). None takes the image as it is.
        square: whether only the middle square of the resized image is used (of files only).
    """

    size: int | None = None
    padding: int = 0
    resize: int | Sequence[int] | None = None
    square: bool = False

    def __post_init__(self) -> None:
        if not (self.resize is None or isinstance(self.resize, int) or len(self.resize) == 2):
            raise OptionError(f"crop: got resize={self.resize!r}; it is a number of pixels, or the least and the most")

    def steps(self, frame: Frame) -> list[Any]:
        """As torchvision transforms of one PIL image."""
        from torchvision.transforms import v2

        steps: list[Any] = []
        if isinstance(self.resize, int):
            steps.append(v2.Resize(self.resize))
            steps += [v2.CenterCrop(self.resize)] if self.square else []
        elif self.resize is not None:
            least, most = self.resize
            steps.append(v2.RandomResize(least, most + 1))
        return [*steps, v2.RandomCrop(self.size or frame, padding=self.padding or None, pad_if_needed=True)]

    def resized(self, frame: Frame) -> Frame:
        """What images in memory are resized to before they are cropped."""
        if self.square or not (self.resize is None or isinstance(self.resize, int)):
            raise OptionError(
                "crop: square= and a range of resize= are for images in files; those in memory have one size"
            )
        return frame if self.resize is None else (self.resize, self.resize)

    def batch(self, images: Tensor, frame: Frame, chance: Chance) -> Tensor:
        """The same for images (N, C, H, W)."""
        height, width = (self.size, self.size) if self.size else frame
        padded = F.pad(images, [self.padding] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # every crop that there is, as a view
        rows, columns = (chance.integers(places) for places in windows.shape[2:4])
        return windows[torch.arange(len(images), device=images.device), :, rows, columns]


@dataclass(frozen=True)
class RandomResizedCrop:
    """A part of the image of random area and shape, resized (Szegedy et al. 2014, section 6); of files only.

    Attributes:
        size: height and width that it is resized to; by default that of test images.
        scale: least and largest share of the image's area.
        ratio: least and largest width over height.
    """

    size: int | None = None
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def steps(self, frame: Frame) -> list[Any]:
        """As torchvision transforms of one PIL image."""
        from torchvision.transforms import v2

        (least, most), (narrowest, widest) = self.scale, self.ratio
        return [v2.RandomResizedCrop(self.size or frame, scale=(least, most), ratio=(narrowest, widest))]


Crop = RandomCrop | RandomResizedCrop
CROPS: dict[str, Callable[..., Crop]] = {"random": RandomCrop, "random_resized": RandomResizedCrop}
