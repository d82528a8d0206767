"""Classifying images with a network that has weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from cnnzoo.cnn import CNN
from cnnzoo.data.digits import find_digits
from cnnzoo.data.image_files import class_names
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CheckpointError, OptionError, operation
from cnnzoo.reader import CaptchaReader
from cnnzoo.registry import ModelName
from cnnzoo.support.wrappers import inside
from cnnzoo.zoo import load_pretrained

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Guess:
    """A class, or the text of a CAPTCHA or of several digits, with its score and its share of the probability.

    The share is the softmax of the scores.

    Of a text the score is the sum over its characters, the share the product.
    """

    label: str
    score: float
    share: float


def load(name: str, checkpoint: str | None, classic: bool, hub: bool = False, **more: Any) -> CNN:
    """A network with weights, for names that are known at run time only."""
    options: dict[str, Any] = {"classic": True} if classic else {}
    model = load_pretrained(ModelName(name), checkpoint=checkpoint, hub=hub, **options | more)
    assert isinstance(model, CNN)
    return model


@operation
@torch.inference_mode()
def classify(
    model: CNN,
    images: Sequence["Image"],
    *,
    invert: bool = False,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[list[Guess]]:
    """Classify images: for each of them every class, the likeliest first.

    Of a CAPTCHA, and of an image with several handwritten digits, there is one guess: the whole text. A network whose
    classes are the digits is given what `find_digits` finds, so that a photograph will do.

    Args:
        model: from `load_pretrained`.
        images: of any size.
        invert: swap black and white first.
        preprocessing: how the network wants its images; by default as its weights state.
        classes: the names of the classes, in the order of the scores; by default as its weights state.
        names: of the images, for messages.

    Raises:
        CheckpointError: nothing says how the network wants its images.
        OptionError: there are more or fewer names of classes than scores.
        DataError: no digit was found.

    Examples:
        >>> import cnnzoo
        >>> seven = cnnzoo.data.samples("mnist")[7].image
        >>> cnnzoo.classify(cnnzoo.load_pretrained("lenet5"), [seven])[0][0].label
        '7'
    """
    from PIL import ImageOps

    model = inside(model)
    known = model.checkpoint
    preprocessing = preprocessing or (known.preprocessing if known else None)
    if preprocessing is None:
        raise CheckpointError(
            "nothing says how this network wants its images: a weights file alone does not; state "
            "preprocessing= (--preprocessing or --recipe), or use a checkpoint's tag"
        )
    classes = tuple(known.classes if classes is None and known else classes or ())
    reads = isinstance(model, CaptchaReader)
    if classes and len(classes) != (len(model.charset) if reads else model.num_classes):
        scores = f"{len(model.charset)} characters" if reads else f"{model.num_classes} scores"
        raise OptionError(f"got {len(classes)} names of classes for {scores}; state as many (classes=)")
    images = [ImageOps.invert(image.convert("RGB")) if invert else image for image in images]
    prepare = preprocessing.transforms()
    if reads:
        return [[guess] for guess in _texts(model, model(torch.stack([prepare(image) for image in images])))]
    reads_digits = classes == class_names("mnist") and (preprocessing.channels, preprocessing.frame) == (1, (28, 28))
    names = names or [f"image {i}" for i in range(len(images))]
    if reads_digits:
        found = [find_digits(image, name) for image, name in zip(images, names, strict=True)]
    else:
        found = [[image] for image in images]
    scores = model(torch.stack([prepare(part) for parts in found for part in parts]))
    labels = classes or [f"class {i}" for i in range(scores.shape[1])]
    guesses = [_ranked(one, labels) for one in scores]
    following = iter(guesses)
    return [_joined([next(following) for _ in parts]) for parts in found]


def _ranked(scores: torch.Tensor, labels: Sequence[str]) -> list[Guess]:
    """Every class of one image, the likeliest first."""
    shares = scores.softmax(0)
    order = scores.argsort(descending=True).tolist()
    return [Guess(str(labels[i]), scores[i].item(), shares[i].item()) for i in order]


def _joined(digits: list[list[Guess]]) -> list[Guess]:
    """What an image says as a whole: of several digits their text."""
    if len(digits) == 1:
        return digits[0]
    best = [guesses[0] for guesses in digits]
    text = "".join(guess.label for guess in best)
    return [Guess(text, sum(guess.score for guess in best), prod(guess.share for guess in best))]


def _texts(model: CaptchaReader, scores: torch.Tensor) -> Iterator[Guess]:
    """What a network reads in each image."""
    best, shares = model.rated(scores)
    for text, score, share in zip(model.decode(scores), best.tolist(), shares.tolist(), strict=True):
        yield Guess(text, score, share)
