"""The processes that share a run: those that torchrun has started, or this one alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from torch import distributed

T = TypeVar("T")


class Group(NamedTuple):
    """The processes of a run, as one of them sees them; by default it is alone.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        handle: torch's process group, where this is not the default one.
    """

    rank: int = 0
    size: int = 1
    handle: Any = None

    def broadcast(self, value: T, **options: Any) -> T:
        """Broadcast the first process's value to all processes."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.handle, **options)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value, group=self.handle)
        return values


@contextmanager
def joined(backend: str, timeout: timedelta | None = None) -> Iterator[Group]:
    """Join the processes that torchrun has started; leave them at the end unless they had been joined before.

    Args:
        backend: what joins them, where the caller has not done so.
        timeout: how long processes wait for each other; by default as long as torch's own.
    """
    before = distributed.is_available() and distributed.is_initialized()
    if not before and int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Group()
        return
    if not before:
        distributed.init_process_group(backend, timeout=timeout)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        if not before:
            distributed.destroy_process_group()
