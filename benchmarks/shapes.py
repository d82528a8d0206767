"""The output shape of every layer: by `infer_shapes`, by a forward on the meta device, and by torchinfo.

The networks are torchvision's, on the meta device, so that no candidate allocates or multiplies anything.
"""

from collections.abc import Callable
from functools import partial

import click
import torch
import torchinfo
import torchvision
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Comparison, Report, Target, interleave, min_time, repeats, reporting

NETWORKS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnet18": (torchvision.models.resnet18, 224),
    "resnet152": (torchvision.models.resnet152, 224),
    "inception_v3": (partial(torchvision.models.inception_v3, aux_logits=False, init_weights=False), 299),
    "vgg16": (partial(torchvision.models.vgg16, init_weights=False), 224),
}


@click.command()
@repeats()
@min_time()
@reporting
def shapes(repeats: int, min_time: float, report: Report) -> None:
    """Inferring the shapes of torchvision's networks."""
    comparisons = []
    for name, (build, size) in NETWORKS.items():
        with torch.device("meta"):
            model = build().eval()
        require_agreement(model, size)
        candidates = {
            "cnnzoo": partial(cnnzoo.infer_shapes, model, (3, size, size)),
            "forward and hooks": partial(shapes_by_hooks, model, size),
            "torchinfo": partial(torchinfo.summary, model, input_size=(1, 3, size, size), device="meta", verbose=0),
        }
        comparisons.append(Comparison(name, "cnnzoo", interleave(candidates, repeats=repeats, min_time=min_time)))
    report.timings("shapes", comparisons, targets(comparisons))


def targets(comparisons: list[Comparison]) -> list[Target]:
    """What is promised for the deepest network."""
    deepest = next(one for one in comparisons if one.case == "resnet152")
    ours, *others = deepest.samples
    time = Target("resnet152: cnnzoo", 1000 * deepest.samples[ours].median, at_most=20, unit=" ms")
    return [
        time,
        *(Target(f"resnet152: {other} / cnnzoo", deepest.ratio(other).median, at_least=10) for other in others),
    ]


@torch.no_grad()
def shapes_by_hooks(model: nn.Module, size: int) -> list[tuple[str, tuple[int, ...]]]:
    """The usual way: a hook on every leaf notes the shape of what it returns."""
    seen: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((name, tuple(output.shape)))

    leaves = ((name, module) for name, module in model.named_modules() if not any(module.children()))
    hooks = [module.register_forward_hook(partial(note, name)) for name, module in leaves]
    model(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return seen


def require_agreement(model: nn.Module, size: int) -> None:
    """The same layers with the same shapes, or there is nothing to compare."""
    inferred = [(layer.name, (1, *layer.output_shape)) for layer in cnnzoo.infer_shapes(model, (3, size, size))]
    if inferred != shapes_by_hooks(model, size):
        raise click.ClickException("infer_shapes disagrees with the forward on the meta device")
