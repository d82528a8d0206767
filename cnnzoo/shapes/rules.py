"""What each of torch's operations does to shapes, receptive fields and multiply-adds."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnzoo.errors import ShapeError
from cnnzoo.shapes import receptive_field as fields
from cnnzoo.shapes.formula import formula, output_size, transposed_size, windows
from cnnzoo.shapes.probe import (
    PRIMITIVES,
    RULES,
    WEIGHING,
    ShapeProbe,
    ValuesError,
    asking_line,
    named,
    probes,
    rule,
    shown,
)
from cnnzoo.shapes.receptive_field import NOTHING, Field, aligned, mixed, union

Probe = ShapeProbe


def _spread(value: Any, axes: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * axes
    value = tuple(value)
    return value if len(value) == axes else value * axes


def _plain(value: Any) -> bool:
    """Whether a value is no result of the network's: a weight, or a probe in the place of one."""
    return not isinstance(value, Probe) or value.plain


def _count(trace: Any, macs: int, *operands: Any) -> None:
    """Multiply-adds are those of weights, or products where all operands are results."""
    if any(map(_plain, operands)):
        trace.weigh(macs, *operands)
    else:
        trace.products += macs


# Windows: convolutions and poolings


def _slide(
    x: Probe, channels: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False
) -> Probe:
    """A window that slides over the map: convolutions and poolings alike."""
    spatial = tuple(x.shape[2:])
    axes = len(spatial)
    kernel, stride, dilation = _spread(kernel, axes), _spread(stride, axes), _spread(dilation, axes)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        size = spatial
    else:
        padding = (0,) * axes if padding == "valid" else _spread(padding, axes)
        try:
            size = output_size(spatial, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
        except ShapeError:
            columns = zip(spatial, kernel, stride, padding, dilation, strict=True)
            worst = min(columns, key=lambda column: windows(*column, ceil_mode))
            raise ShapeError(
                f"got {shown(x.shape)}, and its output would be empty: "
                f"{formula(*worst, ceil_mode)} = {windows(*worst, ceil_mode)}",
                excess=-1,
            ) from None
        if size != spatial:
            x.trace.step(spatial, size, (kernel, stride, padding, dilation), ceil_mode)
    shape = (x.shape[0], channels, *size)
    return x.like(shape, fields.slid(x.field, x.shape, shape, kernel, stride, padding, dilation))


def _channels(x: Probe, expected: int) -> None:
    if x.shape[1] != expected:
        hint = ""
        if len(x.shape) == 4 and x.shape[3] == expected and not x.trace.passed:
            turned = "x".join(str(x.shape[i]) for i in (3, 1, 2))
            hint = f"; its channels seem to be last, but images are (N, C, H, W): permute(0, 3, 1, 2) makes it {turned}"
        raise ShapeError(f"takes {expected} input channel(s), got {x.shape[1]} ({shown(x.shape)}){hint}")


@rule(torch.conv1d, torch.conv2d, torch.conv3d)
def convolution(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    shape = weight.shape
    if len(x.shape) != len(shape):
        if len(x.shape) == len(shape) - 1 and x.shape[0] == shape[1] * groups != 1:  # no batch
            return _unbatched(convolution, x, weight, bias, stride, padding, dilation, groups)
        hint = ""
        if len(x.shape) == len(shape) + 1 and x.shape[1] == 1:
            hint = f"; shapes are without the batch: pass {tuple(x.shape[2:])}"
        raise ShapeError(f"takes {len(shape)}-dimensional input (N, C, ...), got {tuple(x.shape)}{hint}")
    _channels(x, shape[1] * groups)
    _mix_channels(x)
    out = _slide(x, shape[0], shape[2:], stride, padding, dilation)
    x.trace.weigh(math.prod(shape) * out.shape[0] * math.prod(out.shape[2:]), weight)
    return out


def _mix_channels(x: Probe) -> None:
    """Only maps whose channels were pixels once differ in what they see."""
    if x.field.axes and any(getattr(part, "dim", 1) == 1 for parts in x.field.axes for part in parts):
        x.field = mixed(x.field, [1], x.shape)


def _unbatched(answer: Callable[..., Any], x: Probe, *args: Any, **kwargs: Any) -> Probe:
    """The rule for batches, for one."""
    field = fields.renumbered(x.field, [None, *range(x.ndim)])
    out = answer(x.like((1, *x.shape), field), *args, **kwargs)
    return x.like(out.shape[1:], fields.without(out.field, [0], out.shape))


@rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
def transposed_convolution(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    shape, axes = weight.shape, weight.ndim - 2
    if len(x.shape) != len(shape):
        raise ShapeError(f"takes {len(shape)}-dimensional input (N, C, ...), got {tuple(x.shape)}")
    _channels(x, shape[0])
    stride, padding, more, dilation = (_spread(v, axes) for v in (stride, padding, output_padding, dilation))
    size = [
        transposed_size(n, k, s, p, d, o)
        for n, k, s, p, d, o in zip(x.shape[2:], shape[2:], stride, padding, dilation, more, strict=True)
    ]
    after = (x.shape[0], shape[1] * groups, *size)
    if min(size) < 1:
        raise ShapeError(f"got {shown(x.shape)}, and its output would be {shown(after)}: empty", excess=-1)
    x.trace.weigh(math.prod(shape) * x.shape[0] * math.prod(x.shape[2:]), weight)
    _mix_channels(x)
    return x.like(after, _spread_out(x.field, after, shape[2:], stride, padding, dilation))


def _spread_out(
    field: Field,
    after: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Field:
    """After each unit was spread over a window of the output."""
    first = len(after) - len(kernel)
    for i, (k, s, p, d) in enumerate(zip(kernel, stride, padding, dilation, strict=True)):

        def taps(unit: int, k: int = k, s: int = s, p: int = p, d: int = d) -> list[int]:
            return [(unit + p - d * t) // s for t in range(k) if (unit + p - d * t) % s == 0]

        field = fields.regridded(field, first + i, taps, s, 1, after)
    return field


@rule(
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    *(F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices),
)
def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    _half(kernel_size, padding)
    stride = kernel_size if stride is None or stride == [] else stride
    out = _slide(_batched(x, kernel_size), x.shape[1], kernel_size, stride, padding, dilation, ceil_mode)
    return (out, out.like(out.shape, out.field, torch.int64)) if return_indices else out


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def avg_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    _half(kernel_size, padding)
    stride = kernel_size if stride is None or stride == [] else stride
    return _slide(x, x.shape[1], kernel_size, stride, padding, 1, ceil_mode)


@rule(F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
def lp_pool(x, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _slide(x, x.shape[1], kernel_size, kernel_size if stride is None else stride, 0, 1, ceil_mode)


def _batched(x: Probe, kernel: Any) -> Probe:
    if x.ndim < 3:
        raise ShapeError(f"takes (N, C, ...), got {tuple(x.shape)}")
    return x


def _half(kernel: Any, padding: Any) -> None:
    pairs = zip(_spread(kernel, 3), _spread(padding, 3), strict=False)
    if any(2 * p > k for k, p in pairs):
        raise ShapeError(f"pads {padding}, more than half of its window {kernel}")


@rule(F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)
def max_unpool(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    axes = x.ndim - 2
    kernel = _spread(kernel_size, axes)
    stride = kernel if stride is None else _spread(stride, axes)
    padding = _spread(padding, axes)
    size = [(n - 1) * s - 2 * p + k for n, k, s, p in zip(x.shape[2:], kernel, stride, padding, strict=True)]
    size = tuple(output_size)[-axes:] if output_size is not None else size
    after = (*x.shape[:2], *size)
    return x.like(after, _spread_out(x.field, after, kernel, stride, padding, (1,) * axes))


@rule(
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(F.adaptive_max_pool1d_with_indices, F.adaptive_max_pool2d_with_indices, F.adaptive_max_pool3d_with_indices),
    torch.adaptive_avg_pool1d,
)
def adaptive_pool(x, output_size, return_indices=False):
    name = str(output_size)
    axes = x.ndim - 2 if not isinstance(output_size, (tuple, list)) else len(output_size)
    spatial = x.shape[x.ndim - axes :]
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * axes
    if len(spatial) != axes or axes < 1:
        raise ShapeError(f"pools to {name}, got {shown(x.shape)}")
    size = tuple(n if o is None else o for n, o in zip(spatial, wanted, strict=True))
    after = (*x.shape[: x.ndim - axes], *size)
    out = x.like(after, _resampled(x.field, x.ndim - axes, spatial, size, after, fields_of_shares))
    return (out, out.like(out.shape, out.field, torch.int64)) if return_indices else out


Resampling = Callable[[int, int], Callable[[int], Iterable[int]]]


def fields_of_shares(before: int, after: int) -> Callable[[int], Iterable[int]]:
    """Window i runs from floor(i n / o) to ceil((i + 1) n / o)."""
    return lambda unit: range(unit * before // after, -(-(unit + 1) * before // after))


def _resampled(
    field: Field, first: int, before: Sequence[int], size: Sequence[int], after: Sequence[int], taps: Resampling
) -> Field:
    """After the axes from `first` on were brought to other sizes."""
    for i, (n, o) in enumerate(zip(before, size, strict=True)):
        if n == o or o == 0:
            continue
        if o == 1 and taps is fields_of_shares:
            field = mixed(field, [first + i], (*after[:first], *size[:i], *before[i:]))
            continue
        common = math.gcd(n, o)
        field = fields.regridded(field, first + i, taps(n, o), o // common, n // common, after)
    return field


@rule(F.fractional_max_pool2d, F.fractional_max_pool3d)
def fractional_max_pool(x, kernel_size, output_size=None, output_ratio=None, return_indices=False, *args, **kwargs):
    axes = 2 if x.ndim < 5 else 3
    spatial = x.shape[-axes:]
    if output_size is None:
        size = tuple(int(n * r) for n, r in zip(spatial, _ratios(output_ratio, axes), strict=True))
    else:
        size = _spread(output_size, axes)
    out = x.like((*x.shape[:-axes], *size), fields.bound(x.field, x.shape))
    return (out, out) if return_indices else out


def _ratios(ratio: Any, axes: int) -> tuple[float, ...]:
    return tuple(ratio) if isinstance(ratio, (tuple, list)) else (ratio,) * axes


@rule(F.unfold)
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    kernel = _spread(kernel_size, 2)
    maps = _slide(x, x.shape[1] * math.prod(kernel), kernel, stride, padding, dilation)
    return reshape(maps, (maps.shape[0], maps.shape[1], -1))  # the columns of a window are taken together


@rule(F.fold)
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    size, kernel, dilation = _spread(output_size, 2), _spread(kernel_size, 2), _spread(dilation, 2)
    padding, stride = _spread(padding, 2), _spread(stride, 2)
    places = [
        windows(n, k, s, p, d, False) for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    if x.shape[-1] != math.prod(places) or x.shape[1] % math.prod(kernel):
        raise ShapeError(f"folds {places[0]}x{places[1]} windows of {kernel[0]}x{kernel[1]}, got {shown(x.shape)}")
    maps = reshape(x, (x.shape[0], x.shape[1], *places))
    after = (x.shape[0], x.shape[1] // math.prod(kernel), *size)
    return x.like(after, _spread_out(maps.field, after, kernel, stride, padding, dilation))


@rule(Tensor.unfold)
def unfold_axis(x, dimension, size, step):
    dim = dimension % x.ndim
    count = (x.shape[dim] - size) // step + 1
    if count < 1:
        raise ShapeError(f"cuts windows of {size} out of {shown(x.shape)}", excess=-1)
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :], size)
    parts = [picked(x, dim, range(t, t + (count - 1) * step + 1, step)) for t in range(size)]
    return x.like(shape, stack(parts, -1).field)


# Layers with weights


@rule(F.linear)
def linear(x, weight, bias=None):
    columns = weight.shape[-1]
    rows = weight.shape[:-1]
    if not x.shape or x.shape[-1] != columns:
        got = x.shape[-1] if x.shape else 0
        raise ShapeError(
            f"takes {columns} features, got {got}" + (f" ({shown(x.origin)})" if x.origin else ""),
            excess=(got > columns) - (got < columns),
        )
    if x.origin and x.shape[0] != x.origin[0] and _straddles(x.origin, columns):
        total = math.prod(x.origin[1:])
        raise ShapeError(
            f"takes {columns} features, got {total} ({shown(x.origin)}) as {x.shape[0]} rows of {columns}: "
            "one image became several, as view(-1, ...) does; flatten with torch.flatten(x, 1)",
            excess=1 if total > columns else -1,
        )
    x.trace.weigh(math.prod(rows) * columns * math.prod(x.shape[:-1]), weight)
    return x.like((*x.shape[:-1], *rows), mixed(x.field, [-1], x.shape))


def _straddles(shape: Sequence[int], columns: int) -> bool:
    """Whether rows of so many numbers begin anywhere in a map, and not where one of its axes does."""
    return columns not in {math.prod(shape[axis:]) for axis in range(len(shape))}


@rule(F.bilinear)
def bilinear(x, y, weight, bias=None):
    rows, first, second = weight.shape
    if (x.shape[-1], y.shape[-1]) != (first, second):
        raise ShapeError(f"takes {first} and {second} features, got {x.shape[-1]} and {y.shape[-1]}")
    x.trace.weigh(math.prod(x.shape[:-1]) * rows * first * second, weight)
    field = union([mixed(v.field, [-1], v.shape) for v in (x, y) if isinstance(v, Probe)], x.shape)
    return x.like((*x.shape[:-1], rows), field)


@rule(F.embedding)
def embedding(x, weight, *args, **kwargs):
    if isinstance(weight, Probe) and not isinstance(args[0] if args else None, Probe):
        x, weight = (x, weight) if not x.plain or x.dtype in (torch.int64, torch.int32) else (weight, x)
    field = fields.renumbered(x.field, [*range(x.ndim), None]) if x.field.axes else x.field
    return x.like((*x.shape, weight.shape[-1]), field, weight.dtype)


@rule(F.embedding_bag)
def embedding_bag(x, weight, offsets=None, *args, **kwargs):
    bags = x.shape[0] if offsets is None else offsets.shape[0]
    return x.like((bags, weight.shape[1]), fields.whole(x.field, x.shape), weight.dtype)


@rule(F.multi_head_attention_forward)
def attention(
    query,
    key,
    value,
    embed_dim_to_check,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    static_k=None,
    static_v=None,
    average_attn_weights=True,
    is_causal=False,
):
    width = query.shape[-1]
    if width != embed_dim_to_check:
        raise ShapeError(f"takes {embed_dim_to_check} features, got {width} ({shown(query.shape)})")
    batch = query.shape[1] if query.ndim == 3 else 1
    length, memory = query.shape[0], key.shape[0]
    macs = length * width * width + memory * width * (key.shape[-1] + value.shape[-1]) + length * width * width
    weights = (in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, out_proj_weight)
    biases = (in_proj_bias, bias_k, bias_v, out_proj_bias)
    query.trace.weigh(batch * macs, *weights, *biases)
    memory += (bias_k is not None) + bool(add_zero_attn)
    query.trace.products += 2 * batch * length * memory * width
    seen = [mixed(query.field, [-1], query.shape)]
    for one in (key, value):
        if isinstance(one, Probe):
            seen.append(aligned(mixed(one.field, [0, -1], one.shape), (1, *one.shape[1:-1], width), query.shape))
    out = query.like(query.shape, union(seen, query.shape))
    if not need_weights:
        return out, None
    heads = () if average_attn_weights else (num_heads,)
    shape = (*((batch,) if query.ndim == 3 else ()), *heads, length, memory)
    return out, query.like(shape, fields.whole(out.field, out.shape))


@rule(F.scaled_dot_product_attention)
def dot_product_attention(query, key, value, *args, **kwargs):
    length, width, memory = query.shape[-2], query.shape[-1], key.shape[-2]
    shape = (*query.shape[:-1], value.shape[-1])
    query.trace.products += math.prod(query.shape[:-2]) * length * memory * (width + value.shape[-1])
    seen = [mixed(query.field, [-1], query.shape)]
    for one in (key, value):
        if isinstance(one, Probe):
            seen.append(aligned(mixed(one.field, [-2, -1], one.shape), (*one.shape[:-2], 1, 1), shape))
    return query.like(shape, union(seen, shape))


def _recurrent(gates: int, states: int) -> Callable[..., Any]:
    def answer(x, second, third, *rest):
        if isinstance(third, (tuple, list)):  # input, hx, params, ...
            hidden, params, rest = second, third, rest
        else:  # a packed sequence: data, batch_sizes, hx, params, ...
            hidden, params, rest = third, rest[0], (*rest[1:], False)
        hidden = hidden if isinstance(hidden, (tuple, list)) else (hidden,)
        bidirectional = rest[4]
        matrices = [weight for weight in params if weight.ndim > 1]
        if x.shape[-1] != matrices[0].shape[1]:
            raise ShapeError(f"takes {matrices[0].shape[1]} features, got {x.shape[-1]} ({shown(x.shape)})")
        steps = math.prod(x.shape[:-1])
        x.trace.weigh(steps * sum(weight.numel() for weight in matrices), *params)
        width = hidden[0].shape[-1] * (2 if bidirectional else 1)
        time = (1 if rest[5:] and rest[5] else 0) if x.ndim == 3 else 0
        seen = mixed(x.field, [time, x.ndim - 1], x.shape)
        after = fields.whole(x.field, x.shape)
        return x.like((*x.shape[:-1], width), seen), *(x.like(one.shape, after) for one in hidden[:states])

    return answer


rule(torch.lstm)(_recurrent(4, 2))
rule(torch.gru)(_recurrent(3, 1))
rule(torch.rnn_tanh, torch.rnn_relu)(_recurrent(1, 1))


def _cell(x, hidden, w_ih, w_hh, *biases):
    states = hidden if isinstance(hidden, (tuple, list)) else (hidden,)
    rows = math.prod(x.shape[:-1])
    x.trace.weigh(rows * (w_ih.numel() + w_hh.numel()), w_ih, w_hh, *biases)
    taken = [mixed(v.field, [-1], v.shape) for v in (x, *states) if isinstance(v, Probe)]
    out = tuple(x.like(one.shape, union(taken, one.shape)) for one in states)
    return out if isinstance(hidden, (tuple, list)) else out[0]


rule(torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell)(_cell)


# Products of matrices


@rule(*named("matmul __matmul__ bmm mm mv dot inner"))
def matmul(x, y, **kwargs):
    left, right = tuple(x.shape), tuple(y.shape)
    if not left or not right or left[-1] != right[max(len(right) - 2, 0)]:
        raise ShapeError(f"cannot multiply {_sizes(left)} by {_sizes(right)}")
    a = (1, *left) if len(left) == 1 else left
    b = (*right, 1) if len(right) == 1 else right
    try:
        batch = torch.broadcast_shapes(a[:-2], b[:-2])
    except RuntimeError:
        raise ShapeError(f"cannot multiply {_sizes(left)} by {_sizes(right)}") from None
    full = (*batch, a[-2], b[-1])
    one = x if isinstance(x, Probe) else y
    _count(one.trace, math.prod(full) * a[-1], x, y)
    seen = []
    if isinstance(x, Probe) and x.field.axes:
        field = mixed(x.field, [-1], left)
        field = fields.renumbered(field, [None, 0]) if len(left) == 1 else field
        seen.append(aligned(field, (*a[:-1], 1), full))
    if isinstance(y, Probe) and y.field.axes:
        field = mixed(y.field, [max(len(right) - 2, 0)], right)
        field = fields.renumbered(field, [0, None]) if len(right) == 1 else field
        seen.append(aligned(field, (*b[:-2], 1, b[-1]), full))
    field = union(seen, full) if seen else NOTHING
    gone = ([len(full) - 2] if len(left) == 1 else []) + ([len(full) - 1] if len(right) == 1 else [])
    shape = tuple(n for dim, n in enumerate(full) if dim not in gone)
    return one.like(shape, fields.without(field, gone, full) if gone else field)


@rule(Tensor.__rmatmul__)
def reverse_matmul(x, y):
    return matmul(y if isinstance(y, Probe) else _stand_in(x, y), x)


def _stand_in(x: Probe, value: Any) -> Any:
    return x.blank(value) if isinstance(value, Tensor) and not isinstance(value, Probe) else value


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


@rule(torch.addmm, torch.baddbmm, torch.addbmm, torch.addmv, Tensor.addmm, Tensor.baddbmm, Tensor.addbmm, Tensor.addmv)
def add_matmul(x, first, second, **kwargs):
    return combine(x, matmul(_stand_in(x, first), second))


@rule(torch.einsum)
def einsum(equation, *operands):
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    one = next(probes(operands))
    terms, _, result = equation.replace(" ", "").partition("->")
    names = [_letters(term, v.ndim) for term, v in zip(terms.split(","), operands, strict=True)]
    if "->" not in equation:
        every = "".join("".join(n) for n in names)
        result = "".join(sorted(letter for letter in set(every) if every.count(letter) == 1 and letter.isalpha()))
    longest = max((sum(1 for n in ns if n.isdigit()) for ns in names), default=0)
    wanted = _letters(result, sum(c.isalpha() for c in result) + (longest if "..." in result else 0))
    sizes: dict[str, int] = {}
    for letters, v in zip(names, operands, strict=True):
        for letter, n in zip(letters, v.shape, strict=True):
            if sizes.get(letter, 1) not in (1, n) and n != 1:
                raise ShapeError(f"cannot run einsum {equation!r} on {', '.join(_sizes(v.shape) for v in operands)}")
            sizes[letter] = max(n, sizes.get(letter, 1))
    shape = tuple(sizes[letter] for letter in wanted)
    if len(operands) > 1 and set(sizes) - set(wanted):
        _count(one.trace, math.prod(sizes.values()) * (len(operands) - 1), *operands)
    seen = []
    for letters, v in zip(names, operands, strict=True):
        if isinstance(v, Probe) and v.field.axes:
            summed = [dim for dim, letter in enumerate(letters) if letter not in wanted]
            field = mixed(v.field, summed, v.shape)
            place = {letter: dim for dim, letter in enumerate(letters)}
            seen.append(fields.renumbered(field, [place.get(letter) for letter in wanted]))
    return one.like(shape, union(seen, shape) if seen else NOTHING)


def _letters(term: str, ndim: int) -> list[str]:
    """One letter for each axis; those of the ellipsis are digits, counted from the last."""
    before, dots, after = term.partition("...")
    more = ndim - len(before) - len(after) if dots else 0
    return [*before, *(str(i) for i in reversed(range(more))), *after]


# Normalisation


@rule(F.batch_norm)
def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, *args, **kwargs):
    return _normalised(x, next((len(t) for t in (running_mean, weight) if t is not None), None))


@rule(F.group_norm)
def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    if x.shape[1] % num_groups:
        raise ShapeError(f"normalises {num_groups} groups, got {x.shape[1]} channels ({shown(x.shape)})")
    return _over_the_map(_normalised(x, None if weight is None else len(weight)))


@rule(F.instance_norm)
def instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, *args, **kwargs
):
    if use_input_stats and math.prod(x.shape[2:]) == 1:
        raise ShapeError(f"normalises over the map, got {shown(x.shape)}: one unit for each channel", excess=-1)
    out = _normalised(x, next((len(t) for t in (running_mean, weight) if t is not None), None))
    return _over_the_map(out) if use_input_stats else out


def _normalised(x: Probe, channels: int | None) -> Probe:
    if channels is not None and (x.ndim < 2 or x.shape[1] != channels):
        got = x.shape[1] if x.ndim > 1 else 0
        raise ShapeError(f"normalises {channels} channels, got {got} ({shown(x.shape)})")
    return x.like(x.shape, x.field)


def _over_the_map(x: Probe) -> Probe:
    """Statistics of the map itself make every unit depend on all."""
    x.field = mixed(x.field, range(1, x.ndim), x.shape)
    return x


@rule(*named("layer_norm rms_norm"))
def layer_norm(x, normalized_shape, *args, **kwargs):
    if tuple(x.shape[-len(normalized_shape) :]) != tuple(normalized_shape):
        raise ShapeError(f"normalises {shown((1, *normalized_shape))}, got {shown(x.shape)}")
    return x.like(x.shape, mixed(x.field, range(x.ndim - len(normalized_shape), x.ndim), x.shape))


@rule(*named("softmax log_softmax softmin"))
def softmax(x, dim=None, *args, **kwargs):
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    return x.like(x.shape, mixed(x.field, [dim], x.shape), kwargs.get("dtype"))


@rule(F.gumbel_softmax)
def gumbel_softmax(x, tau=1, hard=False, eps=1e-10, dim=-1):
    return softmax(x, dim)


@rule(F.normalize, torch.renorm, *named("logcumsumexp"))
def normalize(x, p=2.0, dim=1, eps=1e-12, out=None):
    return x.like(x.shape, mixed(x.field, dim if isinstance(dim, (tuple, list)) else [dim], x.shape))


@rule(torch.prelu, F.prelu, Tensor.prelu)
def prelu(x, weight):
    return x.like(x.shape, x.field) if weight.numel() == 1 else _normalised(x, weight.numel())


@rule(F.local_response_norm)
def local_response_norm(x, *args, **kwargs):
    return x.like(x.shape, mixed(x.field, [1], x.shape))


# Unit by unit


@rule(
    *named(
        "relu relu6 hardtanh leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid softplus softsign rrelu "
        "logsigmoid threshold hardshrink softshrink tanhshrink tanh sigmoid dropout dropout1d dropout2d dropout3d "
        "alpha_dropout feature_alpha_dropout feature_dropout exp exp2 expm1 log log2 log10 log1p sqrt rsqrt abs neg "
        "__neg__ positive square reciprocal clamp clip clamp_min clamp_max clone contiguous detach requires_grad_ sign "
        "sgn signbit round floor ceil trunc frac sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc "
        "erfinv logit nan_to_num bernoulli isnan isinf isfinite logical_not __invert__ bitwise_not angle conj real "
        "imag cpu cuda alias data deg2rad rad2deg sinc i0 digamma lgamma xlogy cos_ positive absolute "
        "heaviside multinomial"
    )
    - {torch.multinomial, Tensor.multinomial}
)
def elementwise(x, *args, dtype=None, **kwargs):
    others = [v for v in args if isinstance(v, Tensor)]
    return combine(x, others[0], *others[1:]) if others else x.like(x.shape, x.field, dtype)


_ELEMENTWISE_IN_PLACE = (
    "relu_ relu6_ hardtanh_ leaky_relu_ elu_ selu_ celu_ silu_ threshold_ rrelu_ clamp_ clip_ clamp_min_ clamp_max_ "
    "tanh_ sigmoid_ exp_ sqrt_ rsqrt_ abs_ neg_ square_ reciprocal_ dropout_ detach_ round_ floor_ ceil_ log_ sin_ "
    "cos_ alpha_dropout_ feature_dropout_ nan_to_num_ logical_not_"
)


@rule(*named(_ELEMENTWISE_IN_PLACE))
def elementwise_in_place(x, *args, **kwargs):
    return x


@rule(*named("fill_ zero_ normal_ uniform_ bernoulli_ random_ exponential_"))
def filled(x, *args, **kwargs):
    x.field = NOTHING
    return x


@rule(F.glu)
def glu(x, dim=-1):
    if x.shape[dim] % 2:
        raise ShapeError(f"halves axis {dim}, got {shown(x.shape)}")
    first, _ = split(x, x.shape[dim] // 2, dim)
    return first


_COMPARING = (
    "eq ne gt lt ge le greater less greater_equal less_equal not_equal logical_and logical_or logical_xor isclose "
    "__eq__ __ne__ __gt__ __lt__ __ge__ __le__"
)


@rule(
    *named(
        "add __add__ __radd__ sub subtract __sub__ __rsub__ rsub mul multiply __mul__ __rmul__ div divide true_divide "
        "__truediv__ __rtruediv__ __div__ __rdiv__ __floordiv__ __rfloordiv__ floor_divide pow __pow__ __rpow__ "
        "remainder fmod __mod__ __rmod__ maximum minimum fmax fmin atan2 hypot where lerp addcmul addcdiv logaddexp "
        "masked_fill float_power __and__ __or__ __xor__ __rand__ __ror__ __rxor__ bitwise_and bitwise_or bitwise_xor "
        "__lshift__ __rshift__ copysign dist polar complex masked_scatter"
    )
)
def combine(x, *others, **kwargs):
    if not others and not kwargs:  # where(condition)
        return tuple(column for column in unbind(nonzero(x), 1))
    values = (x, *others, *kwargs.values())
    taken = [v for v in values if isinstance(v, Tensor)]
    first = next(v for v in taken if isinstance(v, Probe))
    shape = first.shape
    if len(taken) > 1:
        shapes = [tuple(v.shape) for v in taken]
        if any(one != shapes[0] for one in shapes):
            try:
                shape = torch.broadcast_shapes(*shapes)
            except RuntimeError:
                text = " with ".join(map(shown, shapes))
                raise ShapeError(f"cannot combine {text}") from None
    seen = [v for v in taken if isinstance(v, Probe)]
    if len(seen) == 1:
        field = aligned(first.field, first.shape, shape)
    else:
        field = union([aligned(v.field, v.shape, shape) for v in seen], shape)
    floating = next((v.dtype for v in taken if v.dtype.is_floating_point), taken[-1].dtype)
    return first.like(shape, field, floating)


@rule(*named(_COMPARING))
def compare(x, other, **kwargs):
    out = combine(x, other)
    return out.like(out.shape, out.field, torch.bool)  # pyright: ignore[reportAttributeAccessIssue]


def in_place(answer: Callable[..., Any]) -> Callable[..., Any]:
    """A rule for the operation that changes its first argument."""

    def change(x, *args, **kwargs):
        out = answer(x, *args, **kwargs)
        if x.plain and out.field.axes:
            x.trace.warn(
                "a tensor that the model made by itself is written to; receptive fields after it are not known"
            )
        if out.shape != x.shape:
            raise ShapeError(f"cannot change {shown(x.shape)} in place to {shown(out.shape)}")
        x.field = out.field
        return x

    return change


rule(
    *named(
        "add_ __iadd__ sub_ __isub__ mul_ __imul__ div_ __itruediv__ pow_ __ipow__ remainder_ fmod_ lerp_ addcmul_ "
        "addcdiv_ masked_fill_ __ifloordiv__ floor_divide_ logical_and_ logical_or_ __iand__ __ior__ masked_scatter_"
    )
)(in_place(combine))
rule(*named("addmm_ baddbmm_ addbmm_"))(in_place(add_matmul))


@rule(*named("copy_"))
def copy(x, source, *args, **kwargs):
    return in_place(lambda x, y: x.like(x.shape, aligned(y.field, y.shape, x.shape)) if isinstance(y, Probe) else x)(
        x, source
    )


@rule(*named("to type type_as float double half bfloat16 bool int long short char byte int_repr"))
def cast(x, *args, **kwargs):
    kinds = [v if isinstance(v, torch.dtype) else v.dtype for v in (*args, *kwargs.values()) if hasattr(v, "dtype")]
    kinds += [v for v in (*args, *kwargs.values()) if isinstance(v, torch.dtype)]
    return x.like(x.shape, x.field, kinds[0] if kinds else None)


def _cast_to(dtype: torch.dtype) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: x.like(x.shape, x.field, dtype)


for _name, _dtype in {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "bool": torch.bool,
    "int": torch.int32,
    "long": torch.int64,
}.items():
    rule(getattr(Tensor, _name))(_cast_to(_dtype))


@rule(*named("zeros_like ones_like empty_like full_like rand_like randn_like randint_like"))
def filled_like(x, *args, dtype=None, **kwargs):
    return x.like(x.shape, NOTHING, dtype)


@rule(*named("new_zeros new_ones new_empty"))
def new(x, *size, dtype=None, **kwargs):
    return x.like(_numbers(size) if size else tuple(kwargs["size"]), NOTHING, dtype)


@rule(Tensor.new_full)
def new_full(x, size, fill_value, dtype=None, **kwargs):
    return x.like(_numbers(size), NOTHING, dtype)


@rule(Tensor.new_tensor)
def new_tensor(x, data, **kwargs):
    return torch.as_tensor(data)


# Reductions


@rule(
    *named("mean sum nansum nanmean prod amax amin norm var std logsumexp all any count_nonzero nuclear_norm"),
    torch.linalg.vector_norm,
    torch.linalg.norm,
)
def reduce(x, *args, dim=None, keepdim=False, **kwargs):
    args = [v for v in args if v is not None]
    if dim is None:
        dim = kwargs.get("axis")
    sizes = [v for v in args if not isinstance(v, (str, float, torch.dtype))]
    if dim is None and sizes:
        dim, *rest = sizes
        keepdim = next((v for v in reversed(rest) if isinstance(v, bool)), keepdim)
        if isinstance(dim, bool):  # std(unbiased)
            dim = None
    return _reduced(x, dim, keepdim)


@rule(*named("norm frobenius_norm"), torch.linalg.vector_norm, torch.linalg.norm)
def norm(x, p=2, dim=None, keepdim=False, *args, **kwargs):
    return _reduced(x, dim, keepdim)


def _reduced(x: Probe, dim: Any, keepdim: bool, dtype: torch.dtype | None = None) -> Probe:
    if dim is None or dim == () or dim == []:
        dims = range(x.ndim)
    else:
        dims = dim if isinstance(dim, (tuple, list, torch.Size)) else (dim,)
    if any(not -x.ndim <= d < max(x.ndim, 1) for d in dims):
        raise ShapeError(f"has no axis {dim} in {_sizes(x.shape)}")
    gone = {d % max(x.ndim, 1) for d in dims}
    field = mixed(x.field, gone, x.shape) if x.ndim else x.field
    if keepdim:
        return x.like([1 if d in gone else n for d, n in enumerate(x.shape)], field, dtype)
    shape = [n for d, n in enumerate(x.shape) if d not in gone]
    return x.like(shape, fields.without(field, gone, x.shape) if x.ndim else field, dtype)


@rule(*named("max min median nanmedian mode kthvalue cummax cummin"))
def extreme(x, *args, dim=None, keepdim=False, **kwargs):
    if args and isinstance(args[0], Tensor):
        return combine(x, *args)
    if "other" in kwargs:
        return combine(x, kwargs["other"])
    if args:
        dim, *rest = args
        keepdim = rest[0] if rest else keepdim
    out = _reduced(x, dim, keepdim)
    return out if dim is None else torch.return_types.max((out, out.like(out.shape, out.field, torch.int64)))


@rule(*named("argmax argmin"))
def argument(x, dim=None, keepdim=False):
    return _reduced(x, dim, keepdim, torch.int64)


@rule(*named("var_mean std_mean aminmax"))
def two_reductions(x, *args, **kwargs):
    out = reduce(x, *args, **kwargs)
    return out, out


@rule(*named("cumsum cumprod cumsum_"))
def accumulate(x, dim, *args, **kwargs):
    return x.like(x.shape, mixed(x.field, [dim], x.shape), kwargs.get("dtype"))


@rule(*named("cummax cummin sort"))
def ordered(x, dim=-1, *args, **kwargs):
    dim = kwargs.get("dim", dim)
    out = x.like(x.shape, mixed(x.field, [dim], x.shape))
    return torch.return_types.sort((out, out.like(out.shape, out.field, torch.int64)))


@rule(*named("argsort"))
def argsort(x, dim=-1, *args, **kwargs):
    return ordered(x, dim)[1]


@rule(*named("topk"))
def topk(x, k, dim=-1, *args, **kwargs):
    if k > x.shape[dim]:
        raise ShapeError(f"takes the largest {k} of axis {dim}, got {shown(x.shape)}", excess=-1)
    shape = list(x.shape)
    shape[dim] = k
    out = x.like(shape, mixed(x.field, [dim], x.shape))
    return torch.return_types.topk((out, out.like(shape, out.field, torch.int64)))


# Rearranging


def _numbers(sizes: Any) -> tuple[int, ...]:
    """Sizes as torch takes them: one by one, or in one sequence."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list, torch.Size)):
        sizes = sizes[0]
    return tuple(sizes) if isinstance(sizes, (tuple, list, torch.Size)) else (sizes,)


@rule(*named("view reshape"))
def reshape(x, *sizes, **kwargs):
    shape = list(_numbers(sizes)) if sizes else list(_numbers((kwargs.get("shape") or kwargs["size"],)))
    if shape and isinstance(shape[0], torch.dtype):
        return x.like(x.shape, x.field, shape[0])
    total = math.prod(x.shape)
    if -1 in shape:
        known = -math.prod(shape)
        if known == 0 or total % known:
            raise _cannot_view(x, shape, total)
        shape[shape.index(-1)] = total // known
    elif math.prod(shape) != total:
        raise _cannot_view(x, shape, total)
    if tuple(shape) == tuple(x.shape):
        return x.like(shape, x.field)
    out = x.like(shape, fields.reshaped(x.field, x.shape, shape) if x.field.axes else x.field)
    if len(shape) == 2:
        out.origin = tuple(x.shape) if x.ndim > 2 else x.origin
    return out


def _cannot_view(x: Probe, shape: Sequence[int], total: int) -> ShapeError:
    columns = math.prod(n for n in shape[1:] if n > 0)
    each = total // max(x.shape[0], 1) if x.ndim > 1 else total
    wanted = len(shape) == 2 and shape[0] in (-1, *x.shape[:1]) and x.ndim > 2
    return ShapeError(
        f"cannot view {shown(x.shape)}, which is {total} numbers, as {tuple(shape)}",
        excess=((each > columns) - (each < columns)) if wanted else 0,
        features=columns if wanted else 0,
    )


@rule(*named("view_as reshape_as"))
def reshape_as(x, other):
    return reshape(x, tuple(other.shape))


@rule(*named("flatten"))
def flatten(x, start_dim=0, end_dim=-1):
    if x.ndim == 0:
        return reshape(x, (1,))
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


@rule(*named("ravel"))
def ravel(x):
    return reshape(x, (-1,))


@rule(*named("unflatten"))
def unflatten(x, dim, sizes):
    dim %= x.ndim
    known = -math.prod(sizes)
    sizes = [x.shape[dim] // known if n == -1 else n for n in sizes]
    if math.prod(sizes) != x.shape[dim]:
        raise ShapeError(f"cannot split axis {dim} of {shown(x.shape)} into {tuple(sizes)}")
    return reshape(x, (*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


@rule(*named("permute"))
def permute(x, *dims, **kwargs):
    order = [d % x.ndim for d in (_numbers(dims) if dims else kwargs["dims"])]
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"cannot permute {_sizes(x.shape)} to {tuple(order)}")
    return x.like([x.shape[d] for d in order], fields.renumbered(x.field, order))


@rule(*named("transpose swapaxes swapdims"))
def transpose(x, dim0, dim1):
    order = list(range(x.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(x, order)


@rule(*named("t"))
def t(x):
    return permute(x, tuple(reversed(range(x.ndim))))


@rule(Tensor.T.__get__, Tensor.mT.__get__)  # pyright: ignore[reportAttributeAccessIssue]
def matrix_transpose(x):
    return transpose(x, -2, -1) if x.ndim > 2 else t(x)


@rule(*named("movedim moveaxis"))
def movedim(x, source, destination):
    source = [d % x.ndim for d in (source if isinstance(source, (tuple, list)) else (source,))]
    target = [d % x.ndim for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    rest = iter([d for d in range(x.ndim) if d not in source])
    places = dict(zip(target, source, strict=True))
    return permute(x, [places[d] if d in places else next(rest) for d in range(x.ndim)])


@rule(*named("squeeze"))
def squeeze(x, dim=None):
    dims = range(x.ndim) if dim is None else (dim if isinstance(dim, (tuple, list)) else (dim,))
    gone = {d % x.ndim for d in dims if x.shape[d] == 1} if x.ndim else set()
    shape = [n for d, n in enumerate(x.shape) if d not in gone]
    return x.like(shape, fields.without(x.field, gone, x.shape) if gone else x.field)


@rule(*named("unsqueeze"))
def unsqueeze(x, dim):
    dim %= x.ndim + 1
    order: list[int | None] = list(range(x.ndim))
    order.insert(dim, None)
    return x.like((*x.shape[:dim], 1, *x.shape[dim:]), fields.renumbered(x.field, order))


@rule(*named("expand broadcast_to"))
def expand(x, *sizes, **kwargs):
    wanted = _numbers(sizes) if sizes else tuple(kwargs["size"])
    more = len(wanted) - x.ndim
    shape = [x.shape[d - more] if n == -1 else n for d, n in enumerate(wanted)]
    if more < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[more:], strict=True)):
        raise ShapeError(f"cannot expand {_sizes(x.shape)} to {_sizes(wanted)}")
    return x.like(shape, aligned(x.field, x.shape, shape))


@rule(*named("expand_as"))
def expand_as(x, other):
    return expand(x, tuple(other.shape))


@rule(*named("repeat tile"))
def repeat(x, *sizes, **kwargs):
    times = _numbers(sizes) if sizes else tuple(kwargs.get("repeats") or kwargs["dims"])
    times = (1,) * (x.ndim - len(times)) + times
    out = x
    for _ in range(len(times) - x.ndim):
        out = unsqueeze(out, 0)
    for dim, n in enumerate(times):
        if n != 1:
            out = concatenate([out] * n, dim) if n else out.like(_with(out.shape, dim, 0), NOTHING)
    return out.like(out.shape, out.field)


def _with(shape: Sequence[int], dim: int, n: int) -> list[int]:
    return [n if d == dim % len(shape) else m for d, m in enumerate(shape)]


@rule(*named("repeat_interleave"))
def repeat_interleave(x, repeats, dim=None, **kwargs):
    x = reshape(x, (-1,)) if dim is None else x
    dim = (dim or 0) % x.ndim
    if isinstance(repeats, Tensor):
        if isinstance(repeats, Probe) or repeats.is_meta:
            raise _asks_for_values(x)
        units = [i for i, n in enumerate(repeats.tolist()) for _ in range(n)]
        return picked(x, dim, units)
    after = _with(x.shape, dim, x.shape[dim] * repeats)
    return x.like(after, fields.regridded(x.field, dim, lambda unit: (unit // repeats,), repeats, 1, after))


@rule(*named("roll"))
def roll(x, shifts, dims=None):
    if dims is None or dims == ():
        return reshape(roll(reshape(x, (-1,)), shifts, 0), tuple(x.shape))
    field = x.field
    pairs = zip(_spread(shifts, len(_numbers((dims,)))), _numbers((dims,)), strict=True)
    for shift, dim in pairs:  # what is moved out on one side comes in on the other, as on a ring
        field = fields.regridded(field, dim % x.ndim, lambda unit, shift=shift: (unit - shift,), 1, 1, x.shape)
    return x.like(x.shape, field)


@rule(*named("flip fliplr flipud"))
def flip(x, *dims):
    field = x.field
    for dim in _numbers(dims):
        last = x.shape[dim] - 1
        field = fields.regridded(field, dim % x.ndim, lambda unit, last=last: (last - unit,), 1, -1, x.shape)
    return x.like(x.shape, field)


def picked(x: Probe, dim: int, units: Sequence[int]) -> Probe:
    """Some units along an axis."""
    return x.like(_with(x.shape, dim, len(units)), fields.picked(x.field, dim % x.ndim, units, x.shape))


@rule(*named("narrow"))
def narrow(x, dim, start, length):
    start %= max(x.shape[dim], 1)
    if start + length > x.shape[dim]:
        raise ShapeError(f"takes {length} from {start} on along axis {dim} of {shown(x.shape)}", excess=-1)
    return picked(x, dim, range(start, start + length))


@rule(*named("select"))
def select(x, dim, index):
    if not -x.shape[dim] <= index < x.shape[dim]:
        raise ShapeError(f"has no {index} along axis {dim} of {_sizes(x.shape)}")
    index %= x.shape[dim]
    one = picked(x, dim, range(index, index + 1))
    return squeeze(one, dim)


@rule(*named("split split_with_sizes"))
def split(x, split_size_or_sections, dim=0, **kwargs):
    sizes, n = split_size_or_sections, x.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)] or [0]
    if sum(sizes) != n:
        raise ShapeError(f"cannot split axis {dim} of {shown(x.shape)} into {list(sizes)}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(picked(x, dim, range(start, start + size)) for start, size in zip(starts, sizes, strict=True))


@rule(*named("chunk"))
def chunk(x, chunks, dim=0):
    return split(x, max(-(-x.shape[dim] // chunks), 1), dim)


@rule(*named("tensor_split hsplit vsplit"))
def tensor_split(x, indices_or_sections=None, dim=0, *, indices=None, sections=None):
    n = x.shape[dim]
    indices_or_sections = next(v for v in (indices_or_sections, indices, sections) if v is not None)
    if isinstance(indices_or_sections, int):
        short, more = divmod(n, indices_or_sections)
        return split(x, [short + 1] * more + [short] * (indices_or_sections - more), dim)
    edges = [0, *(min(max(i + n if i < 0 else i, 0), n) for i in indices_or_sections), n]
    return split(x, [b - a for a, b in itertools.pairwise(edges)], dim)


@rule(*named("unbind"), Tensor.__iter__)
def unbind(x, dim=0):
    return tuple(select(x, dim, i) for i in range(x.shape[dim]))


rule(Tensor.__iter__)(lambda x: iter(unbind(x)))


@rule(*named("cat concat concatenate"))
def concatenate(tensors, dim=0, **kwargs):
    dim = kwargs.get("axis", dim)
    tensors = [t for t in tensors if t.ndim != 1 or t.shape[0] or len(tensors) == 1] or list(tensors)
    first = next(probes((tensors, kwargs)))
    shapes = [tuple(t.shape) for t in tensors]
    dim %= max(len(shapes[0]), 1)
    rest = {(*s[:dim], *s[dim + 1 :]) for s in shapes}
    if len(rest) > 1:
        raise ShapeError(f"cannot join {', '.join(map(shown, shapes))} along axis {dim}")
    shape = (*shapes[0][:dim], sum(s[dim] for s in shapes), *shapes[0][dim + 1 :])
    every = [t.field if isinstance(t, Probe) else NOTHING for t in tensors]
    return first.like(shape, fields.joined(every, shapes, dim, shape) if any(f.axes for f in every) else NOTHING)


@rule(*named("stack"))
def stack(tensors, dim=0, **kwargs):
    first = next(probes(tensors))
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise ShapeError(f"cannot stack {', '.join(map(shown, shapes))}")
    return concatenate([unsqueeze(_stand_in(first, t), dim) for t in tensors], dim)


@rule(F.pad)
def pad(x, pad, mode="constant", value=None):
    shape = list(x.shape)
    field = x.field
    for axis in range(len(pad) // 2):
        before, after = pad[2 * axis], pad[2 * axis + 1]
        size = shape[-1 - axis]
        if mode == "reflect" and max(before, after) >= size:
            raise ShapeError(
                f"reflects {max(before, after)} pixels of {shown(x.shape)}: more than there are", excess=-1
            )
        if mode == "circular" and max(before, after) > size:
            raise ShapeError(
                f"wraps {max(before, after)} pixels of {shown(x.shape)} around: more than there are", excess=-1
            )
        if size + min(before, 0) + min(after, 0) < 0:
            raise ShapeError(
                f"cuts {-min(before, 0) - min(after, 0)} pixels off {shown(x.shape)}: more than there are", excess=-1
            )
        shape[-1 - axis] += before + after
        if before or after:
            dim = x.ndim - 1 - axis
            field = fields.regridded(field, dim, lambda unit, before=before: (unit - before,), 1, 1, shape)
    if min(shape) < 0:  # torch lets nothing at all pass
        raise ShapeError(f"got {shown(x.shape)}, and its output would be {shown(shape)}", excess=-1)
    return x.like(shape, field)


@rule(F.interpolate)
def interpolate(
    x,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    axes = x.ndim - 2
    spatial = tuple(x.shape[2:])
    if size is not None:
        wanted = _spread(size, axes)
        scales = [Fraction(n, max(o, 1)) for n, o in zip(spatial, wanted, strict=True)]
    elif scale_factor is not None:
        factors = _ratios(scale_factor, axes)
        wanted = tuple(math.floor(n * f) for n, f in zip(spatial, factors, strict=True))
        exact = [1 / Fraction(f).limit_denominator(1 << 20) for f in factors]
        sizes = [Fraction(n, max(o, 1)) for n, o in zip(spatial, wanted, strict=True)]
        scales = sizes if recompute_scale_factor else exact
    else:
        raise ShapeError("is given neither a size nor a scale factor")
    if min(wanted, default=1) < 1:
        raise ShapeError(f"got {shown(x.shape)}, and its output would be {'x'.join(map(str, wanted))}", excess=-1)
    after = (*x.shape[:2], *wanted)
    if mode == "area":
        return x.like(after, _resampled(x.field, 2, spatial, wanted, after, fields_of_shares))
    field = x.field
    for i, (n, o, scale) in enumerate(zip(spatial, wanted, scales, strict=True)):
        if align_corners and mode not in ("nearest", "nearest-exact"):
            scale = Fraction(n - 1, o - 1) if o > 1 else Fraction(0)
        taps = _interpolating(mode, scale, bool(align_corners), antialias)
        period = scale.denominator if scale.denominator <= o else o
        moved = scale.numerator if scale.denominator <= o else round(o * scale)
        field = fields.regridded(field, 2 + i, taps, period, max(moved, 0), after)
    return x.like(after, field)


def _interpolating(mode: str, scale: Fraction, align: bool, antialias: bool) -> Callable[[int], Iterable[int]]:
    """The input units that an output unit is interpolated from."""
    half = Fraction(1, 2)
    if mode == "nearest":
        return lambda unit: (math.floor(unit * scale),)
    if mode == "nearest-exact":
        return lambda unit: (math.floor((unit + half) * scale),)
    reach = 2 if mode == "bicubic" else 1
    if antialias:
        support = reach * max(scale, Fraction(1))

        def weighted(unit: int) -> range:
            centre = (unit + half) * scale
            first, last = math.floor(centre - support + half), math.floor(centre + support + half)
            while first + half - centre <= -support:
                first += 1
            while last - 1 + half - centre >= support:
                last -= 1
            return range(first, last)

        return weighted

    def between(unit: int) -> range:
        place = unit * scale if align else (unit + half) * scale - half
        low = math.floor(place)
        return range(low, low + 1) if place == low else range(low - reach + 1, low + reach + 1)

    return between


@rule(*named("pixel_shuffle"))
def pixel_shuffle(x, upscale_factor):
    r = upscale_factor
    *batch, channels, height, width = x.shape
    if channels % (r * r):
        raise ShapeError(f"shuffles groups of {r * r} channels, got {channels} ({shown(x.shape)})")
    after = (*batch, channels // (r * r), height * r, width * r)
    field = x.field
    for dim in (x.ndim - 2, x.ndim - 1):
        field = fields.regridded(field, dim, lambda unit: (unit // r,), r, 1, after)
    return x.like(after, field)


@rule(*named("pixel_unshuffle"))
def pixel_unshuffle(x, downscale_factor):
    r = downscale_factor
    *batch, channels, height, width = x.shape
    if height % r or width % r:
        raise ShapeError(f"takes maps whose sides are multiples of {r}, got {shown(x.shape)}")
    after = (*batch, channels * r * r, height // r, width // r)
    pair = (r, r)
    return x.like(after, fields.slid(x.field, x.shape, after, pair, pair, (0, 0), (1, 1)))


@rule(*named("channel_shuffle"))
def channel_shuffle(x, groups):
    if x.shape[1] % groups:
        raise ShapeError(f"shuffles {groups} groups of channels, got {x.shape[1]} ({shown(x.shape)})")
    return x.like(x.shape, mixed(x.field, [1], x.shape))


@rule(*named("grid_sample"))
def grid_sample(x, grid, *args, **kwargs):
    seen = [fields.bound(v.field, v.shape) for v in (x, grid) if isinstance(v, Probe)]
    return x.like((*x.shape[:2], *grid.shape[1:-1]), _bounded(seen))


def _bounded(seen: Sequence[Field]) -> Field:
    everything = union(seen, ())
    return Field(everything.axes, not everything.axes)


# Choosing by index


@rule(Tensor.__getitem__)
def getitem(x, index):
    entries = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(e, (Tensor, list, bool)) or hasattr(e, "__array__") for e in entries):
        return _advanced(x, entries)
    taken = sum(e is not None and e is not Ellipsis for e in entries)
    if taken > x.ndim:
        raise ShapeError(f"cannot take {taken} axes of {_sizes(x.shape)}")
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [slice(None)] * (x.ndim - taken)
    out, dim = x, 0
    for entry in entries:
        if entry is None:
            out, dim = unsqueeze(out, dim), dim + 1
        elif isinstance(entry, slice):
            units = range(*entry.indices(out.shape[dim]))
            if units != range(out.shape[dim]):
                out = picked(out, dim, units)
            dim += 1
        else:
            out = select(out, dim, int(entry))
    return x.like(out.shape, out.field) if out is x else out


def _advanced(x: Probe, entries: list[Any]) -> Probe:
    """Indices that are tensors: shapes by torch's meta kernel, and what is seen along the indexed axes together."""
    new: list[Any] = []
    for entry in entries:
        if isinstance(entry, Tensor) and entry.dtype in (torch.bool, torch.uint8):
            if isinstance(entry, Probe) or entry.is_meta:
                found = math.prod(entry.shape)
                x.trace.warn(_DATA)
                new += [torch.empty(found, dtype=torch.int64, device="meta")] * entry.ndim
            else:
                new += list(entry.nonzero(as_tuple=True))
        elif isinstance(entry, list):
            new.append(torch.as_tensor(entry))
        else:
            new.append(
                torch.empty(entry.shape, dtype=torch.int64, device="meta") if isinstance(entry, Probe) else entry
            )
    index = tuple(e.to("meta") if isinstance(e, Tensor) else e for e in new)
    try:
        shape = torch.empty(x.shape, device="meta")[index].shape
    except (IndexError, RuntimeError) as error:
        raise ShapeError(f"cannot take {_sizes(x.shape)} apart: {str(error).splitlines()[0]}") from None
    if not x.field.axes:
        return x.like(shape, NOTHING)
    tensors = [(dim, e) for dim, e in enumerate(new) if isinstance(e, Tensor)]
    if len(tensors) == 1 and all(e == slice(None) for e in new if not isinstance(e, Tensor)):
        dim, chosen = tensors[0]
        if chosen.ndim == 1 and not chosen.is_meta:
            return picked(x, dim, chosen.tolist())
        known = all(isinstance(p, fields.Window) and p.dim != dim for parts in x.field.axes for p in parts)
        field = mixed(x.field, [dim], x.shape)
        order: list[int | None] = list(range(x.ndim))
        order[dim : dim + 1] = [None] * chosen.ndim
        return x.like(shape, Field(fields.renumbered(field, order).axes, field.exact and known))
    return x.like(shape, fields.bound(x.field, x.shape))


_DATA = (
    "how many results there are depends on values (a mask, nonzero, NMS); they are taken to be as many as there can be"
)


@rule(Tensor.__setitem__)
def setitem(x, index, value):
    if not isinstance(value, Probe) or not value.field.axes:
        return
    if x.plain:
        x.trace.warn("a tensor that the model made by itself is written to; receptive fields after it are not known")
    part = getitem(x.like(x.shape, NOTHING), index)
    entries = list(index) if isinstance(index, tuple) else [index]
    simple = all(isinstance(e, (int, slice)) or e is None or e is Ellipsis for e in entries)
    field = aligned(value.field, value.shape, part.shape)
    if simple and part.shape == x.shape:
        x.field = field
        return
    if simple and None not in entries:
        if Ellipsis in entries:
            at = entries.index(Ellipsis)
            entries[at : at + 1] = [slice(None)] * (x.ndim - len(entries) + 1)
        cut = [dim for dim, e in enumerate(entries) if isinstance(e, slice) and e != slice(None)]
        place = iter(range(part.ndim))
        order = [None if dim < len(entries) and isinstance(entries[dim], int) else next(place) for dim in range(x.ndim)]
        inside = {order[dim] for dim in cut}
        known = all(isinstance(p, fields.Window) and p.dim not in inside for parts in field.axes for p in parts)
        field = mixed(field, [d for d in inside if d is not None], part.shape)
        field = Field(fields.renumbered(field, order).axes, field.exact and known)
    else:
        field = fields.bound(value.field, value.shape)
    x.field = union([x.field, field], x.shape)


@rule(*named("index_select"))
def index_select(x, dim, index):
    if isinstance(index, Probe) or index.is_meta:
        return _advanced(x, [slice(None)] * (dim % x.ndim) + [index])
    return picked(x, dim, index.tolist())


@rule(*named("gather take_along_dim"))
def gather(x, dim, index, **kwargs):
    if isinstance(dim, Tensor):
        dim, index = index, dim
    seen = [mixed(x.field, [dim], x.shape)] + ([index.field] if isinstance(index, Probe) else [])
    shape = torch.broadcast_shapes(index.shape) if index.ndim == x.ndim else index.shape
    return x.like(shape, union(seen, shape))


@rule(*named("scatter scatter_add index_add index_copy index_fill scatter_reduce"))
def scatter(x, dim, index, source=None, *args, **kwargs):
    source = kwargs.get("src", source)
    taken = [v for v in (x, source) if isinstance(v, Probe)]
    seen = [mixed(v.field, [dim], v.shape) for v in taken]
    return x.like(x.shape, union(seen, x.shape))


rule(*named("scatter_ scatter_add_ index_add_ index_copy_ index_fill_"))(in_place(scatter))


@rule(*named("nonzero argwhere"))
def nonzero(x, as_tuple=False):
    x.trace.warn(_DATA)
    out = x.like((math.prod(x.shape), x.ndim), NOTHING, torch.int64)
    return unbind(out, 1) if as_tuple else out


@rule(*named("masked_select"))
def masked_select(x, mask):
    x.trace.warn(_DATA)
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    return x.like((math.prod(shape),), fields.bound(x.field, x.shape))


@rule(*named("unique unique_consecutive"))
def unique(x, *args, **kwargs):
    x.trace.warn("how many different values there are depends on values; they are taken to be one")
    return x.like((1,), fields.bound(x.field, x.shape))


@rule(*named("tril triu"))
def triangle(x, *args, **kwargs):
    return x.like(x.shape, x.field)


@rule(*named("bincount histc one_hot"))
def counted(x, *args, **kwargs):
    raise _asks_for_values(x)


# Values, of which there are none


def _asks_for_values(x: Probe) -> ValuesError:
    return ValuesError(asking_line())


@rule(
    *named(
        "item tolist numpy __bool__ __float__ __int__ __index__ __complex__ __array__ __contains__ equal allclose "
        "is_nonzero data_ptr storage untyped_storage"
    )
)
def values(x, *args, **kwargs):
    raise _asks_for_values(x)


# Primitive operations, of which functions without a rule are made


def primitive(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(answer: Callable[..., Any]) -> Callable[..., Any]:
        PRIMITIVES.update(dict.fromkeys(names, answer))
        return answer

    return decorate


_SAME_NAME = """
add sub mul div where maximum minimum pow mm bmm mv dot addmm baddbmm matmul linear view reshape
permute transpose t squeeze unsqueeze expand repeat roll flip narrow select split
split_with_sizes chunk unbind cat stack index_select gather scatter mean sum amax amin prod var std
all any argmax argmin cumsum sort topk nonzero masked_select pixel_shuffle pixel_unshuffle softmax
log_softmax batch_norm group_norm layer_norm detach clone contiguous relu masked_fill copy_ fill_
zero_ zeros_like ones_like empty_like full_like rand_like randn_like bernoulli new_zeros new_ones
new_empty new_full max min logsumexp norm tril triu add_ mul_ sub_ div_ relu_ masked_fill_ movedim
unflatten flatten
"""
for _name in _SAME_NAME.split():
    _owners = (getattr(owner, _name, None) for owner in (torch, Tensor, F))
    PRIMITIVES[_name] = next(RULES[function] for function in _owners if function in RULES)  # pyright: ignore[reportArgumentType]


@primitive("convolution", "_convolution", "convolution_overrideable")
def any_convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, *args):
    x = x if isinstance(x, Probe) else next(probes((weight, bias))).blank(x)
    if transposed:
        return transposed_convolution(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolution(x, weight, bias, stride, padding, dilation, groups)


@primitive("_softmax", "_log_softmax")
def primitive_softmax(x, dim, half_to_float):
    return softmax(x, dim)


@primitive("slice")
def primitive_slice(x, dim=0, start=None, end=None, step=1):
    return getitem(x, (*[slice(None)] * (dim % x.ndim), slice(start, end, step)))


@primitive("constant_pad_nd")
def primitive_pad(x, pad_, value=0):
    return pad(x, pad_)


PRIMITIVES["_unsafe_view"] = reshape


@primitive("_to_copy", "alias", "lift_fresh", "view_as_real", "_reshape_alias")
def primitive_copy(x, *args, dtype=None, **kwargs):
    return x.like(x.shape, x.field, dtype)


@primitive("nms")
def nms(boxes, scores, iou_threshold):
    one = next(probes((boxes, scores)))
    one.trace.warn(_DATA)
    return one.like((boxes.shape[0],), NOTHING, torch.int64)


@primitive("roi_align", "roi_pool")
def roi_pooling(x, rois, spatial_scale, height, width, *args):
    x = x if isinstance(x, Probe) else rois.blank(x)
    return x.like((rois.shape[0], x.shape[1], height, width), fields.bound(x.field, x.shape))


@primitive("deform_conv2d")
def deformable_convolution(x, weight, offset, *args):
    x = x if isinstance(x, Probe) else offset.blank(x)
    out, _, height, width = (weight.shape[0], 0, *offset.shape[2:])
    x.trace.weigh(math.prod(weight.shape) * x.shape[0] * height * width, weight)
    return x.like((x.shape[0], out, height, width), fields.bound(x.field, x.shape))


WEIGHING.update(
    named(
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear matmul "
        "__matmul__ bmm mm"
    ),
    {F.multi_head_attention_forward, torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu, torch.lstm_cell},
    {torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell, torch.addmm, torch.baddbmm},
)
