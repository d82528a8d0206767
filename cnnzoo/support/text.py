"""Counts and tables as text, for terminal, pipe and notebook; names are shown as they are, never as markup."""

import html
import io
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table as RichTable

PAGE = 110
"""Columns of a page that is no terminal."""

INDENT = 4
"""Columns by which what belongs to a name is indented, where a terminal is too narrow for a table."""


def counted(count: int, unit: str) -> str:
    """A count with its unit: 1 epoch, 64,000 steps."""
    return f"{count:,} {unit if count == 1 else unit + 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")


def numerically(name: str) -> list[tuple[str, int]]:
    """A key that sorts names as people count: resnet18 before resnet101."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def is_terminal() -> bool:
    """Whether standard output is a terminal, with somebody in front of it."""
    return sys.stdout is not None and sys.stdout.isatty()


def console() -> "Console":
    """Standard output, as rich writes to it; without colours where `NO_COLOR` is set."""
    from rich.console import Console

    plain = not is_terminal() or bool(os.environ.get("NO_COLOR"))
    width = None if is_terminal() else PAGE
    return Console(color_system=None if plain else "auto", highlight=False, width=width)


@dataclass(frozen=True)
class Table:
    """A table that fits its reader: framed on a wide terminal, unframed on a narrow one, tab-separated in a pipe.

    Names and numbers are never broken; columns of prose are, between words. Where a terminal has no room for all
    columns side by side, the first cell of a row has a line of its own.

    Attributes:
        columns: their headings.
        rows: as many cells in each.
        right: the columns that are flush right.
        prose: the columns that may be broken between words.
        title: a line above.
        total: a line below.
        marked: numbers of the rows that stand out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: Collection[str] = ()
    prose: Collection[str] = ()
    title: str = ""
    total: str = ""
    marked: Collection[int] = ()

    def tabbed(self) -> str:
        """A heading and one line a row, cells separated by tabs; title and total are comments, marked by `#`."""
        lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in (self.columns, *self.rows)]
        comments = [f"# {text}" if text else "" for text in (self.title, self.total)]
        return "".join(f"{line}\n" for line in (comments[0], *lines, comments[1]) if line)

    @property
    def width(self) -> int:
        """The columns that it needs to be framed."""
        return sum(self._least) + 3 * len(self.columns) + 1

    @property
    def _least(self) -> list[int]:
        """The columns that each column of the table needs."""
        least = []
        for name, cells in zip(self.columns, self._cells(), strict=True):
            own = [word for cell in cells for word in cell.split()] if name in self.prose else cells
            least.append(max(map(_width, [*name.split(), *own]), default=0))
        return least

    def _cells(self) -> list[list[str]]:
        """The cells of each column."""
        return [[row[i] for row in self.rows] for i in range(len(self.columns))]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["RenderableType"]:
        room, count = options.max_width, len(self.columns)
        if self.width <= room:
            yield self._drawn(room - 3 * count - 1, framed=True)
        elif sum(self._least) + 2 * (count - 1) <= room:
            yield self._drawn(room - 2 * (count - 1), framed=False)
        else:
            yield from self._stacked(room)

    def _drawn(self, room: int, *, framed: bool) -> "RichTable":
        from rich.box import HEAVY_HEAD
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(
            title=escape(self.title) or None,
            caption=escape(self.total) or None,
            title_justify="left",
            caption_justify="left",
            box=HEAVY_HEAD if framed else None,
            pad_edge=framed,
        )
        for name, width in zip(self.columns, self._shared_out(room), strict=True):
            table.add_column(escape(name), justify="right" if name in self.right else "left", width=width)
        for i, row in enumerate(self.rows):
            table.add_row(*map(escape, row), style="bold red" if i in self.marked else None)
        return table

    def _shared_out(self, room: int) -> list[int]:
        """The width of each column: what it needs, and of the rest what its text would take."""
        widths = self._least
        wanted = [max(map(_width, [name, *cells])) for name, cells in zip(self.columns, self._cells(), strict=True)]
        narrow = sorted(range(len(widths)), key=lambda i: wanted[i] - widths[i])
        for after, i in enumerate(narrow, 1 - len(narrow)):
            more = min(wanted[i] - widths[i], (room - sum(widths)) // (1 - after))
            widths[i] += max(0, more)
        return widths

    def _stacked(self, room: int) -> Iterator["RenderableType"]:
        """The first cell of each row on a line of its own, and the others below it."""
        from rich.text import Text

        def line(text: str, style: str = "") -> Text:
            return Text(text, style, overflow="ignore", no_wrap=True)

        rest, cells = self._least[1:], self._cells()[1:]
        aligned = not self.prose and sum(rest) + 2 * len(rest) - 2 <= room - INDENT
        if aligned:
            rest = [max(map(_width, [name, *column])) for name, column in zip(self.columns[1:], cells, strict=True)]
            aligned = sum(rest) + 2 * len(rest) - 2 <= room - INDENT
        if self.title:
            yield Text(self.title, "italic")
        if aligned:
            yield line(self.columns[0], "bold")
            yield line(self._aligned(self.columns[1:], rest), "bold")
        for i, (first, *others) in enumerate(self.rows):
            style = "bold red" if i in self.marked else ""
            yield line(first, style or ("" if aligned else "bold"))
            if aligned:
                yield line(self._aligned(others, rest), style)
                continue
            said = [f"{name} {cell}".strip() for name, cell in zip(self.columns[1:], others, strict=True) if cell]
            yield from (line(part, style) for part in wrapped(", ".join(said), room, indent=INDENT))
        if self.total:
            yield Text(self.total, "italic")

    def _aligned(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        parts = (
            cell.rjust(width) if name in self.right else cell.ljust(width)
            for name, cell, width in zip(self.columns[1:], cells, widths, strict=True)
        )
        return (" " * INDENT + "  ".join(parts)).rstrip()


def rich_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    right: Collection[str] = (),
    prose: Collection[str] = (),
    title: str = "",
    total: str = "",
    marked: Collection[int] = (),
) -> Table:
    """A table for rich; see `Table`."""
    return Table(tuple(columns), tuple(map(tuple, rows)), right, prose, title, total, marked)


def html_table(columns: Iterable[str], rows: Iterable[Iterable[str]], caption: str) -> str:
    """A table in HTML."""

    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    head, body = line(columns, "th"), "".join(line(row, "td") for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"


def wrapped(text: str, room: int, indent: int = 0) -> list[str]:
    """The lines of a paragraph, broken between words only: a long name or path stays whole."""
    from textwrap import wrap

    edge = " " * indent
    return wrap(text, room, initial_indent=edge, subsequent_indent=edge, break_long_words=False, break_on_hyphens=False)


def as_text(view: Any) -> str:
    """A view's table without colours: as wide as the terminal, or as a page that has room for it."""
    from rich.console import Console

    table: Table = view.__rich__()
    width = shutil.get_terminal_size().columns if is_terminal() else max(PAGE, table.width)
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(table, crop=False)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
