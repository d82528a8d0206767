"""Networks that read a CAPTCHA of a known number of characters in one pass.

The first is the network of a course on PyTorch, four convolutions and one linear layer with ten scores for each of
four digits; its code is right where its prose is not (`papers/captcha.toml`). The second is cnnzoo's own and small.
`captcha_crnn.py` has one for texts of any length.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.errors import OptionError, operation
from cnnzoo.reader import CaptchaReader, as_scores, check_charset
from cnnzoo.registry import Paper, register
from cnnzoo.shapes.formula import output_size

__all__ = ["CaptchaCNN", "captcha_cnn", "captcha_cnn_small"]


class CaptchaCNN(CaptchaReader):
    """A network that reads CAPTCHAs of one length: (N, in_channels, height, width) to scores (N, length * characters).

    The scores of one position stand together, in the order of `charset`; `scores.unflatten(1, (length, -1))` has an
    axis for each.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        *,
        charset: str,
        length: int,
        input_shape: tuple[int, int, int],
        features: int,
        init: str,
    ) -> None:
        _check(length)
        super().__init__(
            layers,
            charset=charset,
            input_shape=input_shape,
            head=("fc", features),
            num_classes=length * len(charset),
            init=init,
        )
        self.length = length

    @operation
    def reset_classifier(self, num_classes: int) -> None:
        """Leave out the last layer (0). For other characters, `reset_charset` replaces it.

        Raises:
            OptionError: `num_classes` is not 0: the outputs follow from charset and length.
        """
        if num_classes:
            raise OptionError(
                f"got {num_classes}; a CAPTCHA network's outputs follow from its characters: use "
                "reset_charset(charset, length)"
            )
        super().reset_classifier(0)

    @operation
    def reset_charset(self, charset: str, length: int) -> None:
        """Replace the last layer by a fresh one that reads `length` characters of `charset`."""
        _check(length)
        check_charset(charset)
        super().reset_classifier(length * len(charset))
        self.charset, self.length = charset, length
        self._is_now(num_classes=self.num_classes, charset=charset, length=length)

    @operation
    def encode(self, text: str | Sequence[str]) -> Tensor:
        """The target of a text: 1 at its character in each position, (length * len(charset),); (N, ...) for several.

        It has the layout of the scores, so that `decode(encode(text)) == [text]`.

        Raises:
            OptionError: a text is not as long as the network reads.
            UnknownNameError: a character is not in the charset.
        """
        if not isinstance(text, str):
            return torch.stack([self.encode(one) for one in text])
        if len(text) != self.length:
            raise OptionError(f"{text!r} has {len(text)} characters; this network reads {self.length}")
        target = torch.zeros(self.length, len(self.charset))
        target[range(self.length), self.labels(text)] = 1
        return target.flatten()

    @operation
    def decode(self, scores: Any) -> list[str]:
        """The texts with the highest scores, one for each image.

        Args:
            scores: (N, length * len(charset)), or those of one image; a tensor, or an array such as ONNX Runtime's.

        Raises:
            OptionError: they have another shape, or are not numbers.
        """
        best = self._by_position(scores).argmax(2)
        return ["".join(self.charset[i] for i in row) for row in best.tolist()]

    def rated(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The score of each text that `decode` gives, the sum over its characters, and its share, the product."""
        each = self._by_position(scores)
        return each.amax(2).sum(1), each.softmax(2).amax(2).prod(1)

    def _by_position(self, scores: Any) -> Tensor:
        scores, expected = as_scores(scores), self.length * len(self.charset)
        if scores.shape[-1:] != (expected,) or scores.ndim > 2:
            raise OptionError(f"got scores of shape {tuple(scores.shape)}; this network gives (N, {expected})")
        return scores.view(-1, self.length, len(self.charset))

    def _mistakes(self, read: str, text: str) -> int:
        return sum(one != other for one, other in zip(read, text, strict=True))


def _check(length: int) -> None:
    if length < 1:
        raise OptionError(f"CaptchaCNN: got length={length}; a CAPTCHA has at least one character")


@register(Paper("captcha"), input_shape=(3, 100, 180))
def captcha_cnn(
    *,
    charset: str = "0123456789",
    length: int = 4,
    image_size: tuple[int, int] = (100, 180),
    in_channels: int = 3,
) -> CaptchaCNN:
    """Four convolutions of 16, 64, 512 and 512 filters, each pooled, normalised and rectified, and one linear layer.

    Args:
        charset: the characters that occur, in the order of their scores.
        length: characters in a CAPTCHA.
        image_size: (height, width) of the images in pixels.
        in_channels: channels of the images.

    Raises:
        ShapeError: the image is too small for four poolings.
    """
    layers: dict[str, nn.Module] = {}
    inputs, size = in_channels, image_size
    for i, outputs in enumerate((16, 64, 512, 512), 1):
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
        layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"bn{i}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        inputs, size = outputs, output_size(size, 2, stride=2)
    layers["flatten"] = nn.Flatten()
    return CaptchaCNN(
        layers,
        charset=charset,
        length=length,
        input_shape=(in_channels, *image_size),
        features=inputs * size[0] * size[1],
        init="torch_default",
    )


@register(Paper("cnnzoo"), input_shape=(3, 100, 180))
def captcha_cnn_small(
    *,
    charset: str = "0123456789",
    length: int = 4,
    image_size: tuple[int, int] = (100, 180),
    in_channels: int = 3,
) -> CaptchaCNN:
    """A CAPTCHA reader of 247,000 parameters: five normalised convolutions, and columns for the linear layer.

    Characters stand side by side, so the last map is averaged over its height only: the linear layer sees where along
    the width something is, at a twelfth of the weights that the whole map would cost.

    Args:
        charset: the characters that occur, in the order of their scores.
        length: characters in a CAPTCHA.
        image_size: (height, width) of the images in pixels.
        in_channels: channels of the images.

    Raises:
        ShapeError: the image is too small for three halvings.
    """
    layers: dict[str, nn.Module] = {}
    inputs, size = in_channels, image_size
    for i, (outputs, halve) in enumerate(((16, True), (32, True), (64, True), (96, False), (96, False)), 1):
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers[f"bn{i}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        if halve:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            size = output_size(size, 2, stride=2)
        inputs = outputs
    layers["columns"] = nn.AdaptiveAvgPool2d((1, None))
    layers["flatten"] = nn.Flatten()
    return CaptchaCNN(
        layers,
        charset=charset,
        length=length,
        input_shape=(in_channels, *image_size),
        features=inputs * size[1],
        init="he2015",
    )
