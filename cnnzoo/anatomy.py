"""Taking networks apart: layers and parameters by name, freezing, truncation."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from cnnzoo.chain import CNN
from cnnzoo.errors import unknown
from cnnzoo.shapes.probe import is_leaf

Kind = type[nn.Module] | tuple[type[nn.Module], ...] | str


def layers(model: nn.Module, kind: Kind | None = None, pattern: str = "*") -> dict[str, nn.Module]:
    """Layers by name, in the order of `named_modules()`.

    Args:
        model: any network.
        kind: a class, several, or a part of a class's name in any case: `"conv"` finds `Conv2d` and LeNet-5's
            `ConnectionTableConv2d`. By default every leaf.
        pattern: shell-style, on the dotted name: `"conv4_*"`.
    """
    found = {}
    for name, module in model.named_modules():
        if not name or not fnmatchcase(name, pattern):
            continue
        if kind is None:
            wanted = is_leaf(module)
        elif isinstance(kind, str):
            wanted = kind.lower() in type(module).__name__.lower()
        else:
            wanted = isinstance(module, kind)
        if wanted:
            found[name] = module
    return found


def parameters(model: nn.Module, pattern: str = "*") -> dict[str, nn.Parameter]:
    """Parameters by name, in order; `pattern` is shell-style, on the dotted name: `"*.bias"`."""
    return {name: parameter for name, parameter in model.named_parameters() if fnmatchcase(name, pattern)}


def freeze(model: nn.Module, until: str | None = None) -> nn.Module:
    """Keep the parameters of a network, from its first layer until and with `until`, out of training.

    Args:
        model: any network, changed in place.
        until: a name from `named_modules()`; by default everything is frozen.

    Returns:
        The model.

    Raises:
        UnknownNameError: there is no such layer.
    """
    return _require_grad(model, until, False, "freeze")


def unfreeze(model: nn.Module, until: str | None = None) -> nn.Module:
    """Give back to training what `freeze` with the same arguments kept out of it."""
    return _require_grad(model, until, True, "unfreeze")


def truncate(model: CNN, *, after: str) -> CNN:
    """The chain until and with the layer `after`, sharing its weights.

    Args:
        model: a chain.
        after: a layer of the chain, such as `"conv4_2"`.

    Raises:
        UnknownNameError: the chain has no such layer.
    """
    names = list(model.chain())
    _known("truncate", after, names)
    return model[: names.index(after) + 1]


def _require_grad(model: nn.Module, until: str | None, value: bool, operation: str) -> nn.Module:
    modules = dict(model.named_modules())
    if until is not None:
        _known(operation, until, (name for name in modules if name))
        inside = set(modules[until].modules())
        last = max(i for i, module in enumerate(modules.values()) if module in inside)
    else:
        last = len(modules) - 1
    for module in list(modules.values())[: last + 1]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(value)
    return model


def _known(operation: str, layer: str, names: Iterable[str]) -> None:
    names = list(names)
    if layer not in names:
        raise unknown(operation, "layer", layer, names)
