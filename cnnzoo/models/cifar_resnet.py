"""The thin, deep ResNets for CIFAR-10.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2: 6n + 2 layers for
32x32 images, three stages of n basic blocks with 16, 32 and 64 maps, and shortcuts without parameters (option A).
"""

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import BasicBlock, Shortcut
from cnnzoo.nn.residual import conv3x3, stage
from cnnzoo.registry import Paper, register

__all__ = [
    "CifarResNet",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "cifar_resnet1202",
]

PAPER = Paper("resnet")


class CifarResNet(CNN):
    """ResNet for CIFAR: images (N, in_channels, H, W) to scores (N, num_classes), through stage1 to stage3.

    Args:
        n: blocks in each stage.
        shortcut: `"A"`, `"B"` or `"C"`.
        num_classes: number of scores; 0 ends the network at its 64 features.
        in_channels: channels of the images.
    """

    def __init__(self, n: int, *, shortcut: Shortcut, num_classes: int, in_channels: int) -> None:
        layers = {
            "conv1": conv3x3(in_channels, 16),
            "bn1": nn.BatchNorm2d(16),
            "relu1": nn.ReLU(inplace=True),
            "stage1": stage(BasicBlock, n, 16, 16, stride=1, option=shortcut),
            "stage2": stage(BasicBlock, n, 16, 32, stride=2, option=shortcut),
            "stage3": stage(BasicBlock, n, 32, 64, stride=2, option=shortcut),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
        }
        super().__init__(
            layers, input_shape=(in_channels, 32, 32), head=("fc", 64), num_classes=num_classes, init="he2015"
        )


@register(PAPER, input_shape=(3, 32, 32))
def cifar_resnet20(*, shortcut: Shortcut = "A", num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet of 20 layers for CIFAR (n = 3); published: 8.75 % error on CIFAR-10.

    Args:
        shortcut: `"A"` (zero padding, as published), `"B"` (projections where the identity does not fit) or `"C"`
            (projections everywhere).
        num_classes: number of scores; 0 ends the network at its 64 features.
        in_channels: channels of the images.
    """
    return CifarResNet(3, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_resnet32(*, shortcut: Shortcut = "A", num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet of 32 layers for CIFAR (n = 5); published: 7.51 %. Arguments as for `cifar_resnet20`."""
    return CifarResNet(5, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_resnet44(*, shortcut: Shortcut = "A", num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet of 44 layers for CIFAR (n = 7); published: 7.17 %. Arguments as for `cifar_resnet20`."""
    return CifarResNet(7, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_resnet56(*, shortcut: Shortcut = "A", num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet of 56 layers for CIFAR (n = 9); published: 6.97 %. Arguments as for `cifar_resnet20`."""
    return CifarResNet(9, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_resnet110(*, shortcut: Shortcut = "A", num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet of 110 layers for CIFAR (n = 18); published: 6.43 %. Arguments as for `cifar_resnet20`."""
    return CifarResNet(18, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_resnet1202(*, shortcut: Shortcut = "A", num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet of 1202 layers for CIFAR (n = 200); published: 7.93 %. Arguments as for `cifar_resnet20`."""
    return CifarResNet(200, shortcut=shortcut, num_classes=num_classes, in_channels=in_channels)
