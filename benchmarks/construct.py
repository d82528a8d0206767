"""A network with its weights initialised: cnnzoo's beside torchvision's, and timm's where timm has it."""

from collections.abc import Callable, Mapping
from functools import partial

import click
import timm
import torch
from torch import nn

import cnnzoo
from benchmarks.harness import (
    Comparison,
    Report,
    Target,
    device,
    interleave,
    min_time,
    repeats,
    reporting,
    synchronizer,
)
from benchmarks.peers import models, torchvision_network

OUTLINE = "cnnzoo, meta"
# Most of their time goes into filling a hundred million numbers, so an outline should cost next to nothing.
HEAVY = ("alexnet", "vgg")

Build = Callable[[], nn.Module]


@click.command()
@models()
@device()
@repeats(default=5)
@min_time(default=0.1)
@reporting
def construct(names: list[str], device: str, repeats: int, min_time: float, report: Report) -> None:
    """Constructing and initialising networks."""
    comparisons, targets = [], []
    for name in names:
        builds = builders(name)
        require_agreement(builds)
        calls = {library: placed(library, build, device) for library, build in builds.items()}
        if device == "cpu":
            calls[OUTLINE] = partial(cnnzoo.create, name, init=False, device="meta")
        samples = interleave(calls, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
        one = Comparison(f"{name}, {device}", "torchvision", samples)
        comparisons.append(one)
        targets.append(Target(f"{one.case}: cnnzoo / torchvision", one.ratio("cnnzoo").median, at_most=0.6))
        if OUTLINE in calls and cnnzoo.spec(name).family in HEAVY:
            targets.append(Target(f"{one.case}: {OUTLINE} / torchvision", one.ratio(OUTLINE).median, at_most=0.05))
    report.timings("construct", comparisons, targets)


def builders(name: str) -> dict[str, Build]:
    """How one gets the network from each library that has it, as its defaults initialise it."""
    builds: dict[str, Build] = {
        "torchvision": partial(torchvision_network, name),
        "cnnzoo": partial(cnnzoo.create, name),
    }
    if timm.is_model(name):
        builds["timm"] = partial(timm.create_model, name)
    return builds


def placed(library: str, build: Build, device: str) -> Build:
    """The same on a device: cnnzoo builds it there, the others' networks are moved."""
    if device == "cpu":
        return build
    return partial(build, device=device) if library == "cnnzoo" else lambda: build().to(device)


def require_agreement(builds: Mapping[str, Build]) -> None:
    """The same number of parameters, or there is nothing to compare."""
    with torch.device("meta"):
        sizes = {library: sum(p.numel() for p in build().parameters()) for library, build in builds.items()}
    if len(set(sizes.values())) > 1:
        raise click.ClickException(f"the networks differ in their number of parameters: {sizes}")
