"""What a drawing consists of: cards (a layer and what only follows it) and frames (a block with its parts inside)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from torch import nn

from cnnzoo.drawing.flow import Call, Layer, Shape

ENTRY = -1
"""Where what a frame is given comes from, in its edges; the number of its parts is where its output goes."""


def words(names: str) -> list[str]:
    """Names that spaces separate."""
    return names.split()


LARGEST_BRANCH = 16
"""Cards that a block beside others may have without a frame of its own."""

_CATEGORIES = (  # the first one that has a function of the layer is the layer's
    ("conv", "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
    (
        "linear",
        "linear bilinear addmm matmul rmatmul bmm baddbmm einsum multi_head_attention_forward "
        "scaled_dot_product_attention embedding cdist",
    ),
    (
        "pool",
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool2d",
    ),
    ("join", "cat concat stack"),
)
CATEGORY = {name: category for category, names in _CATEGORIES for name in words(names)}

ARITHMETIC = frozenset(words("add radd sub rsub mul rmul div truediv rtruediv pow maximum minimum where"))
RESHAPING = frozenset(words("flatten view reshape permute transpose t movedim swapaxes unflatten ravel"))
REDUCING = frozenset(words("mean sum amax amin norm"))


def category_of(layer: Layer) -> str:
    """Of what sort a layer is, which gives it its colour: conv, linear, pool, join, light or other."""
    found = {CATEGORY.get(function) for function in layer.functions}
    for category, _ in _CATEGORIES:
        if category in found and not (category == "join" and layer.module is not None):
            return category
    if layer.module is None and len(layer.inputs) > 1 and layer.functions[0] in ARITHMETIC:
        return "join"
    if layer.functions[0] in REDUCING and len(layer.input_shape) == 3:
        return "pool"
    if layer.functions[0] in RESHAPING or layer.input_shape == layer.output_shape:
        return "light"
    return "linear" if len(layer.output_shape) == 1 else "other"


@dataclass(eq=False)
class Card:
    """A layer with those that only follow it (normalisation, activation, dropout), or a block that is closed.

    Attributes:
        name: of the layer or block in the model.
        category: what gives it its colour.
        layers: in order; those of a closed block are all of them.
        block: the container that is closed, or None.
        followers: the layers that only follow it.
        count: how many alike stand in a row here, of which this is the first.
        last: the name of the last of them.
    """

    name: str
    category: str
    layers: list[Layer]
    block: nn.Module | None = None
    followers: list[Layer] = field(default_factory=list)
    count: int = 1
    last: str = ""

    @property
    def main(self) -> Layer:
        """The layer that the card is about; of a block its last."""
        return self.layers[-1] if self.block is not None else self.layers[0]

    @property
    def kind(self) -> str:
        """The class of the layer or block, or torch's name of the function."""
        return self.main.kind if self.block is None else type(self.block).__name__

    @property
    def params(self) -> int:
        """Numbers in all parameters of the card's layers."""
        return sum(layer.params for layer in self.layers)

    @property
    def output_shape(self) -> Shape:
        return self.main.output_shape

    @property
    def joined(self) -> list[int]:
        """The channels of what is concatenated into its output, if that is how it comes about."""
        sources = self.main.inputs if self.main.functions[-1] in ("cat", "concat") else []
        channels = [source.output_shape[0] for source in sources if source is not None and source.output_shape]
        return channels if sum(channels) == self.output_shape[0] else []

    def every_layer(self) -> list[Layer]:
        return self.layers + self.followers

    def signature(self) -> Any:
        """What two cards share that do the same to the same shapes."""
        own = (self.kind, self.category, len(self.followers))
        return own + tuple(
            (layer.kind, detail(layer.module), layer.input_shape, layer.output_shape) for layer in self.every_layer()
        )


@dataclass(eq=False)
class Frame:
    """A block that is open: its parts, and which feeds which."""

    name: str
    kind: str
    items: list["Item"]
    edges: set[tuple[int, int]] = field(default_factory=set)
    count: int = 1
    last: str = ""
    block: nn.Module | None = None

    def every_layer(self) -> list[Layer]:
        return [layer for item in self.items for layer in item.every_layer()]

    def signature(self) -> Any:
        return (self.kind, tuple(item.signature() for item in self.items), frozenset(self.edges))

    @property
    def params(self) -> int:
        """Numbers in all parameters of one of it."""
        return sum(layer.params for layer in self.every_layer())

    def cards(self) -> list["Item"]:
        """All that is in it and in the frames within it; several blocks alike stay together."""
        within = [item.cards() if isinstance(item, Frame) and item.count == 1 else [item] for item in self.items]
        return [item for items in within for item in items]

    def is_chain(self) -> bool:
        """Whether every part feeds the next and nothing else."""
        return self.edges == {(i - 1, i) for i in range(len(self.items) + 1)}


Item = Card | Frame
Closed = Callable[["Group", int], bool]


@dataclass(eq=False)
class Group:
    """A call of a container, with the layers and calls inside it in the order in which they ran."""

    call: Call | None
    children: list[Union["Group", Layer]] = field(default_factory=list)

    def every_layer(self) -> list[Layer]:
        return [
            layer for child in self.children for layer in (child.every_layer() if isinstance(child, Group) else [child])
        ]

    def heavy(self) -> int:
        """How many of its layers compute a map from a map."""
        return sum(category_of(layer) in ("conv", "linear", "pool") for layer in self.every_layer())


def grouped(layers: Iterable[Layer]) -> Group:
    """The tree of the calls: its root holds what the model's own `forward` ran."""
    root = Group(None)
    groups: dict[Call, Group] = {}
    for layer in layers:
        here = root
        for call in layer.parents[1:]:
            if call not in groups:
                groups[call] = Group(call)
                here.children.append(groups[call])
            here = groups[call]
        here.children.append(layer)
    return root


def assembled(layers: Sequence[Layer], name: str, closed: Closed, *, volumes: bool) -> Frame:
    """The whole model as a frame.

    Args:
        layers: of the model, in the order in which they ran.
        name: of the model.
        closed: whether a container, so many levels below the model, is drawn as one card.
        volumes: every open block is dissolved, so that maps alone remain.
    """
    root = grouped(layers)
    if closed(root, 0) and layers[0].parents:
        frame = Frame("", name, [Card(name, "block", list(layers), block=layers[0].parents[0].module)])
        frame.edges = {(ENTRY, 0), (0, 1)}
        return frame
    return _Assembly(layers, closed, volumes).frame(root, "", type(None), 0)


class _Assembly:
    def __init__(self, layers: Sequence[Layer], closed: Closed, volumes: bool) -> None:
        self.closed, self.volumes = closed, volumes
        self.inputs = {layer: list(layer.inputs) for layer in layers}
        self.consumed: dict[Layer | None, list[Layer]] = {}
        for layer in layers:
            for source in layer.inputs:
                self.consumed.setdefault(source, []).append(layer)

    def item(self, child: Group | Layer, level: int) -> Item:
        if isinstance(child, Layer):
            return Card(child.name, category_of(child), [child])
        assert child.call is not None
        if self.closed(child, level):
            return Card(child.call.name, "block", child.every_layer(), block=child.call.module)
        return self.frame(child, child.call.name, type(child.call.module), level, child.call.module)

    def frame(self, group: Group, name: str, kind: type, level: int, block: nn.Module | None = None) -> Frame:
        frame = Frame(name, kind.__name__, [self.item(child, level + 1) for child in group.children], block=block)
        self.connect(frame)
        self.dissolve(frame)
        self.attach(frame)
        self.gather(frame)
        return frame

    def connect(self, frame: Frame) -> None:
        """Its edges, from those between layers."""
        owner: dict[Layer | None, int] = {
            layer: index for index, item in enumerate(frame.items) for layer in item.every_layer()
        }
        end = len(frame.items)
        frame.edges = set()
        for layer, index in owner.items():
            assert layer is not None
            for source in self.inputs[layer]:
                if owner.get(source, ENTRY) != index:
                    frame.edges.add((owner.get(source, ENTRY), index))
            users = self.consumed.get(layer)
            if users is None or any(user not in owner for user in users):
                frame.edges.add((index, end))
        # What is computed and then dropped goes nowhere; a block's output is what its last part gives.
        for index in range(end - 1):
            if (index, end) in frame.edges and all(
                self.consumed.get(x) is None for x in frame.items[index].every_layer()
            ):
                frame.edges.discard((index, end))

    def dissolve(self, frame: Frame) -> None:
        """Take the parts of a block that needs no frame of its own into this one."""
        items: list[Item] = []
        for index, item in enumerate(frame.items):
            if isinstance(item, Card) or not self._dissolves(frame, index, item):
                items.append(item)
                continue
            if len(item.items) == 1 and isinstance(only := item.items[0], Card) and only.block is None:
                only.name = item.name  # a unit is known by its own name, not by that of the layer in it
            items += item.cards()
        frame.items = items
        self.connect(frame)

    def _dissolves(self, frame: Frame, index: int, item: Frame) -> bool:
        if self.volumes or len(item.items) == 1:
            return True
        if any(i < index < j for i, j in frame.edges):  # a branch is seen to be one
            cards = item.cards()
            return len(cards) <= LARGEST_BRANCH and all(card.count == 1 for card in cards)
        return item.is_chain() and len(item.items) <= 2 and item.items == item.cards()

    def attach(self, frame: Frame) -> None:
        """Put a layer that only follows another one on its card."""
        index = 1
        while index < len(frame.items):
            card = frame.items[index]
            sources = [i for i, j in frame.edges if j == index]
            if isinstance(card, Card) and card.category == "light" and card.block is None and len(sources) == 1:
                before = frame.items[sources[0]] if sources[0] != ENTRY else None
                alone = [j for i, j in frame.edges if i == sources[0]] == [index]
                if isinstance(before, Card) and alone and (self.volumes or before.category != "join"):
                    before.followers += card.every_layer()
                    del frame.items[index]
                    self.connect(frame)
                    continue
            index += 1

    def gather(self, frame: Frame) -> None:
        """Let one of several blocks alike in a row stand for all of them."""
        index = 1
        while index < len(frame.items):
            item, before = frame.items[index], frame.items[index - 1]
            if (
                (self.volumes or item.block is not None)
                and [i for i, j in frame.edges if j == index] == [index - 1]
                and [j for i, j in frame.edges if i == index - 1] == [index]
                and self._alike(before, item)
            ):
                before.count += item.count
                before.last = item.last or item.name
                self._skip(before, item)
                del frame.items[index]
                self.connect(frame)
                continue
            index += 1

    def _skip(self, before: Item, item: Item) -> None:
        """Whoever took what the last of a row gives takes it from the one that stands for the row."""
        gone = set(item.every_layer())
        output = before.every_layer()[-1]
        users = [user for layer in gone for user in self.consumed.get(layer, ()) if user not in gone]
        for user in users:
            sources = (output if source in gone else source for source in self.inputs[user])
            self.inputs[user] = list(dict.fromkeys(sources))
        if users:
            self.consumed[output] = users
        else:
            self.consumed.pop(output, None)

    def _alike(self, first: Item, second: Item) -> bool:
        if not self.volumes or isinstance(first, Frame) or isinstance(second, Frame):
            return first.signature() == second.signature()
        shared = ("category", "kind", "output_shape", "joined")
        own = first.category in ("conv", "block") and detail(first.main.module) == detail(second.main.module)
        return own and all(getattr(first, name) == getattr(second, name) for name in shared)


def detail(module: nn.Module | None) -> str:
    """Kernel, stride and the like of a layer, as papers write them: 3×3 /2."""
    if module is None:
        return ""
    parts = []
    kernel = _pair(getattr(module, "kernel_size", None))
    if kernel:
        parts.append("×".join(map(str, kernel)))
    stride = _pair(getattr(module, "stride", None), kernel)
    if stride and any(step != 1 for step in stride):
        parts.append("/" + "×".join(map(str, stride if len(set(stride)) > 1 else stride[:1])))
    dilation = _pair(getattr(module, "dilation", None), kernel)
    if dilation and any(step != 1 for step in dilation):
        parts.append(f"dilated {'×'.join(map(str, dilation if len(set(dilation)) > 1 else dilation[:1]))}")
    groups = getattr(module, "groups", 1)
    if isinstance(groups, int) and groups > 1:
        parts.append("depthwise" if groups == getattr(module, "in_channels", 0) else f"{groups} groups")
    return " ".join(parts)


def _pair(value: Any, kernel: Sequence[int] = (0, 0)) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,) * len(kernel or (0, 0))
    if isinstance(value, (tuple, list)) and value and all(isinstance(one, int) for one in value):
        return tuple(value)
    return ()
