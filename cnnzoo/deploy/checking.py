"""Whether a network that was made from another computes the same."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.deploy.outputs import Scores, Structure, apart, each
from cnnzoo.deploy.plain import plain
from cnnzoo.errors import DeployError, OptionError
from cnnzoo.shapes.trace import nominal_shape

TOLERANCE = {
    torch.float64: 1e-4,
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
    torch.int8: 0.25,
}
"""How far scores may lie from the original's, as a share of the largest score, by what they were calculated in."""
ROUNDINGS = 10
"""In float32 a deviation up to this many times the original's own rounding error is accepted, where that is more."""


class Reference:
    """A network's own scores on some images, with which those of what is made from it are compared.

    Args:
        model: the network; it is evaluated, and left in the mode it was in.
        images: (N, C, H, W), on its device and in its dtype.

    Attributes:
        scores: all tensors that the network gives.
        structure: how they belong together.

    Raises:
        DeployError: the scores are not finite, or there are none.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model, images
        with torch.inference_mode(), evaluating(model):
            output = model(images)
        self.structure, self.scores = Structure.of(output), apart(output)
        if not all(one.isfinite().all() for one in each(self.scores)):
            raise DeployError(
                f"the scores of this {type(model).__name__} on random images are not finite, and nothing "
                "can be compared with them; load its weights or train it first"
            )

    def compare(self, output: Any, dtype: torch.dtype | None = None) -> float:
        """How far other scores are from these, as a share of the largest; of several tensors, those farthest apart.

        Raises:
            DeployError: farther than rounding in `dtype` explains.
        """
        scores = apart(output)
        dtype = dtype or self.dtype
        off, tolerance = deviation(self.scores, scores), TOLERANCE[dtype]
        if tolerance < off < float("inf") and dtype == torch.float32:
            tolerance = max(tolerance, ROUNDINGS * self.rounding)
        if not off <= tolerance:
            raise DeployError(
                f"the scores differ from the original's by {off:.2g} of the largest, and at most "
                f"{tolerance:.2g} is rounding; nothing is returned, as it would be another network"
            )
        return off

    @property
    def dtype(self) -> torch.dtype:
        """What the network calculates in."""
        return next((one.dtype for one in each(self.scores) if one.dtype in TOLERANCE), self.images.dtype)

    @cached_property
    def rounding(self) -> float:
        """How far the network's own scores are from those in double precision: deep networks amplify rounding."""
        double = plain(self.model).double()
        with torch.inference_mode():
            return deviation(apart(double(self.images.double())), self.scores)


def random_images(model: nn.Module, input_shape: Sequence[int] | None, batch_size: int = 2) -> Tensor:
    """Normally distributed images (batch_size, C, H, W), always the same, on the model's device and in its dtype."""
    shape = nominal_shape(model, input_shape)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if like.is_meta:
        raise OptionError(
            f"this {type(model).__name__} is on the meta device, where it has no weights; load or create it on another"
        )
    return torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(0)).to(like)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def deviation(expected: Scores, got: Scores) -> float:
    """The largest difference between scores, as a share of the largest of their tensor; infinite across shapes."""
    pairs = list(zip(each(expected), each(got), strict=False))
    if len(each(expected)) != len(each(got)) or any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    return max((_deviation(one.double(), other.to(one.device).double()) for one, other in pairs), default=0.0)


def _deviation(expected: Tensor, got: Tensor) -> float:
    if not expected.numel():
        return 0.0
    return float((expected - got).abs().max() / expected.abs().max().clamp(min=1e-30))
