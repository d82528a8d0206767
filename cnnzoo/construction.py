"""Building a network without doing any work twice.

A constructor's layers are first outlined, which allocates and initialises nothing. Then each tensor is allocated once,
where and in the dtype it is wanted, and initialised once, by the network's own scheme. What a constructor brings from
elsewhere, such as a body with loaded weights, stays as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from cnnzoo.initialization import Scheme, warn_of, with_schemes
from cnnzoo.initialization.fans import bias_of, is_weighted, weight_of
from cnnzoo.initialization.outline import Outline, Randomly, current
from cnnzoo.support.torch_private import holds_no_values, reset_method, tensors_of

M = TypeVar("M", bound=nn.Module)
Modules = Sequence[tuple[str, nn.Module]]
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
    around = current()
    if device is None and around is not None and torch.get_default_device() == around.caller:
        if init and dtype is None and seed is None:
            return constructor()  # a part of a network that is being outlined, which will be finished with it
        target = around.device
    else:
        target = torch.get_default_device() if device is None else torch.device(device)
    generator = None
    if seed is not None and target.type != "meta":
        generator = Generator(target).manual_seed(seed)
    return Construction(constructor, target, generator).finish(dtype, init=init)


def outline(constructor: Callable[[], M]) -> M:
    """The network with its parameters on the meta device; constants such as LeNet-5's codes are real already."""
    return Construction(constructor, torch.device("meta")).model


class Construction(Generic[M]):
    """A network that is outlined, and what it takes to finish it.

    Args:
        constructor: makes the network.
        device: where it will live.
        generator: of its random numbers; by default torch's global generator.

    Attributes:
        model: the network; what is not from elsewhere is on the meta device until it is finished.
    """

    def __init__(self, constructor: Callable[[], M], device: torch.device, generator: Generator | None = None) -> None:
        self.device, self.generator = device, generator
        self.outline = Outline(device, generator)
        # Where tensors are no more than shapes (`FakeTensorMode`), there is nothing to save and nothing to fill.
        self.real = not holds_no_values()
        with self.outline if self.real or device.type == "meta" else device:
            self.model = constructor()

    @torch.no_grad()
    def finish(self, dtype: torch.dtype | None = None, *, init: bool = True) -> M:
        """Allocate what is not, move the rest, and initialise what the constructor made.

        Args:
            dtype: of the floating-point tensors; by default as they are.
            init: False leaves what is not initialised yet as the memory comes.
        """
        modules = list(self.model.named_modules())
        new = self._place(modules, dtype)
        if self.real and self.device.type != "meta":
            left = self._initialise(modules, new) if init else self._fill(modules, new, parameters=False)
            warn_of(left, type(self.model).__name__, stacklevel=5)
        return self.model

    def _place(self, modules: Modules, dtype: torch.dtype | None) -> dict[Tensor, Tensor]:
        """Put every tensor where it belongs; gives what the constructor made itself, by what it was before."""
        placed: dict[Tensor, Tensor] = {}  # a tensor that two layers share stays shared
        new: dict[Tensor, Tensor] = {}
        for _, module in modules:
            for held, name, tensor in tensors_of(module):
                if tensor not in placed:
                    placed[tensor] = self._placed(tensor, dtype)
                    if not is_lazy(tensor) and self.outline.is_new(tensor):
                        new[tensor] = placed[tensor]
                held[name] = placed[tensor]
        return new

    def _placed(self, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
        if is_lazy(tensor):
            lazy: Any = type(tensor)
            return lazy(tensor.requires_grad, self.device, dtype)
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        if tensor.device == self.device and tensor.dtype == kind:
            return tensor
        if tensor.is_meta:
            real = self.outline.real(tensor)
            made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=kind, device=self.device)
            made = made if real is None else real.to(kind)
        else:
            made = tensor.to(self.device, kind)
        return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made

    def _initialise(self, modules: Modules, new: dict[Tensor, Tensor]) -> list[str]:
        """Fill what is new: by the schemes what they speak of, the rest as the constructor said; gives what is left."""
        fresh = set(new.values())
        chosen: dict[Scheme, list[nn.Module]] = {}
        filled: set[Tensor] = set()
        kept: list[Tensor] = []
        for _, layer, scheme in with_schemes(modules):
            if scheme is None or not is_weighted(layer):
                continue
            tensors = {weight_of(layer), bias_of(layer)} - {None}
            if tensors & fresh:
                chosen.setdefault(scheme, []).append(layer)
                filled |= tensors
                kept += tensors - fresh
        before = [tensor.clone() for tensor in kept]
        for scheme, layers in chosen.items():
            scheme(layers, self.generator)
        for tensor, value in zip(kept, before, strict=True):
            tensor.copy_(value)
        return self._fill(modules, {meta: real for meta, real in new.items() if real not in filled})

    def _is_unfilled(self, tensor: Tensor) -> bool:
        return tensor.is_meta and self.outline.real(tensor) is None

    def _fill(self, modules: Modules, new: dict[Tensor, Tensor], *, parameters: bool = True) -> list[str]:
        """Fill tensors as their constructors said, or as their layers reset them; gives those that nothing fills."""
        left = {
            real
            for meta, real in new.items()
            if self._is_unfilled(meta)
            and (parameters or not isinstance(real, nn.Parameter))
            and not self.outline.fill(meta, real)
        }
        names = []
        # From the inside out: a module may have something to add to how its parts start.
        for path, module in reversed(modules if left else ()):
            own = {name: tensor for _, name, tensor in tensors_of(module) if tensor in left}
            reset = reset_method(module)
            if reset is not None and own and left.issuperset(module.parameters(recurse=False)):
                with Randomly(self.generator):
                    reset()
            else:
                names += (f"{path}.{name}".lstrip(".") for name in own)
        return names
