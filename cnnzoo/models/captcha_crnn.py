"""A network that reads CAPTCHAs of any number of characters.

Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition and Its Application to
Scene Text Recognition" (2015), read the columns of a convolutional map as a sequence: a bidirectional LSTM, scores for
each column, and CTC, which need not be told where a character stands. This network does that; its sizes are cnnzoo's
own, for one processor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.errors import OptionError, operation
from cnnzoo.nn.ctc import NOTHING, best_path, edit_distance, likeliest, losses
from cnnzoo.nn.layers import BatchNorm2d, Conv2d
from cnnzoo.nn.recurrent import BidirectionalLSTM, Columns
from cnnzoo.reader import CaptchaReader, as_scores, check_charset
from cnnzoo.registry import Paper, register
from cnnzoo.shapes.formula import output_size

__all__ = ["CaptchaCRNN", "captcha_crnn"]


class CaptchaCRNN(CaptchaReader):
    """A network that reads CAPTCHAs of any length: (N, in_channels, height, width) to (N, columns, characters + 1).

    There is a column for every eight pixels of the width, which may be another in every batch. The scores of a column
    are those of the characters, in the order of `charset`, and of the blank, which stands last.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        *,
        charset: str,
        input_shape: tuple[int, int, int],
        features: int,
        init: str,
    ) -> None:
        super().__init__(
            layers,
            charset=charset,
            input_shape=input_shape,
            head=("fc", features),
            num_classes=len(charset) + 1,
            init=init,
        )

    @operation
    def reset_classifier(self, num_classes: int) -> None:
        """Leave out the last layer (0). For other characters, `reset_charset` replaces it.

        Raises:
            OptionError: `num_classes` is not 0: the outputs follow from the charset.
        """
        if num_classes:
            raise OptionError(
                f"got {num_classes}; a CAPTCHA network's outputs follow from its characters: use reset_charset(charset)"
            )
        super().reset_classifier(0)

    @operation
    def reset_charset(self, charset: str) -> None:
        """Replace the last layer by a fresh one for the characters of another charset."""
        check_charset(charset)
        super().reset_classifier(len(charset) + 1)
        self.charset = charset
        self._is_now(num_classes=self.num_classes, charset=charset)

    @operation
    def encode(self, text: str | Sequence[str]) -> Tensor:
        """The labels of a text, (characters,), or of several, (N, characters of the longest), filled up with -1.

        They are what CTC compares the scores with: the places of the characters in the charset.

        Raises:
            UnknownNameError: a character is not in the charset.
        """
        if isinstance(text, str):
            return torch.tensor(self.labels(text), dtype=torch.long)
        rows = [self.labels(one) for one in text]
        longest = max(map(len, rows), default=0)
        return torch.tensor([row + [NOTHING] * (longest - len(row)) for row in rows], dtype=torch.long)

    @operation
    def decode(self, scores: Any, *, beam: int = 1) -> list[str]:
        """The texts that scores say, one for each image.

        Args:
            scores: (N, columns, characters + 1), or those of one image; a tensor, or an array such as ONNX Runtime's.
            beam: 1 follows the likeliest path; more search for the likeliest text, which many paths may say, and keep
                so many beginnings. It is slow, and seldom another text.

        Raises:
            OptionError: they have another shape, or are not numbers.
        """
        scores = self._columns(scores)
        if beam < 1:
            raise OptionError(f"got beam={beam}; it is 1 (the likeliest path) or more")
        rows = best_path(scores).tolist() if beam == 1 else [likeliest(one, beam) for one in scores]
        return ["".join(self.charset[label] for label in row if label != NOTHING) for row in rows]

    def rated(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The score of each text that `decode` gives, the sum over its path, and its share, of all its paths."""
        scores = self._columns(scores)
        return scores.amax(2).sum(1), losses(scores, best_path(scores)).neg().exp()

    def _columns(self, scores: Any) -> Tensor:
        scores = as_scores(scores)
        scores = scores.unsqueeze(0) if scores.ndim == 2 else scores
        expected = len(self.charset) + 1
        if scores.ndim != 3 or scores.shape[2] != expected:
            raise OptionError(
                f"got scores of shape {tuple(scores.shape)}; this network gives (N, columns, {expected}): one for each "
                "character, and the blank's"
            )
        return scores

    def _mistakes(self, read: str, text: str) -> int:
        return min(edit_distance(read, text), len(text))


@register(Paper("cnnzoo"), input_shape=(1, 60, 160))
def captcha_crnn(
    *,
    charset: str = "0123456789abcdefghijklmnopqrstuvwxyz",
    image_size: tuple[int, int] = (60, 160),
    in_channels: int = 1,
) -> CaptchaCRNN:
    """A reader of CAPTCHAs of any length: five convolutions, their columns as a sequence, an LSTM in both directions.

    Poolings stand before the normalisation, which then has a quarter of the pixels to do. The width may be another
    than `image_size` states, in every batch; the height may not, as the LSTM's features follow from it.

    Args:
        charset: the characters that occur, in the order of their scores; the blank's follows.
        image_size: (height, width) of the images in pixels.
        in_channels: channels of the images.

    Raises:
        ShapeError: the image is too small for its poolings.

    Source: Shi et al. 2015, section 2: columns, a bidirectional LSTM and CTC.
    """
    layers: dict[str, nn.Module] = {}
    inputs, size = in_channels, image_size
    stack = ((16, 5, 2, (2, 2)), (32, 3, 1, None), (64, 3, 1, (2, 1)), (96, 3, 1, None), (128, 3, 1, (2, 2)))
    for i, (outputs, kernel, stride, pool) in enumerate(stack, 1):
        layers[f"conv{i}"] = Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        size = output_size(size, kernel, stride=stride, padding=kernel // 2)
        if pool:
            layers[f"pool{i}"] = nn.MaxPool2d(pool)
            size = output_size(size, pool, stride=pool)
        layers[f"bn{i}"] = BatchNorm2d(outputs)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        inputs = outputs
    layers["columns"] = Columns()
    layers["rnn"] = BidirectionalLSTM(inputs * size[0], 128)
    return CaptchaCRNN(
        layers,
        charset=charset,
        input_shape=(in_channels, *image_size),
        features=256,
        init="he2015",
    )
