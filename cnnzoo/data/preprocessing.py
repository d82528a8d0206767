"""From a picture to a network's input."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from cnnzoo.errors import unknown

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose

Interpolation = Literal["bilinear", "bicubic"]

# Of the colours of ImageNet's training pictures.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its pictures: of its size, scaled to 0 to 1 and normalised.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: height and width in pixels, before padding.
        resize: pixels that the shorter side is resized to, before the middle is cut out; None squeezes the whole
            picture into `size`.
        pad: black pixels added on each side.
        interpolation: between the pixels of the picture that is resized.
        mean: subtracted from pixels between 0 and 1: a number for all channels, or one for each.
        std: what the result is divided by, likewise.
    """

    channels: int = 3
    size: int = 224
    resize: int | None = None
    pad: int = 0
    interpolation: Interpolation = "bilinear"
    mean: float | tuple[float, ...] = MEAN
    std: float | tuple[float, ...] = STD

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            raise unknown("Preprocessing", "interpolation", str(self.interpolation), get_args(Interpolation))
        for name in ("mean", "std"):  # TOML and JSON have lists
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    @property
    def background(self) -> float:
        """What a black pixel of the first channel becomes."""
        return -self._per_channel(self.mean)[0] / self._per_channel(self.std)[0]

    def transforms(self) -> "Compose":
        """The steps as torchvision transforms: a PIL picture or uint8 images (..., C, H, W) to float images."""
        import torch
        from torchvision.transforms import InterpolationMode, v2

        if self.resize is None:
            sized = [v2.ToImage(), v2.Resize((self.size, self.size), antialias=True)]
        else:
            # While it is PIL's: torch resizes to bytes that now and then differ by one, and those who published the
            # weights measured them on pictures that PIL had resized.
            mode = InterpolationMode(self.interpolation)
            sized = [v2.Resize(self.resize, mode, antialias=True), v2.CenterCrop(self.size), v2.ToImage()]
        return v2.Compose(
            [
                v2.Grayscale() if self.channels == 1 else v2.RGB(),
                *sized,
                v2.Pad(self.pad),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self._per_channel(self.mean), self._per_channel(self.std)),
                v2.ToPureTensor(),
            ]
        )

    def _per_channel(self, value: float | tuple[float, ...]) -> list[float]:
        return list(value) if isinstance(value, tuple) else [value] * self.channels
