"""Building a network without doing any work twice.

A constructor's layers are first made on the meta device, where nothing is allocated or initialised. Then each tensor
is allocated once, where and in the dtype it is wanted, and initialised once, by the network's own recipe.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from cnnzoo.initialization import initialize

M = TypeVar("M", bound=nn.Module)
Device = torch.device | str | int | None


def construct(
    layout: Callable[[], M],
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
    init: bool = True,
    seed: int | None = None,
) -> M:
    """Build, allocate and initialise a network; `cnnzoo.create` documents the arguments."""
    target = torch.get_default_device() if device is None else torch.device(device)
    if device is None and target.type == "meta":  # a part of a network that is being outlined
        return layout()
    model = outline(layout)
    materialise(model, target, dtype)
    if init and target.type != "meta":
        generator = None if seed is None else torch.Generator(target).manual_seed(seed)
        initialize(model, generator=generator)
    return model


def outline(layout: Callable[[], M]) -> M:
    """The network with its parameters on the meta device; constants such as LeNet-5's codes are real already."""
    with torch.device("meta"):
        return layout()


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
                if tensor is None:
                    continue
                if tensor not in made:
                    new = place(tensor)
                    parameter = tensors is module._parameters
                    made[tensor] = nn.Parameter(new, tensor.requires_grad) if parameter else new
                tensors[name] = made[tensor]  # pyright: ignore[reportArgumentType]
        if isinstance(module, nn.modules.batchnorm._NormBase) and not keep_statistics:
            module.reset_running_stats()
