"""What cnnzoo uses of torch that torch does not document, all in one place: where a new release is to be checked.

What torch marks as private, by an underscore in front, is to be named here and nowhere else.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn, overrides
from torch.utils import _python_dispatch
from torch.utils._device import DeviceContext
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_flatten_with_path
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_map_only as tree_map_only
from torch.utils._pytree import tree_unflatten as tree_unflatten

T = TypeVar("T", bound=Tensor)

BATCH_NORM = nn.modules.batchnorm._BatchNorm
BATCH_OR_INSTANCE_NORM = nn.modules.batchnorm._NormBase
CONVOLUTION = nn.modules.conv._ConvNd
TRANSPOSED_CONVOLUTION = nn.modules.conv._ConvTransposeNd
DROPOUT = nn.modules.dropout._DropoutNd


def is_watched(ignored: tuple[type, ...] = ()) -> bool:
    """Whether this thread has a mode that sees every operation, the default device and those of some types apart."""
    if torch._C._len_torch_dispatch_stack():
        return True
    return any(not isinstance(mode, (DeviceContext, *ignored)) for mode in overrides._get_current_function_mode_stack())


def holds_no_values() -> bool:
    """Whether what this thread makes are shapes only, as in `FakeTensorMode`."""
    return type(torch.empty(0, device="cpu")) is not Tensor


def without_modes() -> AbstractContextManager[Any]:
    """A context without this thread's dispatch modes, such as the one that makes tensors of shapes only."""
    active = torch._C._len_torch_dispatch_stack()  # without one, a second of imports is spared
    return _python_dispatch._disable_current_modes() if active else nullcontext()


def reset_method(layer: nn.Module) -> Callable[[], object] | None:
    """The method by which a layer initialises its parameters; that of `nn.MultiheadAttention` is private."""
    method = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
    return method if callable(method) else None


def tensors_of(module: nn.Module, *, persistent: bool = False) -> list[tuple[dict[str, Any], str, Tensor]]:
    """A module's own parameters and buffers, each with the dict that holds it and its name there.

    `persistent` leaves out the buffers that a state dict does not have.
    """
    left_out = module._non_persistent_buffers_set if persistent else ()
    return [
        (held, name, tensor)
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None and name not in left_out
    ]


def viewed(tensor: Tensor) -> Tensor | None:
    """The tensor of which this one is a view, if it is one."""
    return tensor._base


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """A module's own parameters, without those of its children."""
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children by name, as the module holds them: one with two names is there twice, a change is its change."""
    return module._modules


def share_tensors(part: nn.Module, module: nn.Module) -> None:
    """Give `part` the parameters and buffers of a module, also those that the module gets later."""
    part._parameters, part._buffers = module._parameters, module._buffers
    part._non_persistent_buffers_set = module._non_persistent_buffers_set


def twin_of(module: nn.Module, children: dict[str, nn.Module | None], *, training: bool) -> nn.Module:
    """A copy of a module with other children and another mode; it shares all else."""
    other = copy.copy(module)
    vars(other).update(_modules=children, training=training)
    return other


def schemas_of(operation: str) -> list[Any]:
    """The schemas of every form of an operation of torch that makes its own result; none where there is no such one."""
    forms = getattr(torch.ops.aten, operation, None) if operation.isidentifier() else None
    if not isinstance(forms, torch._ops.OpOverloadPacket):
        return []
    return [getattr(forms, form)._schema for form in forms.overloads() if "out" not in form]


def tree_paths(value: Any) -> list[list[Any]]:
    """Where each leaf of nested lists, tuples and dicts is: the keys, places and names of fields that lead to it."""
    found, _ = tree_flatten_with_path(value)
    return [[getattr(one, "key", getattr(one, "idx", getattr(one, "name", ""))) for one in path] for path, _ in found]


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to in place; 0 where torch does not count that."""
    return 0 if tensor.is_inference() else tensor._version


def attributes_of(module: nn.Module) -> dict[str, Any]:
    """What a module keeps beside what every `nn.Module` has: its arguments, as a rule."""
    every = vars(nn.Module()).keys() | {"_compiled_call_impl"}
    return {name: value for name, value in vars(module).items() if name not in every}


def hooks_of(module: nn.Module) -> list[Any]:
    """The hooks that see, and may change, what goes into a module and what comes out."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def wrapper_tensor(kind: type[T], shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> T:
    """An object of a subclass of `Tensor` that has a shape but no storage."""
    make: Any = Tensor._make_wrapper_subclass
    return make(kind, shape, dtype=dtype, device=device)


def without_torch_function() -> AbstractContextManager[Any]:
    """While it is open, operations on subclasses of `Tensor` go to torch itself, and from there to dispatch."""
    return torch._C.DisableTorchFunctionSubclass()


def compiled_from(module: nn.Module) -> nn.Module | None:
    """The module that `torch.compile` made this one of, if it did."""
    children = module._modules  # which TorchScript keeps in a mapping of its own, without `get`
    return children["_orig_mod"] if "_orig_mod" in children else None  # noqa: SIM401


def compiled(module: nn.Module) -> bool:
    """Whether a module was compiled, in place or as a copy."""
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


class Derived(nn.Module):
    """A layer with non-persistent buffers that follow from its arguments.

    They are made anew wherever its parameters go: no file holds them, and `to_empty` would leave them without values.
    """

    def derived(self) -> dict[str, Tensor]:
        """The buffers by name."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Derived":
        super()._apply(fn, recurse)
        self._derive()
        return self

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._derive()

    def _derive(self) -> None:
        device = next(self.parameters()).device
        for name, value in self.derived().items():
            setattr(self, name, value.to(device))
