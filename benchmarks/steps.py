"""What is timed of a network: the forward pass, and a training step."""

from collections.abc import Sequence
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and their classes (N,)."""

# So small that the weights stay about where they are: every round then computes with numbers of the same size.
LEARNING_RATE = 1e-6


class Forward:
    """The scores of one batch after the other, in evaluation mode."""

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        self.model, self.batches = model.eval(), cycle(batches)

    @torch.inference_mode()
    def __call__(self) -> None:
        images, _ = next(self.batches)
        self.model(images)


class TrainingStep:
    """Forward, cross-entropy, backward, and a step of plain stochastic gradient descent; one batch after the other."""

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        self.model, self.batches = model.train(), cycle(batches)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def __call__(self) -> None:
        images, labels = next(self.batches)
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(images), labels).backward()
        self.optimizer.step()


def labels(count: int, classes: int) -> Tensor:
    """As many classes (count,), drawn at random and always the same."""
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def settle(model: nn.Module, images: Tensor) -> None:
    """Let batch normalisation know the images: with fresh statistics, what a deep network computes grows or fades."""
    norms = {module: module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        model.train()(images)
    for norm, momentum in norms.items():
        norm.momentum = momentum
