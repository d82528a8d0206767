"""Whether merging the parallel 1x1 convolutions of Inception blocks makes a network faster, and where."""

import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Bench, Call, benchmark
from benchmarks.optimize import batches_of, onnx_backends
from benchmarks.peers import network

NETWORKS = ("googlenet", "bn_inception", "inception_v3", "inception_v4", "inception_resnet_v2")


@benchmark(device=True, models=NETWORKS)
@batches_of(1, 16)
def merge(bench: Bench, names: list[str], batches: tuple[int, ...]) -> None:
    """Inception networks for inference, with and without merged branches."""
    for name in names:
        model, shape = network(name, seed=0, device=bench.device), cnnzoo.spec(name).input_shape
        apart = cnnzoo.fold_batchnorm(model)
        merged = cnnzoo.merge_branches(apart, shape)
        for batch in batches:
            images = torch.randn(batch, *shape, device=bench.device)
            calls = {"branches": backends(apart, images), "merged": backends(merged, images)}
            for backend in calls["merged"]:
                case = f"{name}, batch {batch}, {bench.device}, {backend}"
                bench.compare(case, "merged", {what: call[backend] for what, call in calls.items()})


def backends(model: nn.Module, images: Tensor) -> dict[str, Call]:
    """A call for each backend that is installed."""
    aligned = images.contiguous(memory_format=torch.channels_last)
    eager = model.to(memory_format=torch.channels_last)
    return {"eager": torch.inference_mode()(lambda: eager(aligned)), **onnx_backends(model, images)}
