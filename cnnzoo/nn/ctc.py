"""Connectionist temporal classification (CTC): a text from the scores of columns, most of which show none of it.

A path gives every column a label or the blank. It says the text that is left of it when labels that repeat are one and
the blanks are gone; the probability of a text is the sum over its paths. In scores (N, columns, labels + 1) the blank
is the last.

Source: Graves, Fernandez, Gomez, Schmidhuber, "Connectionist Temporal Classification: Labelling Unsegmented Sequence
Data with Recurrent Neural Networks" (2006).
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NOTHING = -1
"""What stands behind the end of a text in rows of labels."""
UNLIKELY = 1e-6
"""Labels that are less probable in a column do not make a text longer there."""


def best_path(scores: Tensor) -> Tensor:
    """What the likeliest path says: scores (N, columns, labels + 1) to labels (N, columns), filled up with `NOTHING`.

    Source: Graves et al. 2006, section 3.2, "best path decoding".
    """
    path = scores.argmax(2)
    before = F.pad(path[:, :-1], (1, 0), value=NOTHING)
    kept = (path != scores.shape[2] - 1) & (path != before)
    # What is kept moves to the front; all else is written to one more place, which is cut off.
    places = torch.where(kept, kept.cumsum(1) - 1, path.shape[1])
    rows = path.new_full((len(path), path.shape[1] + 1), NOTHING)
    return rows.scatter(1, places, path)[:, :-1]


def likeliest(scores: Tensor, beam: int) -> list[int]:
    """The likeliest text of one image among those that a search finds: scores (columns, labels + 1) to labels.

    The search goes from column to column and keeps the `beam` likeliest beginnings, each with the probabilities of its
    paths that end in a blank and of those that do not: only behind a blank may a label come twice.

    Source: Graves et al. 2006, section 3.2, "prefix search decoding"; breadth first, as Hannun et al., "First-Pass
    Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs" (2014), do it.
    """
    *_, blank = range(scores.shape[1])
    beginnings: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for column in scores.double().softmax(1).tolist():
        labels = [label for label, share in enumerate(column) if share > UNLIKELY and label != blank]
        ending_blank: dict[tuple[int, ...], float] = defaultdict(float)
        ending_label: dict[tuple[int, ...], float] = defaultdict(float)
        for text, (after_blank, after_label) in beginnings.items():
            ending_blank[text] += (after_blank + after_label) * column[blank]
            if text:
                ending_label[text] += after_label * column[text[-1]]
            for label in labels:
                before = after_blank if text[-1:] == (label,) else after_blank + after_label
                ending_label[(*text, label)] += before * column[label]
        reached = {text: (ending_blank[text], ending_label[text]) for text in {**ending_blank, **ending_label}}
        best = sorted(reached, key=lambda text: -sum(reached[text]))[:beam]
        total = sum(sum(reached[text]) for text in best)  # else a thousand columns would be too much for a number
        beginnings = {text: (reached[text][0] / total, reached[text][1] / total) for text in best}
    return list(max(beginnings, key=lambda text: sum(beginnings[text])))


def losses(scores: Tensor, labels: Tensor) -> Tensor:
    """The negative logarithm of each text's probability: (N,), from scores and labels (N, positions).

    Behind the end of a text its labels are `NOTHING`. A text that has too many labels for the columns has probability
    0, and an infinite loss.
    """
    columns = torch.full((len(scores),), scores.shape[1])
    chances = scores.log_softmax(2).transpose(0, 1)
    lengths = (labels != NOTHING).sum(1).cpu()
    targets = labels.clamp(min=0)
    return F.ctc_loss(chances, targets, columns, lengths, blank=scores.shape[2] - 1, reduction="none")


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """How many characters must be replaced, inserted or left out to make one text the other.

    Source: Wagner and Fischer, "The String-to-String Correction Problem" (1974).
    """
    row = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, theirs in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (mine != theirs))
    return row[-1]
