"""The receptive field of a layer."""

from collections.abc import Sequence

from torch import nn

from cnnzoo.errors import OptionError, unknown
from cnnzoo.shapes.field import ReceptiveField
from cnnzoo.shapes.probe import trace


def receptive_field(
    model: nn.Module, layer: str | None = None, *, input_shape: Sequence[int] | None = None
) -> ReceptiveField:
    """Which input pixels a unit of a layer sees: the union over all paths that lead to it.

    Args:
        model: the network.
        layer: a name from `named_modules()`; by default the last layer whose map is larger than one unit.
        input_shape: (C, H, W) of the picture; by default what the network is made for. It matters only behind a
            pooling that adapts to its input.

    Returns:
        Size, stride and offset in pixels, (height, width) each. The size may exceed the picture: publications count
        so.

    Raises:
        UnknownNameError: no layer of that name runs.
    """
    calls = trace(model, nominal_shape(model, input_shape, "receptive_field"), "receptive_field")
    if layer is None:
        spatial = [call for call in calls if len(call.output_shape) == 3 and max(call.output_shape[1:]) > 1]
        return (spatial or calls)[-1].receptive_field
    for call in calls:
        if call.name == layer:
            return call.receptive_field
    raise unknown("receptive_field", "layer", layer, [call.name for call in calls if call.name])


def nominal_shape(model: nn.Module, input_shape: Sequence[int] | None, operation: str) -> Sequence[int]:
    """The shape given, or the one that the network says it is made for."""
    shape = input_shape or getattr(model, "input_shape", None)
    if shape is None:
        raise OptionError(f"{operation}: {type(model).__name__} does not say what it takes; pass input_shape=(C, H, W)")
    return shape
