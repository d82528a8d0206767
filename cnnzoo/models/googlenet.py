"""GoogLeNet, the network that won ILSVRC-2014: 22 layers, nine Inception blocks, seven million parameters.

Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), Table 1 and Figure 3. `googlenet(classic=True)` is that
network; `googlenet()` is the batch-normalised one that everybody has weights of, whose "5x5" convolutions are 3x3.
"""

from functools import partial
from typing import NamedTuple

from torch import nn

from cnnzoo.cnn import CNN, AuxiliaryCNN
from cnnzoo.initialization import Scheme, truncated_normal
from cnnzoo.nn import Branches, ConvUnit, LocalResponseNorm
from cnnzoo.nn.inception import path
from cnnzoo.registry import Paper, register

__all__ = ["GoogLeNet", "googlenet", "inception", "inception_naive"]

PAPER = Paper("googlenet")


class Row(NamedTuple):
    """The widths of a block, in the columns of Table 1."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_proj: int

    @property
    def outputs(self) -> int:
        """Maps that the block puts out."""
        return self.conv1x1 + self.conv3x3 + self.conv5x5 + self.pool_proj


TABLE_1 = {
    "3a": Row(64, 96, 128, 16, 32, 32),
    "3b": Row(128, 128, 192, 32, 96, 64),
    "4a": Row(192, 96, 208, 16, 48, 64),
    "4b": Row(160, 112, 224, 24, 64, 64),
    "4c": Row(128, 128, 256, 24, 64, 64),
    "4d": Row(112, 144, 288, 32, 64, 64),
    "4e": Row(256, 160, 320, 32, 128, 128),
    "5a": Row(256, 160, 320, 32, 128, 128),
    "5b": Row(384, 192, 384, 48, 128, 128),
}


class GoogLeNet(AuxiliaryCNN):
    """GoogLeNet: images (N, in_channels, H, W) to scores (N, num_classes), through inception_3a to inception_5b."""


def classifier(in_channels: int, num_classes: int, *, classic: bool, init: str | Scheme) -> CNN:
    """An auxiliary classifier, section 5; it sees 14x14 maps."""
    return CNN(
        {
            "pool": nn.AvgPool2d(5, stride=3) if classic else nn.AdaptiveAvgPool2d(4),
            "conv": ConvUnit(in_channels, 128, 1, norm=not classic),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(128 * 4 * 4, 1024),
            "relu": nn.ReLU(inplace=True),
            "dropout": nn.Dropout(0.7),
        },
        input_shape=(in_channels, 14, 14),
        head=("fc2", 1024),
        num_classes=num_classes,
        init=init,
    )


@register(PAPER, input_shape=(3, 224, 224))
def googlenet(
    *,
    classic: bool = False,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float | None = None,
    aux: bool = False,
) -> GoogLeNet:
    """GoogLeNet with batch normalisation; `classic=True` is the network of 2014.

    Args:
        classic: true 5x5 convolutions, biases, local response normalisation and no batch normalisation: 6,998,552
            parameters, 13,378,280 with `aux`.
        num_classes: number of scores; 0 ends the network at its 1,024 features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out; by default 0.2, with `classic` 0.4.
        aux: add the auxiliary classifiers behind inception_4a and inception_4d, for `forward_with_aux`; the paper
            gives their losses a weight of 0.3.

    Source: Szegedy et al. 2015, Table 1, Figure 3 and section 5. The constants of its response normalisation are not
    printed; those of AlexNet's successors in Caffe stand here.
    """
    norm = not classic
    init = "glorot2010" if classic else partial(truncated_normal, std=0.01)
    layers: dict[str, nn.Module] = {
        "conv1": ConvUnit(in_channels, 64, 7, stride=2, norm=norm),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "norm1": LocalResponseNorm(5),
        "conv2_reduce": ConvUnit(64, 64, 1, norm=norm),
        "conv2": ConvUnit(64, 192, 3, norm=norm),
        "norm2": LocalResponseNorm(5),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
    }
    if not classic:
        del layers["norm1"], layers["norm2"]
    inputs, classifiers = 192, {}
    for name, row in TABLE_1.items():
        layers[f"inception_{name}"] = inception(classic=classic, in_channels=inputs, **row._asdict())
        inputs = row.outputs
        if name == "3b":
            layers["pool3"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        elif name == "4e":  # the published weights were trained with a window of 2
            layers["pool4"] = nn.MaxPool2d(3 if classic else 2, stride=2, ceil_mode=True)
        elif aux and name in ("4a", "4d"):
            classifiers[f"inception_{name}"] = classifier(inputs, num_classes, classic=classic, init=init)
    default = 0.4 if classic else 0.2
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(default if dropout is None else dropout)
    return GoogLeNet(
        layers,
        aux=classifiers,
        input_shape=(in_channels, 224, 224),
        head=("fc", inputs),
        num_classes=num_classes,
        init=init,
    )


@register(PAPER, input_shape=(192, 28, 28), kind="block")
def inception(
    *,
    classic: bool = False,
    in_channels: int = 192,
    conv1x1: int = 64,
    reduce3x3: int = 96,
    conv3x3: int = 128,
    reduce5x5: int = 16,
    conv5x5: int = 32,
    pool_proj: int = 32,
) -> Branches:
    """The Inception block with dimension reduction (Figure 2 b); by default inception (3a).

    Args:
        classic: true 5x5 convolutions with biases, without batch normalisation.
        in_channels: maps in.
        conv1x1: maps of the 1x1 branch.
        reduce3x3: maps of the 1x1 convolution before the 3x3.
        conv3x3: maps of the 3x3 branch.
        reduce5x5: maps of the 1x1 convolution before the 5x5.
        conv5x5: maps of the 5x5 branch.
        pool_proj: maps of the 1x1 convolution behind the pooling.
    """
    norm, large = not classic, 5 if classic else 3
    return Branches(
        branch_1x1=ConvUnit(in_channels, conv1x1, 1, norm=norm),
        branch_3x3=path(in_channels, (reduce3x3, 1), (conv3x3, 3), norm=norm),
        branch_5x5=path(in_channels, (reduce5x5, 1), (conv5x5, large), norm=norm),
        branch_pool=nn.Sequential(nn.MaxPool2d(3, 1, padding=1), ConvUnit(in_channels, pool_proj, 1, norm=norm)),
    )


@register(PAPER, input_shape=(192, 28, 28), kind="block")
def inception_naive(*, in_channels: int = 192, conv1x1: int = 64, conv3x3: int = 128, conv5x5: int = 32) -> Branches:
    """The naive Inception block (Figure 2 a), whose pooling passes every map on; the paper gives it no widths.

    Args:
        in_channels: maps in.
        conv1x1: maps of the 1x1 branch.
        conv3x3: maps of the 3x3 branch.
        conv5x5: maps of the 5x5 branch.
    """
    return Branches(
        branch_1x1=ConvUnit(in_channels, conv1x1, 1, norm=False),
        branch_3x3=ConvUnit(in_channels, conv3x3, 3, norm=False),
        branch_5x5=ConvUnit(in_channels, conv5x5, 5, norm=False),
        branch_pool=nn.MaxPool2d(3, 1, padding=1),
    )
