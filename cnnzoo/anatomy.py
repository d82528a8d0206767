"""Taking networks apart: layers and parameters by name, freezing, truncation, groups for an optimiser."""

import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation, unknown
from cnnzoo.shapes.trace import is_leaf
from cnnzoo.support.torch_private import BATCH_OR_INSTANCE_NORM

Kind = type[nn.Module] | tuple[type[nn.Module], ...] | str
NORMS = (BATCH_OR_INSTANCE_NORM, nn.GroupNorm, nn.LayerNorm)


@operation
def layers(model: nn.Module, kind: Kind | None = None, pattern: str = "*") -> dict[str, nn.Module]:
    """Layers by name, in the order of `named_modules()`.

    Args:
        model: any network.
        kind: a class, several, or a part of a class's name in any case: `"conv"` finds `Conv2d` and LeNet-5's
            `ConnectionTableConv2d`. By default every leaf.
        pattern: shell-style, on the dotted name: `"conv4_*"`.

    Examples:
        >>> import cnnzoo
        >>> list(cnnzoo.layers(cnnzoo.create("lenet5", device="meta")))[:3]
        ['c1', 'tanh1', 's2']
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


@operation
def parameters(model: nn.Module, pattern: str = "*") -> dict[str, nn.Parameter]:
    """Parameters by name, in order; `pattern` is shell-style, on the dotted name: `"*.bias"`.

    Examples:
        >>> import cnnzoo
        >>> sorted(cnnzoo.parameters(cnnzoo.create("lenet5", device="meta"), "c*.weight"))
        ['c1.weight', 'c3.weight', 'c5.weight']
    """
    return {name: parameter for name, parameter in model.named_parameters() if fnmatchcase(name, pattern)}


@operation
def freeze(model: nn.Module, until: str | None = None, *, norms: bool = False) -> nn.Module:
    """Keep the parameters of a network, from its first layer until and with `until`, out of training.

    Args:
        model: any network, changed in place.
        until: a name from `named_modules()`; by default everything is frozen.
        norms: also freeze the running statistics of batch normalisation there. These layers stay in evaluation mode,
            whatever `train()` is called on, until `unfreeze`.

    Returns:
        The model.

    Raises:
        UnknownNameError: there is no such layer.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.freeze(cnnzoo.create("lenet5", seed=0), until="s4")
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad][:2]
        ['c5.weight', 'c5.bias']
    """
    for module in _until(model, until):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if norms and isinstance(module, BATCH_OR_INSTANCE_NORM):
            module.eval()
            # In front of the method, so that the layer's type and forward stay; a partial can be pickled and copied.
            vars(module)["train"] = functools.partial(_stay, module)
    return model


@operation
def unfreeze(model: nn.Module, until: str | None = None) -> nn.Module:
    """Give back to training what `freeze` with the same `until` kept out of it, running statistics included.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.unfreeze(cnnzoo.freeze(cnnzoo.create("lenet5", seed=0)))
        >>> all(parameter.requires_grad for parameter in model.parameters())
        True
    """
    for module in _until(model, until):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)
        if vars(module).pop("train", None) is not None:
            module.train(model.training)
    return model


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """What `train` of a frozen normalisation does."""
    return module


def _until(model: nn.Module, until: str | None) -> list[nn.Module]:
    """The modules from the first until and with one, or all."""
    modules = dict(model.named_modules())
    if until is None:
        return list(modules.values())
    names = [name for name in modules if name]
    if until not in names:
        raise unknown("", "layer", until, names)
    inside = set(modules[until].modules())
    last = max(i for i, module in enumerate(modules.values()) if module in inside)
    return list(modules.values())[: last + 1]


@operation
def truncate(model: CNN, *, after: str) -> CNN:
    """The chain until and with the layer `after`, sharing its weights.

    Args:
        model: a chain; `extract` stops inside of blocks and of other networks.
        after: a layer of the chain, such as `"conv4_2"`.

    Raises:
        UnknownNameError: the chain has no such layer.
        OptionError: the network is no chain.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> cnnzoo.truncate(cnnzoo.create("lenet5", seed=0), after="s4")(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 16, 5, 5])
    """
    extract = f"`cnnzoo.extract(model, {after!r})` stops there."
    if not isinstance(model, CNN):
        raise OptionError(f"{type(model).__name__} is no chain of layers that could be cut; {extract}")
    names = list(model.chain())
    if after not in names:
        inside = after in dict(model.named_modules())
        raise unknown("", "layer", after, names, f"It is inside of a layer: {extract}" if inside else "")
    return model[: names.index(after) + 1]


@operation
def parameter_groups(
    model: nn.Module, lr: float, *, decay: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """The trainable parameters in groups for an optimiser: slower early layers, and weight decay for weights only.

    A layer that is k layers before the last trains at `lr * decay**k`. Layers are counted in the order in which they
    run: a block as one, a normalisation together with the layer before it, and auxiliary classifiers with the last.
    Whatever has one axis, such as biases and the scales of a normalisation, gets no weight decay.

    Args:
        model: any network. One that is no chain is taken to run its children in the order in which it has them.
        lr: learning rate of the last layer.
        decay: factor from each layer to the one before, above 0 and at most 1.
        weight_decay: of the weights.

    Returns:
        Groups with `name`, `params`, `lr` and `weight_decay`, from the first layer to the last. Frozen parameters are
        in none. Layers of equal rates share a group, which is named after the first and the last of them.

    Raises:
        OptionError: `decay` is out of range, or everything is frozen.

    Source: the layer-wise decay of Bao et al. 2022, "BEiT".

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> groups = cnnzoo.parameter_groups(cnnzoo.create("resnet18", seed=0), lr=0.1, decay=0.5)
        >>> round(groups[-1]["lr"], 4), groups[0]["lr"] < groups[-1]["lr"]
        (0.1, True)
        >>> optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    """
    if not 0 < decay <= 1:
        raise OptionError(f"got decay={decay}; it is above 0 and at most 1, which is one rate for all")
    depths = _depths(model)
    groups: dict[tuple[float, float], dict[str, list[Any]]] = {}
    for before_last, (layer, members) in zip(reversed(range(len(depths))), depths, strict=True):
        for parameter in members:
            if parameter.requires_grad:
                rates = lr * decay**before_last, weight_decay if parameter.ndim > 1 else 0.0
                group = groups.setdefault(rates, {"layers": [], "params": []})
                group["layers"].append(layer)
                group["params"].append(parameter)
    if not groups:
        raise OptionError("all parameters are frozen, there is nothing to train; see `unfreeze`")
    return [
        {"name": _span(layers, spared=own < weight_decay), "params": params, "lr": rate, "weight_decay": own}
        for (rate, own), (layers, params) in ((rates, group.values()) for rates, group in groups.items())
    ]


def _span(layers: list[str], *, spared: bool) -> str:
    """The name of a group."""
    first, last = layers[0], layers[-1]
    return (first if first == last else f"{first} to {last}") + (", no weight decay" if spared else "")


def _depths(model: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """The layers as `parameter_groups` counts them: name and parameters, each parameter once."""
    depths: list[tuple[str, list[nn.Parameter]]] = []
    seen: set[nn.Parameter] = set()
    for name, parameters, joins in _units(model):
        new = [parameter for parameter in parameters if parameter not in seen]
        seen.update(new)
        if joins and depths:
            depths[-1][1].extend(new)
        elif new:
            depths.append((name, new))
    return depths


def _units(module: nn.Module, path: str = "") -> Iterator[tuple[str, list[nn.Parameter], bool]]:
    """Layers and blocks in order, plain containers opened: name, parameters, and whether they join those before."""
    yield path or type(module).__name__, list(module.parameters(recurse=False)), False
    beside = dict(module.named_children())
    children = module.chain() if isinstance(module, CNN) else beside
    for name, child in children.items():
        name = f"{path}.{name}" if path else name
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _units(child, name)
        else:
            yield name, list(child.parameters()), isinstance(child, NORMS)
    for name, child in beside.items():
        if name not in children:
            yield name, list(child.parameters()), True
