"""The networks that torchvision and timm have too, for the benchmarks that compare the libraries."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import click
import torch
from torch import nn

from cnnzoo.checkpoints.layouts import TABLES, Layout, to_layout

# Auxiliary classifiers are off, as they are in cnnzoo unless asked for. To initialise is torchvision's default too,
# with a warning to whoever does not say so.
INCEPTION = {"aux_logits": False, "init_weights": True}
ARGUMENTS = {"googlenet": INCEPTION, "inception_v3": INCEPTION}


def torchvision_network(name: str) -> nn.Module:
    """What a user of torchvision gets by that name, freshly initialised."""
    import torchvision

    return torchvision.models.get_model(name, weights=None, **ARGUMENTS.get(name, {}))


def timm_network(name: str) -> nn.Module:
    """What a user of timm gets by the name that timm has for it, freshly initialised."""
    import timm

    return timm.create_model(name.replace("preresnet", "resnetv2_"))


PEERS: dict[Layout, Callable[[str], nn.Module]] = {"torchvision": torchvision_network, "timm": timm_network}


def same_network(library: Layout, ours: nn.Module) -> nn.Module:
    """Another library's network with copies of our weights, where they are.

    Its own are never made: torchvision draws those of a VGG for seconds.
    """
    tensors = {name: tensor.detach().clone() for name, tensor in to_layout(ours, library).items()}
    with torch.device("meta"):
        theirs = PEERS[library](ours.config.name)
    theirs.load_state_dict(tensors, assign=True)
    return theirs


def models(known: Sequence[str] = tuple(TABLES["torchvision"])):
    """The option `--models`, which reaches the command as the `names` of the networks to measure, out of `known`."""

    def matching(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
        patterns = text.split(",")
        names = [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not names:
            raise click.BadParameter(f"no network matches {text!r}; those that are measured are {', '.join(known)}")
        return names

    what = "Only the networks whose names match, such as 'resnet*' or 'vgg16,vgg19'."
    return click.option("--models", "names", metavar="PATTERN", default="*", callback=matching, help=what)
