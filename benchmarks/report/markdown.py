"""Markdown: tables, and the parts of a page that are written by the program."""

import re
from collections.abc import Iterable, Mapping

MARKED = re.compile(r"(<!-- report: ([\w ]+) -->\n).*?(<!-- end of report -->)", re.DOTALL)


def filled(page: str, parts: Mapping[str, str]) -> str:
    """A page with the given text between its pairs of markers.

    Args:
        page: has `<!-- report: NAME -->` and `<!-- end of report -->`, each on a line of its own.
        parts: text by name.
    """
    return MARKED.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", page)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], align: str) -> str:
    """A table; cells are Markdown, in which only what would end a cell is escaped."""
    columns = list(columns)
    rule = ["---:" if one == "r" else "---" for one in align[: len(columns)]]
    lines = (columns, rule, *rows)
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)
