"""Weight initialization: one function for each published scheme.

A scheme fills the layers that hold weights, in the order of `modules()`, which for a chain is the order in which they
run. Batch normalisation always starts as the identity (Ioffe and Szegedy 2015): scale 1, shift 0.

    cnnzoo.initialize(model, "he2015")
    cnnzoo.initialize(model, functools.partial(he2015, mode="fan_out"), generator=torch.Generator().manual_seed(0))
"""

import torch
from torch import Generator, nn

from cnnzoo.errors import unknown
from cnnzoo.initialization.fans import fans
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
from cnnzoo.nn import ConnectionTableConv2d, Subsample

__all__ = [
    "SCHEMES",
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

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, ConnectionTableConv2d, Subsample)
NORMALISED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@torch.no_grad()
def initialize(
    model: nn.Module, scheme: str | Scheme | None = None, *, generator: Generator | None = None
) -> nn.Module:
    """Initialise every layer of a network, in place.

    Args:
        model: any network. Convolutions, linear layers and the sub-sampling of LeNet-5 follow the scheme;
            normalisation starts as the identity; any other layer that can does as its `reset_parameters` says.
        scheme: a scheme or the name of one (see `cnnzoo.initialization.SCHEMES`); by default the network's own.
        generator: where the random numbers come from, on the model's device; by default torch's global generator.

    Returns:
        The model.

    Raises:
        UnknownNameError: there is no scheme of that name.
    """
    if scheme is None:
        own: str | Scheme = getattr(model, "init", torch_default)
        scheme = own
    if isinstance(scheme, str):
        if scheme not in SCHEMES:
            raise unknown("initialize", "scheme", scheme, SCHEMES)
        scheme = SCHEMES[scheme]
    weighted = []
    for module in model.modules():
        if isinstance(module, WEIGHTED):
            weighted.append(module)
        elif isinstance(module, NORMALISED):
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            _reset(module, generator)
    scheme(weighted, generator)
    return model


def _reset(module: nn.Module, generator: Generator | None) -> None:
    """Reset a layer that no scheme speaks about; its own method knows the global generator only, which is kept."""
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        return
    if generator is None:
        reset()
        return
    device = generator.device
    seed = int(torch.randint(2**31, (), generator=generator, device=device))
    if device.type == "cuda":
        with torch.random.fork_rng([device]), torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
            reset()
    else:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            reset()
