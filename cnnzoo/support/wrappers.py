"""Networks inside what torch puts around them to run them in parallel, compiled or averaged."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from cnnzoo.errors import OptionError, operation
from cnnzoo.support.torch_private import compiled_from

AROUND: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "module"),
    (nn.parallel.DistributedDataParallel, "module"),
    (AveragedModel, "module"),
)
"""Wrappers, and the name of what they hold."""


@operation
def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside `DataParallel`, `DistributedDataParallel`, `AveragedModel` and `torch.compile`.

    Everything in cnnzoo that looks into a network calls it first, so that names are the network's own: `conv1`, not
    `module.conv1`. A network without a wrapper is returned as it is, one under `fully_shard` (FSDP2) too, which keeps
    its layers and their parameters.

    Args:
        model: any module; wrappers around wrappers are taken off as well.

    Raises:
        OptionError: the network is in `FullyShardedDataParallel`, which cuts its parameters into flat pieces.

    Examples:
        >>> import cnnzoo, torch
        >>> model = cnnzoo.lenet5()
        >>> cnnzoo.unwrap(torch.nn.DataParallel(model)) is model
        True
    """
    return inside(model)


def inside(model: nn.Module) -> Any:
    """`unwrap`, on behalf of another operation."""
    while True:
        if _is_a(model, "torch.distributed.fsdp", "FullyShardedDataParallel"):
            raise OptionError(
                "the network is in FullyShardedDataParallel, which keeps its parameters as flat pieces of other "
                "shapes; do this with the network before it is wrapped, or shard it by "
                "torch.distributed.fsdp.fully_shard, which leaves layers and parameters as they are"
            )
        found = next((getattr(model, name) for kind, name in AROUND if isinstance(model, kind)), None)
        if found is None:
            found = compiled_from(model)
        if found is None:
            return model
        model = found


def is_distributed(model: nn.Module) -> bool:
    """Whether a network is in `DistributedDataParallel`, which notes when it is made what is to be trained."""
    return isinstance(model, nn.parallel.DistributedDataParallel)


def own_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module, as it was before `fully_shard`."""
    kind = type(module)
    return kind.__bases__[-1] if _is_a(module, "torch.distributed.fsdp", "FSDPModule") else kind


def _is_a(module: nn.Module, package: str, name: str) -> bool:
    """Whether a module is of a class that takes long to import."""
    return any(kind.__name__ == name and kind.__module__.startswith(package) for kind in type(module).__mro__)
