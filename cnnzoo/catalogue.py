"""What the package knows of its networks without building them: this file does not need torch, which takes seconds.

`catalogue.json` is generated from the registry (`make stubs`); a test compares the two.
"""

import functools
import json
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from cnnzoo.errors import OptionError, UnknownNameError, suggestion, unknown
from cnnzoo.support.files import read_table
from cnnzoo.support.text import counted, numerically

Kind = Literal["model", "block"]

RECIPES = "training/recipes"

LENGTH = {"epochs", "steps"}
"""How long a run is; stating one takes the place of the other."""


@dataclass(frozen=True)
class Paper:
    """A publication; its citation and its printed tables are in `papers/<key>.toml`, read when first asked for."""

    key: str

    @property
    def table(self) -> dict[str, Any]:
        """The whole file."""
        return read_table(f"papers/{self.key}.toml")

    @property
    def title(self) -> str:
        return self.table["title"]

    @property
    def citation(self) -> str:
        """Authors, title, venue and year in one line."""
        table = self.table
        return f"{table['authors']}: {table['title']}. {table['venue']}, {table['year']}."

    @property
    def url(self) -> str:
        return self.table.get("url", "")


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor: its name, its default as Python writes it, and what it means."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Entry:
    """A network or block, as the registry knows it.

    Attributes:
        name: what `create` calls it.
        family: the file it stands in.
        kind: `"model"`, or `"block"` for a part of one.
        paper: the publication.
        input_shape: (C, H, W) of the images that the default network is made for.
        params: numbers in all its parameters, with the default arguments.
        summary: one sentence that says what it is.
        notes: what else its constructor says, a paragraph each.
        arguments: of its constructor.
    """

    name: str
    family: str
    kind: Kind
    paper: Paper
    input_shape: tuple[int, int, int]
    params: int
    summary: str
    notes: tuple[str, ...]
    arguments: tuple[Argument, ...]

    @property
    def has_classic(self) -> bool:
        """Whether `classic=True` builds another network: the one exactly as its paper printed it."""
        return any(one.name == "classic" for one in self.arguments)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The tags of the published weights, the default first."""
        return tags(self.name)


class Known(Protocol):
    """What `matching` asks of an entry, or of a spec of the registry."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def has_classic(self) -> bool: ...
    @property
    def checkpoints(self) -> tuple[str, ...]: ...


K = TypeVar("K", bound=Known)


@functools.cache
def entries() -> dict[str, Entry]:
    """All networks and blocks of the package by name, in the order of the model files."""
    read = json.loads(files("cnnzoo").joinpath("catalogue.json").read_text("utf-8"))
    return {one["name"]: _entry(**one) for one in read}


def _entry(paper: str, input_shape: Iterable[int], notes: Iterable[str], arguments: Any, **rest: Any) -> Entry:
    own = tuple(Argument(name, *said) for name, said in arguments.items())
    return Entry(paper=Paper(paper), input_shape=tuple(input_shape), notes=tuple(notes), arguments=own, **rest)  # pyright: ignore[reportArgumentType]


def entry(name: str) -> Entry:
    """The network or block of that name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest ones.
    """
    if name not in entries():
        raise no_network(name, entries())
    return entries()[name]


def no_network(name: str, known: Iterable[str], where: str = "") -> UnknownNameError:
    """The error for a name that no network has."""
    return unknown(where, "network", name, known, "`cnnzoo list` shows them all.")


def tags(name: str) -> tuple[str, ...]:
    """The tags of a network's published weights, the default first."""
    return tuple(row["tag"] for row in read_table("checkpoints/table.toml").get(name, ()))


def matching(
    known: Iterable[K],
    pattern: str = "*",
    *,
    family: str | None = None,
    kind: Kind | None = "model",
    pretrained: bool | None = None,
    classic: bool | None = None,
) -> list[K]:
    """Those of some networks that `cnnzoo.list_models` would name, in its order."""
    known = list(known)
    families = {one.family for one in known}
    if family is not None and family not in families:
        raise unknown("", "family", family, sorted(families))
    found = [
        one
        for one in known
        if fnmatchcase(one.name, pattern)
        and family in (None, one.family)
        and kind in (None, one.kind)
        and pretrained in (None, bool(one.checkpoints))
        and classic in (None, one.has_classic)
    ]
    return sorted(found, key=lambda one: numerically(one.name))


def nothing_matches(pattern: str, among: Iterable[str]) -> UnknownNameError:
    """The error of a listing that shows nothing."""
    return UnknownNameError(f"no network matches {pattern!r}: {suggestion(pattern, among)}")


@functools.cache
def recipes() -> tuple[str, ...]:
    """The names of the training recipes."""
    there = (file.name for file in files("cnnzoo").joinpath(RECIPES).iterdir())
    found = (name.removesuffix(".toml") for name in there if name.endswith(".toml"))
    return tuple(sorted(found, key=numerically))


def recipe_table(name: str) -> dict[str, Any]:
    """What a recipe states, of those here or of a file that ends in `.toml`, on top of the one that it is `like`.

    Raises:
        UnknownNameError: there is no such recipe.
        OptionError: the file cannot be read, or is not TOML.
    """
    if name.endswith(".toml"):
        try:
            table = tomllib.loads(Path(name).read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise OptionError(f"{name} is not TOML: {error}") from None
        except OSError as error:
            raise OptionError(
                f"cannot read the recipe {name}: {error.strerror or error}; name a file, or one of `cnnzoo recipes`"
            ) from None
    elif name in recipes():
        table = dict(read_table(f"{RECIPES}/{name}.toml"))
    else:
        trained = [one for one in recipes() if recipe_table(one)["network"] == name]
        if trained:
            raise UnknownNameError(f"{name!r} is a network; the recipes that train it: {', '.join(trained)}")
        raise unknown("", "recipe", name, recipes())
    if "like" not in table:
        return table
    base = recipe_table(table.pop("like"))
    return (without(LENGTH, base) if LENGTH & table.keys() else base) | table


def without(keys: Collection[str], table: dict[str, Any]) -> dict[str, Any]:
    """A table without some of its keys."""
    return {key: value for key, value in table.items() if key not in keys}


def recipe_length(table: dict[str, Any]) -> str:
    """How long a recipe's run is, in words."""
    units = {"epoch": table.get("epochs"), "step": table.get("steps")}  # of which one is stated
    return next(counted(count, unit) for unit, count in units.items() if count is not None)
