"""What layers are and give: their filters, their maps, and the part of an image that a unit sees."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.errors import OptionError, operation, unknown
from cnnzoo.extraction.extractor import extract
from cnnzoo.interpretation.running import check_images, evaluated
from cnnzoo.nn import ConnectionTableConv2d
from cnnzoo.shapes.trace import trace


@operation
def filters(model: nn.Module, layer: str | None = None) -> Tensor:
    """Return the filters of a convolution, by default of the first.

    Args:
        model: any network.
        layer: a convolution of two dimensions, as in `named_modules()`.

    Returns:
        A copy, (filters, channels, height, width). Of a convolution with a connection table, what is not connected is
        zero.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: the layer is no convolution, or the network has none.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.interpretation.filters(cnnzoo.create("alexnet", seed=0)).shape
        torch.Size([64, 3, 11, 11])
    """
    modules = dict(model.named_modules())
    kinds = (nn.Conv2d, nn.LazyConv2d, ConnectionTableConv2d)
    convolutions = [name for name, module in modules.items() if isinstance(module, kinds)]
    if layer is None:
        if not convolutions:
            raise OptionError(f"{type(model).__name__} has no convolution of two dimensions")
        layer = convolutions[0]
    if layer not in modules:
        raise unknown("", "layer", layer, convolutions)
    module = modules[layer]
    if isinstance(module, ConnectionTableConv2d):
        return module.dense_weight().detach().clone()
    if not isinstance(module, nn.Conv2d):
        raise OptionError(f"layer {layer} is a {type(module).__name__}; only convolutions have filters")
    return module.weight.detach().clone()


@operation
def maps(model: nn.Module, images: Tensor, *layers: str) -> dict[str, Tensor]:
    """Compute the outputs of layers, by name, in evaluation mode and without gradients.

    Args:
        model: any network; it is not changed.
        images: (N, C, H, W), as the network takes them.
        *layers: names and patterns, as `cnnzoo.extract` takes them.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: no layer is named.
        ShapeError: the images do not fit the network.

    Examples:
        >>> import cnnzoo, torch
        >>> model = cnnzoo.create("lenet5", seed=0)
        >>> cnnzoo.interpretation.maps(model, torch.rand(1, 1, 28, 28), "c3", "f6")["c3"].shape
        torch.Size([1, 16, 10, 10])
    """
    check_images(model, images)
    with evaluated(model), torch.no_grad():
        return extract(model, *layers).eval()(images)


class Patch(NamedTuple):
    """The rectangle of an image that a unit sees, in pixels; `bottom` and `right` are the first ones outside.

    It may reach beyond the image, where the network sees padding.
    """

    top: int
    left: int
    bottom: int
    right: int

    def crop(self, images: Tensor) -> Tensor:
        """That part of images (..., H, W), with zeros where it reaches beyond them."""
        height, width = images.shape[-2:]
        inside = images[
            ..., max(self.top, 0) : max(min(self.bottom, height), 0), max(self.left, 0) : max(min(self.right, width), 0)
        ]
        beyond = (max(-self.left, 0), max(self.right - width, 0), max(-self.top, 0), max(self.bottom - height, 0))
        return F.pad(inside, beyond)


@operation
def patch(
    model: nn.Module,
    layer: str,
    unit: tuple[int, int] | None = None,
    *,
    input_shape: Sequence[int] | None = None,
) -> Patch:
    """Find the part of the image that a unit of a layer sees.

    Args:
        model: the network.
        layer: a name from `named_modules()`.
        unit: (row, column) in the layer's maps; by default the one in the middle.
        input_shape: (C, H, W) of the image; by default what the network is made for.

    Raises:
        UnknownNameError: no layer of that name runs.
        OptionError: the layer has no such unit.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.interpretation.patch(cnnzoo.create("lenet5", classic=True), "c3", (0, 9))
        Patch(top=0, left=18, bottom=14, right=32)
    """
    calls = {call.name: call for call in trace(model, input_shape, "patch") if call.name}
    if layer not in calls:
        raise unknown("", "layer", layer, calls)
    call = calls[layer]
    size = (*call.output_shape[1:], 1, 1)[:2] if len(call.output_shape) == 3 else (1, 1)
    row, column = (size[0] // 2, size[1] // 2) if unit is None else unit
    if not (0 <= row < size[0] and 0 <= column < size[1]):
        raise OptionError(f"layer {layer} has {size[0]}x{size[1]} units; got unit {(row, column)}, counted from 0")
    field = call.receptive_field
    top, left = (field.offset[axis] + math.floor(at * field.stride[axis]) for axis, at in enumerate((row, column)))
    return Patch(top, left, top + field.size[0], left + field.size[1])
