"""Where the parts of a drawing stand: one after the other along the flow, branches side by side.

Positions are (along, across): along the flow from the start, across it from the axis on which the flow runs. Whoever
draws turns them into x and y. A chain of parts that branches and joins is laid out by taking it apart: where every path
must pass, the parts stand in series; between, those that have nothing to do with each other stand side by side. What
cannot be taken apart so, such as a block whose every layer sees all before it, stands in one line with the other
connections beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

Edges = set[tuple[int, int]]
Point = tuple[float, float]


class Part(Protocol):
    """What is laid out.

    Attributes:
        length: its extent along the flow.
        near: its extent from the axis to one side (left or up).
        far: to the other side.
        circle: whether it is a small circle, which a connection may reach from its far side.
    """

    @property
    def length(self) -> float: ...

    @property
    def near(self) -> float: ...

    @property
    def far(self) -> float: ...

    @property
    def circle(self) -> bool: ...


@dataclass
class Gaps:
    """Distances.

    Attributes:
        along: between parts in a row.
        across: between branches.
        fork: where branches part and where they meet.
        lane: between connections side by side.
    """

    along: float
    across: float
    fork: float
    lane: float


@dataclass
class Line:
    """A connection through some points; `arrow` where it reaches a part."""

    points: list[Point]
    arrow: bool = False


@dataclass
class Arrangement:
    """Parts with their places, (along of the start, across of the axis), and the lines between them."""

    length: float = 0.0
    near: float = 0.0
    far: float = 0.0
    places: list[tuple[Any, float, float]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    pending: list[Line] = field(default_factory=list)  # shortcuts that end in the circle which follows

    def add(self, other: "Arrangement", along: float, across: float) -> None:
        """Put another arrangement into this one."""
        self.places += [(part, a + along, b + across) for part, a, b in other.places]
        for line in other.lines:
            self.lines.append(Line([(a + along, b + across) for a, b in line.points], line.arrow))
        self.near = max(self.near, other.near - across)
        self.far = max(self.far, other.far + across)


def sections(count: int, edges: Edges) -> list[list[int]]:
    """The parts in series: a list of one for each that every path passes, and between those lists of the others."""
    jumped = [0] * (count + 2)
    for i, j in edges:
        if j - i > 1:
            jumped[i + 1] += 1
            jumped[j] -= 1
    found: list[list[int]] = []
    depth = 0
    between: list[int] = []
    for index in range(count):
        depth += jumped[index]
        if depth:
            between.append(index)
            continue
        if between:
            found.append(between)
        between = []
        found.append([index])
    return [*found, between] if between else found


def arrange(parts: Sequence[Part], edges: Edges, gaps: Gaps) -> Arrangement:
    """Lay out parts, given in an order in which they could run."""
    return series(pieces(parts, edges, gaps), gaps)


def pieces(parts: Sequence[Part], edges: Edges, gaps: Gaps) -> list[Arrangement]:
    """The arrangements that stand one after the other."""
    edges = {(i, j) for i, j in edges if i < j}
    cut = sections(len(parts), edges)
    made = []
    for place, section in enumerate(cut):
        before = cut[place - 1][-1] if place else -1
        after = cut[place + 1][0] if place + 1 < len(cut) else len(parts)
        if len(section) == 1 and not any(i < section[0] < j for i, j in edges):
            made.append(_single(parts[section[0]]))
        else:
            sink = parts[after] if after < len(parts) else None
            bypass = (before, after) in edges
            made.append(_branches(parts, section, edges, bypass, sink, gaps))
    return made


def _single(part: Part) -> Arrangement:
    return Arrangement(part.length, part.near, part.far, [(part, 0.0, 0.0)])


def series(arrangements: Sequence[Arrangement], gaps: Gaps) -> Arrangement:
    """One after the other, joined by arrows."""
    whole = Arrangement()
    along = 0.0
    pending: list[Line] = []
    for index, one in enumerate(arrangements):
        single = len(one.places) == 1 and not one.lines
        if index:
            forked = not single or (len(arrangements[index - 1].places) != 1 or arrangements[index - 1].lines)
            gap = gaps.along if not forked else gaps.along * 0.6
            whole.lines.append(Line([(along, 0.0), (along + gap, 0.0)], arrow=single))
            along += gap
        if pending and single:
            part = one.places[0][0]
            middle = along + part.length / 2
            for line in pending:
                lane = line.points[-1][1]
                whole.lines.append(Line([*line.points[:-1], (middle, lane), (middle, part.far)], arrow=True))
        whole.add(one, along, 0.0)
        pending = [Line([(a + along, b) for a, b in line.points]) for line in one.pending]
        along += one.length
    whole.length = along
    return whole


def _branches(
    parts: Sequence[Part], section: list[int], edges: Edges, bypass: bool, sink: Part | None, gaps: Gaps
) -> Arrangement:
    columns = _components(section, edges)
    if len(columns) == 1 and not bypass:
        return _in_line(parts, section, edges, gaps)
    made = [_column(parts, column, edges, gaps) for column in columns]
    circle = sink is not None and sink.circle
    length = max(one.length for one in made)
    centres = [0.0]
    for one, after in pairwise(made):
        centres.append(centres[-1] + one.far + gaps.across + after.near)
    shift = 0.0 if circle else -centres[-1] / 2
    fork = gaps.fork
    whole = Arrangement(length + fork + (6 if circle else fork))
    level = fork / 2  # where the lines part and meet
    for index, (one, centre) in enumerate(zip(made, centres, strict=True)):
        across = centre + shift
        along = fork + (0 if circle and index == 0 else (length - one.length) / 2)
        start = (
            [(0.0, 0.0), (along, 0.0)] if across == 0 else [(0.0, 0.0), (level, 0.0), (level, across), (along, across)]
        )
        whole.lines.append(Line(start, arrow=_starts_with_part(one)))
        whole.add(one, along, across)
        end = along + one.length
        if across == 0:
            whole.lines.append(Line([(end, 0.0), (whole.length, 0.0)]))
        elif circle:
            whole.pending.append(Line([(end, across), (whole.length, across)]))
        else:
            meet = whole.length - level
            whole.lines.append(Line([(end, across), (meet, across), (meet, 0.0), (whole.length, 0.0)]))
    if bypass:
        lane = whole.far + gaps.lane
        whole.far = lane
        if circle:
            whole.pending.append(Line([(0.0, 0.0), (level, 0.0), (level, lane), (whole.length, lane)]))
        else:
            meet = whole.length - level
            whole.lines.append(
                Line([(0.0, 0.0), (level, 0.0), (level, lane), (meet, lane), (meet, 0.0), (whole.length, 0.0)])
            )
    return whole


def _starts_with_part(one: Arrangement) -> bool:
    return any(along == 0 and across == 0 for _, along, across in one.places)


def _components(section: list[int], edges: Edges) -> list[list[int]]:
    """Parts that feed each other, directly or not, together, in the order of their first ones."""
    inside = set(section)
    root = {index: index for index in section}

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for i, j in edges:
        if i in inside and j in inside:
            a, b = sorted((find(i), find(j)))
            root[b] = a
    found: dict[int, list[int]] = {}
    for index in section:
        found.setdefault(find(index), []).append(index)
    return list(found.values())


def _column(parts: Sequence[Part], column: list[int], edges: Edges, gaps: Gaps) -> Arrangement:
    """A branch by itself: what feeds it from outside is its entry, and what it feeds its end."""
    place = {index: position for position, index in enumerate(column)}
    end = len(column)
    own = {(place.get(i, -1), place.get(j, end)) for i, j in edges if i in place or j in place}
    return arrange([parts[index] for index in column], own, gaps)


def _in_line(parts: Sequence[Part], section: list[int], edges: Edges, gaps: Gaps) -> Arrangement:
    """Parts that cannot be taken apart, in one line: a part feeds the next on the axis, all others by a lane beside."""
    place = {index: position for position, index in enumerate(section)}
    end = len(section)
    own = {(place.get(i, -1), place.get(j, end)) for i, j in edges if i in place or j in place}
    whole = Arrangement()
    starts: list[float] = []
    along = gaps.fork
    for index in section:
        part = parts[index]
        starts.append(along)
        whole.add(_single(part), along, 0.0)
        along += part.length + gaps.along
    whole.length = along - gaps.along + gaps.fork
    ends = [start + parts[index].length for start, index in zip(starts, section, strict=True)]

    lanes: list[int] = []  # where the last source of each lane ends
    middle = gaps.lane / 2
    far = max(parts[index].far for index in section)
    for source in range(-1, end):
        targets = sorted(j for i, j in own if i == source)
        if source + 1 in targets:
            start = ends[source] if source >= 0 else 0.0
            stop = starts[source + 1] if source + 1 < end else whole.length
            whole.lines.append(Line([(start, 0.0), (stop, 0.0)], arrow=source + 1 < end))
            targets.remove(source + 1)
        if not targets:
            continue
        number = next((n for n, last in enumerate(lanes) if last <= source), len(lanes))
        lanes[number : number + 1] = [targets[-1]]
        lane = far + gaps.lane * (number + 1)
        whole.far = max(whole.far, lane)
        if source >= 0:
            leave = (ends[source] - min(8, parts[section[source]].length / 4), parts[section[source]].far)
            begin = [leave, (leave[0], lane)]
        else:
            begin = [(0.0, 0.0), (gaps.fork / 2, 0.0), (gaps.fork / 2, lane)]
        for target in targets:
            if target < end:
                part = parts[section[target]]
                reach = starts[target] + min(8, part.length / 4)
                whole.lines.append(Line([*begin, (reach, lane), (reach, part.far)], arrow=True))
            else:
                meet = whole.length - middle
                whole.lines.append(Line([*begin, (meet, lane), (meet, 0.0), (whole.length, 0.0)]))
    return whole
