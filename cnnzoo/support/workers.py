"""Processes beside this one: how many are worth starting, and when they end."""

import multiprocessing
import os
from threading import Thread


def own_processors() -> int:
    """The processors that this process may use; where torchrun started several here, its share of them, or 0."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def helpers() -> int:
    """How many processes can work beside this one and those that train with it."""
    return max(1, own_processors() - 1)


def end_with_parent() -> None:
    """Have this process end when the one that started it has ended: killed, that leaves it waiting for work forever."""
    Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # this is not the main thread, which alone could end the process in order
