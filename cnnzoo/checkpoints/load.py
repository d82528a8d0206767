"""Getting weights into a network: translated, adapted, checked as a whole, then assigned."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from cnnzoo.checkpoints.adapt import adapt
from cnnzoo.checkpoints.assign import assign, places_of
from cnnzoo.checkpoints.cifar_shortcut import ZeroChannels, converted, is_foreign
from cnnzoo.checkpoints.formats import reason
from cnnzoo.checkpoints.layouts import Layout, from_layout, translated
from cnnzoo.checkpoints.locate import Source
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.checkpoints.weights import check_finite, read_weights
from cnnzoo.cnn import CNN
from cnnzoo.construction import Construction, Device
from cnnzoo.deploy.fold import fold
from cnnzoo.errors import CheckpointError
from cnnzoo.registry import READING, ModelSpec
from cnnzoo.support.torch_private import BATCH_NORM

HEAD = ("num_classes", "aux")
"""Arguments that say what the last layers give."""
SMALL = 64 * 2**20
"""Bytes of a file, which nobody vouches for, that is looked through for NaN and infinity before it is used."""


class FreshLayerWarning(UserWarning):
    """A part of a network that its weights do not fit, and that starts from random numbers."""


def load(
    source: Source,
    options: Mapping[str, Any],
    device: Device,
    dtype: torch.dtype | None,
    *,
    mmap: bool = True,
    weights_key: str | None = None,
    zero_channels: ZeroChannels | None = None,
) -> CNN:
    """Build a network without allocating its parameters, and give it those of a file.

    The network is the one that the weights were made with, which the options may adapt but must not contradict.
    """
    spec = source.spec
    made_with = options if source.made_with is None else source.made_with  # None: tensors are all that is known
    if not spec.is_same(made_with, {**made_with, **options}):
        raise CheckpointError(
            f"{source.path.name} was made with {spec.shown(made_with)}; got {spec.shown(options)}, another network"
        )
    target = torch.get_default_device() if device is None else torch.device(device)
    with _believed(source.path, not options):
        construction = Construction(partial(spec.constructor, **{**made_with, **options}), target)
    model = construction.model
    assert isinstance(model, CNN)
    if source.folded:
        for norm in (one for one in model.modules() if isinstance(one, BATCH_NORM)):
            norm.to("meta")  # with the rest of what is folded; the file has all of it
        fold(model)
    tensors, _ = read_weights(source.path, mmap=mmap, weights_key=weights_key)
    if not source.published and source.path.stat().st_size <= SMALL:
        check_finite(tensors, source.path)
    if source.layout is None and is_foreign(model, tensors):
        tensors, known = converted(model, tensors, source.path, zero_channels)
        source = replace(source, layout="cnnzoo", checkpoint=known)
    others = spec.reads_others(made_with, options)
    named = _by_our_names(model, tensors, source.layout)
    tensors, fresh = adapt(model, named, options.keys(), reads_others=others)
    if dtype is None:
        _check_precision(tensors, source.path)
    assign(model, tensors, source.path, fresh)
    construction.finish(dtype)  # which initialises what is fresh
    if source.checkpoint is not None:
        model.checkpoint = _as_it_is_now(source.checkpoint, spec, model, made_with, reads_others=others)
    if fresh:
        asked = spec.shown({name: options[name] for name in (*HEAD, *READING) if name in options})
        warnings.warn(
            f"load_pretrained: {spec.name}: starts afresh: {', '.join(fresh)}; {source.path.name} holds nothing that "
            f"fits {asked}; train it before use",
            FreshLayerWarning,
            stacklevel=4,
        )
    model.eval()
    return model


@contextmanager
def _believed(path: Path, alone: bool) -> Iterator[None]:
    """While a network is built with arguments that a file states: whatever goes wrong is the file's `CheckpointError`.

    A constructor trusts its arguments, as any function does; those of a file may be anything that JSON can say. Where
    they do not stand alone, what the caller asked for is not the file's fault.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if not alone:
            raise
        raise CheckpointError(
            f"{path} states arguments that no network can be built with: {reason(error)}; it is damaged, or from "
            "another version of cnnzoo"
        ) from None


def _as_it_is_now(
    row: Checkpoint, spec: ModelSpec, model: CNN, made_with: Mapping[str, Any], *, reads_others: bool = False
) -> Checkpoint:
    """What is known of the weights, as far as it still holds for an adapted network.

    Other scores have no names, and what was measured on colour does not hold for grey, nor what was measured on some
    CAPTCHAs for others. One channel is normalised by the averages of three, which is near to what each had.
    """
    head, channels = spec.parameters.get("num_classes"), spec.parameters.get("in_channels")
    classes = row.class_set
    if reads_others or (head is not None and model.num_classes != made_with.get("num_classes", head.default)):
        row = row.as_origin(spec.name)
    elif channels is not None and model.config is not None:
        now = model.config.options["in_channels"]
        if now != made_with.get("in_channels", channels.default):
            row = replace(row.as_origin(spec.name), class_set=classes)
    images = row.preprocessing
    if "charset" in spec.parameters and model.input_shape is not None:
        images = replace(images, size=model.input_shape[1:])
        row = replace(row, preprocessing=images)
    if model.input_shape is not None and model.input_shape[0] == 1 != images.channels:
        row = replace(row, preprocessing=replace(images, channels=1))
    return row


def _check_precision(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A network computes in one precision, of at least 16 bits."""
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(found) > 1 or any(dtype.itemsize < 2 for dtype in found):
        listed = ", ".join(sorted(map(str, found)))
        raise CheckpointError(
            f"{path} holds {listed}, in which no network can compute as it is; "
            "pass the one that it should have, dtype=torch.float32"
        )


def _by_our_names(model: CNN, tensors: Mapping[str, Tensor], layout: Layout | None) -> dict[str, Tensor]:
    """The tensors under the names of ours; where nothing says whose they carry, those that fit best."""
    if layout is not None:
        return from_layout(model, tensors, layout)
    expected = dict(places_of(model)).keys()
    best: dict[str, Tensor] = dict(tensors)
    for other in get_args(Layout):
        try:
            named = translated(model, tensors, other)
        except CheckpointError:  # that library has no such network
            continue
        if len(named.keys() & expected) > len(best.keys() & expected):
            best = named
    return best
