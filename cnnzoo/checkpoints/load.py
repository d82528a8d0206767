"""Getting weights into a network: translated, adapted, checked as a whole, then assigned."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.adapt import adapt
from cnnzoo.checkpoints.cifar_shortcut import converted, is_foreign
from cnnzoo.checkpoints.files import built_from, check_finite
from cnnzoo.checkpoints.layouts import Layout, from_layout
from cnnzoo.checkpoints.locate import Source, same_network, shown
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.cnn import CNN
from cnnzoo.construction import Device, materialise, outline
from cnnzoo.errors import CheckpointError
from cnnzoo.initialization import initialize
from cnnzoo.registry import ModelSpec

SMALL = 64 * 2**20
"""Bytes of a file, which nobody vouches for, that is looked through for NaN and infinity before it is used."""


class FreshLayerWarning(UserWarning):
    """A part of a network that its weights do not fit, and that starts from random numbers."""


def load(
    spec: ModelSpec, options: dict[str, Any], source: Source, device: Device, dtype: torch.dtype | None
) -> nn.Module:
    """Build a network without allocating its parameters, and give it those of a file.

    The network is the one that the weights were made with, which the options may adapt but must not contradict.
    """
    made_with = source.options
    if source.name is not None and source.name != spec.name:
        raise CheckpointError(f"load_pretrained: {source.path} holds weights of {source.name}, not of {spec.name}")
    if made_with is None:  # tensors are all that is known
        made_with = options
    spec.check(made_with, f"load_pretrained: {source.path}")
    if not same_network(spec, made_with, made_with | options):
        raise CheckpointError(
            f"load_pretrained: {source.path.name} was made with {shown(made_with)}; got {shown(options)}, another "
            "network"
        )
    with nullcontext() if options else built_from(source.path):  # what is asked for is not the file's fault
        model = outline(partial(spec.constructor, **made_with | options))
    assert isinstance(model, CNN)
    if source.layout is None and is_foreign(model, source.tensors):
        source = converted(model, source)
    published = source.checkpoint is not None and source.checkpoint.source
    if not published and source.path.stat().st_size <= SMALL:
        check_finite(source.tensors, source.path)
    tensors, fresh = adapt(model, _by_our_names(model, source), options.keys())
    if dtype is None:
        _check_precision(tensors, source.path)
    assign(model, tensors, source.path, fresh)
    if source.checkpoint is not None:
        vars(model)["checkpoint"] = _as_it_is_now(source.checkpoint, spec, model, made_with)
    target = torch.get_default_device() if device is None else torch.device(device)
    materialise(model, target, dtype, keep_statistics=True)
    for layer in fresh if target.type != "meta" else ():
        initialize(model.get_submodule(layer), model.init)
    if fresh:
        asked = shown({name: options[name] for name in ("num_classes", "aux") if name in options})
        warnings.warn(
            f"load_pretrained: {spec.name}: starts afresh: {', '.join(fresh)}; {source.path.name} holds nothing that "
            f"fits {asked}; train it before use",
            FreshLayerWarning,
            stacklevel=3,
        )
    return model.eval()


def assign(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, fresh: Collection[str] = ()) -> None:
    """Make these tensors the network's own, after all names, shapes and dtypes are checked.

    Args:
        model: the network; on an error it is as it was.
        tensors: by its own names.
        path: where they are from, for the message.
        fresh: layers that are left as they are.

    Raises:
        CheckpointError: something is missing, unexpected or misshapen.
    """
    left = tuple(f"{layer}." for layer in fresh)
    places = {name: place for name, place in _places(model) if not name.startswith(left)}
    expected = {name: held[key] for name, (held, key, _) in places.items()}
    # Files from before 2018 do not count the batches that batch normalisation has seen.
    counters = {name for name in expected.keys() - tensors.keys() if name.endswith(".num_batches_tracked")}
    given = {**tensors, **{name: torch.zeros((), dtype=torch.long) for name in counters}}
    problems = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected.keys() - given.keys()]
    problems += [f"unexpected: {name} {tuple(given[name].shape)}" for name in given.keys() - expected.keys()]
    for name in expected.keys() & given.keys():
        ours, theirs = expected[name], given[name]
        if ours.shape != theirs.shape:
            problems.append(f"shape of {name}: {tuple(theirs.shape)} in the file, {tuple(ours.shape)} in the network")
        elif ours.is_floating_point() != theirs.is_floating_point():
            problems.append(f"dtype of {name}: {theirs.dtype} in the file, {ours.dtype} in the network")
    if problems:
        listed = "; ".join(sorted(problems)[:8]) + ("; ..." if len(problems) > 8 else "")
        raise CheckpointError(
            f"load_pretrained: {path} does not fit {type(model).__name__} in {len(problems)} of {len(expected)} "
            f"tensors: {listed}"
        )
    for name, (held, key, learned) in places.items():
        held[key] = nn.Parameter(given[name], held[key].requires_grad) if learned else given[name]


def _places(model: nn.Module) -> Iterator[tuple[str, tuple[dict[str, Any], str, bool]]]:
    """Where a network keeps each tensor of its state dict, and whether it is a parameter."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for held in (module._parameters, module._buffers):
            for key, tensor in held.items():
                if tensor is not None and key not in module._non_persistent_buffers_set:
                    yield prefix + key, (held, key, held is module._parameters)


def _as_it_is_now(row: Checkpoint, spec: ModelSpec, model: CNN, made_with: dict[str, Any]) -> Checkpoint:
    """What is known of the weights, as far as it still holds for an adapted network.

    Other scores have no names. One channel is normalised by the averages of three, which is near to what each had.
    """
    head = spec.parameters.get("num_classes")
    if head is not None and model.num_classes != made_with.get("num_classes", head.default):
        row = replace(row, class_set=())
    pictures = row.preprocessing
    if model.input_shape is not None and model.input_shape[0] == 1 != pictures.channels:
        mean, std = (
            sum(value) / len(value) if isinstance(value, tuple) else value for value in (pictures.mean, pictures.std)
        )
        row = replace(row, preprocessing=replace(pictures, channels=1, mean=mean, std=std))
    return row


def _check_precision(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A network computes in one precision, of at least 16 bits."""
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(found) > 1 or any(dtype.itemsize < 2 for dtype in found):
        listed = ", ".join(sorted(map(str, found)))
        raise CheckpointError(
            f"load_pretrained: {path} holds {listed}, in which no network can compute as it is; "
            "pass the one that it should have, dtype=torch.float32"
        )


def _by_our_names(model: CNN, source: Source) -> dict[str, Tensor]:
    """The tensors under the names of ours; where nothing says whose they carry, those that fit best."""
    if source.layout is not None:
        return from_layout(model, source.tensors, source.layout)
    expected = dict(_places(model)).keys()
    best: dict[str, Tensor] = dict(source.tensors)
    for layout in get_args(Layout):
        try:
            named = from_layout(model, source.tensors, layout)
        except CheckpointError:  # that library has no such network
            continue
        if len(named.keys() & expected) > len(best.keys() & expected):
            best = named
    return best
