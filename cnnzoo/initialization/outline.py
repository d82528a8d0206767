"""Constructors on paper: what they allocate and how they fill it is written down, and done later where it is wanted.

A network's constructor allocates each parameter and fills it at once. `Outline` lets it run in no time: what it would
allocate is on the meta device, and each filling is noted. A scheme can then fill the layers that it speaks of, all at
once; `Outline.fill` fills the rest as their constructors say. A constructor that calculates with what it has filled
gets the numbers.
"""

import threading
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnzoo.support.torch_private import tree_map_only

Function = Callable[..., Any]
Write = tuple[Function, Tensor, tuple[Any, ...], dict[str, Any]]
"""A function that fills a tensor, that tensor, and the arguments."""


class Outline(TorchFunctionMode):
    """A context in which this thread allocates nothing that is empty, and fills nothing that is not allocated.

    What a factory makes with values in it, such as `torch.zeros`, is real. Where the caller names a device, he gets
    what he asks for: loaded weights stay as they are.

    Args:
        device: where the network will live, and where its values are made.
        generator: of the random numbers in them; by default torch's own.

    Attributes:
        caller: the default device outside.
    """

    def __init__(self, device: torch.device, generator: Generator | None = None) -> None:
        super().__init__()
        self.device, self.generator = device, generator
        self.caller = torch.get_default_device()
        self._made: list[Tensor] = []
        self._writes: list[Write] = []
        self._own: set[torch.UntypedStorage] = set()
        self._real: dict[torch.UntypedStorage, Tensor] = {}
        self._by_storage: dict[torch.UntypedStorage, list[Write]] = {}

    def __enter__(self) -> Self:
        _stack().append(self)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        _stack().pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        role = _ROLES.get(func)
        if role == "shape":
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if role is None or role == "place":
            return self._calculate(func, args, kwargs) if role is None else self._answer(func, args[0])
        written = kwargs.get("out") if role != "write" else args[0] if args else kwargs["tensor"]
        if written is not None:
            if written.is_meta and not any(isinstance(one, Tensor) for one in args[1:]) and self.real(written) is None:
                self._writes.append((func, written, args, kwargs))
            else:
                self._calculate(func, args, kwargs)
            return written
        if (device := kwargs.get("device")) is not None:
            return func(*args, **_with_generator(func, kwargs, self.generator, torch.device(device)))
        if role == "like" and not args[0].is_meta:
            return self._calculate(func, args, kwargs)
        if role == "empty" or (func in _CONSTANT and self.device.type == "meta"):
            kwargs["device"] = _META
            made = (func if role == "empty" else torch.empty)(*args, **kwargs)
        else:  # data that are there already are few, and a constructor may calculate with them
            kwargs["device"] = device = _CPU if role == "data" and self.device.type == "meta" else self.device
            made = func(*args, **_with_generator(func, kwargs, self.generator, device))
        self._made.append(made)
        return made

    def is_new(self, tensor: Tensor) -> bool:
        """Whether a tensor was made here, and is not of another network or from a file."""
        return tensor.is_meta or self._owns(tensor)

    def real(self, meta: Tensor) -> Tensor | None:
        """The tensor that one on the meta device stands for, where the constructor needed its numbers already."""
        base = self._real.get(meta.untyped_storage())
        return None if base is None else base.as_strided(*_geometry(meta))

    def fill(self, meta: Tensor, real: Tensor) -> bool:
        """Fill a tensor as its constructor filled the one on the meta device; False where that is not known."""
        writes = self._writes_to(meta.untyped_storage())
        if not writes or writes[0][0] not in _WHOLE or writes[0][1].numel() != meta.numel():
            return False
        self._replay(writes, real)
        return True

    def _writes_to(self, storage: torch.UntypedStorage) -> list[Write]:
        for write in self._writes:
            self._by_storage.setdefault(write[1].untyped_storage(), []).append(write)
        self._writes.clear()
        return self._by_storage.get(storage, [])

    def _replay(self, writes: list[Write], real: Tensor) -> None:
        for func, written, args, kwargs in writes:
            place = real if written.shape == real.shape else real.as_strided(*_geometry(written))
            args = tuple(place if one is written else one for one in args)
            kwargs = {name: place if one is written else one for name, one in kwargs.items()}
            func(*args, **_with_generator(func, kwargs, self.generator, real.device))

    def _owns(self, tensor: Tensor) -> bool:
        self._own.update(one.untyped_storage() for one in self._made)
        self._made.clear()
        return tensor.untyped_storage() in self._own

    def _answer(self, question: Any, tensor: Tensor) -> Any:
        """Where a tensor is, as if it were there already."""
        if self.device.type == "meta" or not tensor.is_meta or not self._owns(tensor):
            return question(tensor)
        if question == _DEVICE:
            return self.device
        return question == _IS_CPU and self.device.type == "cpu"

    def _calculate(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call a function that needs numbers."""
        if self.device.type == "meta" or not (kwargs or any(isinstance(one, _MAY_HOLD) for one in args)):
            return func(*args, **kwargs)
        own: list[bool] = []

        def numbers(tensor: Tensor) -> Tensor:
            own.append(self._owns(tensor))
            return self._allocated(tensor) if tensor.is_meta and own[-1] else tensor

        args, kwargs = tree_map_only(Tensor, numbers, (args, kwargs))
        value = func(*args, **_with_generator(func, kwargs, self.generator, self.device))
        if own and all(own):
            tree_map_only(Tensor, self._made.append, value)
        return value

    def _allocated(self, meta: Tensor) -> Tensor:
        """The tensor that one on the meta device stands for, with the numbers that it has so far."""
        storage = meta.untyped_storage()
        if storage not in self._real:
            whole = torch.empty(storage.nbytes() // meta.element_size(), dtype=meta.dtype, device=self.device)
            self._made.append(whole)
            self._real[storage] = whole
            with torch.no_grad():
                self._replay(self._writes_to(storage), whole)
        return self._real[storage].as_strided(*_geometry(meta))


class Randomly(TorchFunctionMode):
    """A context in which this thread draws its random numbers from a generator, wherever none is named."""

    def __init__(self, generator: Generator | None) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RANDOM or self.generator is None:
            return func(*args, **kwargs)
        tensor = args[0] if args else kwargs.get("tensor")
        device = tensor.device if isinstance(tensor, Tensor) else torch.device(kwargs.get("device") or "cpu")
        return func(*args, **_with_generator(func, kwargs, self.generator, device))


def current() -> Outline | None:
    """The outline that this thread is making, if it is making one."""
    stack = _stack()
    return stack[-1] if stack else None


_thread = threading.local()


def _stack() -> list[Outline]:
    return vars(_thread).setdefault("stack", [])


def _with_generator(
    func: Function, kwargs: dict[str, Any], generator: Generator | None, device: torch.device
) -> dict[str, Any]:
    """The arguments with a generator, if the function takes one, has none, and works on its device."""
    if func not in _RANDOM or generator is None or generator.device.type != device.type:
        return kwargs
    return kwargs if kwargs.get("generator") is not None else kwargs | {"generator": generator}


def _geometry(tensor: Tensor) -> tuple[Any, Any, Any]:
    return tensor.size(), tensor.stride(), tensor.storage_offset()


_META, _CPU = torch.device("meta"), torch.device("cpu")


def _functions(owner: Any, names: str) -> tuple[Any, ...]:
    return tuple(getattr(owner, name) for name in names.split())


# What ends in an underscore writes into a tensor; these do something else to it.
_OTHERS = set(
    _functions(
        Tensor,
        "requires_grad_ detach_ share_memory_ set_ resize_ resize_as_ sparse_resize_ t_ transpose_ swapaxes_ "
        "swapdims_ squeeze_ unsqueeze_ as_strided_",
    )
)
_WRITING = {getattr(Tensor, name) for name in dir(Tensor) if name.endswith("_") and not name.startswith("_")} - _OTHERS
_WRITING |= {*_functions(Tensor, "__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ipow__")}
_INITIALISING = {getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")}
_EMPTY = _functions(torch, "empty empty_strided empty_permuted")
_LIKE = _functions(torch, "zeros_like ones_like full_like rand_like randn_like randint_like") + _functions(
    Tensor, "new_zeros new_ones new_full new_tensor"
)
_DRAWN = _functions(torch, "rand randn randint randperm")
_VALUES = (*_functions(torch, "zeros ones full eye"), *_DRAWN)
_CONSTANT = _functions(torch, "zeros ones")
_DATA = _functions(
    torch,
    "tensor scalar_tensor arange range linspace logspace tril_indices triu_indices hann_window hamming_window "
    "kaiser_window bartlett_window blackman_window",
) + _functions(torch.fft, "fftfreq rfftfreq")
_DRAWING = _functions(
    Tensor, "uniform_ normal_ random_ exponential_ cauchy_ log_normal_ geometric_ bernoulli_"
) + _functions(nn.init, "uniform_ normal_ kaiming_uniform_ kaiming_normal_")
# What gives every number of a tensor a value that does not depend on what was there.
_WHOLE = {*_DRAWING, *_INITIALISING, *_functions(Tensor, "fill_ zero_ copy_"), *_VALUES, *_DATA}
_RANDOM = {*_DRAWING, *_DRAWN, *_functions(torch, "bernoulli multinomial normal")}
_MAY_HOLD = (Tensor, list, tuple, dict)
_READ: dict[str, Any] = {
    name: getattr(Tensor, name).__get__
    for name in (
        *("shape", "dtype", "layout", "ndim", "requires_grad", "is_leaf", "grad", "grad_fn", "data", "T", "mT"),
        *("device", "is_meta", "is_cpu"),
    )
}
_DEVICE, _IS_CPU = _READ.pop("device"), _READ.pop("is_cpu")
_PLACE = {_DEVICE, _IS_CPU, _READ.pop("is_meta")}
# What asks for a tensor's shape, or gives another view of its memory.
_SHAPE = {*_READ.values(), *(getattr(Tensor, name).__set__ for name in ("requires_grad", "grad"))}
_SHAPE |= set(
    _functions(
        Tensor,
        "size dim stride numel nelement element_size storage_offset is_contiguous is_floating_point is_complex "
        "requires_grad_ detach __getitem__ __len__ view view_as t transpose permute unsqueeze squeeze narrow select "
        "chunk split unbind as_strided expand untyped_storage is_same_size",
    )
)
_ROLES: dict[Any, str] = {
    **dict.fromkeys(_SHAPE, "shape"),
    **dict.fromkeys(_PLACE, "place"),
    **dict.fromkeys(_WRITING | _INITIALISING, "write"),
    **dict.fromkeys(_EMPTY, "empty"),
    **dict.fromkeys(_LIKE, "like"),
    **dict.fromkeys(_VALUES, "value"),
    **dict.fromkeys(_DATA, "data"),
}
