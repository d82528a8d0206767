"""How many pictures to give a network at a time."""

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
        batch, best = self._first(rate)
        larger, misses, last = 2 * batch, 0, batch / best
        while larger <= self.cap and last < self.longest and misses < self.patience:
            try:
                found = rate(larger)
            except Exception as error:
                if out_of_memory(error):
                    break
                raise
            if found >= best * (1 + self.gain):
                batch, best, misses = larger, found, 0
            else:
                misses += 1
            last, larger = larger / found, 2 * larger
        return batch

    def _first(self, rate: Callable[[int], float]) -> tuple[int, float]:
        """The largest batch that fits, from the start downwards, and its rate."""
        batch = self.start
        while True:
            try:
                return batch, rate(batch)
            except Exception as error:
                if not out_of_memory(error) or batch == 1:
                    raise
            batch //= 2


SEARCH = {
    "cpu": Search(start=1, cap=32, gain=0.1, longest=0.2),
    "cuda": Search(start=32, cap=16384, gain=0.05, longest=0.05),
}


def out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left; on the CPU, torch and its libraries say so in words only."""
    words = ("not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)
