"""The networks that are measured, and the images that they are given."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.peers import network, same_network
from benchmarks.steps import Batch, labels, settle
from benchmarks.throughput.plan import DTYPES, OURS, Workload

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
"""The memory formats, by name."""
BATCHES = 4
"""How many are given in turn."""
TOLERANCE = 1e-3
"""How far apart the scores of the same network may be in single precision, as a share of their norm."""


class DifferentNetwork(Exception):
    """A peer that computes something else: there is nothing to compare."""


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """CUDA rounds the products of single precision to TensorFloat-32 in `tf32` alone, of matrices and convolutions."""
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = dtype == "tf32"
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


class Networks:
    """One network in the libraries that have it, with the same weights, on a device."""

    def __init__(self, workload: Workload, device: str) -> None:
        self.workload, self.device = workload, device
        options = {"classic": True} if workload.classic else {}
        self.ours = network(workload.network, device=device, seed=0, **options)
        assert self.ours.input_shape
        self.shape = self.ours.input_shape
        self.compared: set[str] = set()
        settle(self.ours, self.images(2))
        self.ours.eval()
        self.macs = cnnzoo.summary(self.ours).macs

    def images(self, count: int, seed: int = 0) -> Tensor:
        """Normally distributed images (count, C, H, W)."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(count, *self.shape, generator=generator, device=self.device)

    def batches(self, size: int) -> dict[str, list[Batch]]:
        """Some batches of images in the workload's dtype, and their classes, in each memory format."""
        classes = labels(size, self.ours.num_classes).to(self.device)
        images = [self.images(size, seed).to(DTYPES[self.workload.dtype]) for seed in range(BATCHES)]
        return {
            name: [(one.contiguous(memory_format=layout), classes) for one in images]
            for name, layout in LAYOUTS.items()
        }

    def copy(self, library: str) -> nn.Module:
        """The network of one library, for one candidate alone, in the workload's dtype.

        Raises:
            DifferentNetwork: its scores are not ours.
        """
        model = copy.deepcopy(self.ours) if library == OURS else self.theirs(library)
        return model.to(DTYPES[self.workload.dtype])

    @torch.inference_mode()
    def _difference(self, theirs: nn.Module) -> float:
        images = self.images(1)
        with precision("fp32"):
            expected, scores = self.ours(images), theirs.eval()(images)
        return float((scores - expected).norm() / expected.norm())

    def theirs(self, library: Any) -> nn.Module:
        """The network of another library, whose scores are compared with ours the first time."""
        theirs = same_network(library, self.ours)
        if library not in self.compared:
            if not (difference := self._difference(theirs)) < TOLERANCE:
                raise DifferentNetwork(f"{library}'s scores differ from ours by {difference:.1e}")
            self.compared.add(library)
        return theirs
