"""Making networks: fresh (`create`) or with their weights (`load_pretrained`).

`zoo.pyi` beside this file types both by name; it is generated from the registry (`make stubs`).
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cnnzoo.models  # noqa: F401  registers the constructors
from cnnzoo.checkpoints.load import find, load
from cnnzoo.construction import Device, construct
from cnnzoo.registry import spec


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
    known = spec(name)
    known.check(options)
    return construct(partial(known.layout, **options), **placement)
