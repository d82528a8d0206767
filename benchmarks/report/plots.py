"""The plots, as SVG: for a light and for a dark page, and the same bytes for the same results."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report.machines import PAIRS, Row
from benchmarks.report.tables import MODES, compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "cnnzoo",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "grid.linewidth": 0.6,
}
"""Letters stay letters, and names follow from the content: a plot changes where its results do."""
INK = {"light": "#24292f", "dark": "#d7dbe0"}
GRID = {"light": "#d0d7de", "dark": "#444c56"}
COLOURS = {"torchvision": "#d1642d", "timm": "#3b7dd8"}
OWN = "#2a9d6f"
MARKERS = dict(zip(dict.fromkeys((pair.theirs, pair.ours) for pair in PAIRS), "os^vD", strict=True))
TICKS = (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)


class Plot(NamedTuple):
    """What puts a plot on axes, and its height in inches."""

    draw: "Callable[[Axes], None]"
    height: float


def svg(plot: Plot, theme: str) -> str:
    """On a transparent ground, for a page that is "light" or "dark"."""
    import matplotlib
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: Any = STYLE | {"grid.color": GRID[theme]} | dict.fromkeys(inked, INK[theme])
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.5, plot.height), layout="constrained")
        plot.draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def ratios(rows: Sequence[Row]) -> Plot | None:
    """Our rate over the peers' by network, a mark for each pair, with quartiles."""
    found = {row.title: {pair: ratio for pair in PAIRS if (ratio := row.ratio(pair))} for row in reversed(rows)}
    found = {title: by_pair for title, by_pair in found.items() if by_pair}
    if not found:
        return None

    def draw(axes: "Axes") -> None:
        axes.axvline(1, color=axes.spines["left"].get_edgecolor(), linewidth=1)
        for pair in PAIRS:
            places = [
                (line + 0.6 * ((len(by_pair) - 1) / 2 - list(by_pair).index(pair)) / max(1, len(by_pair) - 1), ratio)
                for line, by_pair in enumerate(found.values())
                if (ratio := by_pair.get(pair))
            ]
            for number, (height, ratio) in enumerate(places):
                lower, upper = ratio.quartiles
                spread = [[max(0, ratio.median - lower)], [max(0, upper - ratio.median)]]
                label = "" if number else compared(pair).replace("`", "")  # once in the legend
                style = {"fmt": MARKERS[pair.theirs, pair.ours], "markersize": 4, "linewidth": 1}
                axes.errorbar(ratio.median, height, xerr=spread, color=COLOURS[pair.library], label=label, **style)
        on_lines(axes, list(found))
        logarithmic(axes, [ratio.median for by_pair in found.values() for ratio in by_pair.values()])
        axes.set_xlabel("cnnzoo's images per second / the other's; right of 1, cnnzoo is faster")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)

    return Plot(draw, 1.3 + 0.3 * len(found))


def shares(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    """The share of the matmul rate that the fastest execution of each network reaches, from rows by mode."""
    known = {mode: {row.title: row.share for row in of if row.share is not None} for mode, of in rows.items()}
    known = {mode: of for mode, of in known.items() if of}
    names = list(dict.fromkeys(title for of in known.values() for title in of))[::-1]
    if not names:
        return None

    def draw(axes: "Axes") -> None:
        for (mode, of), fill in zip(known.items(), (OWN, "none"), strict=False):
            across, up = [100 * share for share in of.values()], [names.index(title) for title in of]
            axes.plot(across, up, "o", markersize=4.5, color=OWN, markerfacecolor=fill, label=MODES[mode])
        on_lines(axes, names)
        axes.set_xlim(left=0)
        axes.set_xlabel("% of the rate that products of large matrices reach")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    return Plot(draw, 1.0 + 0.17 * len(names))


def accuracy(rows: Sequence[Row], stated: Mapping[str, float]) -> Plot | None:
    """The accuracy that a network's publisher states, by network, over our images per second in inference."""
    known = [row for row in rows if row.network in stated and not row.classic]
    if not known:
        return None

    def draw(axes: "Axes") -> None:
        places = {row.network: (row.best.rate, 100 * stated[row.network]) for row in known}
        axes.plot(*map(list, zip(*places.values(), strict=True)), "o", markersize=4, color=OWN)
        axes.set_xscale("log")
        axes.grid(True)
        axes.margins(x=0.12, y=0.1)
        axes.set_xlabel("images per second, in the fastest execution")
        axes.set_ylabel("top-1 accuracy on ImageNet, %")
        label(axes, places)

    return Plot(draw, 5.0)


def label(axes: "Axes", places: Mapping[str, tuple[float, float]]) -> None:
    """Put a name beside each point, on the first side where it covers neither a point nor another name."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure
    figure.draw_without_rendering()  # which settles where the axes are
    points = {name: axes.transData.transform(place) * 72 / figure.dpi for name, place in places.items()}
    taken = [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in points.values()]
    for name, (x, y) in points.items():
        width = 4 * len(name)
        sides = [(right, up) for right in (5, -5 - width) for up in (0, 8, -8, 16, -16)]
        boxes = {side: Bbox.from_bounds(x + side[0], y + side[1] - 4, width, 8) for side in sides}
        side = next((side for side, box in boxes.items() if not box.count_overlaps(taken)), sides[0])
        taken.append(boxes[side])
        axes.annotate(name, places[name], side, textcoords="offset points", verticalalignment="center", fontsize=7)


def on_lines(axes: "Axes", names: Sequence[str]) -> None:
    """A line for each network."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)


def logarithmic(axes: "Axes", values: Sequence[float]) -> None:
    """Ratios: half as fast is as far from 1 as twice as fast."""
    from matplotlib.ticker import NullFormatter, NullLocator

    lowest, highest = min(0.9, *values) / 1.05, max(1.1, *values) * 1.05
    axes.set_xscale("log")
    ticks = [tick for tick in TICKS if lowest <= tick <= highest]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(lowest, highest)
