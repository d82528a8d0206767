"""How far long work has come: a bar on a terminal, elsewhere a line every few seconds."""

import time
from collections.abc import Callable
from typing import Any, Self

from cnnzoo.support.text import console, counted, is_terminal

REFRESH = 0.5
"""Seconds between two looks at what is measured, for which a GPU has to be waited for."""

LINE = 5.0
"""Seconds between two lines where there is no terminal."""


def _nothing() -> str:
    return ""


class Display:
    """Shows the steps of one stage of work after the other, with what is measured meanwhile; or nothing.

    Args:
        enabled: whether to show anything.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self.enabled and is_terminal():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[measured]}"),
                console=console(),
            )
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, what: str, total: int, *, before: int = 0, unit: str = "step") -> None:
        """A stage of so many steps begins, of which some were done before; the stage before it is over."""
        self.end()
        self._what, self._total, self._before, self._unit = what, total, before, unit
        self._began = self._shown = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, completed=before, measured="")

    def step(self, done: int, measured: Callable[[], str] = _nothing) -> None:
        """So many steps were done since the stage began; `measured` is asked only when something is shown."""
        if not self.enabled:
            return
        since = time.monotonic() - self._shown
        is_last = self._bar is not None and self._before + done == self._total
        if since < (LINE if self._bar is None else REFRESH) and not is_last:
            return
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._before + done, measured=measured())
            return
        rate = done / max(self._shown - self._began, 1e-9)
        left = (self._total - self._before - done) / rate if rate else 0.0
        said = (
            f"{self._what}: {self._before + done:,} of {self._total:,}",
            measured(),
            f"about {_duration(left)} left",
        )
        self.say(", ".join(part for part in said if part))

    def end(self) -> None:
        """The stage is over, and its bar goes."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def rate(self, done: int) -> str:
        """So many steps in a second, since the stage began."""
        seconds = time.monotonic() - self._began
        return f"{done / seconds:,.0f} {self._unit}s/s" if seconds > 0 else ""

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if not self.enabled:
            return
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)  # whoever reads a pipe or a file sees it at once


def _duration(seconds: float) -> str:
    """As people say it: 40 seconds, 12 minutes, 3.5 hours."""
    if seconds < 100:
        return counted(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"
