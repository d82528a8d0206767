"""From an image to a network's input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from cnnzoo.data.as_seen import AsSeen
from cnnzoo.errors import OptionError, unknown

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose

Interpolation = Literal["bilinear", "bicubic"]

# Of the colours of ImageNet's training images.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images: of its size, scaled to 0 to 1 and normalised.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: height and width in pixels, before padding; one number for both, or (height, width).
        resize: pixels that the shorter side is resized to, before the middle is cut out; None squeezes the whole
            image into `size`.
        pad: black pixels added on each side.
        interpolation: between the pixels of the image that is resized.
        mean: subtracted from pixels between 0 and 1: a number for all channels, or one for each; for grey images those
            of three colours are averaged, which is near to what each had.
        std: what the result is divided by, likewise.
    """

    channels: int = 3
    size: int | tuple[int, int] = 224
    resize: int | None = None
    pad: int = 0
    interpolation: Interpolation = "bilinear"
    mean: float | tuple[float, ...] = MEAN
    std: float | tuple[float, ...] = STD

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            raise unknown("Preprocessing", "interpolation", str(self.interpolation), get_args(Interpolation))
        for name in ("size", "mean", "std"):  # TOML and JSON have lists
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) == self.channels:
                continue
            if self.channels != 1 or len(value) != 3:
                raise OptionError(
                    f"Preprocessing: got {name} of {len(value)} numbers for {self.channels} channels; give one for "
                    "each channel, or one number for all"
                )
            object.__setattr__(self, name, sum(value) / 3)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width in pixels, before padding."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network is given."""
        height, width = self.frame
        return self.channels, height + 2 * self.pad, width + 2 * self.pad

    def transforms(self) -> "Compose":
        """The steps as torchvision transforms, from an image of any size to the network's input.

        They take a PIL image, which is turned as its EXIF orientation says and scaled to eight bits a channel as
        `open_image` does it, or images (..., C, H, W) in uint8, uint16 or floating point (0 to 1). Other numbers, which
        say nothing of black and white, raise `DataError`.
        """
        from torchvision.transforms import v2

        return v2.Compose([*self.framing(), *self.scaling(), *self.normalizing()])

    def framing(self, steps: Sequence[Any] | None = None) -> list[Any]:
        """The first steps: an image of any size to a uint8 image of the network's channels and size, padded.

        Args:
            steps: others in place of those that bring a PIL image to `size`.
        """
        from torchvision.transforms import InterpolationMode, v2

        seen, color = AsSeen(), v2.Grayscale() if self.channels == 1 else v2.RGB()
        padding = [v2.Pad(self.pad)] if self.pad else []
        if steps is not None:
            return [seen, color, *steps, v2.ToImage(), *padding]
        if self.resize is None:
            return [seen, color, v2.ToImage(), v2.Resize(self.frame, antialias=True), *padding]
        # While it is PIL's: torch resizes to bytes that now and then differ by one, and those who published the weights
        # measured them on images that PIL had resized.
        mode = InterpolationMode(self.interpolation)
        sized = [v2.Resize(self.resize, mode, antialias=True), v2.CenterCrop(self.frame), v2.ToImage()]
        return [seen, color, *sized, *padding]

    def scaling(self) -> list[Any]:
        """The next step: images in uint8 to float, from 0 (black) to 1."""
        import torch
        from torchvision.transforms import v2

        return [v2.ToDtype(torch.float32, scale=True)]

    def normalizing(self, *, inplace: bool = False) -> list[Any]:
        """The last steps: images from 0 to 1 to what the network is given."""
        from torchvision.transforms import v2

        statistics = self._per_channel(self.mean), self._per_channel(self.std)
        return [v2.Normalize(*statistics, inplace=inplace), v2.ToPureTensor()]

    def _per_channel(self, value: float | tuple[float, ...]) -> list[float]:
        return list(value) if isinstance(value, tuple) else [value] * self.channels
