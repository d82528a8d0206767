"""Ending early without losing what is measured: by a signal, or when the time is used up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Stopped(BaseException):
    """Ends the measurement; no `except Exception` takes it for a failure of what is measured."""


@dataclass
class Stop:
    """Whether, and why, to end; `status` is what the program then ends with."""

    reason: str = ""
    status: int = 0

    def check(self) -> None:
        """Raise `Stopped` if it is time: a signal that arrives in a destructor raises in vain."""
        if self.reason:
            raise Stopped(self.reason)


@contextmanager
def stoppable(budget: float | None = None) -> Iterator[Stop]:
    """While this lasts, SIGINT, SIGTERM and the end of a budget in seconds raise `Stopped` wherever the program is."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        timed_out = number == signal.SIGALRM
        stop.reason = f"the {budget:g} seconds are over" if timed_out else signal.Signals(number).name
        stop.status = 0 if timed_out else 128 + number
        stop.check()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    if budget is not None:
        signal.setitimer(signal.ITIMER_REAL, budget)
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
