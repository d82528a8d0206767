"""The networks that torchvision and timm have too, for the benchmarks that compare the libraries."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

import cnnzoo

Library = Literal["torchvision", "timm"]

# Auxiliary classifiers are off, as they are in cnnzoo unless asked for. To initialise is torchvision's default too,
# with a warning to whoever does not say so.
INCEPTION = {"aux_logits": False, "init_weights": True}
ARGUMENTS = {"googlenet": INCEPTION, "inception_v3": INCEPTION}


def network(name: str, **options: Any) -> cnnzoo.CNN:
    """What a user of cnnzoo gets by that name."""
    model = cnnzoo.create(cnnzoo.spec(name).name, **options)
    assert isinstance(model, cnnzoo.CNN)
    return model


def torchvision_network(name: str) -> nn.Module:
    """What a user of torchvision gets by that name, freshly initialised."""
    import torchvision

    return torchvision.models.get_model(name, weights=None, **ARGUMENTS.get(name, {}))


def timm_network(name: str) -> nn.Module:
    """What a user of timm gets by the name that timm has for it, freshly initialised."""
    import timm

    return timm.create_model(timm_name(name))


def timm_name(name: str) -> str:
    """What timm calls a network, if it has it."""
    return name.replace("preresnet", "resnetv2_")


PEERS: dict[Library, Callable[[str], nn.Module]] = {"torchvision": torchvision_network, "timm": timm_network}
INSTALLED: tuple[Library, ...] = tuple(library for library in PEERS if find_spec(library))


def has(library: Library, name: str) -> bool:
    """Whether a library, which is installed, has a network of that name."""
    if library == "torchvision":
        import torchvision

        return name in torchvision.models.list_models()
    import timm

    return timm.is_model(timm_name(name))


def in_torchvision() -> list[str]:
    """The networks that torchvision, which has to be installed, has too."""
    return [name for name in cnnzoo.list_models() if has("torchvision", name)]


def same_network(library: Library, ours: cnnzoo.CNN) -> nn.Module:
    """Another library's network with copies of our weights, where they are.

    Its own are never made: torchvision draws those of a VGG for seconds.
    """
    tensors = {name: tensor.detach().clone() for name, tensor in cnnzoo.to_layout(ours, library).items()}
    assert ours.config
    with torch.device("meta"):
        theirs = PEERS[library](ours.config.name)
    theirs.load_state_dict(tensors, assign=True)
    return theirs
