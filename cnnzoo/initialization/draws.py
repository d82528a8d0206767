"""Random numbers for the tensors of a network, drawn side by side."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from types import TracebackType

import torch
from torch import Generator, Tensor

from cnnzoo.initialization.outline import Outline, Randomly
from cnnzoo.support.torch_private import is_watched, without_modes

Fan = float | Tensor
Draw = Callable[[Tensor, Generator | None], object]
Finish = Callable[[Tensor], object]

SHARE = 1 << 18
"""Numbers that share a generator."""

TRANSPARENT = (Outline, Randomly)
"""Modes that have nothing to do with what is drawn here."""


class Draws:
    """Fills tensors with random numbers when its block is left.

    On the CPU torch draws numbers one after the other, and a network waits for them longer than for anything else.
    Here tensors are cut into shares that are drawn on all of torch's threads, each from a generator of its own; the
    given generator draws their seeds, so the numbers do not depend on how many threads there are. Torch's global
    generator draws seeds only: it is locked while it draws, and a process that is forked meanwhile never gets the lock.

    The threads are in inference mode where the caller is. A mode of the caller that wants to see every operation, such
    as a `TorchDispatchMode`, sees them: then the caller's thread does all the work.
    """

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator
        self.pieces: list[tuple[Tensor, Draw]] = []
        self.finishes: list[tuple[Tensor, Finish]] = []

    def uniform(self, tensor: Tensor | None, bound: Fan) -> None:
        """Uniform within plus and minus the bound, a number or a tensor that broadcasts."""
        if isinstance(bound, Tensor):
            self._add(tensor, _uniform(1), lambda drawn: drawn.mul_(bound.to(drawn)))
        else:
            self._add(tensor, _uniform(bound))

    def normal(self, tensor: Tensor | None, std: Fan) -> None:
        """Normal with mean 0 and a standard deviation, a number or a tensor that broadcasts."""
        if isinstance(std, Tensor):
            self._add(tensor, _normal(1), lambda drawn: drawn.mul_(std.to(drawn)))
        else:
            self._add(tensor, _normal(std))

    def truncated_normal(self, tensor: Tensor | None, std: float) -> None:
        """Normal with mean 0, as if what exceeds two standard deviations were drawn again."""
        inside = math.erf(math.sqrt(2))  # the share of a normal distribution within two standard deviations

        def finish(drawn: Tensor) -> None:
            drawn.erfinv_().mul_(math.sqrt(2) * std).clamp_(-2 * std, 2 * std)

        self._add(tensor, _uniform(inside), finish)

    def _add(self, tensor: Tensor | None, draw: Draw, finish: Finish | None = None) -> None:
        if tensor is None:
            return
        tensor = tensor.detach()
        divisible = tensor.device.type == "cpu" and tensor.is_contiguous()
        self.pieces += ((piece, draw) for piece in (tensor.view(-1).split(SHARE) if divisible else (tensor,)))
        if finish is not None:
            self.finishes.append((tensor, finish))

    def __enter__(self) -> "Draws":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            return
        self._draw()
        for tensor, finish in self.finishes:
            finish(tensor)

    def _draw(self) -> None:
        shares = list(self._shares())
        plain = all(type(piece) is Tensor and piece.device.type == "cpu" for piece, _ in self.pieces)
        if not plain or (len(shares) == 1 and self.generator is not None):
            _fill(self.pieces, self.generator)
            return
        with without_modes():  # one of them may know shapes only
            seeds = torch.randint(2**62, (len(shares),), generator=self.generator, device="cpu").tolist()
        generators = [Generator("cpu").manual_seed(seed) for seed in seeds]
        if len(shares) == 1 or is_watched(TRANSPARENT):
            for share, generator in zip(shares, generators, strict=True):
                _fill(share, generator)
        elif shares:
            fill = partial(_fill_in, torch.is_inference_mode_enabled())
            with ThreadPoolExecutor(torch.get_num_threads()) as threads:
                list(threads.map(fill, shares, generators))

    def _shares(self) -> Iterator[list[tuple[Tensor, Draw]]]:
        """The pieces in order, in lists of about `SHARE` numbers."""
        share, numbers = [], 0
        for piece in self.pieces:
            share.append(piece)
            numbers += piece[0].numel()
            if numbers >= SHARE:
                yield share
                share, numbers = [], 0
        if share:
            yield share


def _uniform(bound: float) -> Draw:
    return lambda tensor, generator: tensor.uniform_(-bound, bound, generator=generator)


def _normal(std: float) -> Draw:
    return lambda tensor, generator: tensor.normal_(0, std, generator=generator)


def _fill(share: list[tuple[Tensor, Draw]], generator: Generator | None) -> None:
    for tensor, draw in share:
        draw(tensor, generator)


def _fill_in(inference: bool, share: list[tuple[Tensor, Draw]], generator: Generator) -> None:
    with torch.inference_mode() if inference else nullcontext():
        _fill(share, generator)
