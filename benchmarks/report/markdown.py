"""Markdown: tables, and the parts of a page that are written by the program."""

import re
from collections.abc import Iterable, Mapping

MARKED = re.compile(r"(<!-- report: ([\w ]+) -->\n).*?(<!-- end of report -->)", re.DOTALL)


def filled(page: str, parts: Mapping[str, str]) -> str:
    """A page with the given text, by name, between `<!-- report: NAME -->` and `<!-- end of report -->`."""
    return MARKED.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", page)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], align: str) -> str:
    """A table, or nothing where there are no rows; in cells, which are Markdown, what would end one is escaped."""
    columns, rows = list(columns), list(rows)
    rule = ["---:" if one == "r" else "---" for one in align[: len(columns)]]
    lines = (columns, rule, *rows) if rows else ()
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)
