"""The style `volumes`: each map as a box to scale, as the papers draw them, from left to right.

A box is as long as its map has channels, as high as the map, and as deep as the map is wide. Networks of few channels
are drawn map by map, as LeNet-5 was. What has no height and width is a bar.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cnnzoo.drawing.flow import Shape
from cnnzoo.drawing.graph import SIGNS, _sign, _told, arrow, line, sized
from cnnzoo.drawing.layout import Arrangement, Gaps, Point, pieces, sections, series
from cnnzoo.drawing.parts import Card, Frame
from cnnzoo.drawing.svg import element, path, safe, shortened, text, text_width, wrapped
from cnnzoo.drawing.words import followers, name_of, operation

GAPS = Gaps(along=6, across=14, fork=26, lane=16)
NAME, SMALL = 11, 10
LEADING = 13
MARGIN = 18
WIDEST = 1000
HIGHEST, LONGEST, TALLEST_BAR = 140.0, 46.0, 120.0
HIGHEST_BRANCH = 64.0
SHEET, STEP, FEW = 84.0, 3.0, 24
"""Of networks that are drawn map by map: the largest map, how far one stands behind the other, and how many at most."""
SEEN = 5.0
"""Smaller windows are not drawn."""
LABEL = 72
"""How wide the words below a box may be; a name or a size may be wider."""


@dataclass
class Scale:
    """How large things are drawn: pixels of the drawing for a pixel of a map, a channel, and a feature."""

    pixel: float
    channel: float
    feature: float
    sheets: bool

    @classmethod
    def of(cls, shapes: Sequence[Shape], *, chain: bool) -> "Scale":
        maps = [shape for shape in shapes if not is_bar(shape)]
        largest = max((max(as_map(shape)[1:]) for shape in maps), default=1)
        channels = max((as_map(shape)[0] for shape in maps), default=1)
        features = max((features_of(shape) for shape in shapes if is_bar(shape)), default=1)
        sheets = channels <= FEW
        highest = SHEET if sheets else HIGHEST if chain else HIGHEST_BRANCH
        return cls(highest / largest, LONGEST / channels, TALLEST_BAR / features, sheets)


def is_bar(shape: Shape) -> bool:
    """Whether a shape has one axis that is not 1."""
    return len(shape) < 2 or max(shape[1:]) == 1


def features_of(shape: Shape) -> int:
    """The one axis of a bar that is not 1."""
    return shape[0] if shape else 1


def as_map(shape: Shape) -> tuple[int, int, int]:
    """(channels, height, width) of what is drawn as a box; a sequence is a map one pixel wide."""
    channels, height, width, *_ = (*shape, 1, 1)
    return channels, height, width


@dataclass
class Solid:
    """A map as it is drawn, around the point (0, 0) on the axis: its extents, and where its front and back are."""

    shape: Shape
    category: str
    scale: Scale
    segments: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        channels, height, width = as_map(self.shape)
        scale = self.scale
        if is_bar(self.shape):
            self.size = (7.0, max(features_of(self.shape) * scale.feature, 3.0), 4.0, 3.0)
        elif scale.sheets:
            behind = STEP * (channels - 1)
            self.size = (max(width * scale.pixel, 2.0), max(height * scale.pixel, 2.0), behind, behind)
        else:
            depth = width * scale.pixel
            self.size = (max(channels * scale.channel, 2.5), max(height * scale.pixel, 2.5), depth * 0.42, depth * 0.3)

    @property
    def width(self) -> float:
        return self.size[0] + self.size[2]

    @property
    def height(self) -> float:
        return self.size[1] + self.size[3]

    def drawn(self, x: float, y: float) -> str:
        """The box whose left end is at x and whose middle is at y."""
        length, height, dx, dy = self.size
        top = y - self.height / 2 + dy
        if self.scale.sheets and not is_bar(self.shape):
            count = as_map(self.shape)[0]
            return "".join(
                element("rect", x=x + STEP * i, y=top - STEP * i, width=length, height=height, class_=self.category)
                for i in reversed(range(count))
            )
        a, b, c = (x, top), (x + length, top), (x + length, top + height)
        faces = [
            element("path", d=path([a, b, (b[0] + dx, b[1] - dy), (a[0] + dx, a[1] - dy)], closed=True),
                    class_=f"{self.category}-top"),
            element("path", d=path([b, c, (c[0] + dx, c[1] - dy), (b[0] + dx, b[1] - dy)], closed=True),
                    class_=f"{self.category}-side"),
            element("rect", x=x, y=top, width=length, height=height, class_=self.category),
        ]  # fmt: skip
        total = sum(self.segments)
        done = 0
        for channels in self.segments[:-1]:
            done += channels
            at = x + length * done / total
            faces.append(element("path", d=path([(at, top + height), (at, top), (at + dx, top - dy)]),
                                 class_=f"{self.category}-cut"))  # fmt: skip
        return "".join(faces)

    def patch(self, x: float, y: float, kernel: tuple[int, int]) -> list[Point] | None:
        """A window of the map that faces what follows, where it is large enough to see; else None."""
        length, height, dx, dy = self.size
        _, rows, columns = as_map(self.shape)
        share_down, share_across = kernel[0] / rows, kernel[1] / columns
        if is_bar(self.shape) or share_down > 1 or share_across > 1 or max(kernel) * self.scale.pixel < SEEN:
            return None
        top = y - self.height / 2 + dy
        if self.scale.sheets:  # on the first map, to the right
            left, down = x + length * (0.92 - share_across), top + height * min(0.5, 0.92 - share_down)
            right, low = left + length * share_across, down + height * share_down
            return [(left, down), (right, down), (right, low), (left, low)]
        start, begin = 0.5 - share_across / 2, 0.5 - share_down / 2

        def at(across: float, down: float) -> Point:
            return x + length + dx * across, top + height * down - dy * across

        return [
            at(start, begin),
            at(start + share_across, begin),
            at(start + share_across, begin + share_down),
            at(start, begin + share_down),
        ]


@dataclass
class Volume:
    """A card as it is drawn: its map, as often as it stands here (three times at most), and what is written below."""

    card: Card | None
    solid: Solid
    labels: list[tuple[str, str]]
    sign: str = ""
    count: int = 1
    drop: float = 0.0
    kernel: tuple[int, int] | None = None

    @property
    def circle(self) -> bool:
        return bool(self.sign)

    @property
    def shown(self) -> int:
        """How many boxes stand for all that are alike."""
        return min(self.count, 3)

    @property
    def pitch(self) -> float:
        """From one of them to the next."""
        solid = self.solid
        return solid.size[0] + 3 if not solid.scale.sheets else solid.width + 4

    @property
    def drawn_width(self) -> float:
        return 20.0 if self.circle else self.solid.width + (self.shown - 1) * self.pitch

    @property
    def length(self) -> float:
        return self.drawn_width if self.circle else max(self.drawn_width, self.label_width) + 6

    @property
    def label_width(self) -> float:
        return max((text_width(words, _size(kind), bold=kind == "n") for words, kind in self.labels), default=0.0)

    @property
    def half(self) -> float:
        return 10.0 if self.circle else self.solid.height / 2

    @property
    def near(self) -> float:
        return self.half

    @property
    def far(self) -> float:
        return self.half if self.circle else self.drop + 6 + LEADING * len(self.labels)

    def left(self, start: float) -> float:
        """Where the box begins, of a part that begins at `start`."""
        return start + (self.length - self.drawn_width) / 2

    def right(self, start: float) -> float:
        """Where the axis leaves the box: it runs behind the side that faces what follows."""
        end = self.left(start) + self.drawn_width
        return end if self.circle else end - self.solid.size[2] / 2


def _size(kind: str) -> int:
    return NAME if kind == "n" else SMALL


def volumes(frame: Frame, input_shape: Shape) -> tuple[str, float, float]:
    """The elements of the drawing, its width and its height."""
    cards = [card for card in frame.items if isinstance(card, Card)]
    scale = Scale.of([input_shape, *(card.layers[0].output_shape if card.block is None else card.output_shape
                                     for card in cards)], chain=frame.is_chain())  # fmt: skip
    first = Volume(None, Solid(input_shape, "input", scale), [("input", "n"), (sized(input_shape), "s")])
    parts = [first, *(_volume(card, scale) for card in cards)]
    # The input is a part like the others: every edge moves on by one, and the entry now starts from it.
    edges = {(i + 1, j + 1) for i, j in frame.edges} | {(-1, 0)}
    alone = {index for section in sections(len(parts), edges) if len(section) == 1 for index in section}
    branches = max((part.half for index, part in enumerate(parts) if index not in alone), default=0.0)
    for index, part in enumerate(parts):  # what is written stands on one line; in a row, below the highest box of it
        part.drop = part.half if index in alone else branches
    rows = _rows(parts, edges)
    out, y, widest = [], float(MARGIN), 0.0
    end: Point | None = None
    edge = 0.0
    for row in rows:
        whole = series(row, GAPS)
        axis = y + whole.near
        if end is not None:  # from the end of the row before to the start of this one
            turn = y - 10
            stop = (MARGIN + _indent(row), axis)
            points = [end, (edge, end[1]), (edge, turn), (MARGIN - 8, turn), (MARGIN - 8, axis), stop]
            out.append(arrow(points))
        out += _drawn(whole, MARGIN, axis)
        edge = MARGIN + whole.length + 4
        end = (edge - 4 - _outdent(row), axis)
        widest = max(widest, whole.length)
        y = axis + whole.far + 24
    return "".join(out), widest + 2 * MARGIN, y - 24 + MARGIN


def _indent(row: list[Arrangement]) -> float:
    """How far from the start of a row its first box is."""
    first = row[0].places[0][0]
    return first.left(0) if len(row[0].places) == 1 else 0.0


def _outdent(row: list[Arrangement]) -> float:
    """How far from the end of a row its last box is."""
    last = row[-1].places[0][0]
    return last.length - last.right(0) if len(row[-1].places) == 1 else 0.0


def _rows(parts: list[Volume], edges: set[tuple[int, int]]) -> list[list[Arrangement]]:
    """What stands in series, in as many rows as its length takes."""
    room = WIDEST - 2 * MARGIN
    everything = pieces(parts, edges, GAPS)
    total = sum(one.length + GAPS.along for one in everything)
    count = max(1, -(-int(total) // room))
    while True:
        rows: list[list[Arrangement]] = [[]]
        aim = min(room, total / count * 1.06 + 20)
        used = 0.0
        for one in everything:
            if rows[-1] and used + one.length + GAPS.along > aim and len(rows) < count:
                rows.append([])
                used = 0.0
            rows[-1].append(one)
            used += one.length + GAPS.along
        if used <= room + GAPS.along or count > len(everything):
            break
        count += 1
    for row in rows:
        alone = [place[0] for one in row if len(one.places) == 1 for place in one.places]
        drop = max((part.half for part in alone), default=0.0)
        for one in row:
            if len(one.places) == 1:
                one.places[0][0].drop = drop
                one.far = one.places[0][0].far
    return rows


def _volume(card: Card, scale: Scale) -> Volume:
    main = card.main
    if card.category == "join" and card.kind in SIGNS:
        return Volume(card, Solid(card.output_shape, "join", scale), [], sign=SIGNS[card.kind])
    name = shortened(name_of(card), NAME, 1.5 * LABEL, bold=True)
    labels = [(name, "n")] if name else []
    labels.append((sized(card.output_shape), "s"))
    said = [*operation(card), *followers(card)]
    labels += [(line, "k") for words in said for line in wrapped(words, LABEL, SMALL)]
    solid = Solid(card.output_shape, card.category, scale, card.joined)
    kernel = getattr(main.module, "kernel_size", None) if card.block is None else None
    pair = (kernel, kernel) if isinstance(kernel, int) else kernel
    kernel = pair if isinstance(pair, tuple) and len(pair) == 2 else None
    return Volume(card, solid, labels, count=card.count, kernel=kernel)


def _drawn(whole: Arrangement, x: float, y: float) -> list[str]:
    """Lines from box to box, then the boxes with what is written below them, then windows and what becomes of them."""
    begins = {_key(along, across): (part, along) for part, along, across in whole.places}
    ends = {_key(along + part.length, across): (part, along) for part, along, across in whole.places}
    lines, bodies, rays = [], [], []
    for one in whole.lines:
        points = [(x + along, y + across) for along, across in one.points]
        source, target = ends.get(_key(*one.points[0])), begins.get(_key(*one.points[-1]))
        if source:
            points[0] = (x + source[0].right(source[1]), points[0][1])
        if target:
            points[-1] = (x + target[0].left(target[1]), points[-1][1])
        seen = _rays(*source, *target, x, points[-1][1]) if source and target else ""
        if seen:
            rays.append(seen)
        else:
            lines.append(arrow(points) if target or one.arrow else line(points))
    for part, along, across in whole.places:
        draw = _circle if part.circle else _body
        bodies.append(draw(part, x + along, y + across))
    return lines + bodies + rays


def _key(along: float, across: float) -> tuple[float, float]:
    return round(along, 2), round(across, 2)


def _rays(before: Volume, at: float, part: Volume, start: float, x: float, axis: float) -> str:
    """The window of a convolution or pooling on the map before, and what it becomes: a unit of this one."""
    if part.kernel is None or before.circle:
        return ""
    last = x + before.left(at) + (before.shown - 1) * before.pitch
    patch = before.solid.patch(last, axis, part.kernel)
    if patch is None:
        return ""
    x, y, size = x + part.left(start), axis, 0.0
    if part.solid.scale.sheets and not is_bar(part.solid.shape):  # a unit of the first map
        length, height, _, behind = part.solid.size
        size = min(4.0, length / 3)
        x, y = x + (length - size) * 0.3, axis + behind / 2 - height * 0.2
    unit = element("rect", x=x, y=y - size / 2, width=size, height=size, class_="window") if size else ""
    ends = (y - size / 2, y + size / 2)
    lines = [
        element("path", d=path([corner, (x, end)]), class_="ray") for corner, end in zip(patch[1:3], ends, strict=True)
    ]
    return element("path", d=path(patch, closed=True), class_="window") + "".join(lines) + unit


def _circle(part: Volume, x: float, y: float) -> str:
    assert part.card is not None
    content = [
        element("title", safe(_told(part.card))),
        element("circle", cx=x + 10, cy=y, r=10, class_="plus"),
        element("path", d=_sign(part.sign, x + 10, y), class_="line"),
    ]
    return element("g", "".join(content), class_="node")


def _body(part: Volume, x: float, y: float) -> str:
    left = part.left(x)
    content = [element("title", safe(_told(part.card)))] if part.card is not None else []
    for index in range(part.shown):
        content.append(part.solid.drawn(left + index * part.pitch, y))
    middle = x + part.length / 2
    for index, (words, kind) in enumerate(part.labels):
        content.append(text(middle, y + part.drop + 6 + LEADING * (index + 0.75), words, kind, "m"))
    return element("g", "".join(content), class_="node")
