"""What a network does until some of its layers, written down as graphs of `torch.fx`.

Layers are called, not traced; only what has one of the layers inside is followed into its forward. A chain need not be
followed: its graph is one loop over its layers.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from cnnzoo.checkpoints.layouts import counterpart, unknown_layer
from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError
from cnnzoo.extraction.memory import FaithfulTracer, Memory, effects_in, is_torch_layer
from cnnzoo.support.patterns import named
from cnnzoo.support.torch_private import DROPOUT, children_of, twin_of

# A copy of one of these would have a mode of its own, which `train()` and `eval()` of the network do not reach.
RANDOM = (DROPOUT, nn.RReLU)


@dataclass(frozen=True)
class Recording:
    """How to compute the outputs of some layers.

    Attributes:
        training: the graph to run in training mode; its output is a dict by name.
        evaluation: the graph to run in evaluation mode.
        followed: the modules that the graphs run in place of, by name; `""` is the network.
        out_of_place: by name, copies of layers that must not work in place here.
        constants: tensors that a forward made while it was followed; in the graphs they are in `_constants`.
    """

    training: fx.Graph
    evaluation: fx.Graph
    followed: set[str]
    out_of_place: dict[str, nn.Module]
    constants: dict[str, Tensor]

    @functools.cached_property
    def used(self) -> set[str]:
        """The layers, parameters and buffers that the graphs name."""
        nodes = (*self.training.nodes, *self.evaluation.nodes)
        return {str(node.target) for node in nodes if node.op in ("call_module", "get_attr")}


def record(model: nn.Module, layers: Sequence[str], *, at_input: bool = False) -> Recording:
    """Record a network until some layers, or `at_input` until their inputs."""
    asked = _matches(model, layers)
    candidates = [name for matches in asked.values() for name in matches]
    followed = {""}
    if isinstance(model, CNN) and type(model).forward is CNN.forward and set(candidates) <= model.chain().keys():
        runs = [_loop(model)]
    else:
        followed = _around(model, candidates)
        runs = [_traced(model, candidates, followed, training) for training in (True, False)]
    names = _that_run(model, asked, runs)
    out_of_place: dict[str, nn.Module] = {}
    for run in runs:
        out_of_place |= run.finish(model, names, at_input)
    constants = {name: constant for run in runs for name, constant in run.constants.items()}
    return Recording(runs[0].graph, runs[-1].graph, followed, out_of_place, constants)


def _matches(model: nn.Module, layers: Sequence[str]) -> dict[str, list[str]]:
    """The layers that each name or pattern may mean."""
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if not layers:
        raise OptionError("no layer is named; `list(dict(model.named_modules()))` shows their names")
    for layer in layers:
        if isinstance(layer, str) and layer not in known and counterpart(model, layer) is not None:
            raise unknown_layer(model, layer, known)
    return {layer: named(known, layer) for layer in layers}


def _that_run(model: nn.Module, asked: dict[str, list[str]], runs: Sequence["_Run"]) -> list[str]:
    """The layers that are meant, in the order asked for, those of a pattern in the order in which they run."""
    names: list[str] = []
    for layer, matches in asked.items():
        running = [name for name in runs[-1].marks if name in matches and name in runs[0].marks]
        if not running:
            mode = " in both modes" if any(name in run.marks for run in runs for name in matches) else ""
            raise OptionError(
                f"the forward of {type(model).__name__} does not call {layer!r}{mode}, so there is no "
                "output; name a layer that it calls"
            )
        names += running
    return list(dict.fromkeys(names))


def _first_names(model: nn.Module) -> dict[str, str]:
    """For every name the first that the module has, which is the one that torch.fx uses."""
    first = {module: name for name, module in model.named_modules()}
    return {name: first[module] for name, module in model.named_modules(remove_duplicate=False)}


def _around(model: nn.Module, names: Sequence[str]) -> set[str]:
    """The modules that these layers are inside of, by their first names, and the network itself, ""."""
    first = _first_names(model)
    paths = {*names, *(first[name] for name in names)}
    return {""} | {first[path[:end]] for path in paths for end, sign in enumerate(path) if sign == "."}


def _mark(value: Any) -> Any:
    """In a graph, the place where a layer returned a value."""
    return value


@dataclass(frozen=True)
class _Run:
    """One pass through a network, and where each layer returned for the last time, in that order."""

    graph: fx.Graph
    marks: dict[str, fx.Node]
    constants: dict[str, Tensor] = field(default_factory=dict)

    def finish(self, model: nn.Module, names: Sequence[str], at_input: bool) -> dict[str, nn.Module]:
        """Leave what leads to these layers, and return their outputs intact; gives the copies of layers for that."""
        graph, marks = self.graph, {name: self.marks[name] for name in names}
        if at_input:
            marks = {name: _before(graph, mark.all_input_nodes[0]) for name, mark in marks.items()}
        places = set(marks.values())
        _cut(graph, places)
        memory = Memory(graph, effects_in(graph, model))
        _drop_unused(graph, memory, places)
        out_of_place, cloned = _spare(memory, places, model)
        for mark in cloned:
            with graph.inserting_before(mark):
                mark.args = (fx.map_arg(mark.args[0], lambda value: graph.call_function(torch.clone, (value,))),)
        graph.output({name: mark.args[0] for name, mark in marks.items()})
        for mark in places:
            graph.erase_node(mark)
        return out_of_place


def _loop(chain: CNN) -> _Run:
    """The run of a chain."""
    graph, marks = fx.Graph(), {}
    out = graph.placeholder("images")
    for name in chain.chain():
        out = graph.call_module(name, (out,))
        marks[name] = graph.call_function(_mark, (out,))
    return _Run(graph, marks)


def _traced(model: nn.Module, names: Sequence[str], followed: set[str], training: bool) -> _Run:
    """The run of any network in one mode, found by tracing."""
    first = _first_names(model)
    root, inner = _twins(model, {model.get_submodule(name) for name in followed}, training)
    recorder = _Recorder(inner, {first[name] for name in names})
    inputs = list(inspect.signature(type(model).forward).parameters.values())[1:]
    try:
        graph = recorder.trace(root, {one.name: one.default for one in inputs if one.default is not one.empty})
    except Exception as error:  # whatever the forward does with what is no tensor
        place, kind = next(reversed(recorder.module_stack.values()), ("", type(model)))
        where = f"{place} ({kind.__name__})" if place else kind.__name__
        raise OptionError(
            f"cannot trace the forward of {where} to the layers in it: "
            f"{str(error).partition(chr(10))[0] or type(error).__name__}. Name layers outside of it, or take the "
            "outputs of those inside with `register_forward_hook`"
        ) from error
    graph.erase_node(graph.output_node())
    needed = [one for one in graph.nodes if one.op == "placeholder" and not one.args and one.target[0] != "*"]
    if len(needed) != 1:
        raise OptionError(
            f"the forward of {type(model).__name__} takes {len(needed)} inputs; only networks whose one "
            "input is the images can be followed"
        )
    found = {name: recorder.marks[first[name]] for name in names if first[name] in recorder.marks}
    order = {node: place for place, node in enumerate(graph.nodes)}
    marks = dict(sorted(found.items(), key=lambda mark: order[mark[1]]))
    return _Run(graph, marks, _constants(graph, root, "training" if training else "evaluation"))


def _constants(graph: fx.Graph, root: nn.Module, mode: str) -> dict[str, Tensor]:
    """The tensors that torch.fx put on the root because they belong to no module, under names of our own."""
    constants = {}
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):
            name = f"{mode}_{len(constants)}"
            constants[name] = getattr(root, node.target)
            node.target = f"_constants.{name}"
    return constants


def _twins(model: nn.Module, followed: set[nn.Module], training: bool) -> tuple[nn.Module, set[nn.Module]]:
    """Copies of the modules to follow, in a mode; they share everything else with the network."""
    twins: dict[nn.Module, nn.Module] = {}

    def twin(module: nn.Module) -> nn.Module:
        if module not in followed:
            return module
        if module not in twins:
            children: dict[str, nn.Module | None] = {}
            twins[module] = twin_of(module, children, training=training)
            children.update({name: child and twin(child) for name, child in children_of(module).items()})
        return twins[module]

    return twin(model), set(twins.values())


class _Recorder(FaithfulTracer):
    """Follows the twins, calls everything else, and marks where the layers asked for return."""

    def __init__(self, inner: set[nn.Module], asked: set[str]) -> None:
        super().__init__()
        self.inner, self.asked = inner, asked
        self.marks: dict[str, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self.inner

    def call_layer(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        value = super().call_layer(m, forward, args, kwargs)
        name = self.path_of_module(m)
        if name in self.asked:
            self.marks[name] = self.create_proxy("call_function", _mark, (value,), {}).node
        return value


def _before(graph: fx.Graph, call: fx.Node) -> fx.Node:
    """A mark at the input of a call."""
    with graph.inserting_before(call):
        return graph.call_function(_mark, (call.all_input_nodes[0],))


def _cut(graph: fx.Graph, marks: set[fx.Node]) -> None:
    """Take out what runs behind the last mark, before anything there is looked into."""
    for node in reversed(graph.nodes):
        if node in marks:
            return
        graph.erase_node(node)


def _drop_unused(graph: fx.Graph, memory: Memory, marks: set[fx.Node]) -> None:
    """Take out what no mark depends on: neither on what it returns, nor on what it writes."""
    needed = set(marks)
    read: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node in needed or memory.of(memory.written(node)) & read:
            needed.update(node.all_input_nodes)
            read |= memory.of(node.all_input_nodes)
        elif node.op != "placeholder" or node.args:
            graph.erase_node(node)


def _spare(memory: Memory, marks: set[fx.Node], model: nn.Module) -> tuple[dict[str, nn.Module], list[fx.Node]]:
    """Keep marked values from being written into later: layers that now work out of place, and marks to clone at."""
    copies: dict[str, nn.Module] = {}
    cloned = []
    for mark in sorted(marks):
        while writer := memory.next_writer(mark):
            changed = _out_of_place(memory, writer, model)
            if changed is None:
                cloned.append(mark)
                break
            memory, copies[str(writer.target)] = changed
    return copies, cloned


def _out_of_place(memory: Memory, call: fx.Node, model: nn.Module) -> tuple[Memory, nn.Module] | None:
    """A copy of a layer that works out of place, and the memory with it; None where that would change the outputs."""
    if call.op != "call_module":
        return None
    layer = model.get_submodule(str(call.target))
    if not is_torch_layer(layer) or isinstance(layer, RANDOM):
        return None
    other = memory.without(str(call.target))
    nodes = list(memory.graph.nodes)
    for place, node in enumerate(nodes):  # nobody may count on finding changed what the layer now leaves as it is
        if node.op == "call_module" and node.target == call.target:
            left = other.of(node.all_input_nodes)
            if any(other.of(reader.all_input_nodes) & left for reader in nodes[place + 1 :]):
                return None
    layer = copy.copy(layer)
    vars(layer)["inplace"] = False
    return other, layer
