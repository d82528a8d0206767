"""What `cnnzoo.shapes` uses of torch that torch does not document."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_map_only as tree_map_only

T = TypeVar("T", bound=Tensor)


def wrapper_tensor(kind: type[T], shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> T:
    """An object of a subclass of `Tensor` that has a shape but no storage."""
    make: Any = Tensor._make_wrapper_subclass
    return make(kind, shape, dtype=dtype, device=device)


def without_torch_function() -> AbstractContextManager[Any]:
    """While it is open, operations on subclasses of `Tensor` go to torch itself, and from there to dispatch."""
    return torch._C.DisableTorchFunctionSubclass()


def compiled(module: nn.Module) -> bool:
    """Whether a module was compiled, in place or as a copy."""
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules
