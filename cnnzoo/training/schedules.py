"""Schedules of the learning rate: what its peak is multiplied by, as training goes on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnzoo.errors import OptionError, unknown


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The peak all the time; what the others have in common.

    Attributes:
        unit: of every time that is stated: epochs, or steps (batches).
        warmup: time over which the rate rises evenly from 0 to its peak.
    """

    unit: Literal["epochs", "steps"] = "epochs"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if self.unit not in ("epochs", "steps"):
            raise unknown("schedule", "unit", str(self.unit), ("epochs", "steps"))

    def rate(self, now: float, end: float, accuracies: Sequence[float] = ()) -> float:
        """What the peak is multiplied by.

        Args:
            now: at the end of the step that the rate is for.
            end: of the run.
            accuracies: on the test set, after each epoch so far.
        """
        return now / self.warmup if now < self.warmup else self.after_warmup(now, end, accuracies)

    def after_warmup(self, now: float, end: float, accuracies: Sequence[float]) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine, down to 0 at the end."""

    def after_warmup(self, now: float, end: float, accuracies: Sequence[float]) -> float:
        rest = end - self.warmup
        progress = (now - self.warmup) / rest if rest > 0 else 0.0
        return 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))


@dataclass(frozen=True, kw_only=True)
class Piecewise(Schedule):
    """Another factor from stated times on.

    Attributes:
        factors: pairs of a time and the factor after it, in order.
    """

    factors: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in self.factors):
            raise OptionError(f"schedule: got factors={self.factors!r}; they are pairs of a time and a factor")

    def after_warmup(self, now: float, end: float, accuracies: Sequence[float]) -> float:
        return next((factor for time, factor in reversed(self.factors) if now > time), 1.0)


@dataclass(frozen=True, kw_only=True)
class Decay(Schedule):
    """Multiplied by a factor at regular times.

    Attributes:
        factor: the factor.
        every: the time between.
    """

    factor: float
    every: float

    def after_warmup(self, now: float, end: float, accuracies: Sequence[float]) -> float:
        return self.factor ** (math.ceil(now / self.every) - 1)


@dataclass(frozen=True, kw_only=True)
class Plateau(Schedule):
    """Multiplied by a factor whenever the test accuracy has not risen for a number of epochs.

    Attributes:
        factor: the factor.
        patience: the number of epochs.
    """

    factor: float = 0.1
    patience: int = 5

    def after_warmup(self, now: float, end: float, accuracies: Sequence[float]) -> float:
        best, waited, drops = -math.inf, 0, 0
        for accuracy in accuracies:
            waited = 0 if accuracy > best else waited + 1
            best = max(best, accuracy)
            if waited == self.patience:
                waited, drops = 0, drops + 1
        return self.factor**drops


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Schedule,
    "cosine": Cosine,
    "piecewise": Piecewise,
    "decay": Decay,
    "plateau": Plateau,
}
