"""Taking networks apart: layers and parameters by name, freezing, truncation, groups for an optimiser."""

import functools
from collections.abc import Iterator
from typing import Any

from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation
from cnnzoo.registry import resolve
from cnnzoo.shapes.trace import is_leaf
from cnnzoo.support.patterns import fits, named
from cnnzoo.support.torch_private import BATCH_OR_INSTANCE_NORM
from cnnzoo.support.wrappers import inside, is_distributed, own_class

Kind = type[nn.Module] | tuple[type[nn.Module], ...] | str
NORMS = (BATCH_OR_INSTANCE_NORM, nn.GroupNorm, nn.LayerNorm)


@operation
def layers(
    model: nn.Module | str, kind: Kind | None = None, pattern: str = "**", **options: Any
) -> dict[str, nn.Module]:
    """Find layers by name, in the order of `named_modules()`.

    Args:
        model: any network, or the name of a registered one, whose layers are then on the meta device.
        kind: a class, several, or a part of a class's name in any case: `"conv"` finds `Conv2d` and LeNet-5's
            `ConnectionTableConv2d`. By default every leaf.
        pattern: a name, or a shell pattern that is matched level by level, with `**` for any number of levels:
            `"conv4_*"`, `"conv4_x.*.conv2"`, `"mixed_5b.**"`.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Raises:
        UnknownNameError: no network is registered under that name.

    Examples:
        >>> import cnnzoo
        >>> list(cnnzoo.layers("resnet18", "conv", "conv2_x.**"))
        ['conv2_x.0.conv1', 'conv2_x.0.conv2', 'conv2_x.1.conv1', 'conv2_x.1.conv2']
    """
    found = {}
    for name, module in inside(resolve(model, options)).named_modules():
        if not name or not fits(name, pattern):
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
def parameters(model: nn.Module | str, pattern: str = "**", **options: Any) -> dict[str, nn.Parameter]:
    """Find parameters by name, in order.

    Args:
        model: any network, or the name of a registered one.
        pattern: as `layers` takes it: `"**.bias"` is every bias, `"conv1.*"` what conv1 has.
        **options: arguments of a registered network's constructor.

    Raises:
        UnknownNameError: no network is registered under that name.

    Examples:
        >>> import cnnzoo
        >>> list(cnnzoo.parameters("lenet5", "c?.bias"))
        ['c1.bias', 'c3.bias', 'c5.bias']
    """
    found = inside(resolve(model, options)).named_parameters()
    return {name: parameter for name, parameter in found if fits(name, pattern)}


@operation
def freeze(model: nn.Module, until: str | None = None, *, norms: bool = False) -> nn.Module:
    """Freeze all parameters from the first layer up to and including `until`.

    Args:
        model: any network, changed in place.
        until: a name from `named_modules()`, or a pattern as `layers` takes it, of whose matches the last counts. By
            default everything is frozen.
        norms: also freeze the running statistics of batch normalisation there. These layers stay in evaluation mode,
            whatever `train()` is called on, until `unfreeze`.

    Returns:
        The model.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: the network is in `DistributedDataParallel` already, which has noted what it trains.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.freeze(cnnzoo.lenet5(), until="c5")
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['f6.weight', 'f6.bias', 'output.weight', 'output.bias']
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
    """Train again what `freeze` with the same `until` has frozen, running statistics included.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: the network is in `DistributedDataParallel` already.

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
    """The modules from the first up to and including one, or all."""
    if is_distributed(model):
        raise OptionError(
            "the network is in DistributedDataParallel, which noted when it was made what is to be trained; change "
            "`model.module` and wrap it anew"
        )
    modules = dict(inside(model).named_modules())
    if until is None:
        return list(modules.values())
    within = {part for name in named(filter(None, modules), until) for part in modules[name].modules()}
    last = max(i for i, module in enumerate(modules.values()) if module in within)
    return list(modules.values())[: last + 1]


@operation
def truncate(model: nn.Module, *, until: str) -> CNN:
    """Cut a chain off behind a layer: the layers up to and including `until`, sharing their weights.

    Args:
        model: a chain; `extract` stops inside of blocks and of other networks.
        until: a layer of the chain, such as `"conv4_2"`, or a pattern, of whose matches the last counts.

    Raises:
        UnknownNameError: the chain has no such layer.
        OptionError: the network is no chain.

    Examples:
        >>> import cnnzoo
        >>> list(cnnzoo.truncate(cnnzoo.lenet5(), until="s2").chain())
        ['c1', 'tanh1', 's2']
    """
    extract = f"`cnnzoo.extract(model, {until!r})` stops there."
    model = inside(model)
    if not isinstance(model, CNN):
        raise OptionError(f"{type(model).__name__} is no chain of layers that could be cut; {extract}")
    names = list(model.chain())
    is_inside = any(fits(name, until) for name, _ in model.named_modules() if name) if isinstance(until, str) else False
    last = named(names, until, f"It is inside of a layer: {extract}" if is_inside else "")[-1]
    return model[: names.index(last) + 1]


@operation
def parameter_groups(
    model: nn.Module, lr: float, *, decay: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Group the trainable parameters for an optimiser: slower early layers, and weight decay for weights only.

    A layer that is k layers before the last trains at `lr * decay**k`. Layers are counted in the order in which they
    run: a block as one, a normalisation together with the layer before it, and auxiliary classifiers with the last.
    Whatever has one axis, such as biases and the scales of a normalisation, gets no weight decay.

    Args:
        model: any network. One that is no chain is taken to run its children in the order in which it has them. A
            module that holds a network, with a loss or the like beside it, has the layers of the network.
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
    depths = _depths(inside(model))
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


def _units(
    module: nn.Module, path: str = "", *, outermost: bool = True
) -> Iterator[tuple[str, list[nn.Parameter], bool]]:
    """Layers and blocks in order, containers opened: name, parameters, and whether they join those before."""
    yield path or type(module).__name__, list(module.parameters(recurse=False)), False
    beside = {name: inside(child) for name, child in module.named_children()}
    children = {name: beside[name] for name in module.chain()} if isinstance(module, CNN) else beside
    for name, child in children.items():
        place = f"{path}.{name}" if path else name
        container = own_class(child) in (nn.Sequential, nn.ModuleList)
        network = outermost and not container and _is_network(child, module)
        if container or network:
            yield from _units(child, place, outermost=network)
        else:
            yield place, list(child.parameters()), isinstance(child, NORMS)
    for name, child in beside.items():
        if name not in children:
            yield name, list(child.parameters()), True


def _is_network(child: nn.Module, around: nn.Module) -> bool:
    """Whether a module in another one is the network that it is about: a chain, or most of its parameters."""
    if isinstance(around, CNN) or is_leaf(child):
        return False
    size, whole = (sum(one.numel() for one in module.parameters()) for module in (child, around))
    return isinstance(child, CNN) or size > whole / 2
