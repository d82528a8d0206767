"""Whether the tensors of a network are still those that something was said about."""

import torch
from torch import Tensor, nn

from cnnzoo.support.torch_private import tensors_of, version_of

FEW = 16
"""Numbers of the last parameter that are kept, since writing to `parameter.data` counts nowhere."""


class Snapshot:
    """What the tensors of a network were, as far as it takes to see that they were trained since.

    Torch counts how often a tensor is written to, so that no number need be looked at but a few. Moving a network to
    another device or dtype is no change.
    """

    def __init__(self, model: nn.Module) -> None:
        self.versions = {name: version_of(tensor) for name, tensor in _tensors(model).items()}
        self.name, self.few = _last(model)

    def is_of(self, model: nn.Module) -> bool:
        """Whether the tensors are as they were, and the last weight is still there.

        A copy counts from 0 again, and what folding puts in place of a layer was never written to. Where every tensor
        was written to equally often, the last weight decides: `DistributedDataParallel` writes what is there already.
        """
        tensors = _tensors(model)
        counts = {name: version_of(tensor) for name, tensor in tensors.items()}
        kept = all(count in (0, self.versions.get(name, 0)) for name, count in counts.items())
        if not kept and len({count - self.versions.get(name, 0) for name, count in counts.items()}) > 1:
            return False
        if self.few is None:
            return True
        now = tensors.get(self.name)
        if now is None or now.is_meta:
            return now is not None
        return torch.equal(now.detach().flatten()[:FEW].cpu(), self.few.to(now.dtype))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{name}": tensor for path, module in model.named_modules() for _, name, tensor in tensors_of(module)
    }


def _last(model: nn.Module) -> tuple[str, Tensor | None]:
    """The name of the last weight, and the first numbers of it."""
    found = [(name, tensor) for name, tensor in _tensors(model).items() if tensor.ndim > 1]
    if not found or found[-1][1].is_meta:
        return "", None
    return found[-1][0], found[-1][1].detach().flatten()[:FEW].cpu().clone()
