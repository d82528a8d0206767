"""What a device can do at best: products of large matrices, in the dtype that a network is run in."""

from functools import partial

import torch

from benchmarks.harness import Samples, Timed, rounded, seconds_per_call
from benchmarks.throughput.plan import DTYPES

SIDE = {"cpu": 2048, "cuda": 8192}


def matmul_rate(device: str, dtype: str, *, rounds: int, min_time: float, timed: Timed) -> float:
    """Multiply-adds per second of a product of square matrices, the median of some rounds.

    Normally distributed numbers: on zeros a GPU takes less power, and runs faster than on anything else.
    """
    side = SIDE[device]
    a, b = (torch.randn(side, side, device=device).to(DTYPES[dtype]) for _ in range(2))
    product = partial(torch.mm, a, b, out=torch.empty_like(a))
    product()
    samples = Samples(tuple(seconds_per_call(product, min_time, timed) for _ in range(rounds)))
    return rounded(side**3 / samples.median)
