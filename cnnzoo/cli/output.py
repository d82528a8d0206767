"""How commands answer: tables and sentences for people, lines for other programs, JSON for those that ask for it."""

import json
from collections.abc import Iterable
from typing import Any

import click

from cnnzoo.support.text import Table, console, is_terminal, rich_table, wrapped


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]], **shape: Any) -> None:
    """A table; `shape` is what else `rich_table` takes."""
    print_view(rich_table(columns, rows, **shape))


def print_view(view: Any) -> None:
    """What prints as a table, such as a summary: on a terminal that; elsewhere a line a row, separated by tabs."""
    table: Table = view if isinstance(view, Table) else view.__rich__()
    if is_terminal():
        console().print(table, crop=False)  # what is too long even for a line of its own stays whole
    else:
        click.echo(table.tabbed(), nl=False)


def say(text: str = "", indent: int = 0) -> None:
    """A paragraph, broken between words on a terminal, and one line elsewhere."""
    lines = wrapped(text, console().width, indent) if is_terminal() and text else [" " * indent + text]
    for line in lines:
        click.echo(line.rstrip())


def print_json(value: Any) -> None:
    """A value for programs; what JSON does not have becomes text."""
    click.echo(json.dumps(value, indent=1, default=str))
