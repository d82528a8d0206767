"""The output shape of every layer: by `infer_shapes`, by a forward on the meta device, and by torchinfo.

The networks are torchvision's, and then every one of cnnzoo's, which `infer_shapes` alone is timed on. They are on the
meta device, so that no candidate allocates or multiplies anything.
"""

from collections.abc import Callable
from functools import partial

import click
import torch
import torchinfo
import torchvision
from rich.console import Group
from rich.table import Table
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import (
    Comparison,
    Report,
    Target,
    interleave,
    min_time,
    repeats,
    reporting,
    time_cells,
    times_lines,
    times_table,
)

NETWORKS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnet18": (torchvision.models.resnet18, 224),
    "resnet152": (torchvision.models.resnet152, 224),
    "inception_v3": (partial(torchvision.models.inception_v3, aux_logits=False, init_weights=False), 299),
    "vgg16": (partial(torchvision.models.vgg16, init_weights=False), 224),
}
DEEPEST = "resnet152"

REGISTRY = "every network"
THOUSAND_LAYERS = ("cifar_resnet1202", "cifar_preresnet1001")


@click.command()
@repeats()
@min_time()
@reporting
def shapes(repeats: int, min_time: float, report: Report) -> None:
    """Inferring the shapes of torchvision's networks, and of cnnzoo's."""
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
    calls = {name: partial(cnnzoo.infer_shapes, model, model.input_shape) for name, model in registered().items()}
    own = Comparison(REGISTRY, DEEPEST, interleave(calls, repeats=repeats, min_time=min_time))
    lines = times_lines("shapes", [*comparisons, own])
    tables = Group(times_table("shapes", comparisons), registry_table(own))
    report.conclude("shapes", tables, lines, [*targets(comparisons), *limits(own)])


def registered() -> dict[str, cnnzoo.CNN]:
    """Every network of the registry on the meta device, today's and the one that its paper printed."""
    models = {}
    for name in cnnzoo.list_models():
        models[name] = cnnzoo.create(name, device="meta", init=False).eval()
        if cnnzoo.spec(name).has_classic:
            models[f"{name}, classic"] = cnnzoo.create(name, device="meta", init=False, classic=True).eval()
    return models


def registry_table(own: Comparison) -> Table:
    """The times alone: networks that differ are no candidates for the same thing."""
    table = Table("network", "median", "quartiles", title="shapes of every network in the registry, cnnzoo")
    for name, samples in own.samples.items():
        table.add_row(name, *time_cells(samples))
    return table


def limits(own: Comparison) -> list[Target]:
    """What is promised for every network of the registry but those of a thousand layers."""
    times = {name: 1000 * samples.median for name, samples in own.samples.items() if name not in THOUSAND_LAYERS}
    return [Target(f"{own.case}: {name}", time, at_most=20, unit=" ms") for name, time in times.items()]


def targets(comparisons: list[Comparison]) -> list[Target]:
    """What is promised for the deepest of torchvision's networks."""
    deepest = next(one for one in comparisons if one.case == DEEPEST)
    ours, *others = deepest.samples
    time = Target(f"{DEEPEST}: cnnzoo", 1000 * deepest.samples[ours].median, at_most=20, unit=" ms")
    return [
        time,
        *(Target(f"{DEEPEST}: {other} / cnnzoo", deepest.ratio(other).median, at_least=10) for other in others),
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
