"""Options that several commands take."""

import json
from collections.abc import Iterable
from typing import Any

import click

from cnnzoo.errors import OptionError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
classic_option = click.option("--classic", is_flag=True, help="The network exactly as its paper printed it.")
hub_option = click.option("--hub", is_flag=True, help="Download the weights where they are not at hand.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="An argument of the constructor; may be repeated."
)


zero_channels_option = click.option(
    "--zero-channels",
    type=click.Choice(["after", "around"]),
    help="For a CIFAR ResNet of another program: where its shortcuts put their zeros.",
)


def settings_of(given: Iterable[str]) -> dict[str, Any]:
    """What `--set` was given; values are JSON, and a bare word is a string."""
    settings: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise OptionError(f"--set {setting}: expected KEY=VALUE")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def shape_of(text: str) -> tuple[int, ...]:
    """What `--input` was given: sizes joined by x."""
    sizes = text.lower().split("x")
    if not all(size.isdigit() and int(size) for size in sizes):
        raise OptionError(f"--input {text}: expected sizes joined by x, such as 3x224x224")
    return tuple(int(size) for size in sizes)
