"""Shapes without running: a probe that a model's own `forward` takes for a tensor.

The probe knows its shape and its receptive field. Every operation on it is answered by a rule (`rules.py`), so no
tensor is made, no kernel runs, and the model may live on the meta device.

`RULES` maps torch's functions to rules with the same signature. A rule gets probes where the function gets tensors,
and answers with probes. It raises `ShapeError` with the clause that follows the layer's name in the message.
"""

import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name

from cnnzoo.errors import OptionError, ShapeError, operation
from cnnzoo.shapes.receptive_field import NOTHING, Field, aligned, bound, image, union
from cnnzoo.support.text import first_line
from cnnzoo.support.torch_private import tree_map, tree_map_only, viewed, without_torch_function, wrapper_tensor

Rule = TypeVar("Rule", bound=Callable[..., Any])
RULES: dict[Callable[..., Any], Callable[..., Any]] = {}
WEIGHING: set[Callable[..., Any]] = set()
"""Functions that multiply with weights: their rules count, whatever they are called on."""
PRIMITIVES: dict[str, Callable[..., Any]] = {}
"""Rules for torch's primitive operations (`aten::mm`), of which functions without a rule are made, by name."""
POINTWISE: set[str] = set()
"""Primitive operations that work unit by unit, where torch does not say so itself."""


@operation
def rule(*functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Teach the probe an operation: what it does to shapes, receptive fields and multiply-adds.

    The decorated function takes the operation's own arguments, with a `ShapeProbe` wherever the operation takes a
    tensor that comes from the input, and returns a probe or several. `x.like(shape, field)` makes one; the batch is
    part of its shape. `x.trace.macs` counts the multiply-adds of the pass. A rule for an operation that has one
    replaces it.

    Args:
        functions: what the model calls: `torch.cumsum`, `torch.Tensor.cumsum`, `torch.nn.functional.fold`.

    Returns:
        A decorator that leaves its function as it is.

    Raises:
        OptionError: no function is given, or something that cannot be called.

    Examples:
        >>> import torch
        >>> import cnnzoo
        >>> @cnnzoo.shapes.rule(torch.special.i0e)  # each number by itself
        ... def i0e(x):
        ...     return x.like(x.shape, x.field)
    """
    if not functions or not all(map(callable, functions)):
        raise OptionError(
            f"got {functions or 'no operation'}; name operations: @rule(torch.cumsum, torch.Tensor.cumsum)"
        )

    def decorate(answer: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, answer))
        return answer

    return decorate


def named(names: str) -> set[Callable[..., Any]]:
    """Functions by name, wherever torch keeps them: in `torch`, in `torch.nn.functional`, as methods or attributes."""
    members: Iterator[Any] = (getattr(owner, name, None) for name in names.split() for owner in (torch, F, Tensor))
    return {m if callable(m) else m.__get__ for m in members if callable(m) or inspect.isdatadescriptor(m)}  # pyright: ignore


def shown(shape: Sequence[int]) -> str:
    """A shape as papers print it, without the batch: 64x56x56."""
    return "x".join(map(str, shape[1:])) or "a number"


class ProbeWarning(UserWarning):
    """Something about a network that the probe does not count or know; its shapes are right."""


class ValuesError(OptionError):
    """The model asked for values, of which there are none; `where` is the line of its code."""

    def __init__(self, where: str) -> None:
        super().__init__(f"the model asks for the values of a tensor at {where}; shapes alone cannot follow it")
        self.where = where


class Trace:
    """One pass through a model: the modules entered, what they gave, and the multiply-adds so far.

    Args:
        operation: what asked for the pass, for messages.
        device: where the model lives, or any other; nothing is allocated there.
        quiet: whether warnings are held back.
        warned: what was warned of already; new warnings are added.
    """

    def __init__(
        self,
        operation: str = "infer_shapes",
        *,
        device: torch.device | None = None,
        quiet: bool = False,
        warned: set[str] | None = None,
    ) -> None:
        self.operation, self.quiet = operation, quiet
        self.device = torch.device("meta") if device is None else device
        self.warned: set[str] = set() if warned is None else warned
        self.macs = 0
        self.products = 0
        self.weights: set[int] = set()  # the ids of parameters that were multiplied with
        self.stack: list[Any] = []
        self.steps: list[Any] = []  # how windows changed the size of the map, for messages
        self.passed = 0  # how many modules were left
        self.axes = 2  # of the image
        self.function: Callable[..., Any] | None = None  # what the model called, while torch takes it apart

    def weigh(self, macs: int, *weights: Any) -> None:
        """Count multiply-adds of weights."""
        self.macs += macs
        self.weights.update(map(id, weights))

    def step(self, before: Sequence[int], after: Sequence[int], window: Any, ceil_mode: bool) -> None:
        """Note how a window changed the size of a map."""
        self.steps.append((self.stack[-1] if self.stack else None, before, after, window, ceil_mode))

    def warn(self, message: str) -> None:
        """Say something once."""
        if message not in self.warned and not self.quiet:
            self.warned.add(message)
            warnings.warn(f"{self.operation}: {message}", ProbeWarning, stacklevel=_outside())


class ShapeProbe(Tensor):
    """Stands for a tensor of `shape`, batch included, whose units see `field` of the image.

    It passes for a tensor, has no values and allocates nothing.

    Args:
        shape: its shape.
        field: what its units see.
        trace: the pass that it belongs to.
        dtype: its type.

    Attributes:
        origin: the map that was flattened into this, for messages.
        plain: whether it stands for a tensor that is no result of the network, such as a weight.
    """

    __slots__ = ("device", "dtype", "field", "origin", "plain", "shape", "trace")

    field: Field
    trace: Trace  # pyright: ignore  an attribute, where a tensor has a method

    def __new__(cls, shape: Sequence[int], field: Field, trace: Trace, dtype: torch.dtype) -> "ShapeProbe":
        return wrapper_tensor(cls, shape, dtype, trace.device)

    def __init__(self, shape: Sequence[int], field: Field, trace: Trace, dtype: torch.dtype) -> None:
        self.shape = torch.Size(shape)
        self.device, self.dtype = trace.device, dtype
        self.field = field
        self.trace = trace  # pyright: ignore
        self.origin: tuple[int, ...] | None = None
        self.plain = False

    @classmethod
    def image(cls, shape: Sequence[int], trace: Trace, dtype: torch.dtype) -> "ShapeProbe":
        """What a model is given: each pixel sees itself."""
        return cls(shape, image(image_axes(shape)), trace, dtype)

    def like(self, shape: Sequence[int], field: Field, dtype: torch.dtype | None = None) -> "ShapeProbe":
        """Another shape in the same pass."""
        return type(self)(shape, field, self.trace, dtype or self.dtype)

    def blank(self, tensor: Tensor) -> "ShapeProbe":
        """A probe in the place of a tensor that does not come from the image."""
        probe = type(self)(tensor.shape, NOTHING, self.trace, tensor.dtype)
        probe.plain = True
        return probe

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        answer = RULES.get(func)
        if answer is None:
            return _native(func, args, kwargs or {})
        if kwargs and "input" in kwargs:
            kwargs = dict(kwargs)
            args = (kwargs.pop("input"), *args)
        if args and isinstance(args[0], Tensor) and not isinstance(args[0], ShapeProbe):
            first = next(probes((args[1:], kwargs)), None)
            if first is not None:
                args = (first.blank(args[0]), *args[1:])
        try:
            return answer(*args, **kwargs) if kwargs else answer(*args)
        except TypeError:  # arguments that the rule does not know, and torch may
            if answer.__module__ != "cnnzoo.shapes.rules":
                raise
            return _native(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatched(func, args, kwargs or {})

    @property
    def ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.shape)

    def dim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def size(self, dim: int | None = None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The shape, or the size along one axis."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"ShapeProbe({tuple(self.shape)})"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)


def image_axes(shape: Sequence[int]) -> range:
    """Which axes of an input, batch included, are height and width: the last ones, or those before the channels."""
    last = len(shape) - 1
    if last == 3 and shape[3] in (1, 3, 4) and shape[1] > 4 and shape[2] > 4:
        return range(1, 3)
    return range(min(2, last), last + 1)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in an argument or result, probes among them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors(one)


def probes(value: Any) -> Iterator[ShapeProbe]:
    """The probes in an argument or result."""
    return (one for one in tensors(value) if isinstance(one, ShapeProbe))


class Watch(TorchFunctionMode):
    """Layers on weights alone, such as learned queries, are answered by rules too: they count."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for kind in types:
            if issubclass(kind, ShapeProbe):
                return kind.__torch_function__(func, types, args, kwargs)
        kwargs = kwargs or {}
        if func in WEIGHING and any(map(is_weight, (*args, *kwargs.values()))):
            key = "input" if "input" in kwargs else None
            first = kwargs["input"] if key else args[0]
            if isinstance(first, Tensor):
                probe = ShapeProbe(first.shape, NOTHING, self.trace, first.dtype)
                probe.plain = True
                args, kwargs = (args, {**kwargs, key: probe}) if key else ((probe, *args[1:]), kwargs)
                return ShapeProbe.__torch_function__(func, types, args, kwargs)
        return func(*args, **kwargs)


def is_weight(value: Any) -> bool:
    """Whether a value is a parameter, a view of one, or several."""
    if isinstance(value, (tuple, list)):
        return any(map(is_weight, value))
    return isinstance(value, nn.Parameter) or (isinstance(value, Tensor) and isinstance(viewed(value), nn.Parameter))


def _native(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Answer an operation without a rule by what torch makes of it: `__torch_dispatch__` sees its parts."""
    first = next(probes((args, kwargs)))
    outer, first.trace.function = first.trace.function, func
    try:
        with without_torch_function():
            return func(*args, **kwargs)
    except (RuntimeError, IndexError) as error:
        raise ShapeError(f"cannot run {_function_name(func)}: {first_line(error)}") from None
    finally:
        first.trace.function = outer


def _dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Answer one of torch's primitive operations: its shapes by torch's own meta kernel, the rest by a rule if any."""
    taken = list(probes((args, kwargs)))
    first = taken[0]
    name = func._schema.name.rpartition("::")[2]
    answer = PRIMITIVES.get(name)
    if answer is not None:
        return answer(*args, **kwargs)
    if torch.Tag.pointwise in func.tags or name in POINTWISE:
        shapes = [probe.shape for probe in taken]
        after = torch.broadcast_shapes(*shapes)
        field: Field | None = union([aligned(probe.field, probe.shape, after) for probe in taken], after)
    else:
        called = first.trace.function
        first.trace.warn(unknown_operation(name if called is None else _function_name(called)))
        field = None

    def meta(value: Any) -> Any:
        if isinstance(value, ShapeProbe):
            return torch.empty(value.shape, dtype=value.dtype, device="meta")
        return value.to("meta") if isinstance(value, Tensor) else value

    with without_torch_function():
        plain, named = tree_map(meta, (args, kwargs))
        if "device" in named:
            named["device"] = torch.device("meta")
        out = func(*plain, **named)
    if field is None:
        axes = max(len(probe.field.axes) for probe in taken)
        every = [bound(probe.field, probe.shape) for probe in taken]
        field = Field(union([Field(one.axes + ((),) * (axes - len(one.axes))) for one in every], ()).axes, False)
    if func._schema.is_mutable:
        first.field = field if field.axes else first.field
        return first
    return tree_map_only(Tensor, lambda tensor: first.like(tensor.shape, field, tensor.dtype), out)


def unknown_operation(name: str) -> str:
    """What is said of an operation that nothing is known about but its shape."""
    return (
        f"no rule for {name}; torch says its shape, its multiply-adds are not counted, and its receptive field is at "
        f"most all that its input sees. Teach it the operation with @cnnzoo.shapes.rule({name})."
    )


def _function_name(func: Callable[..., Any]) -> str:
    return resolve_name(func) or getattr(func, "__qualname__", repr(func))


def asking_line() -> str:
    """Where in the model's code the running operation stands: file, line and text."""
    for frame in reversed(traceback.extract_stack()):
        if not any(part in frame.filename for part in _LIBRARY):
            return f"{Path(frame.filename).name}:{frame.lineno} (`{frame.line}`)"
    return "an unknown line"


def _outside() -> int:
    """How far up the stack the caller of the library is, for `warnings.warn`."""
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and any(part in frame.f_code.co_filename for part in _LIBRARY):
        frame, depth = frame.f_back, depth + 1
    return depth


_LIBRARY = (str(Path(__file__).parent.parent) + os.sep, str(Path(torch.__file__).parent) + os.sep, "<string>")
