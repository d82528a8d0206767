"""What networks that read CAPTCHAs have in common: characters, texts, and how many of them are right."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation, unknown


class CaptchaAccuracy(NamedTuple):
    """The share of characters, and of whole CAPTCHAs, that were read right, from 0 to 1."""

    character: float
    captcha: float


class CaptchaReader(CNN):
    """A network that reads the characters of a charset.

    Args:
        layers: the layers by name.
        charset: the characters that occur, in the order of their scores.
        **rest: as `CNN` takes them.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, charset: str, **rest: Any) -> None:
        check_charset(charset)
        super().__init__(layers, **rest)
        self.charset = charset

    def decode(self, scores: Any) -> list[str]:
        """The texts that scores say, one for each image."""
        raise NotImplementedError

    def rated(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The score of each text that `decode` gives, and its share of the probability: (N,) each."""
        raise NotImplementedError

    @operation
    def accuracy(self, scores: Any, texts: Sequence[str]) -> CaptchaAccuracy:
        """How much of `texts` the scores (N, ...) read right.

        Args:
            scores: what the network gives, as a tensor or an array.
            texts: what the images say.

        Raises:
            OptionError: there are more or fewer texts than images, or a text that the network cannot say.
        """
        read = self.decode(scores)
        if len(read) != len(texts):
            raise OptionError(f"got scores of {len(read)} images and {len(texts)} texts; state one for each")
        self.encode(list(texts))  # which refuses what it cannot say
        mistakes = sum(self._mistakes(*pair) for pair in zip(read, texts, strict=True))
        whole = sum(one == text for one, text in zip(read, texts, strict=True))
        return CaptchaAccuracy(1 - mistakes / sum(map(len, texts)), whole / len(texts))

    def encode(self, text: str | Sequence[str]) -> Tensor:
        """What training compares the scores of a text, or of several, with."""
        raise NotImplementedError

    def _mistakes(self, read: str, text: str) -> int:
        """How many characters of a text were not read right."""
        raise NotImplementedError

    def labels(self, text: str) -> list[int]:
        """The characters of a text by their places in the charset.

        Raises:
            UnknownNameError: a character is not in the charset.
        """
        for character in text:
            if character not in self.charset:
                raise unknown("", "character", character, self.charset)
        return [self.charset.index(character) for character in text]


def check_charset(charset: str) -> None:
    """Raise unless there is a character, and none twice."""
    if not charset or len(set(charset)) < len(charset):
        raise OptionError(f"got charset={charset!r}; it holds at least one character, each once")


def as_scores(scores: Any) -> Tensor:
    """Scores as a tensor; arrays of numpy, or what can be made one, are taken, NaN is refused."""
    try:
        tensor = torch.as_tensor(scores)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"got {type(scores).__name__}, which is no tensor or array of scores: {error}") from None
    if tensor.isnan().any():
        where = tensor.isnan().flatten(1).any(1).nonzero().flatten().tolist() if tensor.ndim > 1 else [0]
        raise OptionError(
            f"got scores that are not numbers (NaN), for {len(where)} of {len(tensor) if tensor.ndim > 1 else 1} "
            f"images, of which {where[0]} is the first; look at its pixels and the weights for NaN, too"
        )
    return tensor


def check_classes(model: CNN, classes: Sequence[str]) -> None:
    """Raise unless there are no names of classes, or one for each score; a reader's classes are its characters.

    Raises:
        OptionError: there are more or fewer.
    """
    reads = isinstance(model, CaptchaReader)
    if classes and len(classes) != (len(model.charset) if reads else model.num_classes):
        scores = f"{len(model.charset)} characters" if reads else f"{model.num_classes} scores"
        raise OptionError(f"got {len(classes)} names of classes for {scores}; state as many (classes=)")
