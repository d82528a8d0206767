"""What a training run shows in the terminal."""

import time
from collections.abc import Callable
from typing import Any

from cnnzoo.training.state import Epoch

REFRESH = 0.5
"""Seconds between two looks at the loss, for which a GPU has to be waited for."""


class Display:
    """A bar over the steps of the epoch with the loss and accuracy so far, and a line for each epoch; or nothing.

    Args:
        epochs: of the whole run.
        enabled: whether to show anything.
    """

    def __init__(self, epochs: int, *, enabled: bool) -> None:
        self.epochs, self.enabled = epochs, enabled

    def __enter__(self) -> "Display":
        if self.enabled:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[measured]}"),
            )
            self.bar: Any = Progress(*columns)
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.enabled:
            self.bar.stop()

    def begin(self, epoch: int, steps: int) -> None:
        """An epoch of so many steps begins."""
        if self.enabled:
            self.task = self.bar.add_task(f"epoch {epoch} of {self.epochs}", total=steps, measured="")
            self.shown = time.monotonic()

    def step(self, done: int, measured: Callable[[], tuple[float, float]]) -> None:
        """So many steps are done; `measured` gives the mean loss and the accuracy over them."""
        if self.enabled and time.monotonic() - self.shown >= REFRESH:
            loss, accuracy = measured()
            self.bar.update(self.task, completed=done, measured=f"loss {loss:.4f}, accuracy {accuracy:.4f}")
            self.shown = time.monotonic()

    def finish(self, epoch: Epoch) -> None:
        """An epoch is done."""
        if self.enabled:
            self.bar.remove_task(self.task)
            held_out = epoch.validation_accuracy
            self.bar.console.print(
                f"epoch {epoch.epoch:3d}: loss {epoch.train_loss:.4f}, train {epoch.train_accuracy:.4f}, "
                + ("" if held_out is None else f"validation {held_out:.4f}, ")
                + f"test {epoch.test_accuracy:.4f}, {epoch.seconds:.1f} s",
                highlight=False,
            )
