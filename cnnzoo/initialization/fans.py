"""How many inputs a unit has, and where a layer keeps its weight and bias."""

from collections.abc import Iterable

from torch import Tensor, nn

from cnnzoo.initialization.draws import Fan
from cnnzoo.nn import ConnectionTableConv2d, Subsample


def fans(layer: nn.Module) -> tuple[Fan, Fan]:
    """Fan-in and fan-out of a layer's weight: how many inputs a unit has, and how many units an input feeds.

    Numbers, or tensors that broadcast against the weight where units differ (the connection table of LeNet-5).
    """
    if isinstance(layer, (ConnectionTableConv2d, Subsample)):
        return layer.fans()
    weight = weight_of(layer)
    area = weight[0, 0].numel()
    groups = getattr(layer, "groups", 1)
    rows, columns = len(weight) // groups * area, weight.shape[1] * area
    # A transposed convolution stores (in, out / groups, ...), every other layer (out, in / groups, ...).
    return (rows, columns) if getattr(layer, "transposed", False) else (columns, rows)


def unit_fan_in(layer: nn.Module) -> Fan:
    """The fan-in of each unit, to broadcast against the bias."""
    return layer.unit_fan_in() if isinstance(layer, ConnectionTableConv2d) else fans(layer)[0]


def units_of(layer: nn.Module) -> Iterable[Tensor]:
    """The weight in parts whose rows each belong to one unit, as views."""
    weight = weight_of(layer)
    if isinstance(layer, ConnectionTableConv2d):
        return (kernels.unsqueeze(0) for kernels in weight.split([len(row) for row in layer.table]))
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return (group.transpose(0, 1) for group in weight.chunk(layer.groups))
    return (weight.view(len(weight), -1, *weight.shape[2:]),)


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a layer that has one."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def bias_of(layer: nn.Module) -> Tensor | None:
    """The bias of a layer, None where it has none."""
    assert layer.bias is None or isinstance(layer.bias, Tensor)
    return layer.bias
