"""Counts and tables as text, for terminal and notebook; names and notes are shown as they are, never as markup."""

import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def counted(count: int, unit: str) -> str:
    """A count with its unit: 1 epoch, 64,000 steps."""
    return f"{count:,} {unit if count == 1 else unit + 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")


def rich_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    right: Sequence[str] = (),
    title: str = "",
    total: str = "",
) -> "Table":
    """A table for rich; the columns named in `right` are flush right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None, caption=escape(total) or None, title_justify="left", caption_justify="left"
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def html_table(columns: Iterable[str], rows: Iterable[Iterable[str]], caption: str) -> str:
    """A table in HTML."""

    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    head, body = line(columns, "th"), "".join(line(row, "td") for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"


def as_text(view: Any) -> str:
    """What rich shows of something, 110 columns wide and without colours."""
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=110).print(view)
    return file.getvalue()
