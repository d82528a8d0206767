"""Making networks: fresh (`create`) or with their weights (`load_pretrained`).

`zoo.pyi` beside this file types both by name; it is generated from the registry (`make stubs`).
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cnnzoo.models  # noqa: F401  registers the constructors
from cnnzoo.checkpoints.files import read_config
from cnnzoo.checkpoints.load import load, published
from cnnzoo.construction import Device, construct
from cnnzoo.registry import find


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
    """
    return construct_named(name, options, device=device, dtype=dtype, init=init, seed=seed)


def construct_named(name: str, options: dict[str, Any], **placement: Any) -> nn.Module:
    """`create` for names and options that are known at run time only."""
    known = find(name, "create")
    known.check(options)
    return construct(partial(known.layout, **options), **placement)


def load_pretrained(
    name: str | Path,
    *,
    checkpoint: str | Path | None = None,
    device: Device = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> nn.Module:
    """A network with trained weights, in evaluation mode.

    The parameters are a mapping of the file until they are written to: nothing is initialised that would be
    overwritten. `model.checkpoint` says what the weights are; `model.checkpoint.transforms()` turns a picture into an
    input and `model.checkpoint.classes` names the scores.

    Args:
        name: a network, a network and tag (`"lenet5.fashion_mnist"`), or the `Path` of a file that cnnzoo wrote.
        checkpoint: a tag (`cnnzoo show lenet5` lists them) or a safetensors file; by default the first that was made
            with these options. Bundled weights need no network connection.
        device: where the parameters go; by default torch's default device.
        dtype: of its parameters; by default that of the file.
        **options: arguments of the network's own constructor, `classic=True` among them.

    Raises:
        UnknownNameError: no network or tag has that name.
        OptionError: the network does not have that option.
        CheckpointError: the file is missing or damaged, or fits another network or variant.
    """
    path = Path(name)
    if isinstance(name, Path) or path.suffix == ".safetensors":
        name, checkpoint = read_config(path)[0], path
    name, _, tag = str(name).partition(".")
    known = find(name, "load_pretrained")
    known.check(options, "load_pretrained")
    if isinstance(checkpoint, Path) or (checkpoint or "").endswith(".safetensors"):
        source = Path(str(checkpoint))
    else:
        source = published(known, checkpoint or tag or None, options)
    return load(known, options, source, device, dtype)
