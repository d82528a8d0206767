"""Running a network without compiling it: forward and training step, cnnzoo's network beside torchvision's."""

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

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
from cnnzoo.checkpoints.layouts import from_layout

# So small that the weights stay about where they are: every round then computes with numbers of the same size.
LEARNING_RATE = 1e-6


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
        for what, kind in (("forward", Forward), ("training step", TrainingStep)):
            calls = {library: kind(network, images) for library, network in networks.items()}
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


@torch.no_grad()
def settle(model: nn.Module, images: Tensor) -> None:
    """Let batch normalisation know the pictures: with fresh statistics, what a deep network computes grows or fades."""
    norms = {module: module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
    model.train()(images)
    for norm, momentum in norms.items():
        norm.momentum = momentum


class Forward:
    """The scores, in evaluation mode."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model.eval(), images

    @torch.inference_mode()
    def __call__(self) -> None:
        self.model(self.images)


class TrainingStep:
    """Forward, cross-entropy, backward and a step of plain stochastic gradient descent."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model.train(), images
        self.labels = torch.arange(len(images), device=images.device)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(self.images), self.labels).backward()
        self.optimizer.step()


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
