"""The output-size formula of convolutions and poolings, exactly as torch applies it."""

from typing import Any, Literal, overload

from cnnzoo.errors import OptionError, ShapeError, operation

Size = int | tuple[int, ...] | list[int]
Padding = Size | Literal["same", "valid"]


@overload
@operation
def output_size(
    size: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int | Literal["same", "valid"] = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    transposed: bool = False,
    output_padding: int = 0,
) -> int: ...
@overload
@operation
def output_size(
    size: tuple[int, ...] | list[int],
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    transposed: bool = False,
    output_padding: Size = 0,
) -> tuple[int, ...]: ...
@operation
def output_size(
    size: Size,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    transposed: bool = False,
    output_padding: Size = 0,
) -> Any:
    """Calculate the size of a convolution's or pooling's output.

    Along each axis, `floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1`. With `ceil_mode` the
    division rounds up, and the last window is dropped when it would start beyond the input and its left padding.
    A transposed convolution turns this around: `(size - 1) stride - 2 padding + dilation (kernel - 1) + output_padding
    + 1`.

    Args:
        size: the input's size in pixels, along one axis (`int`) or several (`(height, width)`).
        kernel_size: the window's size; one number serves every axis, here and below.
        stride: the step between windows. A pooling's default stride is its kernel, so pass it.
        padding: pixels added on each side, or `"same"` (stride 1 only) or `"valid"` (none).
        dilation: the step between the window's own taps.
        ceil_mode: round up, as poolings may.
        transposed: of a transposed convolution.
        output_padding: rows and columns that a transposed convolution adds at the end, fewer than its stride or
            dilation.

    Returns:
        An `int` for an `int`, a tuple for a tuple or list.

    Raises:
        ShapeError: the output would be empty; the message shows the formula with the numbers in it.
        OptionError: an argument is out of its range, or has another number of axes than `size`.

    Example:
        >>> import cnnzoo
        >>> cnnzoo.output_size((224, 224), 7, stride=2, padding=3)
        (112, 112)
        >>> cnnzoo.output_size(7, 3, stride=2, padding=1, output_padding=1, transposed=True)
        14

    Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016), relationship 6,
    with dilation from section 5.1; ceil mode as `torch.nn.MaxPool2d` documents it.
    """
    sizes = (size,) if isinstance(size, int) else tuple(size)
    spread = [_spread(value, len(sizes)) for value in (kernel_size, stride, padding, dilation)]
    more = _spread(output_padding, len(sizes))
    if transposed:
        out = tuple(_transposed(*axis) for axis in zip(sizes, *spread, more, strict=True))
    elif any(more):
        raise OptionError(f"output_padding={output_padding} belongs to transposed=True")
    else:
        out = tuple(_axis(n, k, s, p, d, ceil_mode) for n, k, s, p, d in zip(sizes, *spread, strict=True))
    return out[0] if isinstance(size, int) else out


def _spread(value: Any, axes: int) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        return (value,) * axes
    if len(value) != axes:
        raise OptionError(f"got {value} for a size with {axes} axes; give one number, or one for each axis")
    return tuple(value)


def _transposed(n: int, k: int, s: int, p: int | str, d: int, more: int) -> int:
    if isinstance(p, str):
        raise OptionError(f"got padding={p!r} with transposed=True, which takes numbers only")
    if k < 1 or s < 1 or d < 1 or p < 0 or not 0 <= more < max(s, d):
        raise OptionError(
            f"got kernel {k}, stride {s}, padding {p}, dilation {d}, output_padding {more}; kernel, "
            "stride and dilation are at least 1, and output_padding is less than the larger of stride and dilation"
        )
    out = transposed_size(n, k, s, p, d, more)
    if out < 1:
        put_in = f"({n} - 1)*{s} - 2*{p} + {d}*({k} - 1) + {more} + 1"
        raise ShapeError(f"{put_in} = {out}: the output is empty", excess=-1)
    return out


def _axis(n: int, k: int, s: int, p: int | str, d: int, ceil_mode: bool) -> int:
    if k < 1 or s < 1 or d < 1 or (p not in ("same", "valid") if isinstance(p, str) else p < 0):
        raise OptionError(
            f"got kernel {k}, stride {s}, padding {p}, dilation {d}; "
            "kernel, stride and dilation are at least 1, padding is at least 0 or 'same' or 'valid'"
        )
    if p == "same":
        if s != 1:
            raise OptionError(f"padding='same' goes with stride 1 only, as in torch; got stride {s}")
        return n
    p = 0 if isinstance(p, str) else p
    out = windows(n, k, s, p, d, ceil_mode)
    if out < 1:
        raise ShapeError(f"{formula(n, k, s, p, d, ceil_mode)} = {out}: the output is empty", excess=-1)
    return out


def windows(n: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """What the formula comes to along one axis, below 1 where no window fits."""
    out = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
    # The last window of ceil mode must start inside the input or its left padding.
    return out - 1 if ceil_mode and (out - 1) * s >= n + p else out


def transposed_size(n: int, k: int, s: int = 1, p: int = 0, d: int = 1, more: int = 0) -> int:
    """What a transposed convolution makes of a size along one axis, below 1 where nothing is left."""
    return (n - 1) * s - 2 * p + d * (k - 1) + more + 1


def formula(n: int, k: int, s: int = 1, p: int = 0, d: int = 1, ceil_mode: bool = False) -> str:
    """The output-size formula along one axis with the numbers put in, for messages."""
    rounding = "ceil" if ceil_mode else "floor"
    return f"{rounding}(({n} + 2*{p} - {d}*({k} - 1) - 1) / {s}) + 1"
