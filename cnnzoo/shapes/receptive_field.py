"""Receptive fields: which pixels of the picture one unit of a map can see, and how that grows from layer to layer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class ReceptiveField(NamedTuple):
    """The window of input pixels that a unit sees, (height, width) each.

    Attributes:
        size: extent of the window in pixels, which may exceed the picture.
        stride: how many pixels the window moves from one unit to the next.
        offset: first pixel of the first unit's window; negative where it begins in the padding.

    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill (2019).
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: tuple[int, ...]


def pixel(axes: int) -> ReceptiveField:
    """A pixel of the picture sees itself."""
    return ReceptiveField((1,) * axes, (1,) * axes, (0,) * axes)


def windowed(
    field: ReceptiveField,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> ReceptiveField:
    """After a convolution or pooling."""
    return ReceptiveField(
        tuple(r + d * (k - 1) * j for r, j, k, d in zip(field.size, field.stride, kernel, dilation, strict=True)),
        tuple(j * s for j, s in zip(field.stride, stride, strict=True)),
        tuple(o - p * j for o, j, p in zip(field.offset, field.stride, padding, strict=True)),
    )


def whole(field: ReceptiveField, spatial: Sequence[int]) -> ReceptiveField:
    """Of units that each see every unit of a map of this size: one window, which does not move."""
    if len(spatial) != len(field.size):
        return field
    size = tuple(r + (n - 1) * j for r, j, n in zip(field.size, field.stride, spatial, strict=True))
    return ReceptiveField(size, (0,) * len(size), field.offset)


def union(fields: Iterable[ReceptiveField]) -> ReceptiveField:
    """Where branches meet: the smallest window around all of theirs."""
    first, *rest = fields
    if all(field is first for field in rest):
        return first
    every = (first, *rest)
    if any(len(field.size) != len(first.size) for field in rest):
        return max(every, key=lambda field: max(field.size))
    starts = tuple(min(axis) for axis in zip(*(field.offset for field in every), strict=True))
    ends = tuple(
        max(axis)
        for axis in zip(
            *((o + r for o, r in zip(field.offset, field.size, strict=True)) for field in every), strict=True
        )
    )
    strides = tuple(max(axis) for axis in zip(*(field.stride for field in every), strict=True))
    return ReceptiveField(tuple(e - s for e, s in zip(ends, starts, strict=True)), strides, starts)
