"""The processes that share a run: those that torchrun started, or this one alone.

They pass each other names, counts and errors only, the features go through the disk; so gloo serves on every device.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch.distributed as dist
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from cnnzoo.errors import CnnzooError, DataError
from cnnzoo.support.distributed import joined

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other. One that ends is noticed at once; this is for those that list or join."""


class Ranks:
    """A context in which the processes of a run agree, take work from one list, and stop together."""

    def __enter__(self) -> Self:
        self.counts = {"taken": 0, "done": 0}
        with _together(), ExitStack() as stack:
            self.group = stack.enter_context(joined("gloo", PATIENCE))
            if self.size > 1:
                self.group = self.group._replace(handle=dist.new_group(backend="gloo", timeout=PATIENCE))
                host = os.environ.get("MASTER_ADDR", "localhost")
                if self.rank == 0:
                    self.store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
                port = self.group.broadcast(self.store.port if self.rank == 0 else 0)
                if self.rank:
                    self.store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
            self.leave = stack.pop_all().close
        return self

    def __exit__(self, *exception: object) -> None:
        self.leave()

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self.group.rank

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.group.size

    def agree(self, work: Callable[[], T]) -> T:
        """What the first process makes of it, in all of them; an error that it meets is an error of all."""
        result, error = None, None
        if self.rank == 0:
            try:
                result = work()
            except (CnnzooError, OSError) as met:
                error = met
        if self.size > 1:
            with _together():
                result, error = self.group.broadcast((result, error))
        if error is not None:
            raise error
        return result  # pyright: ignore[reportReturnType]

    def same(self, value: Any, what: str) -> None:
        """Raise `DataError` unless all processes have the same."""
        if len(set(map(str, self._gather(value)))) > 1:
            raise DataError(f"the processes have different {what}; give all of them the same")

    def take(self, work: Sequence[T]) -> Iterator[T]:
        """Things to do that no other process has taken, one at a time: the faster ones do more of them."""
        while not self.failed and (number := self.count("taken", 1) - 1) < len(work):
            yield work[number]

    def count(self, what: str, more: int) -> int:
        """Add to a count that all processes share, and return it."""
        if self.size == 1:
            self.counts[what] += more
            return self.counts[what]
        with _together():
            return self.store.add(what, more)

    @property
    def failed(self) -> bool:
        """Whether any process has met an error."""
        if self.size == 1:
            return False
        with _together():
            return self.store.check(["failed"])

    def conclude(self, error: Exception | None) -> None:
        """Wait for the others; where one of them met an error, all raise it."""
        said = None if error is None else error.text if isinstance(error, CnnzooError) else repr(error)
        try:
            if said and self.size > 1:
                with _together():
                    self.store.set("failed", said)
            errors = self._gather(said)
        except DataError as gone:
            raise error or gone from None
        if error is not None:
            raise error
        for rank, met in enumerate(errors):
            if met is not None:
                raise DataError(f"process {rank} of {self.size} stopped: {met}")

    def _gather(self, value: Any) -> list[Any]:
        with _together():
            return self.group.gather(value)


@contextmanager
def _together() -> Iterator[None]:
    """What torch raises where another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise DataError(
            "another process of this run has ended, or cannot be reached: "
            f"{str(error).splitlines()[0]}; the same command goes on with what is finished"
        ) from None
