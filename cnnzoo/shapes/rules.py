"""What each of torch's operations does to shapes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from cnnzoo.errors import ShapeError
from cnnzoo.shapes.formula import formula, output_size, windows
from cnnzoo.shapes.probe import MIXING, SELECTING, ShapeProbe, named, rule, shown
from cnnzoo.shapes.receptive_field import ReceptiveField, union, whole, windowed


def _spread(value: Any, axes: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * axes
    value = tuple(value)
    return value if len(value) == axes else value * axes


def _slide(
    x: ShapeProbe, channels: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False
) -> ShapeProbe:
    """A window that slides over the map: convolutions and poolings alike."""
    spatial = tuple(x.shape[2:])
    axes = len(spatial)
    kernel, stride, dilation = _spread(kernel, axes), _spread(stride, axes), _spread(dilation, axes)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        return x.like((x.shape[0], channels, *spatial), _seen(x, kernel, stride, padding, dilation))
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
    return x.like((x.shape[0], channels, *size), _seen(x, kernel, stride, padding, dilation))


def _seen(x: ShapeProbe, *window: Sequence[int]) -> ReceptiveField:
    """The field behind a window; a map with other axes than the picture has mixed all pixels already."""
    return windowed(x.field, *window) if len(window[0]) == len(x.field.size) else x.field


def _channels(x: ShapeProbe, expected: int) -> None:
    if x.shape[1] != expected:
        raise ShapeError(f"takes {expected} input channel(s), got {x.shape[1]} ({shown(x.shape)})")


@rule(torch.conv1d, torch.conv2d, torch.conv3d)
def convolution(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    shape = weight.shape
    if len(x.shape) != len(shape):
        raise ShapeError(f"takes {len(shape)}-dimensional input (N, C, ...), got {tuple(x.shape)}")
    _channels(x, shape[1] * groups)
    out = _slide(x, shape[0], shape[2:], stride, padding, dilation)
    x.trace.macs += math.prod(shape) * out.shape[0] * math.prod(out.shape[2:])
    return out


@rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
def transposed_convolution(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    shape, axes = weight.shape, weight.ndim - 2
    _channels(x, shape[0])
    window = (_spread(v, axes) for v in (stride, padding, output_padding, dilation))
    parts = zip(x.shape[2:], shape[2:], *window, strict=True)
    size = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, o, d in parts]
    if min(size) < 1:
        raise ShapeError(
            f"got {shown(x.shape)}, and its output would be {shown((1, shape[1] * groups, *size))}: empty", excess=-1
        )
    x.trace.macs += math.prod(shape) * x.shape[0] * math.prod(x.shape[2:])
    return x.like((x.shape[0], shape[1] * groups, *size), whole(x.field, x.shape[2:]))


@rule(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    _half(kernel_size, padding)
    stride = kernel_size if stride is None or stride == [] else stride
    out = _slide(x, x.shape[1], kernel_size, stride, padding, dilation, ceil_mode)
    return (out, out) if return_indices else out


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def avg_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    _half(kernel_size, padding)
    return _slide(x, x.shape[1], kernel_size, kernel_size if stride is None else stride, padding, 1, ceil_mode)


def _half(kernel: Any, padding: Any) -> None:
    pairs = zip(_spread(kernel, 3), _spread(padding, 3), strict=False)
    if any(2 * p > k for k, p in pairs):
        raise ShapeError(f"pads {padding}, more than half of its window {kernel}")


@rule(
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    torch.adaptive_avg_pool1d,
)
def adaptive_pool(x, output_size, return_indices=False):
    spatial = x.shape[2:]
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * len(spatial)
    size = tuple(n if o is None else o for n, o in zip(spatial, wanted, strict=True))
    stride = [max(n // o, 1) if o > 1 else 0 for n, o in zip(spatial, size, strict=True)]  # one window does not move
    # Window i runs from floor(i n / o) to ceil((i + 1) n / o); where o does not divide n they differ by a pixel.
    extents = ([-(-(i + 1) * n // o) - i * n // o for i in range(o)] for n, o in zip(spatial, size, strict=True))
    kernel = [max(along) for along in extents]
    none = [0] * len(spatial)
    return x.like((*x.shape[:2], *size), _seen(x, kernel, stride, none, [1] * len(spatial)))


@rule(F.linear)
def linear(x, weight, bias=None):
    rows, columns = weight.shape
    if x.shape[-1] != columns:
        raise ShapeError(
            f"takes {columns} features, got {x.shape[-1]}" + (f" ({shown(x.origin)})" if x.origin else ""),
            excess=(x.shape[-1] > columns) - (x.shape[-1] < columns),
        )
    x.trace.macs += rows * columns * math.prod(x.shape[:-1])
    return x.like((*x.shape[:-1], rows), x.field)


@rule(F.batch_norm)
def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, *args, **kwargs):
    return _normalised(x, next((len(t) for t in (running_mean, weight) if t is not None), None))


@rule(F.group_norm)
def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    if x.shape[1] % num_groups:
        raise ShapeError(f"normalises {num_groups} groups, got {x.shape[1]} channels ({shown(x.shape)})")
    return _normalised(x, None if weight is None else len(weight))


def _normalised(x: ShapeProbe, channels: int | None) -> ShapeProbe:
    if channels is not None and x.shape[1] != channels:
        raise ShapeError(f"normalises {channels} channels, got {x.shape[1]} ({shown(x.shape)})")
    return x


@rule(*named("layer_norm rms_norm"))
def layer_norm(x, normalized_shape, *args, **kwargs):
    if tuple(x.shape[-len(normalized_shape) :]) != tuple(normalized_shape):
        raise ShapeError(f"normalises {shown((1, *normalized_shape))}, got {shown(x.shape)}")
    return x


@rule(torch.prelu, F.prelu)
def prelu(x, weight):
    return x if weight.numel() == 1 else _normalised(x, weight.numel())


@rule(
    *named(
        "relu relu_ relu6 hardtanh leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid softplus softsign "
        "logsigmoid threshold hardshrink tanh sigmoid softmax log_softmax dropout dropout1d dropout2d dropout3d "
        "alpha_dropout feature_alpha_dropout instance_norm local_response_norm normalize "
        "exp log sqrt rsqrt abs neg __neg__ square clamp clamp_ clone contiguous detach requires_grad_"
    )
)
def elementwise(x, *args, **kwargs):
    return x


@rule(
    *named(
        "add add_ __add__ __radd__ __iadd__ sub sub_ __sub__ __rsub__ __isub__ mul mul_ __mul__ __rmul__ __imul__ "
        "div div_ __truediv__ __rtruediv__ __itruediv__ __floordiv__ __rfloordiv__ floor_divide pow __pow__ __rpow__ "
        "maximum minimum"
    )
)
def combine(x, other, **kwargs):
    probes = [v for v in (x, other) if hasattr(v, "field")]
    shapes = [tuple(v.shape) for v in (x, other) if hasattr(v, "shape")]
    shape = shapes[0]
    if len(shapes) == 2 and shapes[1] != shape:
        try:
            shape = torch.broadcast_shapes(*shapes)
        except RuntimeError:
            raise ShapeError(f"cannot combine {shown(shapes[0])} with {shown(shapes[1])}") from None
    return probes[0].like(tuple(shape), union(probe.field for probe in probes))


@rule(torch.cat, torch.concat)
def concatenate(tensors, dim=0, **kwargs):
    probes = [t for t in tensors if hasattr(t, "field")]
    shapes = [tuple(t.shape) for t in tensors]
    dim %= len(shapes[0])
    rest = {(*s[:dim], *s[dim + 1 :]) for s in shapes}
    if len(rest) > 1:
        raise ShapeError(f"cannot join {', '.join(map(shown, shapes))} along axis {dim}")
    shape = (*shapes[0][:dim], sum(s[dim] for s in shapes), *shapes[0][dim + 1 :])
    return probes[0].like(shape, union(probe.field for probe in probes))


@rule(torch.flatten, torch.Tensor.flatten)
def flatten(x, start_dim=0, end_dim=-1):
    start, end = start_dim % x.ndim, end_dim % x.ndim
    shape = (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    out = x.like(shape, whole(x.field, x.shape[2:]) if x.ndim > 2 else x.field)
    out.origin = x.shape if x.ndim > 2 else x.origin
    return out


@rule(F.pad)
def pad(x, pad, mode="constant", value=None):
    shape = list(x.shape)
    for axis in range(len(pad) // 2):
        before, after = pad[2 * axis], pad[2 * axis + 1]
        if mode == "reflect" and max(before, after) >= shape[-1 - axis]:
            raise ShapeError(
                f"reflects {max(before, after)} pixels of {shown(x.shape)}: more than there are", excess=-1
            )
        shape[-1 - axis] += before + after
    if min(shape) < 0:  # torch lets nothing at all pass
        raise ShapeError(f"got {shown(x.shape)}, and its output would be {shown(shape)}", excess=-1)
    before = [pad[2 * i] if 2 * i < len(pad) else 0 for i in reversed(range(len(x.shape) - 2))]
    one = [1] * len(before)
    return x.like(tuple(shape), _seen(x, one, one, before, one) if before else x.field)


@rule(F.multi_head_attention_forward)
def attention(query, key, value, embed_dim, num_heads, in_proj_weight, *args, **kwargs):
    length, batch = query.shape[0], query.shape[1]
    query.trace.macs += length * batch * 4 * embed_dim**2
    return query, query.like((batch, length, key.shape[0]), query.field)


SELECTING.update(
    named(
        "view view_as reshape reshape_as permute transpose swapaxes squeeze unsqueeze t expand expand_as repeat tile "
        "chunk split unbind unflatten narrow select stack __getitem__ index_select masked_fill channel_shuffle "
        "to type type_as float half bool size new_zeros new_ones new_empty new_full zeros_like ones_like empty_like "
        "rand_like bernoulli where logical_and logical_or logical_not eq ne gt lt ge le __gt__ __lt__ __ge__ __le__ "
        "__eq__ __ne__"
    )
)
MIXING.update(
    named(
        "roll flip unfold fold mean sum amax amin norm max min var std argmax topk all any lp_pool2d interpolate "
        "pixel_shuffle pixel_unshuffle matmul __matmul__ __rmatmul__ bmm baddbmm einsum scaled_dot_product_attention"
    )
)
