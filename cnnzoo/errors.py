"""The exceptions of cnnzoo, and the sentence that answers a misspelt name.

Every one is a `CnnzooError` and also a built-in `LookupError` or `ValueError`, so that code which knows nothing
of cnnzoo can catch them. The command line prints them as one line.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class CnnzooError(Exception):
    """The base of every exception that cnnzoo raises on purpose.

    Attributes:
        operation: the public function that was called, with which the text begins.
    """

    operation = ""

    def __str__(self) -> str:
        return f"{self.operation}: {self.text}" if self.operation else self.text

    @property
    def text(self) -> str:
        """The text without the operation's name, for a program that has names of its own for what it does."""
        return super().__str__()


@contextmanager
def named(name: str) -> Iterator[None]:
    """A context whose errors begin with `name`."""
    try:
        yield
    except CnnzooError as error:
        error.operation = name
        raise


def operation(function: Callable[P, R]) -> Callable[P, R]:
    """Let the errors of a public function begin with its name; where one calls another, with the outer one's."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with named(function.__name__):
            return function(*args, **options)

    return call


class UnknownNameError(CnnzooError, LookupError):
    """A network, layer, recipe, checkpoint, class or character that does not exist."""


class OptionError(CnnzooError, ValueError):
    """An option that the network does not have, or a value that the option does not take."""


class ShapeError(CnnzooError, ValueError):
    """A size that an operation cannot accept.

    Attributes:
        layer: the layer's name as in `named_modules()`, or None where no layer is known.
        excess: which way the size misses: -1 too small, +1 too large, 0 not a matter of size.
        features: how many features were wanted of the map, where that is what failed.
    """

    def __init__(self, message: str, *, layer: str | None = None, excess: int = 0, features: int = 0) -> None:
        super().__init__(message)
        self.layer = layer
        self.excess = excess
        self.features = features

    def __reduce__(self):
        return (_rebuild, (self.text, self.layer, self.excess), vars(self))


def _rebuild(message: str, layer: str | None, excess: int) -> ShapeError:
    return ShapeError(message, layer=layer, excess=excess)


class CheckpointError(CnnzooError, ValueError):
    """A weights file that is missing, damaged, or made for another network."""


class HubError(CheckpointError):
    """A download or an upload that failed: the server refused, could not be reached, or sent something else."""


class DataError(CnnzooError, ValueError):
    """An image or data set that cannot be read, or holds something else."""


class DeployError(CnnzooError, ValueError):
    """A network that cannot be folded, exported or run by a backend, or computes something else when it is."""


def unknown(where: str, what: str, name: str, known: Iterable[str], remedy: str = "") -> UnknownNameError:
    """The error for a name that is not in `known`; `where` it is not, unless the operation says it all."""
    said = f"unknown {what} {name!r}: {suggestion(name, known)} {remedy}".rstrip()
    return UnknownNameError(f"{where}: {said}" if where else said)


def suggestion(name: str, known: Iterable[str]) -> str:
    """The answer to a misspelt name: the nearest known ones, or all of them when they are few."""
    choices = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(name.lower(), choices, n=3, cutoff=0.6)
    if near:
        likeness = {hit: difflib.SequenceMatcher(None, hit, name.lower()).ratio() for hit in near}
        best = likeness[near[0]] - 0.05
        meant = (repr(choices[hit]) for hit in near if likeness[hit] > best or hit.startswith(name.lower()))
        return f"did you mean {' or '.join(meant)}?"
    if len(choices) > 12:
        return f"there are {len(choices)}, none of them similar."
    return f"known: {', '.join(choices.values())}." if choices else "there is none."
