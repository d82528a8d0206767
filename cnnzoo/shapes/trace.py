"""Passes of the probe through a whole network: its layers, a layer's receptive field, the smallest image."""

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

import cnnzoo.shapes.rules  # noqa: F401  fills RULES
from cnnzoo.errors import OptionError, ShapeError, named, operation, unknown
from cnnzoo.registry import Config, find, resolve
from cnnzoo.shapes.formula import formula
from cnnzoo.shapes.probe import ShapeProbe, Trace, ValuesError, Watch, image_axes, probes, shown, tensors
from cnnzoo.shapes.receptive_field import NOTHING, Field, ReceptiveField, reported
from cnnzoo.support.torch_private import children_of, compiled, parameters_of
from cnnzoo.support.wrappers import inside

Spec = int | Sequence[Any] | Mapping[str, Any] | Tensor
"""What one input is: a shape without the batch, the side of a square image, an example, or several of these."""


@dataclass(frozen=True)
class LayerShape:
    """What a layer does to shapes; shapes are without the batch, (C, H, W) or (features,).

    Attributes:
        name: as in `named_modules()`.
        kind: the layer's class.
        input_shape: of its first input; () for a layer that did not run.
        output_shape: of its output; () for a layer that did not run.
        params: numbers in its own parameters, counted at their first use.
        macs: multiply-adds of weights for one image: of convolutions, linear and recurrent layers, products with
            parameters.
        receptive_field: what a unit of its output sees of the image.
        products: multiply-adds of results with results for one image: the two products of attention.
        ran: whether the network ran it.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: ReceptiveField
    products: int = 0
    ran: bool = True


class Call(NamedTuple):
    """One call of a module in a pass: what it took and gave, and what it counts, alone and with all that runs in it."""

    module: nn.Module
    before: tuple[int, ...]
    after: tuple[int, ...]
    field: Field
    params: int
    macs: int
    products: int
    own_macs: int
    own_products: int


@operation
def infer_shapes(
    model: nn.Module | str,
    input_shape: Spec | None = None,
    *more: Spec,
    input_shapes: Mapping[str, Spec] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> list[LayerShape]:
    """Infer the shapes of every layer without running anything.

    Works on any network whose `forward` does not branch on values, torchvision's and timm's among them, on any device
    (the meta device too). The network runs in the mode it is in, and is not changed.

    Args:
        model: a network, or the name of a registered one.
        input_shape: (C, H, W) of an image, or whatever one sample of the network's input is, without the batch; one
            number for a square image; a tensor as an example; a list or dict of these where the network takes one. By
            default what the network is made for.
        *more: of further inputs, in order.
        input_shapes: of inputs by the name of the argument.
        dtype: of the inputs; by default the network's own.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Returns:
        The layers in the order in which they ran: leaves, and containers with parameters or multiply-adds of their
        own. Layers that did not run stand before the last one, so that all `params` add up to the network's.

    Raises:
        ShapeError: a layer cannot take what reaches it. The message names the layer, shows the formula with the
            numbers in it, and says which input works.
        OptionError: no input shape was given, and the network does not say one; or its forward asks for values.
        UnknownNameError: no network is registered under that name.

    Examples:
        >>> import cnnzoo
        >>> first, *_ = cnnzoo.infer_shapes("lenet5", classic=True)
        >>> first.name, first.output_shape, first.params, first.macs
        ('c1', (6, 28, 28), 156, 117600)
    """
    model = unwrapped(resolve(model, options))
    inputs = Inputs.of(model, "infer_shapes", input_shape, more, input_shapes, dtype)
    run = Trace("infer_shapes")
    return rows(model, calls(model, inputs, run), run)


def check(model: nn.Module, input_shape: Sequence[int]) -> None:
    """Raise a `ShapeError` that explains why the model cannot take this input; return if it can."""
    with named(type(model).__name__):
        trace(model, input_shape)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has no children."""
    return not children_of(module)


@operation
def receptive_field(
    model: nn.Module | str,
    layer: str | None = None,
    *,
    input_shape: Spec | None = None,
    **options: Any,
) -> ReceptiveField:
    """Find which input pixels a unit of a layer sees: the union over all paths that lead to it.

    Args:
        model: a network, or the name of a registered one.
        layer: a name from `named_modules()`; by default the last layer whose map is larger than one unit.
        input_shape: (C, H, W) of the image; by default what the network is made for. It matters only after layers
            that see the whole image, such as global pooling and attention.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Returns:
        Size, stride and offset in pixels, (height, width) each. The size may exceed the image: publications count
        so.

    Raises:
        UnknownNameError: no layer of that name runs, or no network is registered under that name.
        OptionError: no input shape was given, and the network does not say one.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.receptive_field("vgg16").size
        (212, 212)
    """
    model = unwrapped(resolve(model, options))
    layers = trace(model, input_shape, "receptive_field")
    if layer is None:
        spatial = [one for one in layers if len(one.output_shape) == 3 and max(one.output_shape[1:]) > 1]
        return (spatial or layers)[-1].receptive_field
    for one in layers:
        if one.name == layer:
            return one.receptive_field
    raise unknown("", "layer", layer, [one.name for one in layers if one.name])


@operation
def min_input_size(model: nn.Module | str, *, in_channels: int | None = None, **options: Any) -> int | tuple[int, ...]:
    """Find the height and width in pixels of the smallest image that a network can take.

    Args:
        model: a network, or the name of a registered one; one for signals (1-D) or volumes (3-D), too.
        in_channels: channels of the image; by default what the network's first convolution takes.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Returns:
        The side of the smallest square (or the length, or the side of the smallest cube). Where no square fits, but
        the size that the network is made for does, how far each side of that can shrink: (height, width).

    Raises:
        ShapeError: nothing fits.
        OptionError: nothing says how many channels an image has.
        UnknownNameError: no network is registered under that name.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.min_input_size("inception_v3")
        75
    """
    if isinstance(model, str) and in_channels is not None:
        options["in_channels"] = in_channels
    model = unwrapped(resolve(model, options))
    channels = in_channels or _input_channels(model)
    if channels is None:
        raise OptionError("no convolution says how many channels an image has; pass in_channels=")
    axes = _axes(model)
    own = own_shape(model)
    if own is None or len(set(own[1:])) == 1 or in_channels not in (None, own[0]):
        size = _smallest(model, channels, axes)
        if size is not None:
            return size
    sides = _smallest_sides(model, own) if own else None
    if sides is None:
        shape = {1: "signal", 2: "square image", 3: "cube"}[axes]
        raise ShapeError(f"no {shape} fits {type(model).__name__}")
    return sides


# What a network takes


def nominal_shape(model: nn.Module, input_shape: Sequence[int] | None) -> Sequence[int]:
    """The shape given, or the one that the network says it is made for: cnnzoo's own and timm's do."""
    shape = input_shape or own_shape(model)
    if shape is None:
        raise OptionError(f"{type(model).__name__} does not say what it takes; pass input_shape=(C, H, W)")
    return shape


def own_shape(model: nn.Module) -> Sequence[int] | None:
    """(C, H, W) of the images that a network says it is made for."""
    shape: Any = getattr(model, "input_shape", None)
    config: Any = getattr(model, "config", None)
    if shape is None and isinstance(config, Config):
        shape = find(config.name, "input_shape").input_shape  # a block has no shape of its own
        return (config.options.get("in_channels", shape[0]), *shape[1:])
    return shape or dict(getattr(model, "pretrained_cfg", None) or ()).get("input_size")


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, where something is around it; one of TorchScript cannot be followed."""
    model = inside(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"its layer {name}" if name else "it"
            raise OptionError(
                f"{type(model).__name__}: {what} is a module of TorchScript, whose code is not Python; "
                "pass the module that was scripted or traced"
            )
    return model


@dataclass(frozen=True)
class Inputs:
    """What a network is given: specifications of its arguments by place and by name."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dtype: torch.dtype | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        operation: str,
        first: Any = None,
        more: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Inputs":
        """Check what was given, and complete it by what the network says."""
        if first is None and not named:
            first = nominal_shape(model, None)
        args = () if first is None else (first, *more)
        args, kwargs = tuple(_spec(model, one, operation) for one in args), {}
        for name, one in (named or {}).items():
            kwargs[name] = _spec(model, one, operation)
        inputs = cls(args, kwargs, dtype)
        takes = inspect.signature(model.forward)
        try:
            takes.bind(*args, **kwargs)
        except TypeError as error:
            names = ", ".join(name for name in takes.parameters)
            raise OptionError(
                f"{type(model).__name__}.forward takes ({names}), got {len(args)} by place"
                + (f" and {', '.join(kwargs)} by name" if kwargs else "")
                + f": {error}; give one shape for each, such as {operation}(model, (3, 224, 224), (5,))"
            ) from None
        return inputs

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of every input, without the batch."""
        return _shapes((*self.args, *self.kwargs.values()))

    def probes(self, model: nn.Module, run: Trace, kind: type[ShapeProbe]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments themselves."""
        floating = self.dtype or next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        dtype = floating or torch.get_default_dtype()
        image = max(self.shapes, key=len, default=())
        run.axes = len(image_axes((1, *image)))

        def tensor(shape: tuple[int, ...], dtype: torch.dtype) -> ShapeProbe:
            made = kind.image((1, *shape), run, dtype)
            if shape[1:] != image[1:]:  # no image of the same size
                made.field = NOTHING
            return made

        def probe(spec: Any) -> Any:
            if isinstance(spec, Example):
                return tensor(spec.shape, spec.dtype)
            if isinstance(spec, Shape):
                return tensor(tuple(spec), dtype)
            if isinstance(spec, dict):
                return {name: probe(one) for name, one in spec.items()}
            return [probe(one) for one in spec]

        return tuple(map(probe, self.args)), {name: probe(one) for name, one in self.kwargs.items()}


class Shape(tuple):
    """A shape without the batch."""


@dataclass(frozen=True)
class Example:
    """What an example says: its shape without the batch, and its type."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _shapes(value: Any) -> list[tuple[int, ...]]:
    if isinstance(value, Shape):
        return [tuple(value)]
    if isinstance(value, Example):
        return [value.shape]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [shape for one in value for shape in _shapes(one)]


def _spec(model: nn.Module, value: Any, operation: str) -> Any:
    if isinstance(value, Tensor):
        return Example(tuple(value.shape[1:]), value.dtype)
    if isinstance(value, int) and not isinstance(value, bool):
        channels = _input_channels(model)
        return Shape((value,) if channels is None else (channels, *(value,) * _axes(model)))
    if isinstance(value, Mapping):
        return {name: _spec(model, one, operation) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(n, int) for n in value):
            return Shape(value)
        return [_spec(model, one, operation) for one in value]
    raise OptionError(
        f"got {value!r} for an input; give its shape without the batch, such as (3, 224, 224), "
        "a tensor as an example, or a list or dict of these"
    )


def _input_channels(model: nn.Module) -> int | None:
    shape = own_shape(model)
    if shape:
        return shape[0]
    first = _first_convolution(model)
    return None if first is None else first.in_channels


def _first_convolution(model: nn.Module) -> Any:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return next((m for m in model.modules() if isinstance(m, kinds)), None)


def _axes(model: nn.Module) -> int:
    """Of a signal 1, of an image 2, of a volume 3."""
    shape, first = own_shape(model), _first_convolution(model)
    if shape:
        return len(shape) - 1
    return 2 if first is None else len(first.kernel_size)


# One pass


def trace(
    model: nn.Module,
    input_shape: Any = None,
    operation: str = "infer_shapes",
    only: Callable[[nn.Module], bool] | None = None,
    *,
    run: Trace | None = None,
    probe: type[ShapeProbe] = ShapeProbe,
) -> list[LayerShape]:
    """Every module that ran (or `only` some), containers included, in the order in which they finished."""
    inputs = Inputs.of(model, operation, input_shape)
    run = run or Trace(operation)
    found = [call for call in calls(model, inputs, run, probe) if only is None or only(call.module)]
    names = {module: name for name, module in model.named_modules()}
    return [described(names[call.module], call, run.axes) for call in found]


def described(name: str, call: Call, axes: int, *, alone: bool = False) -> LayerShape:
    """A call as a line of a table, with what it counts by itself or with all that runs in it."""
    return LayerShape(
        name=name,
        kind=type(call.module).__name__,
        input_shape=tuple(call.before[1:]),
        output_shape=tuple(call.after[1:]),
        params=call.params,
        macs=call.own_macs if alone else call.macs,
        receptive_field=reported(call.field, call.after, axes),
        products=call.own_products if alone else call.products,
    )


_WARNED: "WeakKeyDictionary[nn.Module, set[str]]" = WeakKeyDictionary()
"""What each network was warned of: once for each network and operation."""


def calls(model: nn.Module, inputs: Inputs, run: Trace, probe: type[ShapeProbe] = ShapeProbe) -> list[Call]:
    """Every call of a module of the model, in the order in which they finished."""
    names = {module: name for name, module in model.named_modules()}
    run.warned = _WARNED.setdefault(model, set())
    thread = threading.get_ident()  # other threads may run the model meanwhile
    found: list[Call] = []
    counted: set[int] = set()

    def enter(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == thread:
            run.stack.append([module, run.macs, run.products, 0, 0])

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if threading.get_ident() != thread:
            return
        _, macs, products, inner_macs, inner_products = run.stack.pop()
        run.passed += 1
        first = next(tensors((args, kwargs)), None)
        after = next(probes(output if isinstance(output, (Tensor, tuple, list, dict)) else vars(output)), None)
        own: Any = getattr(type(module), "macs", None)
        if own is not None and after is not None:
            run.macs = macs + own(module, tuple(after.shape[1:]))
        if run.stack:
            run.stack[-1][3] += run.macs - macs
            run.stack[-1][4] += run.products - products
        params = _uncounted(module, counted)
        if after is None and not params:
            return
        macs, products = run.macs - macs, run.products - products
        given = () if after is None else after.shape
        if after is None and isinstance(output, Tensor):
            given = (1, *output.shape)  # a weight, such as a parametrisation gives
        taken = () if first is None else first.shape
        field = NOTHING if after is None else after.field
        found.append(
            Call(module, taken, given, field, params, macs, products, macs - inner_macs, products - inner_products)
        )

    hooks = []
    try:
        for module in names:
            hooks.append(module.register_forward_pre_hook(enter, prepend=True))
            hooks.append(module.register_forward_hook(leave, with_kwargs=True))
        execute(model, inputs, run, probe, tuple(names))
    except ShapeError as error:
        raise _located(model, names, inputs, run, error) from None
    except ValuesError as error:
        if not _complete(names, found):
            raise
        run.warn(f"after its last layer the model asks for values at {error.where}; what follows is not listed")
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _complete(modules: Iterable[nn.Module], found: Sequence[Call]) -> bool:
    """Whether every layer with parameters has run."""
    ran = {call.module for call in found}
    return bool(ran) and all(module in ran for module in modules if is_leaf(module) and parameters_of(module))


def execute(
    model: nn.Module,
    inputs: Inputs,
    run: Trace,
    probe: type[ShapeProbe] = ShapeProbe,
    modules: Sequence[nn.Module] = (),
) -> None:
    """Let the model's own forward run on probes; `modules` are all of it, where they are at hand."""
    modules = modules or tuple(model.modules())
    run.device = next((p.device for p in model.parameters()), torch.device("cpu"))
    args, kwargs = inputs.probes(model, run, probe)
    with _unchanged(modules), _uncompiled(modules), torch.no_grad(), Watch(run):
        try:
            model(*args, **kwargs)
        except AssertionError as error:  # a network that checks its own input
            raise ShapeError(f"refuses its input: {error}".rstrip(": "), excess=0) from error


def _uncounted(module: nn.Module, counted: set[int]) -> int:
    """Numbers in a module's own parameters that were not counted yet."""
    numbers = 0
    for parameter in parameters_of(module):
        if id(parameter) not in counted:
            counted.add(id(parameter))
            numbers += parameter.numel()
    return numbers


def rows(model: nn.Module, found: list[Call], run: Trace) -> list[LayerShape]:
    """The lines of a table, whose parameters and multiply-adds add up to the network's."""
    name_of = {module: name for name, module in model.named_modules()}
    names = {name: module for module, name in name_of.items()}
    listed: list[LayerShape] = []
    first: dict[nn.Module, int] = {}
    idle: list[LayerShape] = []
    ran: dict[nn.Module, Call] = {}
    for call in found:
        ran.setdefault(call.module, call)
        if is_leaf(call.module) or call.params or call.own_macs or call.own_products:
            first.setdefault(call.module, len(listed))
            listed.append(described(name_of[call.module], call, run.axes, alone=True))
    counted = {id(p) for module in ran for p in parameters_of(module)}
    for name, module in names.items():
        params = 0 if module in ran else _uncounted(module, counted)
        if not params:
            continue
        user = _user(name, module, names, ran)
        if user is None:
            nothing = reported(NOTHING, (), run.axes)
            idle.append(LayerShape(name, type(module).__name__, (), (), params, 0, nothing, ran=False))
            continue
        if user not in first:
            first[user] = len(listed)
            listed.append(described(name_of[user], ran[user], run.axes, alone=True))
        line = listed[first[user]]
        listed[first[user]] = replace(line, params=line.params + params)
    return [*listed[:-1], *idle, *listed[-1:]]  # the last line stays the network's output


def _user(name: str, module: nn.Module, names: dict[str, nn.Module], ran: dict[nn.Module, Call]) -> nn.Module | None:
    """The module around one that did not run itself, which used its parameters: attention its output projection."""
    while name:
        name = name.rpartition(".")[0]
        around = names[name]
        if around in ran:
            uses = isinstance(around, nn.MultiheadAttention) or isinstance(module, (nn.ParameterList, nn.ParameterDict))
            return around if uses or ran[around].own_macs else None
    return None


def _uncompiled(modules: Sequence[nn.Module]) -> AbstractContextManager[Any]:
    """Modules that were compiled run as they were written."""
    if any(map(compiled, modules)):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


@contextmanager
def _unchanged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Batch normalisation in training counts its batches; a pass of probes is none."""
    norms = (getattr(m, "num_batches_tracked", None) for m in modules if m.training)
    counters = [counter for counter in norms if isinstance(counter, Tensor)]
    before = [counter.clone() for counter in counters]
    try:
        yield
    finally:
        with torch.no_grad():
            for counter, value in zip(counters, before, strict=True):
                counter.copy_(value)


# What works instead


_LARGEST = 4096
_SCANNED = 512


def _excess(model: nn.Module, shape: Sequence[int]) -> tuple[int, bool]:
    """Which way a size misses, 0 if it fits; and whether that is known."""
    try:
        execute(model, Inputs((Shape(shape),), {}), Trace(quiet=True))
    except ShapeError as error:
        return error.excess or 1, bool(error.excess)
    return 0, True


def _smallest(model: nn.Module, channels: int, axes: int = 2) -> int | None:
    """By bisection: a size can be too small, or, before a linear layer of fixed width, too large.

    Where branches meet only at some sizes, neither is true of the others, and small sizes are tried one by one.
    """
    odd = False

    def excess(size: int) -> int:
        nonlocal odd
        found, known = _excess(model, (channels, *(size,) * axes))
        odd |= not known
        return found

    return _bisected(excess, lambda: odd)


def _largest(model: nn.Module, shape: Sequence[int], smallest: int) -> int:
    """By bisection between the smallest size that works and one that is too large."""
    low, high = smallest, max(*shape[1:], smallest + 1)
    while high - low > 1:
        middle = (low + high) // 2
        fits = _excess(model, (shape[0], *(middle,) * (len(shape) - 1)))[0] == 0
        low, high = (middle, high) if fits else (low, middle)
    return low


def _bisected(excess: Callable[[int], int], odd: Callable[[], bool]) -> int | None:
    low, high = 0, 1
    while excess(high) < 0 and high <= _LARGEST:
        low, high = high, 2 * high
    while high - low > 1 and high <= _LARGEST:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    if odd():
        return next((size for size in range(1, _SCANNED) if excess(size) == 0), None)
    return high if high <= _LARGEST and excess(high) == 0 else None


def _smallest_sides(model: nn.Module, own: Sequence[int]) -> tuple[int, ...] | None:
    """How far each side of the size that a network is made for can shrink, one after the other."""
    if _excess(model, own)[0]:
        return None
    shape = list(own)
    for axis in range(1, len(own)):
        low, high = 0, shape[axis]
        while high - low > 1:
            middle = (low + high) // 2
            shape[axis] = middle
            low, high = (low, middle) if _excess(model, shape)[0] == 0 else (middle, high)
        shape[axis] = high
    return tuple(shape[1:])


def _located(
    model: nn.Module, names: dict[nn.Module, str], inputs: Inputs, run: Trace, error: ShapeError
) -> ShapeError:
    """The rule's clause as a whole message: which layer of which input, and what works instead."""
    module = run.stack[-1][0] if run.stack else model
    name = names.get(module, "")
    where = f"layer {name} ({type(module).__name__})" if name else type(module).__name__
    shapes = inputs.shapes
    given = " and ".join(shown((1, *shape)) for shape in shapes)
    clause = str(error)
    if error.features:
        waiting = _waiting_for(model, names, error.features)
        clause += f", of which layer {waiting} takes {error.features}" if waiting else ""
    if (error.features or "features, got" in clause) and run.steps:
        clause += f". The way there: {_way(run, names)}"
    message = f"input {given}: {where} {clause}."
    if len(shapes) == 1:
        message += _remedy(model, shapes[0], error, clause)
    return ShapeError(message, layer=name or None, excess=error.excess)


def _remedy(model: nn.Module, shape: tuple[int, ...], error: ShapeError, clause: str) -> str:
    """What input works instead."""
    own = own_shape(model)
    refused = clause.startswith("refuses its input")
    if (error.excess or refused) and len(shape) > 1:
        if own and len(own) == len(shape) and len(set(own[1:])) > 1 and not _excess(model, (shape[0], *own[1:]))[0]:
            return f" This network takes {shown((1, *own))}."
        size = _smallest(model, shape[0], len(shape) - 1)
        if size is not None:
            smallest = "x".join([str(size)] * (len(shape) - 1))
            if error.excess > 0:
                largest = _largest(model, shape, size)
                smallest += ", the largest " + "x".join([str(largest)] * (len(shape) - 1))
            if own and len(own) == len(shape) and own[1] != size and not refused:
                return f" This network is made for {shown((1, *own))}; the smallest input that works is {smallest}."
            return f" The smallest input that works is {smallest}."
        if own:
            return f" This network takes {shown((1, *own))}."
        return _along_one_axis(model, shape)
    if own and "channel(s)" in clause and "permute" not in clause:
        return f" This network takes {shown((1, *own))}; build it with in_channels={shape[0]}."  # pyright: ignore[reportGeneralTypeIssues]
    return ""


def _along_one_axis(model: nn.Module, shape: tuple[int, ...]) -> str:
    """Where no square fits, another size of one side may."""
    for axis in reversed(range(1, len(shape))):

        def excess(size: int, axis: int = axis) -> int:
            return _excess(model, (*shape[:axis], size, *shape[axis + 1 :]))[0]

        size = _bisected(excess, lambda: False)
        if size is not None:
            return f" {shown((1, *shape[:axis], size, *shape[axis + 1 :]))} works."
    return ""


def _waiting_for(model: nn.Module, names: dict[nn.Module, str], features: int) -> str | None:
    """The linear layer that takes so many features."""
    for module, name in names.items():
        if isinstance(module, nn.Linear) and module.in_features == features:
            return f"{name} (Linear)"
    return None


_STEPS_WITH_FORMULA = 8


def _way(run: Trace, names: dict[nn.Module, str]) -> str:
    """How the windows before made the map what it is, along the axis that they changed."""
    steps = []
    for frame, before, after, (kernel, stride, padding, dilation), ceil_mode in run.steps:
        name = names.get(frame[0], "") if frame else ""
        axis = next(i for i, (n, m) in enumerate(zip(before, after, strict=True)) if n != m)
        one = (before[axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
        put_in = formula(*one, ceil_mode) if len(run.steps) <= _STEPS_WITH_FORMULA else str(before[axis])
        steps.append(f"{name or type(frame[0]).__name__ if frame else 'forward'} {put_in} -> {after[axis]}")
    return ", ".join(steps)
