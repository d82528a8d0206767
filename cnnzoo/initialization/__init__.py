"""Weight initialization: one function for each published scheme.

A scheme fills the layers that hold weights, in the order of `modules()`, which for a chain is the order in which they
run. Batch normalisation always starts as the identity (Ioffe and Szegedy 2015): scale 1, shift 0.

    cnnzoo.initialize(model, "he2015")
    cnnzoo.initialize(model, functools.partial(he2015, mode="fan_out"), generator=torch.Generator().manual_seed(0))
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Generator, nn

from cnnzoo.errors import operation, unknown
from cnnzoo.initialization.fans import fans, is_stand_in, is_weighted
from cnnzoo.initialization.outline import Randomly
from cnnzoo.initialization.schemes import (
    SCHEMES,
    Layers,
    Scheme,
    constant,
    glorot2010,
    he2015,
    krizhevsky2012,
    lecun1998,
    normal,
    orthogonal,
    simonyan2014,
    sparse,
    torch_default,
    truncated_normal,
    zeros,
)
from cnnzoo.support.torch_private import reset_method

__all__ = [
    "SCHEMES",
    "InitializationWarning",
    "Layers",
    "Scheme",
    "constant",
    "fans",
    "glorot2010",
    "he2015",
    "initialize",
    "krizhevsky2012",
    "lecun1998",
    "normal",
    "orthogonal",
    "simonyan2014",
    "sparse",
    "torch_default",
    "truncated_normal",
    "zeros",
]


class InitializationWarning(UserWarning):
    """Parameters that nothing says how to initialise."""


@operation
@torch.no_grad()
def initialize(
    model: nn.Module, scheme: str | Scheme | None = None, *, generator: Generator | None = None
) -> nn.Module:
    """Initialise every layer of a network, in place.

    Convolutions, linear layers, and layers with `fans()` follow the scheme. Every other layer starts as its
    `reset_parameters` says: normalisation as the identity. A parameter for which nothing says how it starts is left
    as it is, with an `InitializationWarning` that names it.

    Args:
        model: any network.
        scheme: a scheme or the name of one (see `cnnzoo.initialization.SCHEMES`). By default the network's own; in a
            network that has none, that of the network inside it that a layer belongs to, or else `torch_default`.
        generator: where the random numbers come from, on the model's device; by default torch's global generator.

    Returns:
        The model.

    Raises:
        UnknownNameError: there is no scheme of that name.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.initialize(cnnzoo.create("lenet5", init=False), "he2015")
        >>> round(model.c3.weight.std().item(), 1)  # sqrt(2 / (6 * 5 * 5))
        0.1
    """
    chosen = None if scheme is None else find_scheme(scheme)
    weighted: dict[Scheme, list[nn.Module]] = {}
    left: list[str] = []
    with nullcontext() if generator is None else Randomly(generator):
        for path, layer, own in with_schemes(model.named_modules()):
            held = dict(layer.named_parameters(recurse=False))
            follows = is_weighted(layer)
            reset = reset_method(layer)
            if reset is not None and (held or next(layer.buffers(recurse=False), None) is not None):
                if not follows or held.keys() - {"weight", "bias"}:
                    reset()
                    left += (f"{path}.{name}".lstrip(".") for name in held if is_stand_in(layer, name))
            elif held:
                covered = {"weight", "bias"} if follows else set()
                left += (f"{path}.{name}".lstrip(".") for name in held if name not in covered)
            if follows:
                weighted.setdefault(chosen or own or torch_default, []).append(layer)
    for one, layers in weighted.items():
        one(layers, generator)
    warn_of(left, "initialize", stacklevel=3)
    return model


def find_scheme(scheme: Any) -> Scheme:
    """The scheme of that name."""
    if not isinstance(scheme, str):
        return scheme
    if scheme not in SCHEMES:
        raise unknown("", "scheme", scheme, SCHEMES)
    return SCHEMES[scheme]


def with_schemes(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module, Scheme | None]]:
    """The modules of a network by path, with the scheme (`CNN.init`) of the outermost network around that has one."""
    schemes: dict[str, Scheme] = {}
    for path, module in modules:
        around = schemes.get(path.rpartition(".")[0]) if path else None
        own: Any = vars(module).get("init")
        if around is None and (isinstance(own, str) or callable(own)):
            around = find_scheme(own)
        if around is not None:
            schemes[path] = around
        yield path, module, around


def warn_of(parameters: Iterable[str], operation: str, stacklevel: int) -> None:
    """Warn of parameters that were left as they were."""
    names = list(parameters)
    if not names:
        return
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    warnings.warn(
        f"{operation}: nothing says how to initialise {shown}; left as it was. Give the layer a reset_parameters() "
        "method, or fans() if it has a weight that follows the scheme (see cnnzoo.nn)",
        InitializationWarning,
        stacklevel=stacklevel + 1,
    )
