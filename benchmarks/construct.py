"""A network with its weights initialised: cnnzoo's beside torchvision's, and timm's where timm has it."""

from collections.abc import Callable, Mapping
from functools import partial

import click
import torch
from torch import nn

import cnnzoo
from benchmarks.harness import Bench, benchmark
from benchmarks.peers import INSTALLED, PEERS, has, in_torchvision

OUTLINE = "cnnzoo, meta"
# Most of their time goes into filling a hundred million numbers, so an outline should cost next to nothing.
HEAVY = ("alexnet", "vgg")


@benchmark(repeats=5, min_time=0.1, device=True, models=in_torchvision())
def construct(bench: Bench, names: list[str]) -> None:
    """Constructing and initialising networks."""
    for name in names:
        known = cnnzoo.spec(name)
        builds = {library: partial(PEERS[library], name) for library in INSTALLED if has(library, name)}
        builds = {"torchvision": builds.pop("torchvision"), "cnnzoo": partial(cnnzoo.create, known.name), **builds}
        require_as_many(builds)
        calls: dict[str, Callable[[], object]] = {"cnnzoo": partial(cnnzoo.create, known.name, device=bench.device)}
        calls = {library: calls.get(library) or moved(build, bench.device) for library, build in builds.items()}
        if bench.device == "cpu":
            calls[OUTLINE] = partial(cnnzoo.create, known.name, init=False, device="meta")
        one = bench.compare(f"{name}, {bench.device}", "torchvision", calls)
        bench.ratio(one, "cnnzoo", at_most=0.6)
        if OUTLINE in calls and known.family in HEAVY:
            bench.ratio(one, OUTLINE, at_most=0.05)


def moved(build: Callable[[], nn.Module], device: str) -> Callable[[], object]:
    """Build it where its library does, then move it to the device."""
    return build if device == "cpu" else lambda: build().to(device)


def require_as_many(builds: Mapping[str, Callable[[], nn.Module]]) -> None:
    """The same number of parameters, or there is nothing to compare."""
    with torch.device("meta"):
        sizes = {library: sum(p.numel() for p in build().parameters()) for library, build in builds.items()}
    if len(set(sizes.values())) > 1:
        raise click.ClickException(f"the networks differ in their number of parameters: {sizes}")
