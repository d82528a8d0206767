"""Running a network without compiling it: forward and training step, cnnzoo's network beside torchvision's."""

import click
import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Bench, benchmark, require_same
from benchmarks.peers import in_torchvision, network, torchvision_network
from benchmarks.steps import Forward, TrainingStep, labels, settle


@benchmark(repeats=11, device=True, models=in_torchvision())
@click.option("--batch", type=click.IntRange(min=1, max=1000), default=2, show_default=True, help="Images at a time.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
def eager(bench: Bench, names: list[str], batch: int, dtype: str) -> None:
    """Forward and training step without compilation."""
    for name in names:
        torch.manual_seed(0)
        images = torch.randn(batch, *cnnzoo.spec(name).input_shape)
        networks = same_networks(name, images)
        for training in (True, False):  # on the CPU, where float32 is not rounded
            require_same({library: scores(net.train(training), images) for library, net in networks.items()}, 1e-5)
        images = images.to(bench.device, getattr(torch, dtype))
        batches = [(images, labels(batch, 1000).to(bench.device))]
        for what, step in (("forward", Forward), ("training step", TrainingStep)):
            calls = {library: step(network.to(images), batches) for library, network in networks.items()}
            one = bench.compare(f"{name}, {what}, batch {batch}, {dtype}, {bench.device}", "cnnzoo", calls)
            bench.ratio(one, "torchvision", at_least=0.98)


def same_networks(name: str, images: Tensor) -> dict[str, nn.Module]:
    """The network from both libraries with the same weights, on the CPU."""
    theirs = torchvision_network(name)
    settle(theirs, images)
    ours = network(name, init=False)
    ours.load_state_dict(cnnzoo.from_layout(ours, theirs.state_dict(), "torchvision"))
    return {"cnnzoo": ours, "torchvision": theirs}


@torch.no_grad()
def scores(network: nn.Module, images: Tensor) -> Tensor:
    """What a network computes; each leaves out the same units."""
    torch.manual_seed(0)
    return network(images)
