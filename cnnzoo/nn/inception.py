"""What Inception networks are made of: convolution units, branches side by side, and the residual around them."""

import torch
from torch import Tensor, nn

from cnnzoo.nn.layers import BatchNorm2d, Conv2d
from cnnzoo.support.torch_private import children_of

Size = int | tuple[int, int]


class ConvUnit(nn.Sequential):
    """A convolution `conv`, its batch normalisation `bn` and a rectifier `relu`.

    Args:
        in_channels: maps in.
        out_channels: maps out.
        kernel_size: of the convolution, (height, width) where they differ.
        stride: of the convolution.
        padding: of the convolution; by default what keeps the size at stride 1. The figures of the papers mark the
            others, which have none, with V for "valid".
        norm: False leaves the normalisation out, and the convolution has a bias instead.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: int = 1,
        padding: Size | None = None,
        *,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if padding is None:
            height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
            padding = (height // 2, width // 2)
        self.conv = Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=not norm)
        if norm:
            self.bn = BatchNorm2d(out_channels, eps=1e-3)  # as the authors' code has it
        self.relu = nn.ReLU(inplace=True)


class Branches(nn.Module):
    """Branches that see the same maps, by name; their outputs are joined along the channels, in order.

    Images (N, C, H, W) to (N, sum of the branches' channels, H', W').

    Source: Szegedy et al. 2015, Figure 2, "Filter concatenation".
    """

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in children_of(self).values() if branch is not None], 1)


class ScaledResidual(nn.Module):
    """x + scale * expand(branches(x)), rectified unless the unit is linear.

    Images (N, C, H, W) to the same shape.

    Args:
        branches: the Inception block.
        expand: the 1x1 convolution that gives its output the channels of x, without normalisation and rectifier.
        scale: keeps the training of wide blocks stable.
        activation: False leaves the rectifier out.

    Source: Szegedy et al. 2017, Figures 10 to 20 and section 3.3.
    """

    def __init__(self, branches: nn.Module, expand: nn.Module, *, scale: float = 1.0, activation: bool = True) -> None:
        super().__init__()
        self.branches = branches
        self.expand = expand
        self.scale = scale
        self.relu = nn.ReLU(inplace=True) if activation else None

    def forward(self, x: Tensor) -> Tensor:
        out = torch.add(x, self.expand(self.branches(x)), alpha=self.scale)
        return out if self.relu is None else self.relu(out)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


Unit = tuple[int, Size] | tuple[int, Size, int] | tuple[int, Size, int, int]
"""Of a convolution unit: maps out, kernel, and where they are not 1 and "same", stride and padding."""


def valid(out_channels: int, kernel_size: Size, stride: int = 1) -> Unit:
    """A unit without padding, marked V in the papers' figures."""
    return out_channels, kernel_size, stride, 0


def path(in_channels: int, *units: Unit, norm: bool = True) -> nn.Sequential:
    """Convolution units one behind the other, each given by what it puts out."""
    made = nn.Sequential()
    for out_channels, kernel_size, *rest in units:
        made.append(ConvUnit(in_channels, out_channels, kernel_size, *rest, norm=norm))
        in_channels = out_channels
    return made


def averaged(in_channels: int, out_channels: int, *, count_include_pad: bool = False) -> nn.Sequential:
    """The branch that averages its surroundings and projects; whether the padding counts differs between networks."""
    pool = nn.AvgPool2d(3, 1, padding=1, count_include_pad=count_include_pad)
    return nn.Sequential(pool, ConvUnit(in_channels, out_channels, 1))


def reduction_a(in_channels: int, k: int, l: int, m: int, n: int) -> Branches:  # noqa: E741  the paper's letters
    """From the 35x35 to the 17x17 grid; n + m + in_channels maps.

    Source: Szegedy et al. 2017, Figure 7 and Table 1.
    """
    return Branches(
        branch_3x3=ConvUnit(in_channels, n, 3, 2, padding=0),
        branch_double_3x3=path(in_channels, (k, 1), (l, 3), valid(m, 3, 2)),
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


def stem(in_channels: int, *, figure: bool = True) -> nn.Sequential:
    """From 299x299 images to 384 maps of 35x35.

    Args:
        in_channels: channels of the images.
        figure: 7x1 before 1x7, as drawn; the released code has them the other way round.

    Source: Szegedy et al. 2017, Figure 3.
    """
    first, second = ((7, 1), (1, 7)) if figure else ((1, 7), (7, 1))
    return nn.Sequential(
        *path(in_channels, valid(32, 3, 2), valid(32, 3), (64, 3)),
        Branches(pool=nn.MaxPool2d(3, stride=2), conv=ConvUnit(64, 96, 3, 2, padding=0)),
        Branches(
            branch_3x3=path(160, (64, 1), valid(96, 3)),
            branch_7x7=path(160, (64, 1), (64, first), (64, second), valid(96, 3)),
        ),
        Branches(conv=ConvUnit(192, 192, 3, 2, padding=0), pool=nn.MaxPool2d(3, stride=2)),
    )
