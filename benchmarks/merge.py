"""Whether merging the parallel 1x1 convolutions of Inception blocks makes a network faster, and where."""

from collections.abc import Callable

import click
import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Comparison, Report, device, interleave, min_time, repeats, reporting, synchronizer
from benchmarks.optimize import onnx_backends
from benchmarks.peers import models

NETWORKS = ("googlenet", "bn_inception", "inception_v3", "inception_v4", "inception_resnet_v2")


@click.command()
@models(NETWORKS)
@click.option(
    "--batch", "batches", type=int, multiple=True, default=(1, 16), show_default=True, help="Images at a time."
)
@device()
@repeats()
@min_time()
@reporting
def merge(
    names: list[str], batches: tuple[int, ...], device: str, repeats: int, min_time: float, report: Report
) -> None:
    """Inception networks for inference, with and without merged branches."""
    comparisons = []
    for name in names:
        apart = cnnzoo.fold_batchnorm(cnnzoo.create(name, seed=0, device=device))
        merged = cnnzoo.merge_branches(apart, apart.input_shape)
        for batch in batches:
            images = torch.randn(batch, *apart.input_shape, device=device)
            ways = {what: runners(model, images) for what, model in (("branches", apart), ("merged", merged))}
            for backend in ways["merged"]:
                calls = {what: runner[backend] for what, runner in ways.items()}
                samples = interleave(calls, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
                comparisons.append(Comparison(f"{name}, batch {batch}, {device}, {backend}", "merged", samples))
    report.timings("merge", comparisons, [])


def runners(model: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
    """A call for each backend that is installed."""
    side_by_side = images.contiguous(memory_format=torch.channels_last)
    eager = model.to(memory_format=torch.channels_last)
    return {"eager": torch.inference_mode()(lambda: eager(side_by_side))} | onnx_backends(model, images)
