"""How many inputs a unit has, and where a layer keeps its weight and bias.

Torch's convolutions and linear layers are known here. Any other layer says so itself, by the methods that
`cnnzoo.nn` describes: `fans()`, and where its units differ `unit_fan_in()` and `units()`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnnzoo.errors import OptionError, operation
from cnnzoo.initialization.draws import Fan

TORCHS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def is_weighted(layer: nn.Module) -> bool:
    """Whether a scheme can fill a layer: it has a weight of its own, and fans."""
    if not isinstance(layer, TORCHS) and own(layer, "fans") is None:
        return False
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    return weight is not None and not is_lazy(weight)


def is_stand_in(layer: nn.Module, parameter: str) -> bool:
    """Whether a layer computes a tensor from this parameter, as after pruning, so that no reset reaches it."""
    name, _, suffix = parameter.rpartition("_")
    computed = vars(layer).get(name)
    if suffix not in ("orig", "g", "v") or not isinstance(computed, Tensor):
        return False
    return computed.untyped_storage() is not layer.get_parameter(parameter).untyped_storage()


@operation
def fans(layer: nn.Module) -> tuple[Fan, Fan]:
    """Count fan-in and fan-out of a layer's weight: how many inputs a unit has, and how many units an input feeds.

    Numbers, or tensors that broadcast against the weight where units differ (the connection table of LeNet-5).

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> cnnzoo.initialization.fans(torch.nn.Conv2d(6, 16, 5))
        (150, 400)
    """
    if (own_fans := own(layer, "fans")) is not None:
        return own_fans()
    weight = weight_of(layer)
    area = weight[0, 0].numel()
    groups = getattr(layer, "groups", 1)
    rows, columns = len(weight) // groups * area, weight.shape[1] * area
    # A transposed convolution stores (in, out / groups, ...), every other layer (out, in / groups, ...).
    return (rows, columns) if getattr(layer, "transposed", False) else (columns, rows)


def unit_fan_in(layer: nn.Module) -> Fan:
    """The fan-in of each unit, to broadcast against the bias."""
    if (own_fan_in := own(layer, "unit_fan_in")) is not None:
        return own_fan_in()
    fan_in, bias = fans(layer)[0], bias_of(layer)
    if not isinstance(fan_in, Tensor) or bias is None:
        return fan_in
    per_unit = fan_in.flatten(1)[:, 0] if fan_in.ndim else fan_in
    if fan_in.numel() != per_unit.numel() or (per_unit.ndim and per_unit.numel() not in (1, bias.numel())):
        raise OptionError(
            f"the fans() of {type(layer).__name__} differ within a unit, {tuple(fan_in.shape)} for a bias "
            f"of {tuple(bias.shape)}; give it unit_fan_in(), the fan-in of each unit, as well"
        )
    return per_unit


def units_of(layer: nn.Module) -> Iterable[Tensor]:
    """The weight in parts whose rows each belong to one unit, as views."""
    if (own_units := own(layer, "units")) is not None:
        return own_units()
    weight = weight_of(layer)
    if getattr(layer, "transposed", False):
        return (group.transpose(0, 1) for group in weight.chunk(getattr(layer, "groups", 1)))
    return (weight.view(len(weight), -1, *weight.shape[2:]),)


def own(layer: nn.Module, method: str) -> Callable[..., Any] | None:
    """A method by which a layer says what it is, None where it has none."""
    found = getattr(layer, method, None)
    return found if callable(found) else None


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a layer that has one."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def bias_of(layer: nn.Module) -> Tensor | None:
    """The bias of a layer, None where it has none."""
    bias = getattr(layer, "bias", None)
    return bias if isinstance(bias, Tensor) else None
