"""Inception-v3, GoogLeNet with factorised convolutions.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (CVPR 2016), split 5x5 into two 3x3 and
nxn into 1xn and nx1. This is the network that was released, under its names for the layers: the paper's Table 1 is
its draft, and the widths inside the blocks are in no figure.
"""

from torch import nn

from cnnzoo.cnn import CNN, AuxiliaryCNN
from cnnzoo.nn import Branches, ConvUnit
from cnnzoo.nn.inception import averaged, path, valid
from cnnzoo.registry import Paper, register

__all__ = [
    "InceptionV3",
    "inception_v3",
    "inception_v3_a",
    "inception_v3_b",
    "inception_v3_c",
    "inception_v3_reduction_a",
    "inception_v3_reduction_b",
]

PAPER = Paper("inception_v3")


class InceptionV3(AuxiliaryCNN):
    """Inception-v3: images (N, in_channels, H, W) to scores (N, num_classes), through mixed_5b to mixed_7c."""


@register(PAPER, input_shape=(192, 35, 35), kind="block")
def inception_v3_a(*, in_channels: int = 192, pool_proj: int = 32) -> Branches:
    """The block of the 35x35 grid, mixed_5b to mixed_5d (Figure 5): to 224 + pool_proj maps.

    Args:
        in_channels: maps in.
        pool_proj: maps of the pooling branch.
    """
    return Branches(
        branch_1x1=ConvUnit(in_channels, 64, 1),
        branch_5x5=path(in_channels, (48, 1), (64, 5)),
        branch_double_3x3=path(in_channels, (64, 1), (96, 3), (96, 3)),
        branch_pool=averaged(in_channels, pool_proj, count_include_pad=True),
    )


@register(PAPER, input_shape=(288, 35, 35), kind="block")
def inception_v3_reduction_a(*, in_channels: int = 288) -> Branches:
    """From the 35x35 to the 17x17 grid, mixed_6a (Figure 10): to 480 + in_channels maps.

    Args:
        in_channels: maps in.
    """
    return Branches(
        branch_3x3=ConvUnit(in_channels, 384, 3, 2, padding=0),
        branch_double_3x3=path(in_channels, (64, 1), (96, 3), valid(96, 3, 2)),
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


@register(PAPER, input_shape=(768, 17, 17), kind="block")
def inception_v3_b(*, in_channels: int = 768, width: int = 128) -> Branches:
    """The block of the 17x17 grid, mixed_6b to mixed_6e (Figure 6 with n = 7): to 768 maps.

    Args:
        in_channels: maps in.
        width: maps between the 1x7 and 7x1 convolutions.
    """
    c, row, column = width, (1, 7), (7, 1)
    return Branches(
        branch_1x1=ConvUnit(in_channels, 192, 1),
        branch_7x7=path(in_channels, (c, 1), (c, row), (192, column)),
        branch_double_7x7=path(in_channels, (c, 1), (c, column), (c, row), (c, column), (192, row)),
        branch_pool=averaged(in_channels, 192, count_include_pad=True),
    )


@register(PAPER, input_shape=(768, 17, 17), kind="block")
def inception_v3_reduction_b(*, in_channels: int = 768) -> Branches:
    """From the 17x17 to the 8x8 grid, mixed_7a: to 512 + in_channels maps.

    Args:
        in_channels: maps in.
    """
    return Branches(
        branch_3x3=path(in_channels, (192, 1), valid(320, 3, 2)),
        branch_7x7=path(in_channels, (192, 1), (192, (1, 7)), (192, (7, 1)), valid(192, 3, 2)),
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


@register(PAPER, input_shape=(1280, 8, 8), kind="block")
def inception_v3_c(*, in_channels: int = 1280) -> Branches:
    """The block of the 8x8 grid, mixed_7b and mixed_7c (Figure 7): to 2,048 maps.

    Args:
        in_channels: maps in.
    """

    def split(channels: int) -> Branches:
        return Branches(row=ConvUnit(channels, 384, (1, 3)), column=ConvUnit(channels, 384, (3, 1)))

    return Branches(
        branch_1x1=ConvUnit(in_channels, 320, 1),
        branch_3x3=path(in_channels, (384, 1)).append(split(384)),
        branch_double_3x3=path(in_channels, (448, 1), (384, 3)).append(split(384)),
        branch_pool=averaged(in_channels, 192, count_include_pad=True),
    )


def classifier(in_channels: int, num_classes: int, init: str) -> CNN:
    """The auxiliary classifier, Figure 8; it sees 17x17 maps or larger."""
    return CNN(
        {
            "pool": nn.AvgPool2d(5, stride=3),
            "conv0": ConvUnit(in_channels, 128, 1),
            "conv1": ConvUnit(128, 768, 5, padding=0),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
        },
        input_shape=(in_channels, 17, 17),
        head=("fc", 768),
        num_classes=num_classes,
        init=init,
    )


@register(PAPER, input_shape=(3, 299, 299))
def inception_v3(
    *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5, aux: bool = False
) -> InceptionV3:
    """Inception-v3, as released.

    Args:
        num_classes: number of scores; 0 ends the network at its 2,048 features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out.
        aux: add the auxiliary classifier behind mixed_6e, for `forward_with_aux`.

    Source: Szegedy et al. 2016, section 6, and the authors' released code.
    """
    init = "truncated_normal"
    return InceptionV3(
        {
            "conv1a": ConvUnit(in_channels, 32, 3, 2, padding=0),
            "conv2a": ConvUnit(32, 32, 3, padding=0),
            "conv2b": ConvUnit(32, 64, 3),
            "pool1": nn.MaxPool2d(3, stride=2),
            "conv3b": ConvUnit(64, 80, 1),
            "conv4a": ConvUnit(80, 192, 3, padding=0),
            "pool2": nn.MaxPool2d(3, stride=2),
            "mixed_5b": inception_v3_a(in_channels=192, pool_proj=32),
            "mixed_5c": inception_v3_a(in_channels=256, pool_proj=64),
            "mixed_5d": inception_v3_a(in_channels=288, pool_proj=64),
            "mixed_6a": inception_v3_reduction_a(in_channels=288),
            "mixed_6b": inception_v3_b(width=128),
            "mixed_6c": inception_v3_b(width=160),
            "mixed_6d": inception_v3_b(width=160),
            "mixed_6e": inception_v3_b(width=192),
            "mixed_7a": inception_v3_reduction_b(),
            "mixed_7b": inception_v3_c(in_channels=1280),
            "mixed_7c": inception_v3_c(in_channels=2048),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(dropout),
        },
        aux={"mixed_6e": classifier(768, num_classes, init)} if aux else None,
        input_shape=(in_channels, 299, 299),
        head=("fc", 2048),
        num_classes=num_classes,
        init=init,
    )
