"""Outputs of layers inside a network: one layer beside the layer itself, several beside torchvision's extractor."""

from collections.abc import Callable

import click
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

import cnnzoo
from benchmarks.eager import same_networks
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

BATCHES = (1, 8)
# By torchvision's names. Nothing overwrites these outputs: others are returned as the next layer left them there.
SEVERAL = {
    "vgg19": {
        "relu1_2": "features.3",
        "relu2_2": "features.8",
        "relu3_4": "features.17",
        "relu4_4": "features.26",
        "relu5_4": "features.35",
    },
    "googlenet": {"conv2": "conv3", "inception_3b": "inception3b", "inception_4c": "inception4c"},
    "resnet50": {"conv2_x": "layer1", "conv3_x": "layer2", "conv4_x.5.conv2": "layer3.5.conv2", "conv5_x": "layer4"},
}


@click.command()
@device()
@repeats(default=11)
@min_time()
@reporting
def extract(device: str, repeats: int, min_time: float, report: Report) -> None:
    """Outputs of layers inside a network, in evaluation mode."""
    comparisons, targets = [], []

    def compare(case: str, reference: str, candidates: dict[str, nn.Module], images: Tensor) -> Comparison:
        calls = {name: inference(module, images) for name, module in candidates.items()}
        samples = interleave(calls, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
        comparisons.append(Comparison(f"{case}, batch {len(images)}, {device}", reference, samples))
        return comparisons[-1]

    for name, layers in SEVERAL.items():
        ours, theirs = same_networks(name, torch.randn(2, *cnnzoo.spec(name).input_shape)).values()
        several = {
            "cnnzoo": cnnzoo.extract(ours.eval().to(device), *layers),
            "torchvision": create_feature_extractor(theirs.eval().to(device), {b: a for a, b in layers.items()}),
        }
        for batch in BATCHES:
            images = torch.randn(batch, *cnnzoo.spec(name).input_shape, device=device)
            require_agreement(several, images)
            one = compare(f"{name}, {len(layers)} layers", "cnnzoo", several, images)
            targets.append(Target(f"{one.case}: torchvision / cnnzoo", one.ratio("torchvision").median, at_least=0.95))
            if name == "vgg19":
                first = {"conv1_1 alone": ours.conv1_1, "extract": cnnzoo.extract(ours, "conv1_1")}
                one = compare("vgg19, conv1_1", "conv1_1 alone", first, images)
                targets.append(Target(f"{one.case}: extract / alone", one.ratio("extract").median, at_most=1.1))
    report.timings("extract", comparisons, targets)


def inference(module: nn.Module, images: Tensor) -> Callable[[], object]:
    """A call without gradients."""

    @torch.inference_mode()
    def call() -> object:
        return module(images)

    return call


def require_agreement(extractors: dict[str, nn.Module], images: Tensor) -> None:
    """The same outputs, or there is nothing to compare."""
    with torch.inference_mode():
        found = {name: extractor(images) for name, extractor in extractors.items()}
    for layer, maps in found["cnnzoo"].items():
        difference = (maps - found["torchvision"][layer]).norm() / maps.norm()
        if not difference < 1e-5:
            raise click.ClickException(f"the outputs of {layer} differ by {difference:.1e}")
