"""The networks that torchvision has too, for the benchmarks that compare the two libraries."""

from fnmatch import fnmatchcase

import click
import torchvision
from torch import nn

from cnnzoo.checkpoints.layouts import TABLES

# Auxiliary classifiers are off, as they are in cnnzoo unless asked for. To initialise is torchvision's default too,
# with a warning to whoever does not say so.
INCEPTION = {"aux_logits": False, "init_weights": True}
ARGUMENTS = {"googlenet": INCEPTION, "inception_v3": INCEPTION}


def torchvision_network(name: str) -> nn.Module:
    """What a user of torchvision gets by that name, freshly initialised."""
    return torchvision.models.get_model(name, weights=None, **ARGUMENTS.get(name, {}))


def models():
    """The option `--models`, which reaches the command as the `names` of the networks to measure."""
    what = "Only the networks whose names match, such as 'resnet*'."
    return click.option("--models", "names", metavar="PATTERN", default="*", callback=_matching, help=what)


def _matching(context: click.Context, parameter: click.Parameter, pattern: str) -> list[str]:
    known = TABLES["torchvision"]
    names = [name for name in known if fnmatchcase(name, pattern)]
    if not names:
        raise click.BadParameter(f"no network matches {pattern!r}; cnnzoo and torchvision both have {', '.join(known)}")
    return names
