"""Whether a network that was made from another computes the same."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

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
"""In single precision, how many times as far as the original's own rounding error, where that is more."""


class Reference:
    """A network's own scores on some images, with which those of what is made from it are compared.

    Args:
        model: the network; it is evaluated, and left in the mode it was in.
        images: (N, C, H, W), on its device and in its dtype.

    Raises:
        DeployError: the scores are not finite.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model, images
        with torch.inference_mode(), evaluating(model):
            self.scores: Tensor = model(images)
        if not self.scores.isfinite().all():
            raise DeployError(
                f"the scores of this {type(model).__name__} on random images are not finite, and nothing "
                "can be compared with them; load its weights or train it first"
            )

    def compare(self, scores: Tensor, dtype: torch.dtype | None = None) -> float:
        """How far other scores are from these, as a share of the largest.

        Raises:
            DeployError: farther than rounding in `dtype` explains.
        """
        dtype = dtype or self.scores.dtype
        apart, tolerance = deviation(self.scores, scores), TOLERANCE[dtype]
        if apart > tolerance and dtype == torch.float32 and scores.shape == self.scores.shape:
            tolerance = max(tolerance, ROUNDINGS * self.rounding)
        if not apart <= tolerance:
            raise DeployError(
                f"the scores differ from the original's by {apart:.2g} of the largest, and at most "
                f"{tolerance:.2g} is rounding; nothing is returned, as it would be another network"
            )
        return apart

    @cached_property
    def rounding(self) -> float:
        """How far the network's own scores are from those in double precision: deep networks amplify rounding."""
        double = copy.deepcopy(self.model).eval().double()
        with torch.inference_mode():
            return deviation(double(self.images.double()), self.scores)


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


def deviation(expected: Tensor, got: Tensor) -> float:
    """The largest difference between two tensors of scores, as a share of the largest score; infinite across shapes."""
    if expected.shape != got.shape:
        return float("inf")
    expected, got = expected.double(), got.to(expected.device).double()
    return float((expected - got).abs().max() / expected.abs().max().clamp(min=1e-30))
