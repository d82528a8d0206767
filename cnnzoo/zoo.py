"""Making networks: fresh (`create`) or with their weights (`load_pretrained`).

`zoo.pyi` beside this file types both by name; it is generated from the registry (`make stubs`).
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cnnzoo.models  # noqa: F401  registers the constructors
from cnnzoo.checkpoints.cifar_shortcut import ZeroChannels
from cnnzoo.checkpoints.load import load
from cnnzoo.checkpoints.locate import Access, locate
from cnnzoo.construction import Device, construct
from cnnzoo.errors import OptionError, operation
from cnnzoo.registry import find
from cnnzoo.support.torch_private import holds_no_values


@operation
def create(
    name: str,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
    init: bool = True,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network or block of the registry.

    Args:
        name: as `list_models` shows it.
        device: where to build and initialise it; `"meta"` allocates nothing. By default torch's default device.
        dtype: of its parameters; by default torch's default dtype.
        init: whether to initialise it. False leaves the parameters as they come, to be overwritten.
        seed: makes the weights reproducible on that kind of device, without touching torch's global generator.
        **options: arguments of the network's own constructor (`help(cnnzoo.lenet5)`), `classic=True` among them where
            the network has such a variant.

    Returns:
        What the constructor returns, in training mode.

    Raises:
        UnknownNameError: no network has that name; the message offers the nearest ones.
        OptionError: the network does not have that option, or not that value.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> cnnzoo.create("lenet5", classic=True, seed=0)(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 10])
        >>> cnnzoo.create("resnet50", num_classes=5, device="meta").num_classes
        5
    """
    return construct_named(name, options, device=device, dtype=dtype, init=init, seed=seed)


def construct_named(name: str, options: dict[str, Any], **placement: Any) -> nn.Module:
    """`create` for names and options that are known at run time only."""
    known = find(name)
    known.check(options)
    return construct(partial(known.constructor, **options), **placement)


@operation
def load_pretrained(
    name: str | Path,
    *,
    checkpoint: str | Path | None = None,
    hub: bool = False,
    revision: str | None = None,
    device: Device = None,
    dtype: torch.dtype | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    progress: bool = True,
    mmap: bool = True,
    checksum: bool = False,
    weights_key: str | None = None,
    zero_channels: ZeroChannels | None = None,
    **options: Any,
) -> nn.Module:
    """Load a network with trained weights, in evaluation mode.

    The parameters are a mapping of the file until they are written to: nothing is initialised that would be
    overwritten. `model.checkpoint` says what the weights are; `model.checkpoint.transforms()` turns an image into an
    input and `model.checkpoint.classes` names the scores.

    Args:
        name: a network (`"resnet50"`), a network and tag (`"resnet50.a1_in1k"`), a file, a folder that
            `save_pretrained` wrote, or a repository of the Hugging Face Hub (`"owner/name"`).
        checkpoint: for a network, the tag (`cnnzoo weights resnet50` lists them), file, folder or repository of its
            weights; by default the first published ones that were made with these options.
        hub: allow downloading missing files. When False, no network access takes place.
        revision: branch, tag or commit of the hub's repository; by default the one that the table pins.
        device: where the parameters go; by default torch's default device.
        dtype: of its parameters; by default that of the file.
        cache_dir: where downloads are kept; by default the hub client's cache and torch.hub's.
        token: of the hub, for private repositories; by default the one that is stored.
        progress: show a bar while downloading.
        mmap: map the file. A mapped file must not be rewritten in place; False reads it instead.
        checksum: compare published weights with their sha256 first, which reads the whole file. Downloads are compared
            when they arrive.
        weights_key: the entry of a training checkpoint to take the weights from, `"model"` or `"model_ema"`. By default
            it is found, and of averaged and raw weights the averaged are taken, with a warning.
        zero_channels: for a CIFAR ResNet of another program whose shortcuts have no parameters: whether its code puts
            the zeros `"after"` the old channels or `"around"` them, half before and half after. Needed where the file's
            names do not tell; the error says so.
        **options: arguments of the network's own constructor, `classic=True` among them. Weights are adapted to other
            `in_channels` (summed or repeated filters) and `num_classes` (a fresh last layer, with a warning).

    Raises:
        UnknownNameError: no network or tag has that name.
        OptionError: the network does not have that option.
        CheckpointError: the file is missing, damaged or not downloaded yet, or fits another network or variant.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.load_pretrained("lenet5")
        >>> image = cnnzoo.data.samples("mnist")[3].image
        >>> scores = model(model.checkpoint.transforms()(image).unsqueeze(0))
        >>> model.checkpoint.classes[scores.argmax()]
        '3'
    """
    if holds_no_values():
        raise OptionError(
            "weights are values, and where tensors are shapes only (FakeTensorMode) there are none; build the network "
            "by create(), or load it outside"
        )
    access = Access(hub, revision, cache_dir, token, progress, checksum)
    source = locate(name, checkpoint, options, access)
    return load(source, options, device, dtype, mmap=mmap, weights_key=weights_key, zero_channels=zero_channels)
