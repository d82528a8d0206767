"""`draw`, and the drawing that it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from cnnzoo.drawing.flow import Layer, follow
from cnnzoo.drawing.graph import graph, sized
from cnnzoo.drawing.parts import Card, Closed, Frame, Group, assembled, grouped
from cnnzoo.drawing.svg import THEMES, element, number, rules, safe, text, text_width
from cnnzoo.drawing.volumes import volumes
from cnnzoo.errors import OptionError, operation
from cnnzoo.registry import Config, resolve
from cnnzoo.shapes.trace import Inputs, Spec, unwrapped
from cnnzoo.support.files import write_figure

STYLES = ("volumes", "graph")
FORMATS = (".svg", ".png", ".pdf")
MOST_CARDS = 120
"""Cards in a graph before blocks are closed, where no depth is asked for."""
WIDEST = 1000
SMALL_NETWORK = 14
"""Layers that compute a map, up to which every block is opened in volumes."""


@dataclass(frozen=True)
class Drawing:
    """A drawing of a network: SVG whose text can be selected; notebooks show it as it is.

    Attributes:
        title: the network's name.
        svg: the whole document.
        width: in pixels.
        height: in pixels.
    """

    title: str
    svg: str
    width: int
    height: int

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg}</div>'

    def __str__(self) -> str:
        return f"Drawing of {self.title}, {self.width}x{self.height}; save it: drawing.save('{self.title}.svg')"

    __repr__ = __str__

    @operation
    def save(self, path: str | Path) -> Path:
        """Write the drawing to a file; an existing file is replaced only when all of it is written.

        Args:
            path: ends in `.svg`, or in `.png` or `.pdf`, which need cairosvg (`pip install "cnnzoo[draw]"`). A PNG has
                two pixels for each of the drawing's; both are drawn light unless the theme is `"dark"`.

        Returns:
            The path.

        Raises:
            OptionError: the path has another ending, cannot be written, or the converter is not installed.

        Examples:
            >>> cnnzoo.draw("alexnet").save("alexnet.svg")  # doctest: +SKIP
        """
        return write_figure(
            Path(path), FORMATS, "drawings", lambda form: self.svg.encode() if form == ".svg" else self._converted(form)
        )

    def _converted(self, form: str) -> bytes:
        try:
            import cairosvg
        except (ImportError, OSError):  # OSError: the package is there, and cairo itself is not
            raise OptionError(
                f"{form} needs cairosvg, which is not installed or finds no cairo: "
                'pip install "cnnzoo[draw]", or save as .svg'
            ) from None
        convert = cairosvg.svg2png if form == ".png" else cairosvg.svg2pdf
        content = convert(self.svg.encode(), scale=2 if form == ".png" else 1)
        assert content is not None, "it returns None only where it writes to a file"
        return content


@operation
def draw(
    model: nn.Module | str,
    *,
    input_shape: Spec | None = None,
    style: Literal["volumes", "graph"] = "volumes",
    depth: int | None = None,
    theme: Literal["auto", "light", "dark"] = "auto",
    **options: Any,
) -> Drawing:
    """Draw a network. Nothing runs: the drawing is made from the shapes that `infer_shapes` finds.

    Args:
        model: any network, on any device, or the name of a registered network or block.
        input_shape: (C, H, W) of an image; by default what the network is made for.
        style: `"volumes"` draws each map as a box to scale, as papers do: as long as it has channels, as high and as
            deep as the map; fully connected layers are bars, and repeated blocks are one box. `"graph"` draws a node
            for each layer with its name, kind, output shape and parameters, and branches side by side.
        depth: how many levels of blocks to open: 0 draws the network as one node, 1 what it consists of, and so on.
            By default as much as stays legible.
        theme: `"light"`, `"dark"`, or `"auto"`, which follows what the reader's system prefers.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Returns:
        A drawing that notebooks show, with `save(path)` for SVG, PNG and PDF.

    Raises:
        UnknownNameError: no registered network or block has that name.
        OptionError: an argument has a value that it does not take, no input shape is known, or the network branches
            on the values of a tensor.
        ShapeError: a layer cannot take what reaches it.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.draw("resnet50", style="graph", depth=1).title
        'resnet50'
    """
    if style not in STYLES:
        raise OptionError(f"got style={style!r}; it is one of {', '.join(map(repr, STYLES))}")
    if theme not in THEMES:
        raise OptionError(f"got theme={theme!r}; it is one of {', '.join(map(repr, THEMES))}")
    if depth is not None and (not isinstance(depth, int) or depth < 0):
        raise OptionError(f"got depth={depth!r}; it is 0 (the network as one node) or more")
    model = unwrapped(resolve(model, options))
    shape = max(Inputs.of(model, "draw", input_shape).shapes, key=len)
    layers = follow(model, input_shape)
    if not layers:
        raise OptionError(f"{type(model).__name__} hands its input on unchanged; there is nothing to draw")
    title = _title(model)
    if style == "volumes":
        frame = assembled(layers, title, _opened_to(depth) if depth is not None else _sensible(layers), volumes=True)
        content, width, height = volumes(frame, shape)
    else:
        content, width, height = _legible_graph(layers, title, shape, depth)
    params = sum(parameter.numel() for parameter in model.parameters())
    return _document(title, f"{sized(shape)}, {params:,} parameters", content, width, height, theme)


def _title(model: nn.Module) -> str:
    config = getattr(model, "config", None)
    if not isinstance(config, Config):
        return type(model).__name__
    return config.name + (" (classic)" if config.classic else "")


def _opened_to(depth: int) -> Closed:
    return lambda group, level: level >= depth


def _sensible(layers: Sequence[Layer]) -> Closed:
    """Volumes show the maps between blocks: a block of several layers is closed, and so is a row of such blocks."""
    small = grouped(layers).heavy() <= SMALL_NETWORK

    def closed(group: Group, level: int) -> bool:
        if small or not level or group.call is None:
            return False
        if isinstance(group.call.module, nn.Sequential):
            parts = [child for child in group.children if isinstance(child, Group) and child.call is not None]
            kinds = {type(part.call.module) for part in parts if part.call is not None}
            return len(parts) == len(group.children) and len(kinds) == 1 and all(part.heavy() > 1 for part in parts)
        return group.heavy() > 1

    return closed


def _legible_graph(
    layers: Sequence[Layer], title: str, shape: tuple[int, ...], depth: int | None
) -> tuple[str, float, float]:
    """The graph with all of its blocks open, or with so many closed that it can be read."""
    deepest = max(1, *(len(layer.parents) for layer in layers))
    for level in (deepest, *range(deepest - 1, 0, -1)) if depth is None else (depth,):
        frame = assembled(layers, title, _opened_to(level), volumes=False)
        if depth is None and level > 1 and _cards(frame) > MOST_CARDS:
            continue
        drawn = graph(frame, shape)
        if depth is not None or level == 1 or drawn[1] <= WIDEST:
            return drawn
    raise AssertionError("the last level is always drawn")


def _cards(frame: Frame) -> int:
    return sum(1 if isinstance(item, Card) else _cards(item) for item in frame.items)


def _document(title: str, facts: str, content: str, width: float, height: float, theme: str) -> Drawing:
    margin, head = 16, 44
    width = max(width, text_width(title, 15, bold=True) + 2 * margin, text_width(facts, 10) + 2 * margin)
    size = (round(width), round(height + head))
    body = "".join(
        (
            element("title", safe(f"{title}: {facts}")),
            f"<style>{rules(theme)}</style>",
            element("rect", width=size[0], height=size[1], class_="ground"),
            text(margin, 26, title, "t"),
            text(margin, 42, facts, "k"),
            element("g", content, transform=f"translate(0 {head})"),
        )
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cnnzoo-{theme}" role="img" width="{number(size[0])}" '
        f'height="{number(size[1])}" viewBox="0 0 {number(size[0])} {number(size[1])}">{body}</svg>'
    )
    return Drawing(title, svg, *size)
