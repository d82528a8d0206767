"""From a picture to a network's input."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its pictures: resized, padded with black, scaled to 0 to 1 and normalised.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: height and width in pixels, before padding.
        pad: black pixels added on each side.
        mean: subtracted from pixels between 0 and 1.
        std: what the result is divided by.
    """

    channels: int
    size: int
    pad: int
    mean: float
    std: float

    def transforms(self) -> "Compose":
        """The steps as torchvision transforms: a PIL picture or uint8 images (..., C, H, W) to float images."""
        import torch
        from torchvision.transforms import v2

        return v2.Compose(
            [
                v2.Grayscale() if self.channels == 1 else v2.RGB(),
                v2.ToImage(),
                v2.Resize((self.size, self.size), antialias=True),
                v2.Pad(self.pad),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([self.mean] * self.channels, [self.std] * self.channels),
                v2.ToPureTensor(),
            ]
        )
