"""How a network runs to be looked at: in evaluation mode, with gradients of what is asked for and of nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.errors import OptionError, ShapeError, unknown

Target = int | Sequence[int] | Tensor | None
"""The class whose score is looked at: one for all images, one for each, or None for the highest of each."""


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def watched(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """A list that gets what a layer puts out; what follows gets a copy, as it may work in place."""
    modules = dict(model.named_modules())
    if layer not in modules or not layer:
        raise unknown("", "layer", layer, [name for name in modules if name])
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            raise OptionError(f"layer {layer} gives a {type(output).__name__}; name one that gives a tensor")
        seen.append(output)
        return output.clone()

    handle = modules[layer].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def differentiable(model: nn.Module, images: Tensor) -> Tensor:
    """The images as a tensor whose gradient can be asked for."""
    check_images(model, images)
    if not images.is_floating_point():
        raise OptionError(
            f"got images of {images.dtype}; pass what the network takes, as model.checkpoint.transforms() makes it"
        )
    return images.detach().clone().requires_grad_()


def check_images(model: nn.Module, images: Tensor) -> None:
    """Raise a `ShapeError` unless there are several images."""
    if images.ndim != 4 or not len(images):
        one = " (a single image is `x.unsqueeze(0)`)" if images.ndim == 3 else ""
        raise ShapeError(f"got images of shape {tuple(images.shape)}; expected (N, C, H, W){one}")


def scores_of(model: nn.Module, images: Tensor) -> Tensor:
    """The network's scores (N, classes)."""
    scores = model(images)
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise OptionError(f"{type(model).__name__} gives {shape}; expected scores (N, classes)")
    return scores


def at(scores: Tensor, target: Target) -> Tensor:
    """The classes looked at, (N,)."""
    count, classes = scores.shape
    if target is None:
        return scores.argmax(1)
    chosen = torch.as_tensor(target, device=scores.device)
    if chosen.ndim == 0:
        chosen = chosen.expand(count)
    if chosen.shape != (count,):
        raise OptionError(f"got {tuple(chosen.shape)} targets for {count} images; pass one, or one for each")
    if chosen.is_floating_point() or ((chosen < 0) | (chosen >= classes)).any():
        raise OptionError(f"got target {chosen.tolist()}; classes are whole numbers from 0 to {classes - 1}")
    return chosen.long()


def picked(scores: Tensor, target: Tensor) -> Tensor:
    """The score of each image's class, (N,)."""
    return scores.gather(1, target.unsqueeze(1)).squeeze(1)
