"""The Inception-ResNets, whose blocks add a scaled Inception block to what they were given.

Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning" (AAAI 2017), Figures 10 to 20. `inception_resnet_v2` is the network that was released, and
`inception_resnet_v2_printed` that of the figures: they share hardly more than the blocks.
"""

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.nn import Branches, ConvUnit, ScaledResidual
from cnnzoo.nn.inception import averaged, path, reduction_a, stem, valid
from cnnzoo.registry import Paper, register

__all__ = [
    "InceptionResNet",
    "inception_resnet_a",
    "inception_resnet_b",
    "inception_resnet_c",
    "inception_resnet_reduction_b",
    "inception_resnet_v1",
    "inception_resnet_v2",
    "inception_resnet_v2_printed",
]

PAPER = Paper("inception_v4")

Three = tuple[int, int, int]


class InceptionResNet(CNN):
    """Inception-ResNet: images (N, in_channels, H, W) to scores (N, num_classes), through the boxes of Figure 15.

    Args:
        boxes: from the stem to the last block, by name.
        features: maps that the last box puts out.
        num_classes: number of scores; 0 ends the network at its features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out.
    """

    def __init__(
        self, boxes: dict[str, nn.Module], features: int, *, num_classes: int, in_channels: int, dropout: float
    ) -> None:
        closing = {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "dropout": nn.Dropout(dropout)}
        super().__init__(
            boxes | closing,
            input_shape=(in_channels, 299, 299),
            head=("fc", features),
            num_classes=num_classes,
            init="truncated_normal",
        )


@register(PAPER, input_shape=(320, 35, 35), kind="block")
def inception_resnet_a(
    *, in_channels: int = 320, double3x3: Three = (32, 48, 64), scale: float = 0.17
) -> ScaledResidual:
    """The block of the 35x35 grid (Figures 10 and 16).

    Args:
        in_channels: maps in and out.
        double3x3: maps of the 1x1 and the two 3x3 convolutions of the long branch; (32, 32, 32) in version 1.
        scale: of the residual.
    """
    first, second, third = double3x3
    branches = Branches(
        branch_1x1=ConvUnit(in_channels, 32, 1),
        branch_3x3=path(in_channels, (32, 1), (32, 3)),
        branch_double_3x3=path(in_channels, (first, 1), (second, 3), (third, 3)),
    )
    return ScaledResidual(branches, nn.Conv2d(64 + third, in_channels, 1), scale=scale)


@register(PAPER, input_shape=(1088, 17, 17), kind="block")
def inception_resnet_b(
    *, in_channels: int = 1088, conv1x1: int = 192, conv7x7: Three = (128, 160, 192), scale: float = 0.1
) -> ScaledResidual:
    """The block of the 17x17 grid (Figures 11 and 17).

    Args:
        in_channels: maps in and out.
        conv1x1: maps of the 1x1 branch; 128 in version 1.
        conv7x7: maps of the 1x1, 1x7 and 7x1 convolutions of the other; (128, 128, 128) in version 1.
        scale: of the residual.
    """
    first, second, third = conv7x7
    branches = Branches(
        branch_1x1=ConvUnit(in_channels, conv1x1, 1),
        branch_7x7=path(in_channels, (first, 1), (second, (1, 7)), (third, (7, 1))),
    )
    return ScaledResidual(branches, nn.Conv2d(conv1x1 + third, in_channels, 1), scale=scale)


@register(PAPER, input_shape=(2080, 8, 8), kind="block")
def inception_resnet_c(
    *, in_channels: int = 2080, conv3x3: Three = (192, 224, 256), scale: float = 0.2, activation: bool = True
) -> ScaledResidual:
    """The block of the 8x8 grid (Figures 13 and 19).

    Args:
        in_channels: maps in and out.
        conv3x3: maps of the 1x1, 1x3 and 3x1 convolutions of the long branch; (192, 192, 192) in version 1.
        scale: of the residual.
        activation: False leaves out the rectifier behind the sum.
    """
    first, second, third = conv3x3
    branches = Branches(
        branch_1x1=ConvUnit(in_channels, 192, 1),
        branch_3x3=path(in_channels, (first, 1), (second, (1, 3)), (third, (3, 1))),
    )
    expand = nn.Conv2d(192 + third, in_channels, 1)
    return ScaledResidual(branches, expand, scale=scale, activation=activation)


@register(PAPER, input_shape=(1088, 17, 17), kind="block")
def inception_resnet_reduction_b(
    *, in_channels: int = 1088, short: int = 288, double3x3: tuple[int, int] = (288, 320)
) -> Branches:
    """From the 17x17 to the 8x8 grid (Figures 12 and 18).

    Args:
        in_channels: maps in.
        short: maps of the second strided branch; 256 in version 1.
        double3x3: maps of the two 3x3 convolutions of the long branch; (256, 256) in version 1.
    """
    return Branches(
        branch_3x3=path(in_channels, (256, 1), valid(384, 3, 2)),
        branch_3x3_short=path(in_channels, (256, 1), valid(short, 3, 2)),
        branch_double_3x3=path(in_channels, (256, 1), (double3x3[0], 3), valid(double3x3[1], 3, 2)),
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


@register(PAPER, input_shape=(3, 299, 299))
def inception_resnet_v1(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> InceptionResNet:
    """Inception-ResNet-v1, of about the cost of Inception-v3: five, ten and five residual blocks.

    Args:
        num_classes: number of scores; 0 ends the network at its 1,792 features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out; the paper keeps 0.8.

    Source: Szegedy et al. 2017, Figures 10 to 15. The scales of the residuals are those of the released code; the
    paper prints 0.1 to 0.3.
    """
    boxes = {
        "stem": nn.Sequential(  # Figure 14
            *path(in_channels, valid(32, 3, 2), valid(32, 3), (64, 3)),
            nn.MaxPool2d(3, stride=2),
            *path(64, (80, 1), valid(192, 3), valid(256, 3, 2)),
        ),
        "inception_a": nn.Sequential(*(inception_resnet_a(in_channels=256, double3x3=(32, 32, 32)) for _ in range(5))),
        "reduction_a": reduction_a(256, 192, 192, 256, 384),
        "inception_b": nn.Sequential(
            *(inception_resnet_b(in_channels=896, conv1x1=128, conv7x7=(128, 128, 128)) for _ in range(10))
        ),
        "reduction_b": inception_resnet_reduction_b(in_channels=896, short=256, double3x3=(256, 256)),
        "inception_c": nn.Sequential(
            *(inception_resnet_c(in_channels=1792, conv3x3=(192, 192, 192)) for _ in range(5))
        ),
    }
    return InceptionResNet(boxes, 1792, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


@register(PAPER, input_shape=(3, 299, 299))
def inception_resnet_v2(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> InceptionResNet:
    """Inception-ResNet-v2 as released: the stem of Inception-v3, and ten, twenty and ten residual blocks.

    Args:
        num_classes: number of scores; 0 ends the network at its 1,536 features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out; the paper keeps 0.8.

    Source: the authors' released code, which published weights fit; for the paper's figures see
    `inception_resnet_v2_printed`.
    """
    boxes = {
        "stem": nn.Sequential(
            *path(in_channels, valid(32, 3, 2), valid(32, 3), (64, 3)),
            nn.MaxPool2d(3, stride=2),
            *path(64, (80, 1), valid(192, 3)),
            nn.MaxPool2d(3, stride=2),
        ),
        "mixed_5b": Branches(
            branch_1x1=ConvUnit(192, 96, 1),
            branch_5x5=path(192, (48, 1), (64, 5)),
            branch_double_3x3=path(192, (64, 1), (96, 3), (96, 3)),
            branch_pool=averaged(192, 64),
        ),
        "inception_a": nn.Sequential(*(inception_resnet_a() for _ in range(10))),
        "reduction_a": reduction_a(320, 256, 256, 384, 384),
        "inception_b": nn.Sequential(*(inception_resnet_b() for _ in range(20))),
        "reduction_b": inception_resnet_reduction_b(),
        "inception_c": nn.Sequential(
            *(inception_resnet_c() for _ in range(9)), inception_resnet_c(scale=1.0, activation=False)
        ),
        "conv_7b": ConvUnit(2080, 1536, 1),
    }
    return InceptionResNet(boxes, 1536, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


@register(PAPER, input_shape=(3, 299, 299))
def inception_resnet_v2_printed(
    *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2
) -> InceptionResNet:
    """Inception-ResNet-v2 as printed: the stem of Inception-v4, and five, ten and five residual blocks.

    Args:
        num_classes: number of scores; 0 ends the network at its 2,144 features.
        in_channels: channels of the images.
        dropout: probability with which a feature is left out; the paper keeps 0.8.

    Source: Szegedy et al. 2017, Figures 3, 7 and 15 to 19. Figures 17 and 19 print 1,154 and 2,048 maps where the sum
    needs the 1,152 and 2,144 that come in.
    """
    boxes = {
        "stem": stem(in_channels),
        "inception_a": nn.Sequential(*(inception_resnet_a(in_channels=384) for _ in range(5))),
        "reduction_a": reduction_a(384, 256, 256, 384, 384),
        "inception_b": nn.Sequential(*(inception_resnet_b(in_channels=1152) for _ in range(10))),
        "reduction_b": inception_resnet_reduction_b(in_channels=1152),
        "inception_c": nn.Sequential(*(inception_resnet_c(in_channels=2144) for _ in range(5))),
    }
    return InceptionResNet(boxes, 2144, num_classes=num_classes, in_channels=in_channels, dropout=dropout)
