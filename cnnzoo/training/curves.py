"""Learning curves as an image, where matplotlib is installed."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from cnnzoo.training.state import Epoch


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(runs: Mapping[str, Sequence[Epoch]], path: Path, title: str = "") -> None:
    """Draw the loss and the accuracies of runs over their epochs.

    Args:
        runs: their epochs, by what the runs are called.
        path: of the image; its suffix decides the format.
        title: above the image.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context({"svg.hashsalt": "cnnzoo", "svg.fonttype": "none"}):  # the same file from the same numbers
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        losses, accuracies = figure.subplots(1, 2)
        for number, (name, epochs) in enumerate(runs.items()):
            at, color, label = [one.epoch for one in epochs], f"C{number}", name if len(runs) > 1 else None
            losses.plot(at, [one.train_loss for one in epochs], color=color, label=label)
            accuracies.plot(at, [one.train_accuracy for one in epochs], color=color, linestyle=":")
            accuracies.plot(at, [one.test_accuracy for one in epochs], color=color)
        losses.set(xlabel="epoch", ylabel="training loss")
        accuracies.set(xlabel="epoch", ylabel="accuracy: test, training (dotted)")
        for axes in (losses, accuracies):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(runs) > 1:
            losses.legend(frameon=False)
        figure.suptitle(title)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
