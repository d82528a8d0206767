"""Running a network without compiling it: forward and training step, cnnzoo's network beside torchvision's."""

import click
import torch
from torch import Tensor, nn

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
from benchmarks.steps import Forward, TrainingStep, labels, settle
from cnnzoo.checkpoints.layouts import from_layout


@click.command()
@models()
@click.option("--batch", type=click.IntRange(min=1, max=1000), default=2, show_default=True, help="Pictures at a time.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@device()
@repeats(default=11)
@min_time()
@reporting
def eager(names: list[str], batch: int, dtype: str, device: str, repeats: int, min_time: float, report: Report) -> None:
    """Forward and training step without compilation."""
    comparisons = []
    for name in names:
        torch.manual_seed(0)
        images = torch.randn(batch, *cnnzoo.spec(name).input_shape)
        networks = same_networks(name, images)
        require_agreement(networks, images)
        images = images.to(device, getattr(torch, dtype))
        for network in networks.values():
            network.to(images)
        batches = [(images, labels(batch, 1000).to(device))]
        for what, kind in (("forward", Forward), ("training step", TrainingStep)):
            calls = {library: kind(network, batches) for library, network in networks.items()}
            samples = interleave(calls, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
            comparisons.append(Comparison(f"{name}, {what}, batch {batch}, {dtype}, {device}", "cnnzoo", samples))
    speed = "torchvision / cnnzoo"
    targets = [Target(f"{one.case}: {speed}", one.ratio("torchvision").median, at_least=0.98) for one in comparisons]
    report.timings("eager", comparisons, targets)


def same_networks(name: str, images: Tensor) -> dict[str, nn.Module]:
    """The network from both libraries with the same weights, on the CPU."""
    theirs = torchvision_network(name)
    settle(theirs, images)
    ours = cnnzoo.create(name, init=False)
    ours.load_state_dict(from_layout(ours, theirs.state_dict(), "torchvision"))
    return {"cnnzoo": ours, "torchvision": theirs}


def require_agreement(networks: dict[str, nn.Module], images: Tensor) -> None:
    """The same scores in both modes, or there is nothing to compare; on the CPU, where float32 is not rounded."""
    for training in (True, False):
        scores = {}
        for library, network in networks.items():
            torch.manual_seed(0)  # both leave out the same units
            with torch.no_grad():
                scores[library] = network.train(training)(images)
        difference = (scores["cnnzoo"] - scores["torchvision"]).norm() / scores["torchvision"].norm()
        if not difference < 1e-5:
            raise click.ClickException(f"the scores differ by {difference:.1e}, with training={training}")
