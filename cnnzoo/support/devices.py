"""The device that a process computes on."""

import os

import torch

from cnnzoo.errors import OptionError


def own_device(asked: torch.device | str | None = None) -> torch.device:
    """The device of this process: of several GPUs, the one that torchrun means it to have.

    Args:
        asked: such as `"cuda"` or `"cuda:1"`; by default a GPU where there is one.

    Raises:
        OptionError: there is no such device.
    """
    try:
        device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise OptionError(f"unknown device {asked!r}; expected cpu, cuda or the like") from None
    if device.type != "cuda":
        return device
    shared = device.index is None and "LOCAL_RANK" in os.environ
    if shared:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    there = torch.cuda.device_count()
    if (device.index or 0) >= there:
        choose = "choose cpu" if not there else "start as many processes" if shared else "choose a lower number"
        raise OptionError(f"there is no {device}; GPUs that torch finds here: {there}; {choose}")
    return device
