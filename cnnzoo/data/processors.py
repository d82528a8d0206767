"""How many processes are worth starting beside this one."""

import os


def own_processors() -> int:
    """The processors that this process may use; where torchrun started several here, its share of them, or 0."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def helpers() -> int:
    """How many processes can work beside this one and those that train with it."""
    return max(1, own_processors() - 1)
