"""Shapes without running: a probe that a model's own `forward` takes for a tensor.

The probe knows its shape and its receptive field. Every operation on it is answered by a rule (`rules.py`), so no
tensor is made, no kernel runs, and the model may live on the meta device.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from cnnzoo.errors import OptionError, ShapeError
from cnnzoo.shapes.field import ReceptiveField, pixel, union, whole
from cnnzoo.shapes.rules import MIXING, RULES, SELECTING, shown


class ProbeWarning(UserWarning):
    """An operation that the probe has no rule for; it was answered by the meta device."""


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


class Trace:
    """One pass through a model: the layers entered, and the multiply-accumulates so far.

    Args:
        operation: what asked for the pass, for messages.
    """

    def __init__(self, operation: str = "infer_shapes") -> None:
        self.operation = operation
        self.macs = 0
        self.stack: list[tuple[nn.Module, int]] = []
        self.calls: list[tuple[nn.Module, ShapeProbe, ShapeProbe, int]] = []


class ShapeProbe:
    """Stands for a tensor of `shape`, batch included, whose units see `field` of the picture."""

    __slots__ = ("dtype", "field", "origin", "shape", "trace")

    def __init__(self, shape: tuple[int, ...], field: ReceptiveField, trace: Trace, dtype: torch.dtype) -> None:
        self.shape = torch.Size(shape)
        self.field, self.trace, self.dtype = field, trace, dtype
        self.origin: tuple[int, ...] | None = None  # the map that was flattened into this, for messages

    @classmethod
    def image(cls, shape: tuple[int, ...], trace: Trace, dtype: torch.dtype) -> "ShapeProbe":
        """What the model is given: each pixel sees itself."""
        return cls(shape, pixel(max(len(shape) - 2, 1)), trace, dtype)

    def like(self, shape: tuple[int, ...], field: ReceptiveField) -> "ShapeProbe":
        """Another shape in the same pass."""
        return ShapeProbe(shape, field, self.trace, self.dtype)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        answer = RULES.get(func)
        if answer is None:
            return _on_meta(func, args, kwargs or {})
        if not kwargs:
            return answer(*args)
        first = (kwargs.pop("input"),) if "input" in (kwargs := dict(kwargs)) else ()
        return answer(*first, *args, **kwargs)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> torch.device:
        return torch.device("meta")

    @property
    def requires_grad(self) -> bool:
        return False

    def dim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def size(self, dim: int | None = None):
        """The shape, or the size along one axis."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, index: Any, value: Any) -> None:
        """Values do not matter."""

    def item(self, *index: Any) -> Any:
        """Refuse: a probe has no values."""
        raise OptionError(
            f"{self.trace.operation}: the model branches on the values of a tensor; shapes alone cannot follow it"
        )

    __bool__ = __float__ = __int__ = __index__ = tolist = numpy = item
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        member = getattr(Tensor, name)
        if not callable(member):
            return _on_meta(lambda tensor: getattr(tensor, name), (self,), {}, silent=True)
        return lambda *args, **kwargs: self.__torch_function__(member, (), (self, *args), kwargs)

    def __iter__(self):
        return iter(self.unbind())

    def __repr__(self) -> str:
        return f"ShapeProbe({tuple(self.shape)})"


def _operator(name: str) -> Callable[..., Any]:
    member = getattr(Tensor, name)
    return lambda self, *args: self.__torch_function__(member, (), (self, *args), {})


_OPERATORS = """
__add__ __radd__ __iadd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __pow__ __rpow__ __floordiv__
__rfloordiv__ __matmul__ __rmatmul__ __neg__ __getitem__ __gt__ __lt__ __ge__ __le__ __eq__ __ne__
"""
for _name in _OPERATORS.split():
    setattr(ShapeProbe, _name, _operator(_name))


def _on_meta(func: Callable[..., Any], args: Any, kwargs: dict[str, Any], *, silent: bool = False) -> Any:
    """Answer an operation by running it on meta tensors, and say so once unless no weights can take part in it."""
    probes: list[ShapeProbe] = []

    def tensor(value: Any) -> Any:
        if isinstance(value, ShapeProbe):
            probes.append(value)
            return torch.empty(value.shape, dtype=value.dtype, device="meta")
        return value.to("meta") if isinstance(value, Tensor) else value

    args, kwargs = tree_map(tensor, (args, kwargs))
    try:
        out = func(*args, **kwargs)
    except (RuntimeError, IndexError) as error:
        raise ShapeError(f"cannot run {_function_name(func)}: {str(error).splitlines()[0]}") from None
    if not silent and func not in SELECTING and func not in MIXING:
        _warn_once(_function_name(func))
    first = probes[0]
    everything = union(whole(one.field, one.shape[2:]) for one in probes)

    def probe(tensor: Tensor) -> ShapeProbe:
        # Channels that are chosen or rearranged leave the map, and so what its units see, as it was.
        maps = [one.field for one in probes if one.shape[-2:] == tensor.shape[-2:]]
        rows_and_columns = tensor.ndim > 3 and tensor.stride()[-2:] == (tensor.shape[-1], 1)
        field = union(maps) if maps and func in SELECTING and rows_and_columns else everything
        new = ShapeProbe(tuple(tensor.shape), field, first.trace, tensor.dtype)
        if new.ndim == 2:
            new.origin = first.shape if first.ndim > 2 else first.origin
        return new

    return tree_map_only(Tensor, probe, out)


def _function_name(func: Callable[..., Any]) -> str:
    return getattr(func, "__qualname__", repr(func)).replace("_VariableFunctionsClass", "torch")


_warned: set[str] = set()


def _warn_once(operation: str) -> None:
    if operation in _warned:
        return
    _warned.add(operation)
    warnings.warn(
        f"infer_shapes: no rule for {operation}; the meta device answers its shape, its multiply-accumulates are not "
        "counted, and its receptive field is taken to be everything its input sees",
        ProbeWarning,
        stacklevel=2,
    )


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    operation: str = "infer_shapes",
    only: Callable[[nn.Module], bool] | None = None,
    *,
    run: Trace | None = None,
    probe: type[ShapeProbe] = ShapeProbe,
) -> list[LayerShape]:
    """Every module that ran (or `only` some), containers included, in the order in which they finished."""
    run = run or Trace(operation)
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
            model(_picture(model, input_shape, run, probe))
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


def infer_shapes(model: nn.Module, input_shape: Sequence[int]) -> list[LayerShape]:
    """The shapes of every layer, without running anything: leaves in execution order.

    Works on any network whose `forward` does not branch on values, torchvision's and timm's among them, on any device
    (the meta device too). The network runs in the mode it is in, and is not changed.

    Args:
        model: the network.
        input_shape: (C, H, W) of a picture, or whatever one sample of the network's input is.

    Raises:
        ShapeError: a layer cannot take what reaches it. The message names the layer, shows the formula with the
            numbers in it, and says which input works.
    """
    return trace(model, input_shape, only=is_leaf)


def check(model: nn.Module, input_shape: Sequence[int]) -> None:
    """Raise a `ShapeError` that explains why the model cannot take this input; return if it can."""
    trace(model, input_shape, operation=type(model).__name__)


def min_input_size(model: nn.Module, *, in_channels: int | None = None) -> int:
    """The height and width in pixels of the smallest square picture that a network can take.

    Args:
        model: the network.
        in_channels: channels of the picture; by default what the network's first convolution takes.

    Raises:
        ShapeError: no square picture fits.
    """
    channels = in_channels or _input_channels(model)
    if channels is None:
        raise OptionError("min_input_size: no convolution says how many channels a picture has; pass in_channels=")
    size = _smallest(model, channels)
    if size is None:
        raise ShapeError(f"min_input_size: no square picture fits {type(model).__name__}")
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
    shape = getattr(model, "input_shape", None)
    if shape:
        return shape[0]
    first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    return None if first is None else first.in_channels


def _picture(model: nn.Module, input_shape: Sequence[int], run: Trace, probe: type[ShapeProbe] = ShapeProbe) -> Any:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return probe.image((1, *input_shape), run, dtype)


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
