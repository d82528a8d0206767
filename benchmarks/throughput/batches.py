"""How many images to give a network at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Search:
    """Doubles the batch while that makes the network faster.

    Attributes:
        start: the first batch.
        cap: the largest one.
        gain: the share by which the rate has to rise for a larger batch to be worth it.
        patience: doublings in a row that may gain less.
        longest: seconds that a call may take for another doubling.
    """

    start: int
    cap: int
    gain: float
    longest: float
    patience: int = 2

    def run(self, rate: Callable[[int], float]) -> int:
        """The batch to measure with.

        Args:
            rate: images per second at a batch; it may raise what `out_of_memory` recognises.
        """
        batch = self.start
        while (best := _tried(rate, batch, last=batch == 1)) is None:
            batch //= 2
        larger, misses, seconds = 2 * batch, 0, batch / best
        while larger <= self.cap and seconds < self.longest and misses < self.patience:
            found = _tried(rate, larger)
            if found is None:
                break
            if found >= best * (1 + self.gain):
                batch, best, misses = larger, found, 0
            else:
                misses += 1
            seconds, larger = larger / found, 2 * larger
        return batch


def _tried(rate: Callable[[int], float], batch: int, *, last: bool = False) -> float | None:
    """The rate at a batch, or None where it does not fit; the last that is tried raises."""
    try:
        return rate(batch)
    except Exception as error:
        if last or not out_of_memory(error):
            raise
    return None


SEARCH = {
    "cpu": Search(start=1, cap=32, gain=0.1, longest=0.2),
    "cuda": Search(start=32, cap=16384, gain=0.05, longest=0.05),
}


def out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left; on the CPU, torch and its libraries say so in words only."""
    words = ("not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)
