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
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Bench, benchmark
from benchmarks.peers import network

NETWORKS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnet18": (torchvision.models.resnet18, 224),
    "resnet152": (torchvision.models.resnet152, 224),
    "inception_v3": (partial(torchvision.models.inception_v3, aux_logits=False, init_weights=False), 299),
    "vgg16": (partial(torchvision.models.vgg16, init_weights=False), 224),
}
DEEPEST = "resnet152"
THOUSAND_LAYERS = ("cifar_resnet1202", "cifar_preresnet1001")


@benchmark()
def shapes(bench: Bench) -> None:
    """Inferring the shapes of torchvision's networks, and of cnnzoo's."""
    for name, (build, size) in NETWORKS.items():
        with torch.device("meta"):
            model = build().eval()
        inferred = [(layer.name, (1, *layer.output_shape)) for layer in cnnzoo.infer_shapes(model, (3, size, size))]
        if inferred != shapes_by_hooks(model, size):
            raise click.ClickException("infer_shapes disagrees with the forward on the meta device")
        by_torchinfo = partial(torchinfo.summary, model, input_size=(1, 3, size, size), device="meta", verbose=0)
        calls = {
            "cnnzoo": partial(cnnzoo.infer_shapes, model, (3, size, size)),
            "forward and hooks": partial(shapes_by_hooks, model, size),
            "torchinfo": by_torchinfo,
        }
        one = bench.compare(name, "cnnzoo", calls)
        if name == DEEPEST:
            bench.target(f"{name}: cnnzoo", 1000 * one.samples["cnnzoo"].median, at_most=20, unit=" ms")
            for other in calls.keys() - {"cnnzoo"}:
                bench.ratio(one, other, at_least=10)
    own = bench.compare("every network", DEEPEST, registered())  # the ratios are to one of them
    for name, samples in own.samples.items():
        if name not in THOUSAND_LAYERS:
            bench.target(f"{own.case}: {name}", 1000 * samples.median, at_most=20, unit=" ms")


def registered() -> dict[str, Callable[[], object]]:
    """Inferring every network of the registry, today's and the one that its paper printed."""
    calls = {}
    for name in cnnzoo.list_models():
        for title, options in {name: {}, f"{name}, classic": {"classic": True}}.items():
            if not options or cnnzoo.spec(name).has_classic:
                model = network(name, device="meta", init=False, **options).eval()
                assert model.input_shape
                calls[title] = partial(cnnzoo.infer_shapes, model, model.input_shape)
    return calls


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
