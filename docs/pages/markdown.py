"""Pieces of Markdown."""

import re
from collections.abc import Iterable


def first_sentence(text: str) -> str:
    """The line before the first blank one."""
    return " ".join(text.partition("\n\n")[0].split())


def first_upper(text: str) -> str:
    """A sentence begins with a capital."""
    return text[:1].upper() + text[1:]


def titled(heading: str, variant: str) -> str:
    """A heading, with the variant where there are two."""
    return f"## {heading}{': ' + variant if variant else ''}\n"


def sized(shape: Iterable[int]) -> str:
    """A shape as papers print it: 3x224x224."""
    return "x".join(map(str, shape))


def code(text: str) -> str:
    """A name as it is typed."""
    return f"`{text}`"


def link(text: str, url: str) -> str:
    """A link, or its text where there is nothing to link to."""
    return f"[{plain(text)}]({url})" if url else plain(text)


def plain(text: str) -> str:
    """Text without any meaning in Markdown or HTML."""
    return re.sub(r"[\\`*_{}\[\]<>|#~^$&]", lambda found: f"&#{ord(found[0])};", text)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], align: str) -> str:
    """A table; cells are Markdown, in which only what would end a cell is escaped."""
    columns = list(columns)
    rule = ["---:" if one == "r" else "---" for one in align[: len(columns)]]
    lines = (columns, rule, *rows)
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)
