"""VGG, the networks that went deep with 3x3 convolutions only.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014), compare six
configurations, A to E, in Table 1. All end in fc6, fc7 and fc8; the `_bn` networks normalise each convolution, which
the paper did not know.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import LocalResponseNorm
from cnnzoo.nn.layers import BatchNorm2d, Conv2d, Linear
from cnnzoo.registry import Paper, register

__all__ = [
    "VGG",
    "vgg11",
    "vgg11_bn",
    "vgg11_lrn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg16_c",
    "vgg19",
    "vgg19_bn",
]

PAPER = Paper("vgg")

# The columns of Table 1: for each of the five blocks, the kernel sizes of its convolutions.
A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
WIDTHS = (64, 128, 256, 512, 512)


class VGG(CNN):
    """VGG: images (N, in_channels, H, W) to scores (N, num_classes), through conv1_1 to conv5_4 and fc6 to fc8.

    Args:
        configuration: a column of Table 1: for each block, the kernel sizes of its convolutions.
        num_classes: number of scores; 0 ends the network at the 4,096 features of fc7.
        in_channels: channels of the images.
        dropout: probability with which a unit of fc6 and fc7 is left out.
        norm: normalise every convolution.
        lrn: local response normalisation behind the first convolution, `"printed"` or `"released"`; None for none.
        init: the scheme that initialises it. Section 3.1 starts A from small random weights and the others from A's,
            and notes that those of Glorot and Bengio (2010) make that unnecessary.
    """

    def __init__(
        self,
        configuration: Sequence[Sequence[int]],
        *,
        num_classes: int,
        in_channels: int,
        dropout: float,
        norm: bool = False,
        lrn: Literal["printed", "released"] | None = None,
        init: str = "glorot2010",
    ) -> None:
        layers: dict[str, nn.Module] = {}
        inputs = in_channels
        for block, (kernels, width) in enumerate(zip(configuration, WIDTHS, strict=True), 1):
            for i, kernel in enumerate(kernels, 1):
                layers[f"conv{block}_{i}"] = Conv2d(inputs, width, kernel, padding=kernel // 2)
                if norm:
                    layers[f"bn{block}_{i}"] = BatchNorm2d(width)
                layers[f"relu{block}_{i}"] = nn.ReLU(inplace=True)
                inputs = width
            if lrn and block == 1:  # Table 1, column A-LRN, with the constants of AlexNet
                layers["norm1"] = LocalResponseNorm.krizhevsky2012(lrn)
            layers[f"pool{block}"] = nn.MaxPool2d(2)
        layers["avgpool"] = nn.AdaptiveAvgPool2d(7)  # nothing to do at 224x224; lets other sizes in
        layers["flatten"] = nn.Flatten()
        for name, features in (("6", 512 * 7 * 7), ("7", 4096)):
            layers[f"fc{name}"] = Linear(features, 4096)
            layers[f"relu{name}"] = nn.ReLU(inplace=True)
            layers[f"drop{name}"] = nn.Dropout(dropout)
        super().__init__(
            layers,
            input_shape=(in_channels, 224, 224),
            head=("fc8", 4096),
            num_classes=num_classes,
            init=init,
        )


@register(PAPER, input_shape=(3, 224, 224))
def vgg11(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration A: eight convolutions."""
    return VGG(A, num_classes=num_classes, in_channels=in_channels, dropout=dropout, init="simonyan2014")


@register(PAPER, input_shape=(3, 224, 224))
def vgg11_bn(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration A with batch normalisation."""
    return VGG(A, num_classes=num_classes, in_channels=in_channels, dropout=dropout, norm=True, init="he2015")


@register(PAPER, input_shape=(3, 224, 224))
def vgg11_lrn(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    lrn: Literal["printed", "released"] = "printed",
) -> VGG:
    """VGG configuration A-LRN: local response normalisation behind conv1_1, which the paper found not to help.

    Args:
        num_classes: number of scores; 0 ends the network at the 4,096 features of fc7.
        in_channels: channels of the images.
        dropout: probability with which a unit of fc6 and fc7 is left out.
        lrn: `"printed"` adds 1e-4 times the sum of the squares, as AlexNet's paper prints it; `"released"` divides that
            by the window of 5, as its authors' code and Caffe do.
    """
    return VGG(A, num_classes=num_classes, in_channels=in_channels, dropout=dropout, lrn=lrn, init="simonyan2014")


@register(PAPER, input_shape=(3, 224, 224))
def vgg13(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration B: ten convolutions."""
    return VGG(B, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


@register(PAPER, input_shape=(3, 224, 224))
def vgg13_bn(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration B with batch normalisation."""
    return VGG(B, num_classes=num_classes, in_channels=in_channels, dropout=dropout, norm=True, init="he2015")


@register(PAPER, input_shape=(3, 224, 224))
def vgg16_c(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration C: thirteen convolutions, those that close blocks 3 to 5 of size 1x1."""
    return VGG(C, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


@register(PAPER, input_shape=(3, 224, 224))
def vgg16(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration D: thirteen 3x3 convolutions."""
    return VGG(D, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


@register(PAPER, input_shape=(3, 224, 224))
def vgg16_bn(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration D with batch normalisation."""
    return VGG(D, num_classes=num_classes, in_channels=in_channels, dropout=dropout, norm=True, init="he2015")


@register(PAPER, input_shape=(3, 224, 224))
def vgg19(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration E: sixteen convolutions."""
    return VGG(E, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


@register(PAPER, input_shape=(3, 224, 224))
def vgg19_bn(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG configuration E with batch normalisation."""
    return VGG(E, num_classes=num_classes, in_channels=in_channels, dropout=dropout, norm=True, init="he2015")
