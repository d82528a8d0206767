"""The style `graph`: every layer a node with its name, kind, output shape and parameters, from top to bottom."""

from dataclasses import dataclass, field

from cnnzoo.drawing.flow import Layer, Shape
from cnnzoo.drawing.layout import Arrangement, Gaps, Line, arrange
from cnnzoo.drawing.parts import Card, Frame, Item, detail
from cnnzoo.drawing.svg import element, number, path, safe, shortened, text, text_width

GAPS = Gaps(along=22, across=16, fork=26, lane=16)
NAME, SMALL = 11, 10
PAD = 8
STRIP = 15
HEADER = 20
MARGIN = 16
WIDEST = 1000
SIGNS = {"add": "+", "radd": "+", "sub": "–", "rsub": "–", "mul": "×", "rmul": "×"}
ROOM = 10
"""Between the border of a frame and what is in it."""


def sized(shape: Shape) -> str:
    """A shape as papers print it."""
    return "×".join(map(str, shape)) or "1"


@dataclass
class Node:
    """A card as it is drawn.

    Attributes:
        title: name, relative to the frame around it.
        lines: what stands below: (left, right) of each line.
        strips: (name, kind, parameters) of each layer that only follows.
    """

    card: Card
    title: str
    kind: str
    shape: str
    params: str
    strips: list[tuple[str, str]]
    width: float = 0.0
    tall: bool = False
    circle: bool = False

    @property
    def head(self) -> float:
        """The height of the part that the card is about; a layer that follows nothing is a strip alone."""
        if self.circle:
            return 22
        if self.card.category == "light" and self.card.block is None:
            return STRIP + 3
        if self.card.category == "join":
            return 34 if self.tall else 22
        return 46 if self.tall else 34

    @property
    def length(self) -> float:
        return self.head + STRIP * len(self.strips)

    @property
    def near(self) -> float:
        if self.circle:  # its words stand to its left
            return 11 + 5 + text_width(self.words, SMALL)
        return self.width / 2

    @property
    def far(self) -> float:
        return 11 if self.circle else self.width / 2

    @property
    def words(self) -> str:
        """What stands beside a circle."""
        return f"{self.kind} {self.shape}"

    def wanted(self) -> float:
        """The width at which name and kind stand in one line."""
        if self.circle:
            return 0
        lines = [text_width(self.title, NAME, bold=True) + text_width(self.kind, SMALL)]
        lines.append(text_width(self.shape, SMALL) + text_width(self.params, SMALL))
        lines += [text_width(left, SMALL) + text_width(right, SMALL) for left, right in self.strips]
        return max(lines) + 2 * PAD + 10

    def needed(self) -> float:
        """The width at which nothing but the name is shortened."""
        if self.circle:
            return 0
        lines = [text_width(self.kind, SMALL)]
        lines.append(text_width(self.shape, SMALL) + text_width(self.params, SMALL) + 10)
        lines += [text_width(left, SMALL) for left, right in self.strips]
        return max(lines) + 2 * PAD


@dataclass
class Box:
    """A frame as it is drawn: a header, and what is arranged below it."""

    frame: Frame
    title: str
    kind: str
    inner: Arrangement
    near: float = 0.0
    far: float = 0.0
    circle: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.near, self.far = self.inner.near + ROOM, self.inner.far + ROOM
        wanted = text_width(self.title, NAME, bold=True) + text_width(self.kind, SMALL) + text_width(self.params, SMALL)
        missing = wanted + 2 * PAD + 20 - self.near - self.far
        if missing > 0:
            self.near, self.far = self.near + missing / 2, self.far + missing / 2

    @property
    def params(self) -> str:
        return f"{self.frame.params:,}" if self.frame.params else ""

    @property
    def length(self) -> float:
        return HEADER + self.inner.length + ROOM / 2


def graph(frame: Frame, input_shape: Shape) -> tuple[str, float, float]:
    """The elements of the drawing, its width and its height."""
    nodes = {card: node(card, inside) for card, inside in _cards(frame)}
    _fit(list(nodes.values()), narrow=False)
    whole = _arranged(frame, nodes)
    if whole.near + whole.far > WIDEST - 2 * MARGIN:
        _fit(list(nodes.values()), narrow=True)
        whole = _arranged(frame, nodes)
    words = f"input {sized(input_shape)}"
    room = text_width(words, SMALL) / 2 + PAD
    near, far = max(whole.near, room), max(whole.far, room)
    x, y = MARGIN + near, MARGIN
    out = [
        element("rect", x=x - room, y=y, width=2 * room, height=20, rx=10, class_="input"),
        text(x, y + 13.5, words, "s", "m"),
        arrow([(x, y + 20), (x, y + 20 + GAPS.along)])
        if _begins(whole)
        else line([(x, y + 20), (x, y + 20 + GAPS.along)]),
    ]
    out += _drawn(whole, x, y + 20 + GAPS.along)
    return "".join(out), near + far + 2 * MARGIN, y + 20 + GAPS.along + whole.length + MARGIN


def _begins(whole: Arrangement) -> bool:
    return any(along == 0 and across == 0 for _, along, across in whole.places)


def _cards(frame: Frame) -> list[tuple[Card, Frame]]:
    found: list[tuple[Card, Frame]] = []
    for item in frame.items:
        found += _cards(item) if isinstance(item, Frame) else [(item, frame)]
    return found


def relative(name: str, frame: Frame) -> str:
    """A name without the name of the frame around it; a mere number keeps the last part of it."""
    short = name.removeprefix(f"{frame.name}.") if frame.block is not None else name
    return f"{frame.name.rpartition('.')[2]}.{short}" if short.isdigit() and frame.block is not None else short


def node(card: Card, frame: Frame) -> Node:
    """What is written on a card."""
    kind = f"{card.kind} {detail(card.main.module)}".strip() if card.block is None else card.kind
    title = relative(card.name, frame)
    if not title:  # a function has no name of its own
        title, kind = card.kind, ""
    if card.count > 1:
        title += f" – {relative(card.last, frame).rpartition('.')[2]}"
        kind = f"{card.count} × {kind}"
    params = f"{sum(layer.params for layer in card.layers):,}"
    strips = [strip(layer, card) for layer in card.followers]
    circle = card.category == "join" and card.kind in SIGNS
    if circle:
        kind = card.kind.removeprefix("r")
    return Node(card, title, kind, sized(card.output_shape), "" if params == "0" else params, strips, circle=circle)


def strip(layer: Layer, card: Card) -> tuple[str, str]:
    """What is written of a layer that only follows."""
    name = layer.name.rpartition(".")[2]
    words = f"{name} {layer.kind}" if name else layer.kind
    if layer.output_shape != layer.input_shape:
        return words, sized(layer.output_shape)
    return words, f"{layer.params:,}" if layer.params else ""


def _fit(nodes: list[Node], *, narrow: bool) -> None:
    """One width for all cards: that of the widest within reason, or that which the numbers need."""
    wide = max((one.wanted() for one in nodes), default=0)
    need = max((one.needed() for one in nodes), default=0)
    tall = narrow or wide > 230
    names = max((text_width(one.title, NAME, bold=True) + 2 * PAD for one in nodes), default=0)
    width = min(max(need, 112, 0 if narrow else names), 190) if tall else max(wide, 140)
    for one in nodes:
        one.width, one.tall = width, tall


def _arranged(frame: Frame, nodes: dict[Card, Node]) -> Arrangement:
    def part(item: Item) -> Node | Box:
        return nodes[item] if isinstance(item, Card) else _box(item, nodes)

    return arrange([part(item) for item in frame.items], frame.edges, GAPS)


def _box(frame: Frame, nodes: dict[Card, Node]) -> Box:
    inner = _arranged(frame, nodes)
    whole = Arrangement(near=inner.near, far=inner.far)
    lead = 16 if _begins(inner) else 0
    if lead:
        whole.lines.append(Line([(0, 0), (lead, 0)], arrow=True))
    whole.add(inner, lead, 0)
    whole.length = lead + inner.length + 10
    whole.lines.append(Line([(lead + inner.length, 0), (whole.length + ROOM / 2, 0)]))
    title = frame.name
    if frame.count > 1:
        title += f" – {frame.last.rpartition('.')[2]}"
    return Box(frame, title, f"{frame.count} × {frame.kind}" if frame.count > 1 else frame.kind, whole)


def _drawn(whole: Arrangement, x: float, y: float) -> list[str]:
    """Frames first, then lines, then cards, so that nothing hides what stands before it."""
    frames, cards = [], []
    for part, along, across in whole.places:
        if isinstance(part, Box):
            frames += _frame(part, x + across, y + along)
        else:
            cards += _card(part, x + across, y + along)
    lines = []
    for one in whole.lines:
        points = [(x + across, y + along) for along, across in one.points]
        lines.append(arrow(points) if one.arrow else line(points))
    return frames + lines + cards


def line(points: list[tuple[float, float]]) -> str:
    """A connection."""
    return element("path", d=path(points, 7), class_="line")


def arrow(points: list[tuple[float, float]]) -> str:
    """A connection with its head."""
    (x0, y0), (x, y) = points[-2], points[-1]
    length = ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5 or 1
    ux, uy = (x - x0) / length, (y - y0) / length
    back = (x - 6 * ux, y - 6 * uy)
    head = [(x, y), (back[0] - 3.2 * uy, back[1] + 3.2 * ux), (back[0] + 3.2 * uy, back[1] - 3.2 * ux)]
    return line([*points[:-1], back]) + element("path", d=path(head, closed=True), class_="head")


def _frame(box: Box, x: float, y: float) -> list[str]:
    left, width = x - box.near, box.near + box.far
    out = [
        element("rect", x=left, y=y, width=width, height=box.length, rx=6, class_="frame"),
        element("path", d=_header(left, y, width), class_="light"),
        text(left + PAD, y + 14, box.title, "n"),
        text(left + PAD + text_width(box.title, NAME, bold=True) + 6, y + 14, box.kind, "k"),
    ]
    if box.params:
        out.append(text(left + width - PAD, y + 14, box.params, "k", "e"))
    return [*out, *_drawn(box.inner, x, y + HEADER)]


def _header(x: float, y: float, width: float) -> str:
    n = number
    return (
        f"M{n(x)} {n(y + HEADER)}V{n(y + 6)}Q{n(x)} {n(y)} {n(x + 6)} {n(y)}H{n(x + width - 6)}"
        f"Q{n(x + width)} {n(y)} {n(x + width)} {n(y + 6)}V{n(y + HEADER)}Z"
    )


def _card(one: Node, x: float, y: float) -> list[str]:
    left, width, card = x - one.width / 2, one.width, one.card
    title = element("title", safe(_told(card)))
    if one.circle:
        content = [
            title,
            element("circle", cx=x, cy=y + 11, r=11, class_="plus"),
            element("path", d=_sign(SIGNS[card.kind], x, y + 11), class_="line"),
            text(x - 16, y + 14.5, one.words, "k", "e"),
        ]
        return [element("g", "".join(content), class_="node")]
    room = width - 2 * PAD
    body = [title, element("rect", x=left, y=y, width=width, height=one.length, rx=5, class_="light")]
    right = left + width - PAD
    light = card.category == "light" and card.block is None
    if light:
        words, value = strip(card.main, card)
        body += _pair(left + PAD, right, y + 13, words, value, "s", room)
    elif card.category == "join":
        body.append(element("rect", x=left, y=y, width=width, height=one.head, rx=5, class_="join"))
        said = "concatenate" if one.title in ("cat", "concat", "concatenate") else one.title
        if one.tall:
            body += [text(x, y + 14, said, "n", "m"), text(x, y + 27, one.shape, "s", "m")]
        else:
            body += _pair(left + PAD, right, y + 15, said, one.shape, "n", room)
    else:
        body.append(element("rect", x=left, y=y, width=width, height=one.head, rx=5, class_=card.category))
        if one.tall:
            name = shortened(one.title, NAME, room, bold=True)
            body.append(text(left + PAD, y + 14, name, "n"))
            body += [text(left + PAD, y + 27, _cut(one.kind, room), "k")] if one.kind else []
        else:
            body.append(text(left + PAD, y + 14, one.title, "n"))
            body += [text(right, y + 14, one.kind, "k", "e")] if one.kind else []
        base = y + one.head - 7
        body.append(text(left + PAD, base, one.shape, "s"))
        if one.params:
            body.append(text(right, base, one.params, "s", "e"))
    for index, (words, value) in enumerate(one.strips):
        base = y + one.head + STRIP * index + 11
        body += _pair(left + PAD, right, base, words, value, "k", room)
    return [element("g", "".join(body), class_="node")]


def _pair(left: float, right: float, base: float, words: str, value: str, kind: str, room: float) -> list[str]:
    """Words and, where there is room for it, a value at the end of the line."""
    bold = kind == "n"
    size = NAME if bold else SMALL
    if value and text_width(words, size, bold=bold) + text_width(value, SMALL) + 6 > room:
        value = ""
    out = [text(left, base, _cut(words, room, size, bold=bold), kind)]
    return [*out, text(right, base, value, "s" if bold else kind, "e")] if value else out


def _cut(words: str, room: float, size: float = SMALL, *, bold: bool = False) -> str:
    """A text that may lose its end."""
    if text_width(words, size, bold=bold) <= room:
        return words
    while words and text_width(words + "…", size, bold=bold) > room:
        words = words[:-1]
    return words + "…"


def _sign(sign: str, x: float, y: float) -> str:
    n, r = number, 5
    flat = f"M{n(x - r)} {n(y)}H{n(x + r)}"
    if sign == "+":
        return f"{flat}M{n(x)} {n(y - r)}V{n(y + r)}"
    d = 3.6
    cross = f"M{n(x - d)} {n(y - d)}L{n(x + d)} {n(y + d)}M{n(x - d)} {n(y + d)}L{n(x + d)} {n(y - d)}"
    return cross if sign == "×" else flat


def _told(card: Card) -> str:
    """All that is known of a card's layers, a line for each; what a pointer that rests on it shows."""
    if card.block is not None:
        lines = [f"{card.name} {card.kind}: {sized(card.layers[0].input_shape)} to {sized(card.output_shape)}"]
        lines[0] += f", {card.params:,} parameters"
    else:
        lines = []
    for layer in card.followers if card.block is not None else card.every_layer():
        words = " ".join(filter(None, (layer.name, layer.kind, detail(layer.module))))
        line = f"{words}: {sized(layer.input_shape)} to {sized(layer.output_shape)}"
        lines.append(line + (f", {layer.params:,} parameters" if layer.params else ""))
    return "\n".join(lines)
