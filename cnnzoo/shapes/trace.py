"""Passes of the probe through a whole network: its layers, a layer's receptive field, the smallest image."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import cnnzoo.shapes.rules  # noqa: F401  fills RULES
from cnnzoo.errors import OptionError, ShapeError, unknown
from cnnzoo.registry import Config, find, resolve
from cnnzoo.shapes.probe import ShapeProbe, Trace, shown
from cnnzoo.shapes.receptive_field import ReceptiveField, pixel


@dataclass(frozen=True)
class LayerShape:
    """What a layer does to shapes; shapes are without the batch, (C, H, W) or (features,).

    Attributes:
        name: as in `named_modules()`.
        kind: the layer's class.
        input_shape: of its first input.
        output_shape: of its output.
        params: numbers in its own parameters, counted at its first use.
        macs: multiply-accumulates for one picture, of convolution and linear weights.
        receptive_field: what a unit of its output sees of the picture.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: ReceptiveField


def infer_shapes(model: nn.Module | str, input_shape: Sequence[int] | None = None, **options: Any) -> list[LayerShape]:
    """Infer the shapes of every layer without running anything: leaves in execution order.

    Works on any network whose `forward` does not branch on values, torchvision's and timm's among them, on any device
    (the meta device too). The network runs in the mode it is in, and is not changed.

    Args:
        model: a network, or the name of a registered one.
        input_shape: (C, H, W) of an image, or whatever one sample of the network's input is; by default what the
            network is made for.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Raises:
        ShapeError: a layer cannot take what reaches it. The message names the layer, shows the formula with the
            numbers in it, and says which input works.
        OptionError: no input shape was given, and the network does not say one.
        UnknownNameError: no network is registered under that name.

    Example:
        >>> import cnnzoo
        >>> first, *_ = cnnzoo.infer_shapes("lenet5", classic=True)
        >>> first.name, first.output_shape, first.params, first.macs
        ('c1', (6, 28, 28), 156, 117600)
    """
    model = resolve(model, options, "infer_shapes")
    return trace(model, nominal_shape(model, input_shape, "infer_shapes"), only=is_leaf)


def check(model: nn.Module, input_shape: Sequence[int]) -> None:
    """Raise a `ShapeError` that explains why the model cannot take this input; return if it can."""
    trace(model, input_shape, operation=type(model).__name__)


def min_input_size(model: nn.Module | str, *, in_channels: int | None = None, **options: Any) -> int:
    """Find the height and width in pixels of the smallest square image that a network can take.

    Args:
        model: a network, or the name of a registered one.
        in_channels: channels of the image; by default what the network's first convolution takes.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Raises:
        ShapeError: no square image fits.
        OptionError: nothing says how many channels an image has.
        UnknownNameError: no network is registered under that name.

    Example:
        >>> import cnnzoo
        >>> cnnzoo.min_input_size("inception_v3")
        75
    """
    if isinstance(model, str) and in_channels is not None:
        options["in_channels"] = in_channels
    model = resolve(model, options, "min_input_size")
    channels = in_channels or _input_channels(model)
    if channels is None:
        raise OptionError("min_input_size: no convolution says how many channels an image has; pass in_channels=")
    size = _smallest(model, channels)
    if size is None:
        raise ShapeError(f"min_input_size: no square image fits {type(model).__name__}")
    return size


_LARGEST = 4096
_SCANNED = 512


def _smallest(model: nn.Module, channels: int) -> int | None:
    """By bisection: a size can be too small, or, before a linear layer of fixed width, too large.

    Where branches meet only at some sizes, neither is true of the others, and small sizes are tried one by one.
    """
    odd = False

    def excess(size: int) -> int:
        nonlocal odd
        try:
            model(_picture(model, (channels, size, size), Trace()))
        except ShapeError as error:
            odd |= not error.excess
            return error.excess or 1
        return 0

    with _unchanged(model):
        low, high = 0, 1
        while excess(high) < 0 and high <= _LARGEST:
            low, high = high, 2 * high
        while high - low > 1 and high <= _LARGEST:
            middle = (low + high) // 2
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
        if odd:
            return next((size for size in range(1, _SCANNED) if excess(size) == 0), None)
        return high if high <= _LARGEST and excess(high) == 0 else None


def _input_channels(model: nn.Module) -> int | None:
    shape = own_shape(model)
    if shape:
        return shape[0]
    first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    return None if first is None else first.in_channels


def _picture(model: nn.Module, input_shape: Sequence[int], run: Trace) -> Any:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return ShapeProbe((1, *input_shape), pixel(max(len(input_shape) - 1, 1)), run, dtype)


def _located(
    model: nn.Module,
    names: dict[nn.Module, str],
    input_shape: Sequence[int],
    operation: str,
    run: Trace,
    error: ShapeError,
) -> ShapeError:
    """The rule's clause as a whole message: which layer of which input, and what works instead."""
    module = run.stack[-1][0] if run.stack else model
    name = names.get(module, "")
    where = f"layer {name} ({type(module).__name__})" if name else type(module).__name__
    message = f"{operation}: input {shown((1, *input_shape))}: {where} {error}."
    nominal: Any = getattr(model, "input_shape", None)
    if error.excess and len(input_shape) == 3:
        size = _smallest(model, input_shape[0])
        if size is not None:
            message += f" The smallest input that works is {size}x{size}."
        elif nominal:
            message += f" This network takes {shown((1, *nominal))}."
    elif nominal and "channel(s)" in str(error):
        message += f" This network takes {shown((1, *nominal))}; build it with in_channels={input_shape[0]}."
    return ShapeError(message, layer=name or None, excess=error.excess)


def receptive_field(
    model: nn.Module | str,
    layer: str | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    **options: Any,
) -> ReceptiveField:
    """Find which input pixels a unit of a layer sees: the union over all paths that lead to it.

    Args:
        model: a network, or the name of a registered one.
        layer: a name from `named_modules()`; by default the last layer whose map is larger than one unit.
        input_shape: (C, H, W) of the image; by default what the network is made for. It matters only after a
            pooling that adapts to its input.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Returns:
        Size, stride and offset in pixels, (height, width) each. The size may exceed the image: publications count
        so.

    Raises:
        UnknownNameError: no layer of that name runs, or no network is registered under that name.
        OptionError: no input shape was given, and the network does not say one.

    Example:
        >>> import cnnzoo
        >>> cnnzoo.receptive_field("vgg16").size
        (212, 212)
    """
    model = resolve(model, options, "receptive_field")
    calls = trace(model, nominal_shape(model, input_shape, "receptive_field"), "receptive_field")
    if layer is None:
        spatial = [call for call in calls if len(call.output_shape) == 3 and max(call.output_shape[1:]) > 1]
        return (spatial or calls)[-1].receptive_field
    for call in calls:
        if call.name == layer:
            return call.receptive_field
    raise unknown("receptive_field", "layer", layer, [call.name for call in calls if call.name])


def nominal_shape(model: nn.Module, input_shape: Sequence[int] | None, operation: str) -> Sequence[int]:
    """The shape given, or the one that the network says it is made for: cnnzoo's own and timm's do."""
    shape = input_shape or own_shape(model)
    if shape is None:
        raise OptionError(f"{operation}: {type(model).__name__} does not say what it takes; pass input_shape=(C, H, W)")
    return shape


def own_shape(model: nn.Module) -> Sequence[int] | None:
    """(C, H, W) of the images that a network says it is made for."""
    shape: Any = getattr(model, "input_shape", None)
    config: Any = getattr(model, "config", None)
    if shape is None and isinstance(config, Config):
        return find(config.name, "input_shape").input_shape  # a block has no shape of its own
    return shape or dict(getattr(model, "pretrained_cfg", None) or ()).get("input_size")


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    operation: str = "infer_shapes",
    only: Callable[[nn.Module], bool] | None = None,
) -> list[LayerShape]:
    """Every module that ran (or `only` some), containers included, in the order in which they finished."""
    run = Trace()
    names = {module: name for name, module in model.named_modules()}
    thread = threading.get_ident()  # the hooks see the modules of every thread

    def enter(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == thread:
            run.stack.append((module, run.macs))

    # A module of another thread may come without its keywords, while torch takes the hook in or out.
    def leave(module: nn.Module, args: Any, *keywords_and_output: Any) -> None:
        if threading.get_ident() != thread:
            return
        kwargs, output = keywords_and_output
        _, before = run.stack.pop()
        first, output = _first(args), _first(output)
        if first is None:
            first = _first(kwargs)
        if first is not None and output is not None:
            own: Any = getattr(type(module), "macs", None)
            if own is not None:
                run.macs = before + own(module, tuple(output.shape[1:]))
            run.calls.append((module, first, output, run.macs - before))

    hooks = (
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave, with_kwargs=True),
    )
    try:
        with _unchanged(model):
            model(_picture(model, input_shape, run))
    except ShapeError as error:
        raise _located(model, names, input_shape, operation, run, error) from None
    finally:
        for hook in hooks:
            hook.remove()
        # torch keeps its note of a global hook that takes keywords, and with it the slow path of every later call.
        vars(nn.modules.module).get("_global_forward_hooks_with_kwargs", {}).pop(hooks[1].id, None)
    counted: set[nn.Module] = set()
    layers = []
    for module, before, after, macs in run.calls:
        if module not in names or (only is not None and not only(module)):
            continue  # a module made on the way is not the model's
        layers.append(
            LayerShape(
                name=names[module],
                kind=type(module).__name__,
                input_shape=tuple(before.shape[1:]),
                output_shape=tuple(after.shape[1:]),
                params=0 if module in counted else _own_parameters(module),
                macs=macs,
                receptive_field=after.field,
            )
        )
        counted.add(module)
    return layers


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Batch normalisation in training counts its batches; a pass of probes is none."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training)
    counters = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
    before = [counter.clone() for counter in counters]
    try:
        yield
    finally:
        for counter, value in zip(counters, before, strict=True):
            counter.copy_(value)


def _first(value: Any) -> ShapeProbe | None:
    """The first probe of what a module takes or gives: one, several, or several by name."""
    if isinstance(value, ShapeProbe):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for one in value:
            found = _first(one)
            if found is not None:
                return found
    return None


def _own_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module._parameters.values() if p is not None)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has no children."""
    return not module._modules
