"""The networks that are measured, and the pictures that they are given."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.peers import same_network
from benchmarks.steps import Batch, labels, settle
from benchmarks.throughput.cases import DTYPES, OURS, Group

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
    """CUDA rounds the products of single precision to TensorFloat-32 in `tf32` alone, whether of matrices or maps."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = dtype == "tf32"
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


class Networks:
    """One network in the libraries that have it, with the same weights.

    Args:
        group: whose network it is.
        device: where to make it.
    """

    def __init__(self, group: Group, device: str) -> None:
        self.group, self.device = group, device
        self.ours: nn.Module = cnnzoo.create(group.network, device=device, seed=0, **variant(group))
        self.shape: tuple[int, ...] = self.ours.input_shape
        self.compared: set[str] = {OURS}
        settle(self.ours, self.images(2))
        self.ours.eval()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        return cnnzoo.summary(self.ours).macs

    def images(self, count: int, seed: int = 0) -> Tensor:
        """Normally distributed pictures (count, C, H, W)."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(count, *self.shape, generator=generator, device=self.device)

    def batches(self, size: int) -> dict[str, list[Batch]]:
        """Some batches of pictures in the group's dtype, and their classes, in each memory format."""
        dtype = DTYPES[self.group.dtype]
        classes = labels(size, self.ours.num_classes).to(self.device)
        images = [self.images(size, seed).to(dtype) for seed in range(BATCHES)]
        return {
            name: [(one.contiguous(memory_format=layout), classes) for one in images]
            for name, layout in LAYOUTS.items()
        }

    def copy(self, library: str) -> nn.Module:
        """The network of one library, for one candidate alone, in the group's dtype.

        Raises:
            DifferentNetwork: its scores are not ours.
        """
        network = copy.deepcopy(self.ours) if library == OURS else same_network(library, self.ours)
        if library not in self.compared:
            self._compare(library, network.eval())
            self.compared.add(library)
        return network.to(DTYPES[self.group.dtype])

    @torch.inference_mode()
    def _compare(self, library: str, network: nn.Module) -> None:
        images = self.images(1)
        with precision("fp32"):
            expected, scores = self.ours(images), network(images)
        difference = float((scores - expected).norm() / expected.norm())
        if not difference < TOLERANCE:
            raise DifferentNetwork(f"{library}'s scores differ from ours by {difference:.1e}")


def variant(group: Group) -> dict[str, bool]:
    """The constructor's arguments."""
    return {"classic": True} if group.classic else {}
