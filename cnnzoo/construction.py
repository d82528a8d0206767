"""Building a network without doing any work twice.

A constructor's layers are first made on the meta device, where nothing is allocated or initialised. Then each tensor
is allocated once, where and in the dtype it is wanted, and initialised once, by the network's own scheme.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cnnzoo.initialization import initialize

M = TypeVar("M", bound=nn.Module)
Device = torch.device | str | int | None


def construct(
    constructor: Callable[[], M],
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
    init: bool = True,
    seed: int | None = None,
) -> M:
    """Build, allocate and initialise a network; `cnnzoo.create` documents the arguments."""
    target = torch.get_default_device() if device is None else torch.device(device)
    if device is None and target.type == "meta":  # a part of a network that is being outlined
        return constructor()
    model = outline(constructor)
    materialise(model, target, dtype)
    if init and target.type != "meta":
        generator = None if seed is None else torch.Generator(target).manual_seed(seed)
        initialize(model, generator=generator)
    return model


def outline(constructor: Callable[[], M]) -> M:
    """The network with its parameters on the meta device; constants such as LeNet-5's codes are real already."""
    with torch.device("meta"), _uninitialised():
        return constructor()


INITIALISING = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)
_LOCK = threading.Lock()


@contextmanager
def _uninitialised() -> Iterator[None]:
    """Layers of this thread do not initialise themselves: on the meta device that is half of the time and no use."""
    owner = threading.get_ident()

    def skipping(reset: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda layer: None if threading.get_ident() == owner else reset(layer)

    with _LOCK:
        originals: list[tuple[Any, Any]] = [(kind, kind.reset_parameters) for kind in INITIALISING]
        try:
            for kind, reset in originals:
                kind.reset_parameters = skipping(reset)
            yield
        finally:
            for kind, reset in originals:
                kind.reset_parameters = reset


@torch.no_grad()
def materialise(
    model: nn.Module, device: torch.device, dtype: torch.dtype | None = None, *, keep_statistics: bool = False
) -> None:
    """Allocate whatever is on the meta device, and move the rest; running statistics start afresh or are kept."""
    made: dict[Tensor, Tensor] = {}  # a tensor that two layers share stays shared

    def place(tensor: Tensor) -> Tensor:
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        if tensor.is_meta:
            return torch.empty(tensor.shape, dtype=kind, device=device)
        return tensor.to(device, kind)

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None or (tensor.device == device and dtype in (None, tensor.dtype)):
                    continue
                if tensor not in made:
                    new = place(tensor)
                    parameter = tensors is module._parameters
                    made[tensor] = nn.Parameter(new, tensor.requires_grad) if parameter else new
                tensors[name] = made[tensor]  # pyright: ignore[reportArgumentType]
        if isinstance(module, nn.modules.batchnorm._NormBase) and not keep_statistics:
            module.reset_running_stats()
