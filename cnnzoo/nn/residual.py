"""Residual blocks: as first published, with pre-activation, and the three kinds of shortcut around them.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016) and "Identity Mappings in Deep
Residual Networks" (ECCV 2016).
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.errors import OptionError
from cnnzoo.nn.layers import BatchNorm2d, Conv2d

Shortcut = Literal["A", "B", "C"]
ResidualBlock = Callable[[int, int, int, nn.Module | None], nn.Module]
"""Channels in, channels out, stride, and the shortcut where the identity does not fit."""


class ZeroPadShortcut(nn.Module):
    """Option A: every stride-th pixel, and zeros for the channels that are new; no parameters.

    Images (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Source: He et al. 2016, section 3.3: "still performs identity mapping, with extra zero entries padded".
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise OptionError(
                f"ZeroPadShortcut: got {in_channels} channels in and {out_channels} out; zeros can only add channels: "
                'use shortcut="B"'
            )
        self.subsample = nn.AvgPool2d(1, stride)
        self.extra = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.subsample(x), (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        return f"extra={self.extra}"


def shortcut_around(
    option: Shortcut, in_channels: int, out_channels: int, stride: int, *, norm: bool = True
) -> nn.Module | None:
    """The shortcut of a block; None for the identity.

    Args:
        option: `"A"`, zero padding where the identity does not fit; `"B"`, a 1x1 projection there; `"C"`, projections
            everywhere.
        in_channels: maps in.
        out_channels: maps out.
        stride: of the block.
        norm: whether a projection is followed by batch normalisation; with pre-activation it is not.

    Source: He et al. 2016, section 3.3 and Table 3.
    """
    if option not in ("A", "B", "C"):
        raise OptionError(
            f"shortcut: got {option!r}; it is 'A' (zero padding), 'B' (projections where the identity does not fit) "
            "or 'C' (projections everywhere)"
        )
    if option != "C" and stride == 1 and in_channels == out_channels:
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    projection = Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, BatchNorm2d(out_channels)) if norm else projection


def stage(
    block: ResidualBlock,
    depth: int,
    in_channels: int,
    out_channels: int,
    *,
    stride: int,
    option: Shortcut,
    norm: bool = True,
    first: ResidualBlock | None = None,
) -> nn.Sequential:
    """Blocks at one resolution. The first changes the channels and, by `stride`, the size; `first` builds it."""
    blocks = []
    for i in range(depth):
        around = shortcut_around(option, in_channels, out_channels, stride, norm=norm)
        build = block if i or first is None else first
        blocks.append(build(in_channels, out_channels, stride, around))
        in_channels, stride = out_channels, 1
    return nn.Sequential(*blocks)


def quarter(out_channels: int) -> int:
    """The maps inside a bottleneck."""
    if out_channels % 4:
        raise OptionError(
            f"got out_channels={out_channels} for a bottleneck, a quarter of which is inside; it is a multiple of 4"
        )
    return out_channels // 4


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size at stride 1; the batch normalisation beside it has the bias."""
    return Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution, likewise."""
    return Conv2d(in_channels, out_channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them.

    Images (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    Args:
        in_channels: maps in.
        out_channels: maps out.
        stride: of the first convolution.
        downsample: the shortcut, where the identity does not fit.

    Source: He et al. 2016, Figure 5 (left).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = BatchNorm2d(out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the first two on a quarter of the maps, with a shortcut around them.

    Images (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    Args:
        in_channels: maps in.
        out_channels: maps out, a multiple of 4.
        stride: of the 3x3 convolution.
        downsample: the shortcut, where the identity does not fit.
        stride_first: put the stride in the first 1x1 convolution, as published.

    Source: He et al. 2016, Figure 5 (right).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        stride_first: bool = False,
    ) -> None:
        super().__init__()
        width = quarter(out_channels)
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = conv1x1(in_channels, width, first)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, second)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class PreActBasicBlock(nn.Module):
    """`BasicBlock` with normalisation and rectifier before each convolution, and a shortcut that nothing touches.

    Where the shortcut is not the identity, it starts behind the first normalisation and rectifier, as both paths do.

    Args:
        in_channels: maps in.
        out_channels: maps out.
        stride: of the first convolution.
        downsample: the shortcut, where the identity does not fit.
        preact: False where the input is normalised and rectified already, as it is behind the first convolution of a
            network.

    Source: He et al. 2016 (Identity Mappings), Figure 4 (e) and the appendix.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        preact: bool = True,
    ) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(in_channels) if preact else None
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.bn1 is None else self.relu(self.bn1(x))
        around = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        out += around
        return out


class PreActBottleneck(nn.Module):
    """`Bottleneck` with normalisation and rectifier before each convolution, and a shortcut that nothing touches.

    Where the shortcut is not the identity, it starts behind the first normalisation and rectifier, as both paths do.

    Args:
        in_channels: maps in.
        out_channels: maps out, a multiple of 4.
        stride: of the 3x3 convolution.
        downsample: the shortcut, where the identity does not fit.
        stride_first: put the stride in the first 1x1 convolution, as the authors' code does.
        preact: False where the input is normalised and rectified already, as it is behind the first convolution of a
            network.

    Source: He et al. 2016 (Identity Mappings), Figure 4 (e) and the appendix.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        stride_first: bool = False,
        preact: bool = True,
    ) -> None:
        super().__init__()
        width = quarter(out_channels)
        first, second = (stride, 1) if stride_first else (1, stride)
        self.bn1 = BatchNorm2d(in_channels) if preact else None
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = conv1x1(in_channels, width, first)
        self.bn2 = BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, second)
        self.bn3 = BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.bn1 is None else self.relu(self.bn1(x))
        around = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        out += around
        return out
