"""Pre-activation ResNet, whose shortcuts nothing touches from the first block to the last.

He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks" (ECCV 2016), move normalisation and rectifier
before the convolutions and train 1001 layers on CIFAR, and 152 and 200 on ImageNet. `classic=True` is the ImageNet
network of the authors' code; the default is the one that published weights fit.
"""

from functools import partial

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import PreActBasicBlock, PreActBottleneck, Shortcut
from cnnzoo.nn.residual import conv3x3, shortcut_around, stage
from cnnzoo.registry import Paper, register

__all__ = [
    "CifarPreResNet",
    "PreResNet",
    "cifar_preresnet110",
    "cifar_preresnet164",
    "cifar_preresnet1001",
    "preact_basic_block",
    "preact_bottleneck",
    "preresnet18",
    "preresnet34",
    "preresnet50",
    "preresnet101",
    "preresnet152",
    "preresnet200",
]

PAPER = Paper("preresnet")


class PreResNet(CNN):
    """Pre-activation ResNet: images (N, in_channels, H, W) to scores (N, num_classes), through conv2_x to conv5_x.

    Args:
        depths: blocks in each of the four stages.
        bottlenecks: build them of `PreActBottleneck`, which puts out four times the maps, instead of
            `PreActBasicBlock`.
        classic: normalisation and rectifier of the first block stand behind conv1, before the pooling, and the stride
            of a bottleneck is in its first 1x1 convolution.
        num_classes: number of scores; 0 ends the network at its features.
        in_channels: channels of the images.
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        *,
        bottlenecks: bool,
        classic: bool,
        num_classes: int,
        in_channels: int,
    ) -> None:
        block = partial(PreActBottleneck, stride_first=classic) if bottlenecks else PreActBasicBlock
        inputs, outputs = 64, 256 if bottlenecks else 64
        layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)}
        if classic:
            # The appendix: the first block takes its activation from behind conv1.
            layers |= {"bn1": nn.BatchNorm2d(64), "relu1": nn.ReLU(inplace=True)}
        layers["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
        for i, depth in enumerate(depths, 2):
            stride = 1 if i == 2 else 2
            first = partial(block, preact=False) if classic and i == 2 else None
            layers[f"conv{i}_x"] = stage(
                block, depth, inputs, outputs, stride=stride, option="B", norm=False, first=first
            )
            inputs, outputs = outputs, 2 * outputs
        super().__init__(
            layers | closing(inputs),
            input_shape=(in_channels, 224, 224),
            head=("fc", inputs),
            num_classes=num_classes,
            init="he2015",
        )


class CifarPreResNet(CNN):
    """Pre-activation ResNet for CIFAR: images (N, in_channels, H, W) to scores (N, num_classes).

    Args:
        n: blocks in each of the three stages.
        bottlenecks: build them of `PreActBottleneck`, which puts out four times the maps, instead of
            `PreActBasicBlock`.
        num_classes: number of scores; 0 ends the network at its features.
        in_channels: channels of the images.
    """

    def __init__(self, n: int, *, bottlenecks: bool, num_classes: int, in_channels: int) -> None:
        block = partial(PreActBottleneck, stride_first=True) if bottlenecks else PreActBasicBlock
        option: Shortcut = "B" if bottlenecks else "A"
        layers: dict[str, nn.Module] = {"conv1": conv3x3(in_channels, 16)}
        inputs, outputs = 16, 64 if bottlenecks else 16
        for i, stride in enumerate((1, 2, 2), 1):
            layers[f"stage{i}"] = stage(block, n, inputs, outputs, stride=stride, option=option, norm=False)
            inputs, outputs = outputs, 2 * outputs
        super().__init__(
            layers | closing(inputs),
            input_shape=(in_channels, 32, 32),
            head=("fc", inputs),
            num_classes=num_classes,
            init="he2015",
        )


def closing(channels: int) -> dict[str, nn.Module]:
    """After the last block nothing has been normalised yet."""
    return {
        "bn": nn.BatchNorm2d(channels),
        "relu": nn.ReLU(inplace=True),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
    }


@register(PAPER, input_shape=(3, 224, 224))
def preresnet18(*, classic: bool = False, num_classes: int = 1000, in_channels: int = 3) -> PreResNet:
    """Pre-activation ResNet of 18 layers: two basic blocks in each stage.

    Args:
        classic: normalisation and rectifier of the first block stand behind conv1, before the pooling, and in
            bottlenecks the stride is in the first 1x1 convolution, as in the authors' code.
        num_classes: number of scores; 0 ends the network at its 512 features, 2,048 from 50 layers on.
        in_channels: channels of the images.
    """
    return PreResNet((2, 2, 2, 2), bottlenecks=False, classic=classic, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def preresnet34(*, classic: bool = False, num_classes: int = 1000, in_channels: int = 3) -> PreResNet:
    """Pre-activation ResNet of 34 layers: 3, 4, 6 and 3 basic blocks; arguments as for `preresnet18`."""
    return PreResNet((3, 4, 6, 3), bottlenecks=False, classic=classic, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def preresnet50(*, classic: bool = False, num_classes: int = 1000, in_channels: int = 3) -> PreResNet:
    """Pre-activation ResNet of 50 layers: 3, 4, 6 and 3 bottlenecks; arguments as for `preresnet18`."""
    return PreResNet((3, 4, 6, 3), bottlenecks=True, classic=classic, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def preresnet101(*, classic: bool = False, num_classes: int = 1000, in_channels: int = 3) -> PreResNet:
    """Pre-activation ResNet of 101 layers: 3, 4, 23 and 3 bottlenecks; arguments as for `preresnet18`."""
    return PreResNet((3, 4, 23, 3), bottlenecks=True, classic=classic, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def preresnet152(*, classic: bool = False, num_classes: int = 1000, in_channels: int = 3) -> PreResNet:
    """Pre-activation ResNet of 152 layers: 3, 8, 36 and 3 bottlenecks; arguments as for `preresnet18`."""
    return PreResNet((3, 8, 36, 3), bottlenecks=True, classic=classic, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 224, 224))
def preresnet200(*, classic: bool = False, num_classes: int = 1000, in_channels: int = 3) -> PreResNet:
    """Pre-activation ResNet of 200 layers: 3, 24, 36 and 3 bottlenecks; arguments as for `preresnet18`."""
    return PreResNet(
        (3, 24, 36, 3), bottlenecks=True, classic=classic, num_classes=num_classes, in_channels=in_channels
    )


@register(PAPER, input_shape=(3, 32, 32))
def cifar_preresnet110(*, num_classes: int = 10, in_channels: int = 3) -> CifarPreResNet:
    """Pre-activation ResNet of 110 layers for CIFAR: 54 basic blocks, shortcuts without parameters; 6.37 % error.

    Args:
        num_classes: number of scores; 0 ends the network at its 64 features.
        in_channels: channels of the images.
    """
    return CifarPreResNet(18, bottlenecks=False, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_preresnet164(*, num_classes: int = 10, in_channels: int = 3) -> CifarPreResNet:
    """Pre-activation ResNet of 164 layers for CIFAR: 54 bottlenecks; 5.46 % error on CIFAR-10.

    Args:
        num_classes: number of scores; 0 ends the network at its 256 features.
        in_channels: channels of the images.
    """
    return CifarPreResNet(18, bottlenecks=True, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(3, 32, 32))
def cifar_preresnet1001(*, num_classes: int = 10, in_channels: int = 3) -> CifarPreResNet:
    """Pre-activation ResNet of 1001 layers for CIFAR: 333 bottlenecks; 4.92 % error. As `cifar_preresnet164`."""
    return CifarPreResNet(111, bottlenecks=True, num_classes=num_classes, in_channels=in_channels)


@register(PAPER, input_shape=(64, 56, 56), kind="block")
def preact_basic_block(
    *, in_channels: int = 64, out_channels: int = 64, stride: int = 1, shortcut: Shortcut = "B"
) -> PreActBasicBlock:
    """`basic_block` with normalisation and rectifier before each convolution (Figure 4 e).

    Args:
        in_channels: maps in.
        out_channels: maps out.
        stride: of the block.
        shortcut: `"A"` (zero padding), `"B"` (projection where the identity does not fit) or `"C"` (projection).
    """
    around = shortcut_around(shortcut, in_channels, out_channels, stride, norm=False)
    return PreActBasicBlock(in_channels, out_channels, stride, around)


@register(PAPER, input_shape=(256, 56, 56), kind="block")
def preact_bottleneck(
    *,
    classic: bool = False,
    in_channels: int = 256,
    out_channels: int = 256,
    stride: int = 1,
    shortcut: Shortcut = "B",
) -> PreActBottleneck:
    """`bottleneck` with normalisation and rectifier before each convolution (Figure 4 e).

    Args:
        classic: the stride is in the first 1x1 convolution, as in the authors' code, and not in the 3x3.
        in_channels: maps in.
        out_channels: maps out, a multiple of 4.
        stride: of the block.
        shortcut: `"A"` (zero padding), `"B"` (projection where the identity does not fit) or `"C"` (projection).
    """
    around = shortcut_around(shortcut, in_channels, out_channels, stride, norm=False)
    return PreActBottleneck(in_channels, out_channels, stride, around, stride_first=classic)
