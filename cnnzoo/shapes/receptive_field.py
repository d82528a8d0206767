"""Receptive fields: which pixels of the image one unit of a tensor can see, and how operations change that.

Along each axis of the image a unit sees an interval of pixels. How the interval depends on the unit's index is kept
as `Part`s. Almost always it is a `Window`: units along one axis of the tensor, whose intervals repeat every few units a
few pixels further on. That holds after upsampling too, where neighbours share an interval: the period is then more than
one unit. Everything else, such as tokens that were cut out of the image, is a `Table`.

Units next to the image's edge are treated like all others: their intervals reach into the padding, as publications
count, and go round the edge where a map was rolled or padded with its other side.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

Shape = Sequence[int]
Taps = Callable[[int], Iterable[int]]
"""The input units that an output unit is computed from, along one axis."""

NOWHERE = 1 << 40
"""Where the interval of a unit starts that sees nothing: it ends at -NOWHERE."""
LARGEST_TABLE = 1 << 20


class ReceptiveField(NamedTuple):
    """The window of input pixels that a unit sees, (height, width) each.

    Attributes:
        size: extent of the window in pixels, which may exceed the image. Where it is not the same for all units, as
            after upsampling, the largest. 0 where nothing of the image is seen.
        stride: how many pixels the window moves from one unit to the next, on average: 0.5 after doubling the size.
            0 where all units see the same pixels.
        offset: first pixel of the first unit's window; negative where it begins in the padding.
        exact: False where `size` is an upper bound.

    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill (2019).
    """

    size: tuple[int, ...]
    stride: tuple[float, ...]
    offset: tuple[int, ...]
    exact: bool = True

    @property
    def whole(self) -> bool:
        """Whether all units see the same window, as after global pooling or attention: all that there is to see."""
        return bool(self.size) and any(self.size) and not any(self.stride)

    def __str__(self) -> str:
        if not any(self.size):
            return "none"
        bound = "" if self.exact else "at most "
        return bound + "x".join(map(str, self.size)) + (" (whole)" if self.whole else "")


class Window(NamedTuple):
    """Intervals of the units along the axis `dim` of a tensor, or of all units where it is None.

    Unit `i` sees the pixels from `starts[i % period] + i // period * step` up to, not including, what `ends` gives.
    """

    dim: int | None
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    step: int

    def at(self, unit: int) -> tuple[int, int]:
        """The interval of one unit."""
        periods, phase = divmod(unit, len(self.starts))
        return self.starts[phase] + periods * self.step, self.ends[phase] + periods * self.step


class Table(NamedTuple):
    """Intervals of every unit: arrays with the tensor's number of axes, of length 1 along those that do not matter."""

    starts: np.ndarray
    ends: np.ndarray


Part = Window | Table
Parts = tuple[Part, ...]


class Field(NamedTuple):
    """What the units of a tensor see.

    Attributes:
        axes: for each axis of the image, the parts whose union a unit sees; no parts mean nothing.
        exact: False where units may see less.
    """

    axes: tuple[Parts, ...]
    exact: bool = True


NOTHING = Field(())
"""What does not come from the image, such as learned queries, sees nothing of it."""


def image(dims: Iterable[int]) -> Field:
    """The image itself, which has its axes along `dims`: a pixel sees itself."""
    return Field(tuple((Window(dim, (0,), (1,), 1),) for dim in dims))


def reported(field: Field, shape: Shape, axes: int) -> ReceptiveField:
    """The field of a tensor of this shape as one window, in an image of so many axes."""
    if not field.axes:
        return ReceptiveField((0,) * axes, (0,) * axes, (0,) * axes, field.exact)
    exact = field.exact
    every = []
    for parts in field.axes:
        if len(parts) > 1 and _together(parts, shape) > LARGEST_TABLE:
            parts = _tidy([_hull(part, shape) for part in parts], shape)
            exact = False
        every.append(_reported(parts, shape))
    size, stride, offset = zip(*every, strict=True)
    return ReceptiveField(size, stride, offset, exact)


def _together(parts: Parts, shape: Shape) -> int:
    """How many intervals a table of all parts would have."""
    along: set[int] = set()
    for part in parts:
        if isinstance(part, Table):
            along |= {axis for axis, units in enumerate(part.starts.shape) if units > 1}
        elif part.dim is not None:
            along.add(part.dim)
    return math.prod(shape[axis] for axis in along)


def _reported(parts: Parts, shape: Shape) -> tuple[int, float, int]:
    if not parts:
        return 0, 0, 0
    if len(parts) > 1:
        parts = (_merged_tables([_table(part, shape) for part in parts]),)
    part = parts[0]  # pyright: ignore[reportGeneralTypeIssues]
    if isinstance(part, Window):
        if len(part.starts) == 1 and part.starts[0] < part.ends[0]:
            return part.ends[0] - part.starts[0], abs(part.step), part.starts[0]
        size = max(end - start for start, end in zip(part.starts, part.ends, strict=True))
        stride = abs(part.step) / len(part.starts)
        return max(size, 0), int(stride) if stride.is_integer() else stride, _first(part.starts)
    sees = part.starts < part.ends
    if not sees.any():
        return 0, 0, 0
    starts = part.starts[sees].ravel()
    size = int((part.ends - part.starts).max())
    stride = float(abs(np.diff(starts)).mean()) if len(starts) > 1 else 0.0
    return size, int(stride) if stride.is_integer() else round(stride, 3), int(starts[0])


def _first(starts: Sequence[int]) -> int:
    return next((start for start in starts if start < NOWHERE // 2), 0)


# What operations do to fields


def slid(
    field: Field,
    before: Shape,
    after: Shape,
    kernel: Shape,
    stride: Shape,
    padding: Shape,
    dilation: Shape,
) -> Field:
    """After a window that slides along the last axes of a tensor: a convolution or pooling."""
    first = len(before) - len(kernel)
    axes = []
    for parts in field.axes:
        new = []
        for part in parts:
            if isinstance(part, Window):
                i = -1 if part.dim is None else part.dim - first
                if i >= 0 and len(part.starts) == 1:
                    dim, (start,), (end,), step = part
                    k, s, p, d = kernel[i], stride[i], padding[i], dilation[i]
                    reach = d * (k - 1) * step
                    low, high = (start, end + reach) if step >= 0 else (start + reach, end)
                    part = Window(dim, (low - p * step,), (high - p * step,), step * s)
                elif i >= 0:
                    part = _regrid(part, first + i, _sliding(i, kernel, stride, padding, dilation), 1, stride[i], after)
            else:
                for i in range(len(kernel)):
                    taps = _sliding(i, kernel, stride, padding, dilation)
                    part = _regrid(part, first + i, taps, 1, stride[i], after)
            new.append(part)
        axes.append(tuple(new))
    return Field(tuple(axes), field.exact)


def _sliding(i: int, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Taps:
    k, s, p, d = kernel[i], stride[i], padding[i], dilation[i]
    return lambda unit: range(unit * s - p, unit * s - p + d * (k - 1) + 1, d)


def regridded(field: Field, dim: int, taps: Taps, period_out: int, period_in: int, after: Shape) -> Field:
    """After an operation along one axis of which `taps` says what each output unit is computed from.

    Args:
        field: of the operation's input.
        dim: the axis.
        taps: the input units of an output unit.
        period_out: after so many output units the taps repeat,
        period_in: so many input units further on.
        after: shape of the operation's output.
    """
    axes = (tuple(_regrid(part, dim, taps, period_out, period_in, after) for part in parts) for parts in field.axes)
    return Field(tuple(axes), field.exact)


def _regrid(part: Part, dim: int, taps: Taps, period_out: int, period_in: int, after: Shape) -> Part:
    if isinstance(part, Table):
        if part.starts.shape[dim] == 1:
            return part
        return _regrid_table(part, dim, taps, after[dim])
    if part.dim != dim:
        return part
    period = len(part.starts)
    repeats = period // math.gcd(period, period_in)
    units = [[part.at(i) for i in taps(o)] for o in range(period_out * repeats)]
    starts = tuple(min((start for start, _ in seen), default=NOWHERE) for seen in units)
    ends = tuple(max((end for _, end in seen), default=-NOWHERE) for seen in units)
    return _shortest(Window(dim, starts, ends, part.step * period_in * repeats // period))


def _regrid_table(part: Table, dim: int, taps: Taps, units: int) -> Table:
    last = part.starts.shape[dim] - 1
    rows = [[i for i in taps(o) if 0 <= i <= last] for o in range(units)]
    widest = max(map(len, rows), default=0) or 1
    index = np.array([row + [row[0] if row else 0] * (widest - len(row)) for row in rows])
    blind = np.array([not row for row in rows])
    shape = [1] * part.starts.ndim
    shape[dim] = units
    starts = part.starts.take(index, axis=dim).min(axis=dim + 1)
    ends = part.ends.take(index, axis=dim).max(axis=dim + 1)
    blind = blind.reshape(shape)
    return Table(np.where(blind, NOWHERE, starts), np.where(blind, -NOWHERE, ends))


def _shortest(window: Window) -> Window:
    """The same intervals with the shortest period."""
    dim, starts, ends, step = window
    period = len(starts)
    for short in range(1, period):
        if period % short or step * short % period:
            continue
        move = step * short // period
        if all(
            starts[i] == starts[i - short] + move and ends[i] == ends[i - short] + move for i in range(short, period)
        ):
            return Window(dim, starts[:short], ends[:short], move)
    return window


def mixed(field: Field, dims: Iterable[int], shape: Shape) -> Field:
    """After an operation in which all units along some axes feed every one, of a tensor of this shape."""
    dims = frozenset(dim % len(shape) for dim in dims)
    axes = tuple(
        _tidy([_mixed(part, dims, shape) for part in parts], shape) if _along(parts, dims) else parts
        for parts in field.axes
    )
    return Field(axes, field.exact)


def _along(parts: Parts, dims: frozenset[int]) -> bool:
    return any(isinstance(part, Table) or part.dim in dims for part in parts)


def _mixed(part: Part, dims: frozenset[int], shape: Shape) -> Part:
    if isinstance(part, Window):
        return _hull(part, shape) if part.dim in dims else part
    along = tuple(sorted(dims))
    return _plain(Table(part.starts.min(axis=along, keepdims=True), part.ends.max(axis=along, keepdims=True)))


def _hull(part: Part, shape: Shape) -> Window:
    """What all units see together."""
    if isinstance(part, Table):
        return Window(None, (int(part.starts.min()),), (int(part.ends.max()),), 0)
    if part.dim is None:
        return part
    units, period = shape[part.dim], len(part.starts)
    ends = {*range(min(period, units)), *range(max(units - period, 0), units)}
    seen = [part.at(unit) for unit in ends]
    return Window(None, (min(start for start, _ in seen),), (max(end for _, end in seen),), 0)


def whole(field: Field, shape: Shape) -> Field:
    """After an operation in which all units feed every one."""
    return mixed(field, range(len(shape)), shape)


def bound(field: Field, shape: Shape) -> Field:
    """After an operation that is not known in detail: at most everything."""
    everything = whole(field, shape)
    return Field(everything.axes, False) if any(everything.axes) else everything


def union(fields: Sequence[Field], shape: Shape) -> Field:
    """Where tensors of one shape meet unit by unit."""
    first, *rest = fields
    if all(field is first for field in rest):
        return first
    distinct = list({id(field): field for field in fields if field.axes}.values())
    if not distinct:
        return NOTHING
    if len(distinct) == 1:
        return distinct[0]
    exact = all(field.exact for field in distinct)
    axes = max(len(field.axes) for field in distinct)
    each = (
        [part for field in distinct for part in (field.axes[i] if i < len(field.axes) else ())] for i in range(axes)
    )
    return Field(tuple(_tidy(parts, shape) for parts in each), exact)


def _tidy(parts: Sequence[Part], shape: Shape) -> Parts:
    """As few parts as say the same."""
    windows: list[Window] = []
    tables: list[Table] = []
    for part in parts:
        if isinstance(part, Table):
            tables.append(part)
            continue
        for i, other in enumerate(windows):
            if part.dim == other.dim and part.step * len(other.starts) == other.step * len(part.starts):
                windows[i] = _merged(part, other)
                break
        else:
            windows.append(part)
    alike: dict[tuple[int, ...], list[Table]] = {}
    for table in tables:
        alike.setdefault(table.starts.shape, []).append(table)
    tables = [_merged_tables(same) for same in alike.values()]
    everything = next((window for window in windows if window.dim is None), None)
    found: list[Part] = [*windows, *tables]
    if everything is not None and len(found) > 1:
        found = [part for part in found if part is everything or not _covers(everything, _hull(part, shape))]
    return tuple(found)


def _covers(one: Window, other: Window) -> bool:
    return one.starts[0] <= other.starts[0] and one.ends[0] >= other.ends[0]


def _merged(one: Window, other: Window) -> Window:
    """The union of two windows that move at the same rate."""
    if len(one.starts) == len(other.starts) == 1:
        starts, ends = (min(one.starts[0], other.starts[0]),), (max(one.ends[0], other.ends[0]),)
        return Window(one.dim, starts, ends, one.step)
    period = math.lcm(len(one.starts), len(other.starts))
    both = [(one.at(i), other.at(i)) for i in range(period)]
    starts = tuple(min(a[0], b[0]) for a, b in both)
    ends = tuple(max(a[1], b[1]) for a, b in both)
    return _shortest(Window(one.dim, starts, ends, one.step * period // len(one.starts)))


def _merged_tables(tables: Sequence[Table]) -> Table:
    starts, ends = tables[0]
    for table in tables[1:]:
        starts, ends = np.minimum(starts, table.starts), np.maximum(ends, table.ends)
    return Table(starts, ends)


def _table(part: Part, shape: Shape) -> Table:
    """A part as a table, of a tensor of this shape."""
    if isinstance(part, Table):
        return part
    axes = [1] * len(shape)
    if part.dim is None:
        return Table(np.full(axes, part.starts[0]), np.full(axes, part.ends[0]))
    axes[part.dim] = shape[part.dim]
    periods, phase = np.divmod(np.arange(shape[part.dim]), len(part.starts))
    starts = np.array(part.starts)[phase] + periods * part.step
    ends = np.array(part.ends)[phase] + periods * part.step
    return Table(starts.reshape(axes), ends.reshape(axes))


def _plain(table: Table) -> Part:
    """A table without the axes that do not matter, as a window where it is one."""
    starts, ends = table
    for axis, units in enumerate(starts.shape):
        if units > 1:
            one = starts.take([0], axis=axis), ends.take([0], axis=axis)
            if (starts == one[0]).all() and (ends == one[1]).all():
                starts, ends = one
    along = [axis for axis, units in enumerate(starts.shape) if units > 1]
    if not along:
        return Window(None, (int(starts.min()),), (int(ends.max()),), 0)
    if len(along) == 1:
        first, last = starts.ravel(), ends.ravel()
        step = int(first[1] - first[0])
        if (np.diff(first) == step).all() and (last - first == last[0] - first[0]).all():
            return Window(along[0], (int(first[0]),), (int(last[0]),), step)
    return Table(starts, ends)


# What rearranging does to fields


def renumbered(field: Field, order: Sequence[int | None]) -> Field:
    """After axes were moved: `order` gives the old axis of each new one, None for a new axis of any length."""
    back = {old: new for new, old in enumerate(order) if old is not None}
    new_axes = [new for new, old in enumerate(order) if old is None]
    axes = []
    for parts in field.axes:
        found: list[Part] = []
        for part in parts:
            if isinstance(part, Table):
                kept = [old for old in order if old is not None]
                gone = [axis for axis in range(part.starts.ndim) if axis not in back]
                arrays = (array.transpose(kept + gone).reshape([array.shape[old] for old in kept]) for array in part)
                found.append(Table(*(np.expand_dims(array, tuple(new_axes)) for array in arrays)))
            elif part.dim is None or back.get(part.dim) == part.dim:
                found.append(part)
            else:
                found.append(part._replace(dim=back[part.dim]))
        axes.append(tuple(found))
    return Field(tuple(axes), field.exact)


def without(field: Field, dims: Iterable[int], shape: Shape) -> Field:
    """After axes were removed along which the units were mixed, or of which there was one."""
    gone = {dim % len(shape) for dim in dims}
    field = mixed(field, gone, shape)
    return renumbered(field, [dim for dim in range(len(shape)) if dim not in gone])


def aligned(field: Field, before: Shape, after: Shape) -> Field:
    """Of a tensor that is broadcast to another shape."""
    if tuple(before) == tuple(after) or not field.axes:
        return field
    stretched = [dim for dim, (n, m) in enumerate(zip(reversed(before), reversed(after), strict=False)) if n != m]
    field = mixed(field, [len(before) - 1 - dim for dim in stretched], before)
    more = len(after) - len(before)
    return renumbered(field, [None] * more + list(range(len(before)))) if more else field


def reshaped(field: Field, before: Shape, after: Shape) -> Field:
    """After the units of a tensor, in their order, took another shape."""
    groups = _groups(before, after)
    moved: dict[int, int] = {}
    for old, new in groups:
        large_old, large_new = [d for d in old if before[d] > 1], [d for d in new if after[d] > 1]
        if len(large_old) == len(large_new) == 1:
            moved[large_old[0]] = large_new[0]
    exact = field.exact
    axes = []
    for parts in field.axes:
        found: list[Part] = []
        for part in parts:
            if isinstance(part, Window) and (part.dim is None or part.dim in moved):
                found.append(part if part.dim is None else part._replace(dim=moved[part.dim]))
                continue
            if isinstance(part, Window) and before[part.dim or 0] == 1:
                found.append(_hull(part, before))
                continue
            table = _reshaped(_table(part, before), before, after, groups)
            exact &= table is not None
            found.append(_hull(part, before) if table is None else table)
        axes.append(tuple(found))
    return Field(tuple(axes), exact)


def _reshaped(table: Table, before: Shape, after: Shape, groups: list[tuple[list[int], list[int]]]) -> Part | None:
    """A table in another shape, or None where it would be too large."""
    full, shape = [1] * len(before), [1] * len(after)
    for old, new in groups:
        if any(table.starts.shape[d] > 1 for d in old):
            for d in old:
                full[d] = before[d]
            for d in new:
                shape[d] = after[d]
    if math.prod(full) > LARGEST_TABLE:
        return None
    starts, ends = (np.broadcast_to(array, full).reshape(shape) for array in table)
    return _plain(Table(starts, ends))


def _groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes in the shortest runs that hold equally many units."""
    groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        if i < len(before):
            old, i = [i], i + 1
        if j < len(after):
            new, j = [j], j + 1
        a, b = math.prod(before[d] for d in old), math.prod(after[d] for d in new)
        while a != b and (i < len(before) or j < len(after)):
            if (a < b and i < len(before)) or j >= len(after):
                a, i = a * before[i], i + 1
                old.append(i - 1)
            else:
                b, j = b * after[j], j + 1
                new.append(j - 1)
        groups.append((old, new))
    return groups


def joined(fields: Sequence[Field], shapes: Sequence[Shape], dim: int, after: Shape) -> Field:
    """After tensors were joined along an axis."""
    if all(not _along(parts, frozenset([dim])) for field in fields for parts in field.axes):
        return union(fields, after)
    axes = max(len(field.axes) for field in fields)
    exact = all(field.exact for field in fields)
    found: list[Parts] = []
    for i in range(axes):
        pieces = []
        for field, shape in zip(fields, shapes, strict=True):
            parts = field.axes[i] if i < len(field.axes) else ()
            blind = Table(np.full([1] * len(shape), NOWHERE), np.full([1] * len(shape), -NOWHERE))
            pieces.append(_merged_tables([_table(part, shape) for part in parts] or [blind]))
        sizes = [
            [max(column) for column in zip(*(piece.starts.shape for piece in pieces), strict=True)] for _ in shapes
        ]
        for size, shape in zip(sizes, shapes, strict=True):
            size[dim] = shape[dim]
        if math.prod(sizes[0]) * len(sizes) > LARGEST_TABLE:
            hulls = [_hull(piece, shape) for piece, shape in zip(pieces, shapes, strict=True)]
            found.append(_tidy(hulls, after))
            exact = False
            continue
        arrays = (
            np.concatenate([np.broadcast_to(piece[k], size) for piece, size in zip(pieces, sizes, strict=True)], dim)
            for k in (0, 1)
        )
        found.append((_plain(Table(*arrays)),))
    return Field(tuple(found), exact)


def picked(field: Field, dim: int, units: Sequence[int], before: Shape) -> Field:
    """After some units along an axis were chosen, in any order."""
    axes = []
    for parts in field.axes:
        found: list[Part] = []
        for part in parts:
            if isinstance(part, Window) and part.dim != dim:
                found.append(part)
            elif isinstance(part, Window) and isinstance(units, range) and len(units) > 0:
                start, step = units.start, units.step
                found.append(_regrid(part, dim, lambda unit, a=start, s=step: (a + unit * s,), 1, step, before))
            else:
                found.append(_picked(_table(part, before), dim, units, before))
        axes.append(tuple(found))
    return Field(tuple(axes), field.exact)


def _picked(table: Table, dim: int, units: Sequence[int], before: Shape) -> Part:
    if table.starts.shape[dim] == 1:
        return table
    if len(units) == 0:
        return _hull(table, before)
    index = np.asarray(units, dtype=np.int64) % before[dim]
    return _plain(Table(table.starts.take(index, axis=dim), table.ends.take(index, axis=dim)))
