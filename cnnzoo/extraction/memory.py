"""Which operations write into the memory of another value, such as `nn.ReLU(inplace=True)` and `x += y`.

It reads graphs of `torch.fx`, and torch's own schemas, which say of every operation whether it returns a view.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import fx, nn

from cnnzoo.support.torch_private import DROPOUT, schemas_of
from cnnzoo.support.tracing import Tracer

# Of torch's layers, those that may give their input back, or a view of it.
PASSING = (nn.Identity, nn.Flatten, nn.Unflatten, DROPOUT)
# Operations that may do so, though their schemas do not tell: dropout in evaluation mode, and a cast to the same type.
UNTOLD = ("dropout", "type_as")


def add_to(x: Any, other: Any) -> Any:
    """`x += other`."""
    x += other
    return x


def subtract_from(x: Any, other: Any) -> Any:
    """`x -= other`."""
    x -= other
    return x


def multiply_by(x: Any, other: Any) -> Any:
    """`x *= other`."""
    x *= other
    return x


def divide_by(x: Any, other: Any) -> Any:
    """`x /= other`."""
    x /= other
    return x


AUGMENTED = {"__iadd__": add_to, "__isub__": subtract_from, "__imul__": multiply_by, "__itruediv__": divide_by}


class FaithfulProxy(fx.Proxy):
    """Records `x += y` as what it is; to torch.fx's own proxy it is `x = x + y`."""


def _assignment(operation: Callable[..., Any]) -> Callable[..., fx.Proxy]:
    return lambda self, other: self.tracer.create_proxy("call_function", operation, (self, other), {})


for _name, _operation in AUGMENTED.items():
    setattr(FaithfulProxy, _name, _assignment(_operation))


class FaithfulTracer(Tracer):
    """A tracer whose graphs write where the network writes."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return FaithfulProxy(node, self)


class Effect(NamedTuple):
    """What an operation does to the memory of its inputs.

    Attributes:
        writes: it changes an input.
        passes: what it returns may share an input's memory.
    """

    writes: bool
    passes: bool


NONE = Effect(writes=False, passes=False)


class Memory:
    """Which values of a graph share memory.

    Args:
        graph: in the order in which it runs.
        effects: what each of its nodes does; `effects_in` finds out.
    """

    def __init__(self, graph: fx.Graph, effects: dict[fx.Node, Effect]) -> None:
        self.graph, self.effects = graph, effects
        self._owners: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in graph.nodes:
            effect = effects[node]
            shared = self.of(self.written(node) or node.all_input_nodes) if effect.passes else frozenset()
            self._owners[node] = shared or frozenset([node])
        self._places = {node: place for place, node in enumerate(graph.nodes)}
        self._writers = [(place, node) for node, place in self._places.items() if effects[node].writes]

    def of(self, nodes: Iterable[fx.Node]) -> frozenset[fx.Node]:
        """The values in whose memory these may lie."""
        return frozenset().union(*(self._owners[node] for node in nodes))

    def written(self, node: fx.Node) -> list[fx.Node]:
        """The inputs that a node changes: of a function the first, of a layer any."""
        if not self.effects[node].writes:
            return []
        return node.all_input_nodes if node.op == "call_module" else node.all_input_nodes[:1]

    def next_writer(self, node: fx.Node) -> fx.Node | None:
        """The first that, behind a node, writes into the memory of what the node takes."""
        taken, place = self.of(node.all_input_nodes), self._places[node]
        later = (writer for at, writer in self._writers if at > place)
        return next((writer for writer in later if self.of(self.written(writer)) & taken), None)

    def without(self, layer: str) -> "Memory":
        """The same, if that layer did not write."""
        calls = [node for node in self.graph.nodes if node.op == "call_module" and node.target == layer]
        return Memory(self.graph, self.effects | dict.fromkeys(calls, NONE))


def effects_in(graph: fx.Graph, root: nn.Module) -> dict[fx.Node, Effect]:
    """What each node of a graph does, whose layers are those of `root`."""
    return {
        node: effect_of_layer(root.get_submodule(str(node.target)))
        if node.op == "call_module"
        else effect_of_operation(node)
        for node in graph.nodes
    }


def effect_of_layer(layer: nn.Module) -> Effect:
    """What a layer does to its inputs: torch's own say so, of others the forward is traced."""
    if is_torch_layer(layer):
        in_place = bool(getattr(layer, "inplace", False))
        return Effect(in_place, in_place or isinstance(layer, PASSING))
    if type(layer).forward is nn.Sequential.forward:
        for part in layer.children():
            effect = effect_of_layer(part)
            if effect.writes or not effect.passes:  # the rest sees other memory, or it makes no difference
                return effect
        return Effect(writes=False, passes=True)
    try:
        graph = FaithfulTracer().trace(layer)
    except Exception:  # whatever its forward does with what is no tensor: the worst is assumed
        return Effect(any(getattr(part, "inplace", False) for part in layer.modules()), passes=True)
    memory = Memory(graph, effects_in(graph, layer))
    inputs = {node for node in graph.nodes if node.op == "placeholder"}
    writes = any(memory.of(memory.written(node)) & inputs for node in graph.nodes)
    return Effect(writes, bool(memory.of(graph.output_node().all_input_nodes) & inputs))


def is_torch_layer(layer: nn.Module) -> bool:
    """Whether a layer is torch's own, and no container."""
    return type(layer).__module__.startswith("torch.nn.") and not isinstance(layer, nn.Sequential)


def effect_of_operation(node: fx.Node) -> Effect:
    """What a function or a method does to its first input."""
    if node.op not in ("call_function", "call_method"):
        return NONE
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    writes = node.target in AUGMENTED.values() or (name.endswith("_") and not name.endswith("__")) or _in_place(node)
    return Effect(writes, writes or not _makes_new(name))


def _in_place(node: fx.Node) -> bool:
    """Whether it is a call such as `relu(x, inplace=True)`."""
    if node.op != "call_function" or isinstance(node.target, str):
        return False
    try:
        arguments = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):  # a builtin, which has no such argument
        return False
    return bool(arguments.get("inplace", False))


@functools.cache
def _makes_new(name: str) -> bool:
    """Whether torch has an operation of that name, and all forms of it return memory of their own."""
    schemas = [] if any(untold in name for untold in UNTOLD) else schemas_of(name)
    return bool(schemas) and all(result.alias_info is None for schema in schemas for result in schema.returns)
