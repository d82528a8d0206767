"""What training minimises: a network and a criterion as one module."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.cnn import AuxiliaryCNN
from cnnzoo.errors import OptionError
from cnnzoo.models.lenet import MAPLoss
from cnnzoo.nn.ctc import NOTHING, best_path, edit_distance, losses

Precision = Literal["float32", "bfloat16"]


def by_position(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N, positions, classes) and labels (N, positions); what has one label has one position."""
    labels = labels.view(len(labels), -1)
    return scores.view(*labels.shape, -1), labels


class CrossEntropy(nn.CrossEntropyLoss):
    """torch's, also of several positions: scores (N, positions * classes) and labels (N, positions) to a scalar."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if target.ndim == 1:
            return super().forward(input, target)
        scores, labels = by_position(input, target)
        return super().forward(scores.flatten(0, 1), labels.flatten())


class MultiLabelSoftMargin(nn.MultiLabelSoftMarginLoss):
    """torch's, for labels instead of a target of ones and zeros: every score is right or wrong by itself."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        scores, labels = by_position(input, target)
        return super().forward(input, F.one_hot(labels, scores.shape[-1]).flatten(1).to(input))


class CTC(nn.Module):
    """Of texts of any length: scores (N, columns, classes + 1), the blank's last, and labels (N, positions).

    Behind the end of a text its labels are -1. The loss of each image is divided by the characters of its text.

    Source: Graves et al. 2006 (`cnnzoo.nn.ctc`).
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return (losses(input, target) / (target != NOTHING).sum(1).clamp(min=1)).mean()


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "ctc": CTC,
    "map": MAPLoss,
    "multilabel_soft_margin": MultiLabelSoftMargin,
}


class Objective(nn.Module):
    """Inputs and labels to the mean loss and the number of images that the network gets right.

    As one module it has one forward, which is what distributed training and compilation take hold of.

    Args:
        network: gives scores.
        criterion: scores and labels to a mean.
        aux_weight: what the losses of auxiliary classifiers count; 0 leaves them out.
        precision: that the network computes in; the criterion always takes single precision.

    Raises:
        OptionError: the network has no auxiliary classifiers.
    """

    def __init__(
        self, network: nn.Module, criterion: nn.Module, aux_weight: float = 0.0, precision: Precision = "float32"
    ) -> None:
        super().__init__()
        if aux_weight and not (isinstance(network, AuxiliaryCNN) and network.aux):
            raise OptionError(
                f"loss.aux={aux_weight} weighs auxiliary classifiers, which this {type(network).__name__} does "
                "not have; state options.aux=true if it can have them, or leave out loss.aux"
            )
        self.network, self.criterion, self.aux_weight = network, criterion, aux_weight
        self.precision = precision

    def forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            if self.aux_weight:
                scores, *others = self.network.forward_with_aux(inputs)  # pyright: ignore[reportCallIssue]
            else:
                scores, others = self.network(inputs), []
        loss = self.criterion(scores.float(), labels)
        for other in others:
            loss = loss + self.aux_weight * self.criterion(other.float(), labels)
        return loss, right(scores, labels).sum()


def right(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the highest scores are at the labels, at all positions of an image: (N,)."""
    if scores.ndim == 3:
        read = best_path(scores)
        return (read == F.pad(labels, (0, read.shape[1] - labels.shape[1]), value=NOTHING)).all(1)
    found, expected = by_position(scores, labels)
    return (found.argmax(2) == expected).all(1)


def characters(scores: Tensor, labels: Tensor) -> Tensor:
    """The share of each image's labels that were read right: (N,).

    Where texts have any length, a character too much counts like a wrong one.
    """
    if scores.ndim == 2:
        found, expected = by_position(scores, labels)
        return (found.argmax(2) == expected).double().mean(1)
    texts = ([[one for one in row if one != NOTHING] for row in rows.tolist()] for rows in (best_path(scores), labels))
    shares = [
        1 - min(edit_distance(read, text), len(text)) / max(len(text), 1) for read, text in zip(*texts, strict=True)
    ]
    return torch.tensor(shares, dtype=torch.float64, device=scores.device)
