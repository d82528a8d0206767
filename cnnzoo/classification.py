"""Classifying pictures with a network that has weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cnnzoo.cnn import CNN
from cnnzoo.errors import CheckpointError
from cnnzoo.models.captcha import CaptchaCNN
from cnnzoo.registry import ModelName
from cnnzoo.zoo import load_pretrained

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Guess:
    """A class, or the text of a CAPTCHA, with its score and its share of the probability (the softmax of the scores).

    Of a text the score is the sum over its characters, the share the product.
    """

    label: str
    score: float
    share: float


def load(name: str, checkpoint: str | None, classic: bool, hub: bool = False) -> CNN:
    """A network with weights, for names that are known at run time only."""
    options: dict[str, Any] = {"classic": True} if classic else {}
    model = load_pretrained(ModelName(name), checkpoint=checkpoint, hub=hub, **options)
    assert isinstance(model, CNN)
    return model


@torch.inference_mode()
def classify(model: CNN, pictures: Sequence["Image"], *, invert: bool = False) -> list[list[Guess]]:
    """For each picture every class, the likeliest first; of a CAPTCHA the likeliest text alone.

    Args:
        model: from `load_pretrained`.
        pictures: of any size.
        invert: swap black and white first.

    Raises:
        CheckpointError: the network's weights do not say how its pictures are prepared.
    """
    if model.checkpoint is None:
        raise CheckpointError(
            "classify: a weights file alone does not say how to prepare pictures; use a checkpoint's tag"
        )
    from PIL import ImageOps

    prepare = model.checkpoint.transforms()
    turned = [ImageOps.invert(picture.convert("RGB")) if invert else picture for picture in pictures]
    scores = model(torch.stack([prepare(picture) for picture in turned]))
    if isinstance(model, CaptchaCNN):
        return [[guess] for guess in _texts(model, scores)]
    shares = scores.softmax(1)
    labels = model.checkpoint.classes or [f"class {i}" for i in range(scores.shape[1])]
    results = []
    for score, share in zip(scores, shares, strict=True):
        order = score.argsort(descending=True).tolist()
        results.append([Guess(labels[i], score[i].item(), share[i].item()) for i in order])
    return results


def _texts(model: CaptchaCNN, scores: torch.Tensor) -> Iterator[Guess]:
    """What a network reads in each picture, from scores (N, length * characters)."""
    each = scores.unflatten(1, (model.length, -1))
    best, shares = each.amax(2).sum(1), each.softmax(2).amax(2).prod(1)
    for text, score, share in zip(model.decode(scores), best.tolist(), shares.tolist(), strict=True):
        yield Guess(text, score, share)
