"""How each call of torch is written as an operation: its kind and its settings, the same for equal computations.

A description gets the call at hand and the call's own arguments, and gives the operations that it amounts to: none
where it moves no value.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Facts = dict[str, Any]
"""The settings of an operation by name, such as `{"kernel": "3x3", "stride": "1"}`."""


@dataclass
class Call:
    """A call of torch at hand: what its description may need besides its arguments."""

    func: Callable[..., Any]
    args: Any
    kwargs: Any
    module: Any
    nodes: dict[int, int]
    constants: dict[int, Tensor]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def node(self, value: Any) -> int | None:
        """Which operation a tensor comes from; None for what does not depend on the image."""
        return self.nodes.get(id(value)) if isinstance(value, Tensor) else None

    def constant(self, value: Tensor) -> Facts:
        """A tensor that does not depend on the image: its size, and a checksum of its values if they are fixed."""
        facts: Facts = {"numbers": value.numel()}
        fixed = self.constants.get(id(value))
        if fixed is not None:
            facts["checksum"] = f"{zlib.crc32(fixed.float().contiguous().numpy().tobytes()):08x}"
        return facts

    def unknown(self) -> list[tuple[str, Facts]]:
        """An operation without a description of its own: its name, and every argument that is no tensor."""
        plain = [v for v in (*self.args, *self.kwargs.values()) if not isinstance(v, Tensor)]
        name = getattr(self.func, "__name__", repr(self.func)).strip("_")
        return [(name, {f"argument {i}": repr(v) for i, v in enumerate(plain)})]


LAST = -2
"""The operation described just before, where another says what it takes."""
_MOVES_NOTHING = """
view reshape flatten unflatten squeeze unsqueeze contiguous clone detach to float double type view_as ravel reshape_as
requires_grad_ alias data __get__ expand expand_as half bfloat16
"""
MOVES_NOTHING = frozenset(_MOVES_NOTHING.split())
CONSTANT = frozenset(["new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"])
"""What takes of its input the shape alone, and so does not depend on the image."""
HAVE_STATES = frozenset(["lstm"])
"""What gives besides its output the states that it ends in."""
DESCRIBED: dict[str, Callable[..., Iterable[Any]]] = {}


def described(names: str) -> Callable[[Callable[..., Iterable[Any]]], Callable[..., Iterable[Any]]]:
    def decorate(function: Callable[..., Iterable[Any]]) -> Callable[..., Iterable[Any]]:
        DESCRIBED.update(dict.fromkeys(names.split(), function))
        return function

    return decorate


def by(value: Any, axes: int = 2) -> str:
    """A size along each axis as papers write it: 3x3, 1x7."""
    return "x".join(map(str, _each(value, axes)))


def same(value: Any, axes: int = 2) -> str:
    """Likewise, but one number where all axes have the same."""
    sizes = _each(value, axes)
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _each(value: Any, axes: int) -> tuple[int, ...]:
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return value if len(value) == axes else value * axes


@described("conv1d conv2d conv3d conv_transpose2d")
def convolution(call, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *rest, **more):
    axes = weight.ndim - 2
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for k, d in zip(weight.shape[2:], _each(dilation, axes), strict=True))
    facts = {
        "kernel": by(weight.shape[2:], axes),
        "stride": same(stride, axes),
        "maps": weight.shape[0],
        "pad": same(0 if padding == "valid" else padding, axes),
        "dilation": same(dilation, axes),
        "groups": groups,
        "bias": bias is not None,
    }
    table = getattr(call.module, "table", None)
    if table is not None:
        facts["table"] = " ".join("".join(map(str, row)) for row in table)
    return [("conv" if "transpose" not in call.func.__name__ else "transposed conv", facts)]


@described("linear")
def linear(call, input, weight, bias=None):
    return [("linear", {"units": weight.shape[0], "bias": bias is not None})]


@described("max_pool2d max_pool2d_with_indices")
def max_pool(call, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    facts = {"kernel": by(kernel_size), "stride": same(stride or kernel_size), "pad": same(padding)}
    return [("max", facts | {"dilation": same(dilation), "rounding": rounding(ceil_mode)})]


@described("avg_pool2d")
def average_pool(
    call, input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    kernel, stride, pad = by(kernel_size), same(stride or kernel_size), same(padding)
    if kernel == "1x1" and pad == "0":
        return [] if stride == "1" else [("subsample", {"stride": stride})]
    if kernel == by(call.before[2:]) and pad == "0" and not divisor_override:
        return [("global average", {})]
    facts: Facts = {"kernel": kernel, "stride": stride, "pad": pad, "rounding": rounding(ceil_mode)}
    if pad != "0":
        facts["padding"] = "counts" if count_include_pad else "does not count"
    if divisor_override:
        facts["divisor"] = divisor_override
    return [("average", facts)]


def rounding(ceil_mode: bool) -> str:
    """Which way a window that does not fit is rounded."""
    return "up" if ceil_mode else "down"


@described("adaptive_avg_pool2d adaptive_max_pool2d")
def adaptive_pool(call, input, output_size, return_indices=False):
    if call.after[2:] == call.before[2:]:
        return []
    kind = "average" if "avg" in call.func.__name__ else "max"
    if set(call.after[2:]) == {1}:
        return [(f"global {kind}", {})]
    return [(f"adaptive {kind}", {"size": by(call.after[2:])})]


@described("mean")
def mean(call, input, dim=None, keepdim=False, **more):
    axes = {d % input.ndim for d in (dim if isinstance(dim, (tuple, list)) else [dim] if dim is not None else [])}
    if input.ndim == 4 and axes == {2, 3}:
        return [("global average", {})]
    return [("mean", {"axes": sorted(axes) or "all"})]


@described("batch_norm")
def batch_norm(
    call, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5, *rest
):
    module = call.module
    own: Any = getattr(module, "momentum", momentum)  # in evaluation torch passes 0 on for None
    return [("bn", {"eps": eps, "momentum": "average" if own is None else own, "affine": weight is not None})]


@described("layer_norm group_norm instance_norm")
def other_norm(call, input, *args, **kwargs):
    return call.unknown()


@described("local_response_norm")
def local_response_norm(call, input, size, alpha=1e-4, beta=0.75, k=1.0):
    # torch divides alpha by the size; the factor on the sum is what the formula of the paper prints.
    return [("lrn", {"n": size, "k": float(k), "alpha": alpha / size, "beta": beta})]


@described("relu relu_")
def relu(call, *args, **kwargs):
    return [("relu", {})]


@described("tanh tanh_")
def tanh(call, *args, **kwargs):
    return [("tanh", {})]


@described("sigmoid sigmoid_")
def sigmoid(call, *args, **kwargs):
    return [("sigmoid", {})]


@described("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout")
def dropout(call, input, p=0.5, *rest, **more):
    kind = {"dropout": "dropout"}.get(call.func.__name__, call.func.__name__.strip("_"))
    return [(kind, {"p": float(p)})] if p else []


@described("cat concat concatenate")
def concatenate(call, tensors, dim=0, **more):
    facts: Facts = {} if dim % tensors[0].ndim == 1 else {"axis": dim}
    return [("cat", facts, tuple(call.node(t) for t in tensors if call.node(t) is not None))]


@described("add add_ __add__ __radd__ __iadd__")
def add(call, input, other, *, alpha=1, **more):
    return _sum(call, input, other, alpha)


@described("sub sub_ __sub__ __isub__")
def subtract(call, input, other, *, alpha=1, **more):
    return _sum(call, input, other, -alpha)


@described("__rsub__ rsub")
def subtract_from(call, input, other, **more):
    return [("scale", {"by": -1.0}), *_sum(call, input, other, 1)]


def _sum(call: Call, one: Any, other: Any, alpha: float) -> list[Any]:
    first, second = call.node(one), call.node(other)
    if first is not None and second is not None:
        if alpha != 1:  # the scale is an operation of its own, on the second
            return [("scale", {"by": float(alpha)}, (second,)), ("add", {}, (first, LAST))]
        return [("add", {}, (first, second))]
    scaled: list[Any] = [] if second is None or alpha == 1 else [("scale", {"by": float(alpha)})]
    constant = other if second is None else one
    sign = alpha if second is None else 1
    if isinstance(constant, Tensor):
        return [*scaled, ("biases" if sign == 1 else "minus", call.constant(constant))]
    return [*scaled, ("shift", {"by": float(sign * constant)})] if constant else scaled


@described("mul mul_ __mul__ __rmul__ __imul__ multiply")
def multiply(call, input, other):
    first, second = call.node(input), call.node(other)
    if first is not None and second is not None:
        return [("multiply", {}, (first, second))]
    constant = other if second is None else input
    if isinstance(constant, Tensor):
        return [("coefficients", call.constant(constant))]
    return [] if constant == 1 else [("scale", {"by": float(constant)})]


@described("div div_ __truediv__ __itruediv__ true_divide divide")
def divide(call, input, other, **more):
    if call.node(other) is not None or isinstance(other, Tensor):
        return call.unknown()
    return [("scale", {"by": 1 / other})]


@described("neg neg_ __neg__ negative")
def negate(call, *args):
    return [("scale", {"by": -1.0})]


@described("square square_")
def square(call, *args):
    return [("square", {})]


@described("sum")
def total(call, input, dim=None, *rest, **more):
    axes = [d % input.ndim for d in (dim if isinstance(dim, (tuple, list)) else [dim] if dim is not None else [])]
    return [("sum", {} if axes == [input.ndim - 1] else {"axes": axes or "all"})]


@described("pad")
def pad(call, input, pad, mode="constant", value=None):
    pad = tuple(pad)
    if not any(pad):
        return []
    if input.ndim == 4 and len(pad) == 6 and not any(pad[:4]) and mode == "constant" and not value:
        return [("zeros", {"before": pad[4], "after": pad[5]})]
    return [("pad", {"by": " ".join(map(str, pad)), "mode": mode, "value": float(value or 0)})]


@described("__getitem__")
def select(call, input, index):
    whole = slice(None)
    steps = index if isinstance(index, tuple) else (index,)
    if call.after == call.before:
        return []
    slices = len(steps) == 4 and all(isinstance(step, slice) for step in steps)
    if slices and steps[:2] == (whole, whole) and all(s.start in (None, 0) and s.stop is None for s in steps[2:]):
        return [("subsample", {"stride": same(tuple(s.step or 1 for s in steps[2:]))})]
    return [("select", {"index": str(index)})]


@described("permute")
def permute(call, input, *dims):
    order = dims[0] if len(dims) == 1 else dims
    return [("columns", {})] if tuple(d % input.ndim for d in order) == (0, 3, 1, 2) else call.unknown()


@described("lstm")
def lstm(call, input, hidden, params, bias, layers, dropout, train, bidirectional, *rest):
    facts = {"units": hidden[0].shape[-1], "bias": bias, "layers": layers, "directions": 1 + bidirectional}
    return [("lstm", facts | ({"dropout": dropout} if dropout else {}))]


@described("avg_pool1d max_pool1d avg_pool3d max_pool3d")
def other_pool(call, *args, **kwargs):
    return call.unknown()
