"""What a drawing is written with: elements of SVG, the width of a text, and the colours of light and dark."""

import re
from collections.abc import Iterable
from html import escape

from cnnzoo.errors import OptionError

FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
# Widths of the characters from space to tilde in thousandths of the font size, of DejaVu Sans: the widest of the fonts
# above, so that a text never takes more room than was kept for it. Bold is the same font's bold.
_WIDTHS = (
    "318 401 460 838 636 950 780 275 390 390 500 838 318 361 318 337 636 636 636 636 636 636 636 636 636 636 337 337 "
    "838 838 838 531 1000 684 686 698 770 632 575 775 752 295 295 656 557 863 748 787 603 787 695 635 611 732 684 989 "
    "685 611 685 390 337 390 838 500 500 613 635 550 635 615 352 635 634 278 278 579 278 974 634 612 635 635 411 521 "
    "392 634 592 818 592 592 525 636 337 636 838"
)
_BOLD_WIDTHS = (
    "348 456 521 838 696 1002 872 306 457 457 523 838 380 415 380 365 696 696 696 696 696 696 696 696 696 696 400 400 "
    "838 838 838 580 1000 774 762 734 830 683 683 821 837 372 372 775 637 995 837 850 733 850 770 720 682 812 774 1103 "
    "771 724 725 457 365 457 838 500 500 675 716 593 716 678 435 716 712 343 343 665 343 1042 712 687 716 716 493 595 "
    "478 712 652 924 645 652 582 712 365 712 838"
)
WIDTHS = {
    bold: {chr(32 + i): int(width) for i, width in enumerate(widths.split())}
    | {"×": 838, "–": 500, "…": 1000, "·": 380, "\N{NO-BREAK SPACE}": 348}
    for bold, widths in ((False, _WIDTHS), (True, _BOLD_WIDTHS))
}


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is at most, in pixels; an unknown character takes a whole em, as Chinese ones do."""
    widths = WIDTHS[bold]
    return sum(widths.get(character, 1000) for character in text) * size / 1000


def shortened(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """The end of a layer's name that fits, which tells it apart: whole parts if possible, else behind an ellipsis."""
    while text_width(text, size, bold=bold) > room and "." in text and not text.rpartition(".")[2].isdigit():
        text = text.partition(".")[2]
    if text_width(text, size, bold=bold) <= room:
        return text
    while text and text_width("…" + text, size, bold=bold) > room:
        text = text[1:]
    return "…" + text


def wrapped(text: str, room: float, size: float) -> list[str]:
    """The text in lines that fit, broken between words; a word that is too long is broken itself."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
            continue
        while text_width(word, size) > room * 1.3:
            cut = next(i for i in range(1, len(word) + 1) if text_width(word[: i + 1], size) > room * 1.3)
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return lines


def number(value: float) -> str:
    """A coordinate with as few digits as it needs."""
    return f"{value:.1f}".removesuffix(".0")


_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def safe(text: str) -> str:
    """Text that XML can hold: marks escaped, and characters that it has no place for replaced."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def element(tag: str, content: str = "", /, **attributes: str | float | None) -> str:
    """An element; `_` in a name stands for `-`, a trailing one is dropped, and None leaves an attribute out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{safe(value) if isinstance(value, str) else number(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{given}>{content}</{tag}>" if content else f"<{tag}{given}/>"


def text(x: float, y: float, content: str, kind: str, anchor: str = "") -> str:
    """A line of text; `anchor` is "m" for centred and "e" for flush right."""
    return element("text", safe(content), x=x, y=y, class_=f"{kind} {anchor}".strip())


def path(points: Iterable[tuple[float, float]], radius: float = 0, *, closed: bool = False) -> str:
    """What a path element's `d` says: straight lines through the points, their corners rounded."""
    points = list(points)
    parts = [f"M{number(points[0][0])} {number(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        if radius:
            start, end = _towards(corner, before, radius), _towards(corner, after, radius)
            parts.append(f"L{_pair(start)}Q{_pair(corner)} {_pair(end)}")
        else:
            parts.append(f"L{_pair(corner)}")
    if len(points) > 1:
        parts.append(f"L{_pair(points[-1])}")
    return "".join(parts) + ("Z" if closed else "")


def _pair(point: tuple[float, float]) -> str:
    return f"{number(point[0])} {number(point[1])}"


def _towards(corner: tuple[float, float], other: tuple[float, float], radius: float) -> tuple[float, float]:
    """The point of the line from a corner to another that is a radius, but at most half the line, from the corner."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = (dx * dx + dy * dy) ** 0.5
    share = min(radius, length / 2) / length if length else 0
    return corner[0] + dx * share, corner[1] + dy * share


# Colours: of the page, then for each category of layers the face of a box, its top, its side, and its edge.

_PAGE = {
    "light": {"ground": "#ffffff", "ink": "#1f2733", "muted": "#5b6675", "line": "#6b7686", "frame": "#f5f7fa"},
    "dark": {"ground": "#14181f", "ink": "#e8ecf2", "muted": "#a3aebd", "line": "#8a96a8", "frame": "#1c222c"},
}
_EDGE = {"light": "#ccd3dc", "dark": "#3a4454"}
_FACES = {
    "light": {
        "input": ("#e3e7ed", "#eff2f5", "#cdd4dd", "#8793a3"),
        "conv": ("#bcd6f2", "#d9e8f8", "#94bbe4", "#3f78b5"),
        "pool": ("#f6c4b8", "#fbded6", "#eba392", "#bf5a43"),
        "linear": ("#d6c8ef", "#e8dff7", "#b9a5e0", "#7453b8"),
        "join": ("#f6e1a6", "#fbefcd", "#e8ca77", "#a57c14"),
        "block": ("#b9e0d3", "#d7efe7", "#8fcbb8", "#2f8069"),
        "light": ("#eef1f5", "#f6f8fa", "#dde2e9", "#a8b2bf"),
        "other": ("#dfe3d0", "#edf0e3", "#c5cbb0", "#77805a"),
    },
    "dark": {
        "input": ("#3a4454", "#4a5669", "#2d3644", "#8b99ad"),
        "conv": ("#264b74", "#33608f", "#1d3c5e", "#77b0ea"),
        "pool": ("#6e3427", "#874636", "#56281d", "#ef9a85"),
        "linear": ("#46356f", "#58458a", "#372958", "#b79ff0"),
        "join": ("#5c4a15", "#745f22", "#493a0f", "#e8c765"),
        "block": ("#1f5648", "#2b6c5c", "#174338", "#74cdb3"),
        "light": ("#262e3a", "#303a48", "#1f2630", "#566275"),
        "other": ("#434a30", "#545c3e", "#343a25", "#b4bd92"),
    },
}
THEMES = ("auto", "light", "dark")


def rules(theme: str) -> str:
    """The style sheet; `"auto"` follows what the reader's system prefers."""
    if theme not in THEMES:
        raise OptionError(f"got theme={theme!r}; it is one of {', '.join(map(repr, THEMES))}")
    scope = f".cnnzoo-{theme}"
    fixed = {
        "": f"font-family:{FONT}",
        ".n": "font-size:11px;font-weight:700",
        ".t": "font-size:15px;font-weight:700",
        ".k": "font-size:10px",
        ".s": "font-size:10px",
        ".m": "text-anchor:middle",
        ".e": "text-anchor:end",
        ".line": "fill:none;stroke-width:1.3",
        ".ray": "fill:none;stroke-width:.8;stroke-dasharray:3 2",
    }
    sheet = "".join(f"{scope} {name}{{{style}}}" if name else f"{scope}{{{style}}}" for name, style in fixed.items())
    sheet += f"@media all{{{scope}{{max-width:100%;height:auto}}}}"  # a query, as converters read sizes from rules
    sheet += _coloured(scope, "dark" if theme == "dark" else "light")
    if theme == "auto":
        sheet += f"@media (prefers-color-scheme:dark){{{_coloured(scope, 'dark')}}}"
    return sheet


def _coloured(scope: str, theme: str) -> str:
    page = _PAGE[theme]
    styles = {
        ".ground": f"fill:{page['ground']}",
        "text": f"fill:{page['ink']}",
        ".k": f"fill:{page['muted']}",
        ".line": f"stroke:{page['line']}",
        ".ray": f"stroke:{page['line']}",
        ".head": f"fill:{page['line']}",
        ".frame": f"fill:{page['frame']};stroke:{_EDGE[theme]}",
        ".window": f"fill:{page['ink']};fill-opacity:.12;stroke:{page['ink']};stroke-width:.8",
        ".plus": f"fill:{page['ground']};stroke:{page['line']};stroke-width:1.3",
    }
    for category, (face, top, side, edge) in _FACES[theme].items():
        styles[f".{category}"] = f"fill:{face};stroke:{edge};stroke-width:.8"
        styles[f".{category}-top"] = f"fill:{top};stroke:{edge};stroke-width:.8"
        styles[f".{category}-side"] = f"fill:{side};stroke:{edge};stroke-width:.8"
        styles[f".{category}-cut"] = f"fill:none;stroke:{edge};stroke-width:.8"
    return "".join(f"{scope} {name}{{{style}}}" for name, style in styles.items())
