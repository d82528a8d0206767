"""The processes that train together: one, or as many as torchrun starts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from cnnzoo.errors import OptionError
from cnnzoo.support import distributed
from cnnzoo.support.devices import own_device
from cnnzoo.support.distributed import Group

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among those that train together; by default it is alone.

    Attributes:
        device: where it trains.
        rank: its number, from 0.
        size: how many there are.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reads checkpoints, writes files and shows progress."""
        return self.rank == 0

    def mine(self, rows: Any) -> Any:
        """Of a batch's rows every `size`-th, which are this process's; where there are too few, the first.

        A process without rows takes part with weight 0, since the others wait for its gradients.
        """
        return rows[self.rank :: self.size] if self.rank < len(rows) else rows[:1]

    def counts(self, rows: int) -> tuple[int, float]:
        """How many rows of a batch are this process's, and the weight of its mean in the mean over processes."""
        mine = len(range(self.rank, rows, self.size))
        return mine, mine * self.size / rows

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are means over all processes."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, [self.device] if self.device.type == "cuda" else None)

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's running statistics, which are the ones that it keeps."""
        for buffer in module.buffers() if self.size > 1 else ():
            dist.broadcast(buffer, 0)

    def agreed(self, value: T) -> T:
        """Broadcast the first process's value to all processes."""
        return Group(self.rank, self.size).broadcast(value, device=self.device)


@contextmanager
def joined(device: torch.device | str | None = None) -> Iterator[World]:
    """The world that torchrun has set up for this process, or this process alone.

    Args:
        device: `cpu` or `cuda`; by default CUDA where there is one. Under torchrun each process takes a GPU of its own.

    Raises:
        OptionError: there is no such device.
    """
    own = own_device(device)
    if own.type not in ("cpu", "cuda"):
        raise OptionError(f"got device={str(own)!r}; recipes run on cpu and cuda")
    cuda = own.type == "cuda"
    with torch.cuda.device(own) if cuda else nullcontext(), distributed.joined("nccl" if cuda else "gloo") as group:
        yield World(own, group.rank, group.size)
