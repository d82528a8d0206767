"""Outputs of layers inside a network: one layer beside the layer itself, several beside torchvision's extractor."""

from typing import Any

import torch
from torchvision.models.feature_extraction import create_feature_extractor

import cnnzoo
from benchmarks.eager import same_networks
from benchmarks.harness import Bench, benchmark, require_same
from benchmarks.steps import Forward, labels

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


@benchmark(repeats=11, device=True)
def extract(bench: Bench) -> None:
    """Outputs of layers inside a network, in evaluation mode."""
    for name, layers in SEVERAL.items():
        shape = cnnzoo.spec(name).input_shape
        ours, theirs = same_networks(name, torch.randn(2, *shape)).values()
        theirs = create_feature_extractor(theirs.eval().to(bench.device), {b: a for a, b in layers.items()})
        several = {"cnnzoo": cnnzoo.extract(ours.eval().to(bench.device), *layers), "torchvision": theirs}
        for batch in BATCHES:
            images = torch.randn(batch, *shape, device=bench.device)
            with torch.inference_mode():
                found = {library: extractor(images) for library, extractor in several.items()}
            for layer in layers:
                require_same(
                    {library: outputs[layer] for library, outputs in found.items()}, 1e-5, f"outputs of {layer}"
                )
            given = [(images, labels(batch, 1))]
            where = f"batch {batch}, {bench.device}"
            calls = {library: Forward(extractor, given) for library, extractor in several.items()}
            one = bench.compare(f"{name}, {len(layers)} layers, {where}", "cnnzoo", calls)
            bench.ratio(one, "torchvision", at_least=0.95)
            if name == "vgg19":
                first: dict[str, Any] = {
                    "conv1_1 alone": ours.conv1_1,
                    "extract": cnnzoo.extract(ours, "conv1_1"),
                }
                calls = {candidate: Forward(module, given) for candidate, module in first.items()}
                one = bench.compare(f"vgg19, conv1_1, {where}", "conv1_1 alone", calls)
                bench.ratio(one, "extract", at_most=1.1)
