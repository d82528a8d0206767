"""Shapes without running: a probe that a model's own `forward` takes for a tensor.

The probe knows its shape and its receptive field. Every operation on it is answered by a rule (`rules.py`), so no
tensor is made, no kernel runs, and the model may live on the meta device.

`RULES` maps torch's functions to rules with the same signature. A rule gets probes where the function gets tensors,
and answers with probes. It raises `ShapeError` with the clause that follows the layer's name in the message.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map, tree_map_only

from cnnzoo.errors import OptionError, ShapeError
from cnnzoo.shapes.receptive_field import ReceptiveField, union, whole

Rule = TypeVar("Rule", bound=Callable[..., Any])
RULES: dict[Callable[..., Any], Callable[..., Any]] = {}
SELECTING: set[Callable[..., Any]] = set()
"""Functions that choose or rearrange values: torch's own meta kernels know their shapes."""
MIXING: set[Callable[..., Any]] = set()
"""Functions that combine values, likewise, where no weights take part."""


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

    Example:
        >>> import torch
        >>> import cnnzoo
        >>> @cnnzoo.shapes.rule(torch.cumsum, torch.Tensor.cumsum)
        ... def cumsum(x, dim, **kwargs):
        ...     return x.like(x.shape, x.field)
    """
    if not functions or not all(map(callable, functions)):
        raise OptionError(
            f"rule: got {functions}; name the operations, such as @rule(torch.cumsum, torch.Tensor.cumsum)"
        )

    def decorate(answer: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, answer))
        return answer

    return decorate


def named(names: str) -> set[Callable[..., Any]]:
    """Functions by name, wherever torch keeps them: in `torch`, in `torch.nn.functional`, or as methods."""
    owners = (torch, F, torch.Tensor)
    return {getattr(owner, name) for name in names.split() for owner in owners if hasattr(owner, name)}


def shown(shape: Sequence[int]) -> str:
    """A shape as papers print it, without the batch: 64x56x56."""
    return "x".join(map(str, shape[1:])) or "a number"


class ProbeWarning(UserWarning):
    """An operation that the probe has no rule for; it was answered by the meta device."""


class Trace:
    """One pass through a model: the layers entered, and the multiply-accumulates so far."""

    def __init__(self) -> None:
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
        raise OptionError("infer_shapes: the model branches on the values of a tensor; shapes alone cannot follow it")

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
        f"infer_shapes: no rule for {operation}; the meta device answers its shape, its multiply-adds are not "
        "counted, and its receptive field is taken to be everything its input sees. Teach it the operation with "
        f"@cnnzoo.shapes.rule({operation}).",
        ProbeWarning,
        stacklevel=2,
    )
