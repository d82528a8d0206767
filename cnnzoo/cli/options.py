"""Options that several commands take, and the names that a shell completes."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from cnnzoo import catalogue
from cnnzoo.errors import OptionError

if TYPE_CHECKING:
    from cnnzoo.cnn import CNN


class Name(click.ParamType):
    """A name that the package knows: the shell completes it, and a misspelt one is answered before torch is imported.

    Args:
        name: what it names, for the help.
        known: gives the names.
        check: raises unless a name is right.
    """

    def __init__(
        self, name: str, known: Callable[[click.Context], Iterable[str]], check: Callable[[str], object]
    ) -> None:
        self.name, self.known, self.check = name, known, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        self.check(value)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in self.known(ctx) if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


def _networks(ctx: click.Context) -> Sequence[str]:
    return [one.name for one in catalogue.matching(catalogue.entries().values(), kind=None)]


def _sources(ctx: click.Context) -> Sequence[str]:
    models = [one.name for one in catalogue.matching(catalogue.entries().values())]
    return [*models, *(f"{name}.{tag}" for name in models for tag in catalogue.tags(name))]


def _tags(ctx: click.Context) -> Sequence[str]:
    """Of the network that the command line names before, or of all."""
    named = ctx.params.get("name") or ctx.params.get("model")
    models = [named] if named in catalogue.entries() else _networks(ctx)
    return list(dict.fromkeys(tag for name in models for tag in catalogue.tags(name)))


def _check_source(value: str) -> None:
    if re.fullmatch(r"\w+", value) and not Path(value).exists():  # no tag, path or repository
        catalogue.entry(value)


def _check_recipe(value: str) -> None:
    if not value.endswith(".toml") and value not in catalogue.recipes():
        catalogue.recipe_table(value)


def _check_pinned(value: str) -> None:
    if value != "pin":
        catalogue.entry(value)


NETWORK = Name("network", _networks, catalogue.entry)
PATTERN = Name("pattern", _networks, lambda value: None)
PINNED = Name("network", _networks, _check_pinned)
SOURCE = Name("weights", _sources, _check_source)
TAG = Name("tag", _tags, lambda value: None)
RECIPE = Name("recipe", lambda ctx: catalogue.recipes(), _check_recipe)
FAMILY = Name("family", lambda ctx: sorted({one.family for one in catalogue.entries().values()}), lambda value: None)

GOES_ON = "cnnzoo.goes_on"
"""Under which a command keeps, in its context, what a person is told who stops it."""


def goes_on(message: str) -> None:
    """Say what to do when somebody stops this command."""
    click.get_current_context().meta[GOES_ON] = message


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
classic_option = click.option("--classic", is_flag=True, help="The network exactly as its paper printed it.")
hub_option = click.option("--hub", is_flag=True, help="Download missing weights.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="An argument of the constructor; may be repeated."
)


zero_channels_option = click.option(
    "--zero-channels",
    type=click.Choice(["after", "around"]),
    help="For a CIFAR ResNet of another program: where its shortcuts put their zeros.",
)
weights_key_option = click.option(
    "--weights-key",
    metavar="KEY",
    help="The entry of a training checkpoint that holds the weights, such as model or model_ema.",
)
transforms_option = click.option(
    "--transforms", "tag", type=TAG, metavar="TAG", help="Prepare the images as for these weights of the network."
)

F = TypeVar("F", bound=Callable[..., Any])


def running_options(command: F) -> F:
    """How a network is run over many images."""
    options = (
        click.option(
            "--batch-size", default=64, show_default=True, type=click.IntRange(min=1), help="Images at a time."
        ),
        click.option(
            "--workers", type=click.IntRange(min=0), help="Processes that read images; by default one a core."
        ),
        click.option("--device", help="Where to compute; by default CUDA where there is one."),
        click.option(
            "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="By default that of the weights."
        ),
        click.option(
            "--strict", is_flag=True, help="Stop at an image that cannot be read, which is left out otherwise."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


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


def load(name: str, checkpoint: str | None, classic: bool, hub: bool = False, **more: Any) -> "CNN":
    """The network with weights that a command names."""
    from cnnzoo.cnn import CNN
    from cnnzoo.registry import ModelName
    from cnnzoo.zoo import load_pretrained

    options: dict[str, Any] = {"classic": True} if classic else {}
    model = load_pretrained(ModelName(name), checkpoint=checkpoint, hub=hub, **options | more)
    assert isinstance(model, CNN)
    return model
