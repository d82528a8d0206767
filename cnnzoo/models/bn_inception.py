"""BN-Inception, GoogLeNet with batch normalisation and two 3x3 convolutions for each 5x5.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift"
(ICML 2015), Figure 5. Later papers call it Inception-v2.
"""

from typing import Literal

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import Branches, ConvUnit
from cnnzoo.nn.inception import averaged, path
from cnnzoo.registry import Paper, register

__all__ = ["BNInception", "bn_inception"]

PAPER = Paper("bn_inception")

# Figure 5: #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool proj. Its rows 4c and 4d print a pool proj
# of 128, with which their outputs would not have the printed 576 maps; the authors' code has 96.
Row = tuple[int, int, int, int, int, int]
FIGURE_5: dict[str, Row] = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 96),
    "4d": (96, 128, 192, 160, 192, 96),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


class BNInception(CNN):
    """BN-Inception: images (N, in_channels, H, W) to scores (N, num_classes), inception_3a to inception_5b."""


def block(in_channels: int, row: Row, *, pool: Literal["avg", "max"]) -> tuple[Branches, int]:
    """A row of Figure 5 and the maps that it puts out. One without 1x1 convolutions halves the size."""
    conv1x1, reduce3x3, conv3x3, reduce_double, double3x3, pool_proj = row
    if not conv1x1:
        branches = Branches(
            branch_3x3=path(in_channels, (reduce3x3, 1), (conv3x3, 3, 2, 1)),
            branch_double_3x3=path(in_channels, (reduce_double, 1), (double3x3, 3), (double3x3, 3, 2, 1)),
            branch_pool=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
        return branches, conv3x3 + double3x3 + in_channels
    pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), ConvUnit(in_channels, pool_proj, 1))
    branches = Branches(
        branch_1x1=ConvUnit(in_channels, conv1x1, 1),
        branch_3x3=path(in_channels, (reduce3x3, 1), (conv3x3, 3)),
        branch_double_3x3=path(in_channels, (reduce_double, 1), (double3x3, 3), (double3x3, 3)),
        branch_pool=pooled if pool == "max" else averaged(in_channels, pool_proj),
    )
    return branches, conv1x1 + conv3x3 + double3x3 + pool_proj


@register(PAPER, input_shape=(3, 224, 224))
def bn_inception(*, num_classes: int = 1000, in_channels: int = 3) -> BNInception:
    """BN-Inception, also known as Inception-v2, with a dense first convolution.

    Args:
        num_classes: number of scores; 0 ends the network at its 1,024 features.
        in_channels: channels of the images.

    Source: Ioffe and Szegedy 2015, Figure 5. Its first convolution is separable there; this one is not, as in every
    other implementation.
    """
    layers: dict[str, nn.Module] = {
        "conv1": ConvUnit(in_channels, 64, 7, stride=2),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "conv2_reduce": ConvUnit(64, 64, 1),
        "conv2": ConvUnit(64, 192, 3),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
    }
    features = 192
    for name, row in FIGURE_5.items():
        pool = "max" if name == "5b" else "avg"
        layers[f"inception_{name}"], features = block(features, row, pool=pool)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return BNInception(
        layers,
        input_shape=(in_channels, 224, 224),
        head=("fc", features),
        num_classes=num_classes,
        init="truncated_normal",
    )
