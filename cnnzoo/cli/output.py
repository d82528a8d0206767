"""How commands answer: rich tables for people, JSON for programs."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Standard output, as rich writes to it."""
    from rich.console import Console

    return Console()


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table for people."""
    from cnnzoo.support.text import rich_table

    console().print(rich_table(columns, rows))


def print_json(value: Any) -> None:
    """A value for programs; what JSON does not have becomes text."""
    click.echo(json.dumps(value, indent=1, default=str))
