"""ResNet, the networks whose blocks add to what they were given.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), Table 1: 18 to 152 layers for
224x224 images. `cifar_resnet.py` has the networks of its section 4.2.
"""

from functools import partial

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import BasicBlock, Bottleneck, Shortcut
from cnnzoo.nn.residual import shortcut_around, stage
from cnnzoo.registry import Paper, register

__all__ = [
    "ResNet",
    "basic_block",
    "bottleneck",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]

PAPER = Paper("resnet")


class ResNet(CNN):
    """ResNet: images (N, in_channels, H, W) to scores (N, num_classes), through conv1 and conv2_x to conv5_x.

    Args:
        depths: blocks in each of the four stages.
        bottlenecks: build them of `Bottleneck`, which puts out four times the maps, instead of `BasicBlock`.
        classic: the stride of a bottleneck is in its first 1x1 convolution.
        shortcut: `"A"`, `"B"` or `"C"`.
        num_classes: number of scores; 0 ends the network at its features.
        in_channels: channels of the images.
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        *,
        bottlenecks: bool,
        classic: bool = False,
        shortcut: Shortcut,
        num_classes: int,
        in_channels: int,
    ) -> None:
        block = partial(Bottleneck, stride_first=classic) if bottlenecks else BasicBlock
        inputs, outputs = 64, 256 if bottlenecks else 64
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False),
            "bn1": nn.BatchNorm2d(64),
            "relu1": nn.ReLU(inplace=True),
            "pool1": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for i, depth in enumerate(depths, 2):
            stride = 1 if i == 2 else 2
            layers[f"conv{i}_x"] = stage(block, depth, inputs, outputs, stride=stride, option=shortcut)
            inputs, outputs = outputs, 2 * outputs
        layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        super().__init__(
            layers,
            input_shape=(in_channels, 224, 224),
            head=("fc", inputs),
            num_classes=num_classes,
            init="he2015",
        )


@register(PAPER, input_shape=(3, 224, 224))
def resnet18(*, shortcut: Shortcut = "B", num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet of 18 layers: two basic blocks in each stage.

    Args:
        shortcut: `"A"` (zero padding), `"B"` (projections where the identity does not fit) or `"C"` (projections
            everywhere).
        num_classes: number of scores; 0 ends the network at its 512 features.
        in_channels: channels of the images.
    """
    return ResNet((2, 2, 2, 2), bottlenecks=False, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def resnet34(*, shortcut: Shortcut = "B", num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet of 34 layers: 3, 4, 6 and 3 basic blocks; arguments as for `resnet18`."""
    return ResNet((3, 4, 6, 3), bottlenecks=False, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def resnet50(
    *, classic: bool = False, shortcut: Shortcut = "B", num_classes: int = 1000, in_channels: int = 3
) -> ResNet:
    """ResNet of 50 layers: 3, 4, 6 and 3 bottlenecks, with the stride in the 3x3 convolution ("v1.5").

    Args:
        classic: the stride is in the first 1x1 convolution, as published ("v1"). Both have the same parameters and
            are different functions.
        shortcut: `"A"` (zero padding), `"B"` (projections where the identity does not fit) or `"C"` (projections
            everywhere).
        num_classes: number of scores; 0 ends the network at its 2,048 features.
        in_channels: channels of the images.
    """
    return ResNet(
        (3, 4, 6, 3),
        bottlenecks=True,
        classic=classic,
        shortcut=shortcut,
        num_classes=num_classes,
        in_channels=in_channels,
    )


@register(PAPER, input_shape=(3, 224, 224))
def resnet101(
    *, classic: bool = False, shortcut: Shortcut = "B", num_classes: int = 1000, in_channels: int = 3
) -> ResNet:
    """ResNet of 101 layers: 3, 4, 23 and 3 bottlenecks; arguments as for `resnet50`."""
    return ResNet(
        (3, 4, 23, 3),
        bottlenecks=True,
        classic=classic,
        shortcut=shortcut,
        num_classes=num_classes,
        in_channels=in_channels,
    )


@register(PAPER, input_shape=(3, 224, 224))
def resnet152(
    *, classic: bool = False, shortcut: Shortcut = "B", num_classes: int = 1000, in_channels: int = 3
) -> ResNet:
    """ResNet of 152 layers: 3, 8, 36 and 3 bottlenecks; arguments as for `resnet50`."""
    return ResNet(
        (3, 8, 36, 3),
        bottlenecks=True,
        classic=classic,
        shortcut=shortcut,
        num_classes=num_classes,
        in_channels=in_channels,
    )


@register(PAPER, input_shape=(64, 56, 56), kind="block")
def basic_block(
    *, in_channels: int = 64, out_channels: int = 64, stride: int = 1, shortcut: Shortcut = "B"
) -> BasicBlock:
    """Two 3x3 convolutions with a shortcut around them (Figure 5, left).

    Args:
        in_channels: maps in.
        out_channels: maps out.
        stride: of the block.
        shortcut: `"A"` (zero padding), `"B"` (projection where the identity does not fit) or `"C"` (projection).
    """
    around = shortcut_around(shortcut, in_channels, out_channels, stride)
    return BasicBlock(in_channels, out_channels, stride, around)


@register(PAPER, input_shape=(256, 56, 56), kind="block")
def bottleneck(
    *,
    classic: bool = False,
    in_channels: int = 256,
    out_channels: int = 256,
    stride: int = 1,
    shortcut: Shortcut = "B",
) -> Bottleneck:
    """1x1, 3x3 and 1x1 convolutions, the first two on a quarter of the maps, with a shortcut (Figure 5, right).

    Args:
        classic: the stride is in the first 1x1 convolution, as published, and not in the 3x3.
        in_channels: maps in.
        out_channels: maps out, a multiple of 4.
        stride: of the block.
        shortcut: `"A"` (zero padding), `"B"` (projection where the identity does not fit) or `"C"` (projection).
    """
    around = shortcut_around(shortcut, in_channels, out_channels, stride)
    return Bottleneck(in_channels, out_channels, stride, around, stride_first=classic)
