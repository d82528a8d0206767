"""Inception-v4, a uniform Inception network without residual connections.

Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning" (AAAI 2017), Figures 3 to 9. `inception_resnet.py` has the paper's residual networks.
"""

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import Branches, ConvUnit
from cnnzoo.nn.inception import averaged, path, reduction_a, stem, valid
from cnnzoo.registry import Paper, register

__all__ = [
    "InceptionV4",
    "inception_v4",
    "inception_v4_a",
    "inception_v4_b",
    "inception_v4_c",
    "inception_v4_reduction_a",
    "inception_v4_reduction_b",
    "inception_v4_stem",
]

PAPER = Paper("inception_v4")


class InceptionV4(CNN):
    """Inception-v4: images (N, in_channels, H, W) to scores (N, num_classes), through the boxes of Figure 9."""


@register(PAPER, input_shape=(3, 299, 299), kind="block")
def inception_v4_stem(*, classic: bool = False, in_channels: int = 3) -> nn.Sequential:
    """The stem of Inception-v4 and the printed Inception-ResNet-v2 (Figure 3): to 384 maps of 35x35.

    Args:
        classic: 7x1 before 1x7, as drawn, and not as in the released code.
        in_channels: channels of the images.
    """
    return stem(in_channels, figure=classic)


@register(PAPER, input_shape=(384, 35, 35), kind="block")
def inception_v4_a(*, in_channels: int = 384) -> Branches:
    """The block of the 35x35 grid (Figure 4): to 384 maps.

    Args:
        in_channels: maps in.
    """
    return Branches(
        branch_1x1=ConvUnit(in_channels, 96, 1),
        branch_3x3=path(in_channels, (64, 1), (96, 3)),
        branch_double_3x3=path(in_channels, (64, 1), (96, 3), (96, 3)),
        branch_pool=averaged(in_channels, 96),
    )


@register(PAPER, input_shape=(384, 35, 35), kind="block")
def inception_v4_reduction_a(
    *,
    in_channels: int = 384,
    k: int = 192,
    l: int = 224,  # noqa: E741  the paper's letters
    m: int = 256,
    n: int = 384,
) -> Branches:
    """From the 35x35 to the 17x17 grid (Figure 7), of Inception-v4 and the Inception-ResNets: n + m + in_channels maps.

    Args:
        in_channels: maps in.
        k: maps of the 1x1 convolution, Table 1.
        l: maps of the 3x3 convolution behind it.
        m: maps of the strided 3x3 convolution behind that.
        n: maps of the other strided 3x3 convolution.
    """
    return reduction_a(in_channels, k, l, m, n)


@register(PAPER, input_shape=(1024, 17, 17), kind="block")
def inception_v4_b(*, classic: bool = False, in_channels: int = 1024) -> Branches:
    """The block of the 17x17 grid (Figure 5): to 1,024 maps.

    Args:
        classic: the long branch begins with 1x7, as drawn, and not as in the released code.
        in_channels: maps in.
    """
    row, column = (1, 7), (7, 1)
    first, second = (row, column) if classic else (column, row)
    return Branches(
        branch_1x1=ConvUnit(in_channels, 384, 1),
        branch_7x7=path(in_channels, (192, 1), (224, row), (256, column)),
        branch_double_7x7=path(in_channels, (192, 1), (192, first), (224, second), (224, first), (256, second)),
        branch_pool=averaged(in_channels, 128),
    )


@register(PAPER, input_shape=(1024, 17, 17), kind="block")
def inception_v4_reduction_b(*, in_channels: int = 1024) -> Branches:
    """From the 17x17 to the 8x8 grid (Figure 8): to 512 + in_channels maps.

    Args:
        in_channels: maps in.
    """
    return Branches(
        branch_3x3=path(in_channels, (192, 1), valid(192, 3, 2)),
        branch_7x7=path(in_channels, (256, 1), (256, (1, 7)), (320, (7, 1)), valid(320, 3, 2)),
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


@register(PAPER, input_shape=(1536, 8, 8), kind="block")
def inception_v4_c(*, classic: bool = False, in_channels: int = 1536) -> Branches:
    """The block of the 8x8 grid (Figure 6): to 1,536 maps.

    Args:
        classic: the long branch begins with 1x3, as drawn, and not as in the released code.
        in_channels: maps in.
    """
    row, column = (1, 3), (3, 1)
    first, second = (row, column) if classic else (column, row)

    def split(channels: int) -> Branches:
        return Branches(row=ConvUnit(channels, 256, row), column=ConvUnit(channels, 256, column))

    return Branches(
        branch_1x1=ConvUnit(in_channels, 256, 1),
        branch_3x3=path(in_channels, (384, 1)).append(split(384)),
        branch_double_3x3=path(in_channels, (384, 1), (448, first), (512, second)).append(split(512)),
        branch_pool=averaged(in_channels, 256),
    )


@register(PAPER, input_shape=(3, 299, 299))
def inception_v4(
    *, classic: bool = False, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2
) -> InceptionV4:
    """Inception-v4: four, seven and three blocks on grids of 35x35, 17x17 and 8x8.

    Args:
        classic: the long branches of the stem and the blocks take rows and columns in the order of the figures, and
            not of the released code; the number of parameters is the same.
        num_classes: number of scores; 0 ends the network at its 1,536 features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out; the paper keeps 0.8.

    Source: Szegedy et al. 2017, Figure 9.
    """
    return InceptionV4(
        {
            "stem": inception_v4_stem(classic=classic, in_channels=in_channels),
            "inception_a": nn.Sequential(*(inception_v4_a() for _ in range(4))),
            "reduction_a": inception_v4_reduction_a(),
            "inception_b": nn.Sequential(*(inception_v4_b(classic=classic) for _ in range(7))),
            "reduction_b": inception_v4_reduction_b(),
            "inception_c": nn.Sequential(*(inception_v4_c(classic=classic) for _ in range(3))),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(dropout),
        },
        input_shape=(in_channels, 299, 299),
        head=("fc", 1536),
        num_classes=num_classes,
        init="truncated_normal",
    )
