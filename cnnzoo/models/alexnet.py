"""AlexNet, the network that won ILSVRC-2012.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012), spread
five convolutions and three fully connected layers over two GPUs. `alexnet(classic=True)` is that network;
`alexnet()` is the single tower of "One weird trick for parallelizing convolutional neural networks" (Krizhevsky
2014), without normalisation, which is what the name means today.
"""

from typing import Literal

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation
from cnnzoo.nn import LocalResponseNorm
from cnnzoo.registry import Paper, register

__all__ = ["AlexNet", "alexnet"]

PAPER = Paper("alexnet")
LRN = Literal["printed", "released"]


class AlexNet(CNN):
    """AlexNet: images (N, in_channels, H, W) to scores (N, num_classes), through conv1 to conv5 and fc6 to fc8."""


def tower(
    widths: tuple[int, int, int, int, int], in_channels: int, *, classic: bool, lrn: LRN = "printed"
) -> dict[str, nn.Module]:
    """The five convolutions and what stands between them, to maps of 6x6."""
    groups = 2 if classic else 1  # section 3.5: conv2, conv4 and conv5 see the maps of their own GPU only
    kernels = (
        nn.Conv2d(in_channels, widths[0], 11, stride=4, padding=0 if classic else 2),
        nn.Conv2d(widths[0], widths[1], 5, padding=2, groups=groups),
        nn.Conv2d(widths[1], widths[2], 3, padding=1),
        nn.Conv2d(widths[2], widths[3], 3, padding=1, groups=groups),
        nn.Conv2d(widths[3], widths[4], 3, padding=1, groups=groups),
    )
    layers: dict[str, nn.Module] = {}
    for i, convolution in enumerate(kernels, 1):
        layers[f"conv{i}"] = convolution
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        if classic and i in (1, 2):  # section 3.3
            layers[f"norm{i}"] = LocalResponseNorm.krizhevsky2012(lrn)
        if i in (1, 2, 5):  # section 3.4: windows overlap by a pixel
            layers[f"pool{i}"] = nn.MaxPool2d(3, stride=2)
    return layers


@register(PAPER, input_shape=(3, 224, 224))
@operation
def alexnet(
    *,
    classic: bool = False,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    lrn: LRN | None = None,
) -> AlexNet:
    """AlexNet as one tower of 64-192-384-256-256 maps; `classic=True` is the two-group network of 2012.

    Args:
        classic: 227x227 images, 96-256-384-384-256 maps, conv2, conv4 and conv5 in two groups, and local response
            normalisation after conv1 and conv2: 60,965,224 parameters.
        num_classes: number of scores; 0 ends the network at its 4,096 features.
        in_channels: channels of the images.
        dropout: probability with which a unit of the fully connected layers is left out: before fc6 and fc7, with
            `classic` behind them.
        lrn: `"printed"`, the default with `classic`, adds 1e-4 times the sum of the squares, as the formula of section
            3.3 does; `"released"` divides it by the window of 5, as the authors' code and Caffe do, which weights from
            there need. Only with `classic`.

    Raises:
        OptionError: `lrn` was given without `classic`, or is neither of the two.

    Source: Krizhevsky et al. 2012, section 3 and Figure 2. It prints 224x224, which its strides do not divide; 227
    without padding gives the printed 55x55.
    """
    if classic:
        layers = tower((96, 256, 384, 384, 256), in_channels, classic=True, lrn=lrn or "printed") | {
            "flatten": nn.Flatten(),
            "fc6": nn.Linear(256 * 6 * 6, 4096),
            "relu6": nn.ReLU(inplace=True),
            "drop6": nn.Dropout(dropout),
            "fc7": nn.Linear(4096, 4096),
            "relu7": nn.ReLU(inplace=True),
            "drop7": nn.Dropout(dropout),
        }
    elif lrn is not None:
        raise OptionError(
            f"lrn={lrn!r} belongs to the network of 2012; the single tower normalises nothing: pass classic=True"
        )
    else:
        layers = tower((64, 192, 384, 256, 256), in_channels, classic=False) | {
            "avgpool": nn.AdaptiveAvgPool2d(6),
            "flatten": nn.Flatten(),
            "drop5": nn.Dropout(dropout),
            "fc6": nn.Linear(256 * 6 * 6, 4096),
            "relu6": nn.ReLU(inplace=True),
            "drop6": nn.Dropout(dropout),
            "fc7": nn.Linear(4096, 4096),
            "relu7": nn.ReLU(inplace=True),
        }
    size = 227 if classic else 224
    return AlexNet(
        layers,
        input_shape=(in_channels, size, size),
        head=("fc8", 4096),
        num_classes=num_classes,
        init="krizhevsky2012" if classic else "torch_default",
    )
