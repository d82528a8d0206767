"""Which layer feeds which: a probe that remembers what made it, carried through the model's own `forward`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cnnzoo.shapes.probe import ShapeProbe, Trace, probes
from cnnzoo.shapes.trace import trace
from cnnzoo.support.torch_private import children_of, parameters_of

Shape = tuple[int, ...]

_INVISIBLE = (
    "contiguous to type type_as float half double bool detach clone requires_grad_ size new_zeros new_ones new_empty "
    "new_full zeros_like ones_like empty_like rand_like unsqueeze squeeze expand expand_as view_as getitem setitem "
    "select narrow unbind abs eq ne gt lt ge le"
)
INVISIBLE = frozenset(_INVISIBLE.split())
"""Operations that a drawing of layers does not show: what they give still comes from where it came from."""


@dataclass(eq=False)
class Layer:
    """A layer of the model that ran, or a function called between layers.

    Attributes:
        module: the layer, or None for a function.
        name: as in `named_modules()`; a function has none.
        params: numbers in its own parameters, counted at its first use.
        parents: the calls of the containers around it, outermost first.
        functions: torch's names of the operations in it, in order.
        inputs: the layers whose outputs it takes; None stands for the model's input.
        input_shape: of its first input, without the batch.
        output_shape: without the batch.
    """

    module: nn.Module | None
    name: str
    params: int
    parents: tuple["Call", ...]
    functions: list[str]
    inputs: list["Layer | None"]
    input_shape: Shape
    output_shape: Shape

    @property
    def kind(self) -> str:
        """The layer's class, or torch's name of the function."""
        return type(self.module).__name__ if self.module is not None else self.functions[0]


@dataclass(eq=False)
class Call:
    """One call of a container."""

    module: nn.Module
    name: str


@dataclass
class Flow(Trace):
    """A pass that also keeps the layers and what feeds them."""

    names: dict[nn.Module, str]
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__("draw")
        self._calls: dict[int, tuple[Any, Call]] = {}
        self._leaves: dict[int, tuple[Any, Layer]] = {}
        self._counted: set[nn.Module] = set()
        self.inside = False  # a rule may use operations in its turn, which are none of the model's

    def record(self, function: str, inputs: Sequence["FlowProbe"], shape: Shape) -> Layer:
        """The layer that an operation belongs to: the innermost module, or the operation itself in a container."""
        parents = tuple(self._call(entry) for entry in self.stack)
        entry = self.stack[-1] if self.stack else None
        if entry is not None and not children_of(entry[0]):
            module, parents = entry[0], parents[:-1]
            layer = self._leaves.get(id(entry), (None, None))[1]
        else:
            module, layer = None, None
        if layer is None:
            name = "" if module is None else self.names.get(module, "")
            params = self._counted_once(entry[0]) if entry else 0
            layer = Layer(module, name, params, parents, [], [], tuple(inputs[0].shape[1:]), shape)
            self.layers.append(layer)
            if module is not None:
                self._leaves[id(entry)] = (entry, layer)  # the entry is kept so that no other takes its id
        layer.functions.append(function)
        layer.output_shape = shape
        for source in (probe.source for probe in inputs):
            if source is not layer and source not in layer.inputs:
                layer.inputs.append(source)
        return layer

    def _counted_once(self, module: nn.Module) -> int:
        if module in self._counted:
            return 0
        self._counted.add(module)
        return sum(parameter.numel() for parameter in parameters_of(module))

    def _call(self, entry: list[Any]) -> Call:
        if id(entry) not in self._calls:
            self._calls[id(entry)] = (entry, Call(entry[0], self.names.get(entry[0], "")))
        return self._calls[id(entry)][1]


class FlowProbe(ShapeProbe):
    """A shape that knows the layer which made it; None made the model's input."""

    __slots__ = ("source",)
    trace: Flow  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, shape: Sequence[int], field: Any, trace: Trace, dtype: torch.dtype) -> None:
        super().__init__(shape, field, trace, dtype)
        self.source: Layer | None = None

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        inputs = [probe for probe in probes((args, kwargs)) if isinstance(probe, FlowProbe) and not probe.plain]
        if not inputs or inputs[0].trace.inside:
            return super().__torch_function__(func, types, args, kwargs)
        flow = inputs[0].trace
        flow.inside = True
        try:
            out = super().__torch_function__(func, types, args, kwargs)
        finally:
            flow.inside = False
        first = next(probes(out), None)
        if first is None:
            return out
        name = getattr(func, "__name__", "operation")
        plain = name.strip("_").removeprefix("i") if name in _IN_PLACE else name.strip("_")
        source = inputs[0].source
        if plain not in INVISIBLE:
            source = flow.record(plain, inputs, tuple(first.shape[1:]))
        if name in _IN_PLACE or (name.endswith("_") and name[0] != "_") or (kwargs or {}).get("inplace"):
            inputs[0].source = source
        return _from(out, source)


_IN_PLACE = {"__iadd__", "__isub__", "__imul__", "__itruediv__"}


def _from(value: Any, source: Layer | None) -> Any:
    """What an operation gave, as probes that know it."""
    if isinstance(value, ShapeProbe):
        probe = FlowProbe(value.shape, value.field, value.trace, value.dtype)
        probe.origin = value.origin
        assert isinstance(probe, FlowProbe)
        probe.source = source
        return probe
    if isinstance(value, (tuple, list)):
        made = [_from(one, source) for one in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value


def follow(model: nn.Module, input_shape: Any) -> list[Layer]:
    """The layers and functions that the model runs, in order, each with what feeds it; nothing is computed.

    Raises:
        ShapeError: a layer cannot take what reaches it.
        OptionError: the model branches on values.
    """
    flow = Flow({module: name for name, module in model.named_modules()})
    trace(model, input_shape, "draw", only=lambda module: False, run=flow, probe=FlowProbe)
    return flow.layers
