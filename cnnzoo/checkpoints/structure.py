"""Whether a network is what its constructor's arguments describe, which is all that a file says of it.

The arguments build an outline, and the network is compared with it module by module: kind, settings, tensors, hooks. A
network that was changed by hand would load as another one, with other scores and without a word.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.formats import short
from cnnzoo.cnn import CNN
from cnnzoo.construction import outline
from cnnzoo.deploy.fold import fold
from cnnzoo.errors import CheckpointError, CnnzooError
from cnnzoo.registry import Config, find
from cnnzoo.support.torch_private import BATCH_NORM, DROPOUT, attributes_of, hooks_of, tensors_of

SAID_ELSEWHERE = frozenset({"config", "head", "init", "input_shape", "_scores", "_stated"})
"""Attributes of a chain that describe it and change nothing of what it computes."""

FOR_TRAINING = {nn.Module: {"inplace"}, BATCH_NORM: {"momentum"}, DROPOUT: {"p"}}
"""Settings that change nothing of what a network in evaluation mode computes."""


@dataclass(frozen=True)
class Described:
    """How a network is built again: by its constructor's arguments, and folded where it is."""

    config: Config
    folded: bool = False


def described(model: CNN) -> Described:
    """The arguments that build this network again, as it is now.

    A last layer that was replaced by a linear one, or removed, follows from `num_classes`.

    Raises:
        CheckpointError: there are none, since it was put together or changed by hand.
    """
    if getattr(model, "config", None) is None:
        raise CheckpointError(
            f"this {type(model).__name__} was put together by hand, and no constructor could build it "
            "again; register one with cnnzoo.register, or keep its state_dict"
        )
    config = model.config
    if isinstance(model, CNN) and config.options.get("num_classes", model.num_classes) != model.num_classes:
        config = replace(config, options={**config.options, "num_classes": model.num_classes})
    try:
        planned = outline(partial(find(config.name).constructor, **config.options))
        found = next(differences(model, planned), "")
        if found and _norms(model) < _norms(planned):
            fold(planned)
            if not any(differences(model, planned)):
                _check_tensors(model)
                return Described(config, folded=True)
    except CnnzooError as error:
        found = error.text
    if found:
        raise CheckpointError(
            f"this {type(model).__name__} is not what its arguments describe, and would load as another network: "
            f"{found}; {_remedy(model)}"
        )
    _check_tensors(model)
    return Described(config)


def _norms(model: nn.Module) -> int:
    return sum(isinstance(one, BATCH_NORM) for one in model.modules())


def _check_tensors(model: nn.Module) -> None:
    tensors = model.state_dict().values()
    if any(tensor.is_meta for tensor in tensors):
        raise CheckpointError("the network is on the meta device, which holds no numbers; create it on another")
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if len(kinds) > 1 or any(kind.itemsize < 2 for kind in kinds):
        listed = ", ".join(sorted(map(str, kinds)))
        raise CheckpointError(
            f"the network has tensors of {listed}, with which it could not be loaded; bring them to one that networks "
            "compute in, model.to(torch.float32)"
        )


def differences(model: nn.Module, planned: nn.Module) -> Iterator[str]:
    """How a network differs from the outline of its arguments."""
    ours, theirs = ([*one.named_modules(remove_duplicate=False)] for one in (model, planned))
    for (name, here), (expected, there) in zip(ours, theirs, strict=False):
        if name != expected:
            known, present = dict(theirs), dict(ours)
            if name not in known:
                yield f"{name} ({_kind(here)}) is not described"
            elif expected not in present:
                yield f"{expected} ({_kind(there)}) is missing"
            else:
                yield f"{name} runs where {expected} is described"
            return
        yield from _changes(f"{name}: " if name else "", here, there)
    for name, module in ours[len(theirs) :]:
        yield f"{name} ({_kind(module)}) is not described"
    for name, module in theirs[len(ours) :]:
        yield f"{name} ({_kind(module)}) is missing"


def _kind(module: nn.Module) -> str:
    return short(repr(module).partition("\n")[0].removesuffix("("), 80)


def _changes(where: str, here: nn.Module, there: nn.Module) -> Iterator[str]:
    """How a module differs from the one that is described, its children apart."""
    if type(here) is not type(there):
        yield f"{where}{_kind(here)}, described as {_kind(there)}"
        return
    if hooks_of(here):
        yield f"{where}a hook that may change what it computes"
    ours, theirs = attributes_of(here), attributes_of(there)
    ignored = SAID_ELSEWHERE.union(*(names for kind, names in FOR_TRAINING.items() if isinstance(here, kind)))
    for name, expected in theirs.items():
        if name not in ignored and (name not in ours or not _same(ours[name], expected)):
            yield f"{where}{name}={short(repr(ours.get(name)), 60)}, described as {short(repr(expected), 60)}"
    for name in ours.keys() - theirs.keys() - ignored - {"train"}:
        if hasattr(type(here), name):  # such as a forward of its own; `freeze` has the only one that is harmless
            yield f"{where}{name} in place of what its class has"
    held, planned = ({name: tensor for _, name, tensor in tensors_of(one)} for one in (here, there))
    kept = {name for _, name, _ in tensors_of(there, persistent=True)}
    for name in held.keys() ^ planned.keys():
        yield f"{where}{name} is {'not described' if name in held else 'missing'}"
    for name in held.keys() & planned.keys():
        if held[name].shape != planned[name].shape:
            yield f"{where}{name} {tuple(held[name].shape)}, described as {tuple(planned[name].shape)}"
        elif name not in kept and not _same(held[name], planned[name]):
            yield f"{where}{name} holds other values, which no file keeps"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape:
            return False
        return one.is_meta or other.is_meta or torch.equal(one.cpu().double(), other.cpu().double())
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):  # kept beside the children
        return not any(differences(one, other))
    return type(one) is type(other) and one == other


def _remedy(model: nn.Module) -> str:
    """What to do about a network that was changed."""
    for name, module in model.named_modules():
        if "parametrizations" in dict(module.named_children()):
            return f"torch.nn.utils.parametrize.remove_parametrizations makes plain weights of those of {name}"
        if any(own.endswith("_orig") for _, own, _ in tensors_of(module)):
            return f"torch.nn.utils.prune.remove makes the pruning of {name} permanent"
        if hooks_of(module):
            return f"remove the hook of {name or 'the network'} (handle.remove())"
    return (
        "change it by its constructor's arguments, register a constructor of your own with cnnzoo.register, or keep "
        "its state_dict"
    )
