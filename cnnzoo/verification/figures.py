"""The figures that papers print: output shapes, parameters, connections and multiply-adds."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from cnnzoo.shapes.trace import LayerShape, is_leaf
from cnnzoo.verification.computed import Operation
from cnnzoo.verification.rows import Row, agrees

QUANTITIES = ("output", "parameters", "connections", "macs")


Measure = Callable[[str, str], Any]
"""What a network has for a layer and a quantity."""


def figure_rows(table: Mapping[str, Any], found_for: Measure) -> Iterator[Row]:
    """A row for each figure."""
    for line in table["rows"]:
        reads = line.get("reads", {})
        for quantity in QUANTITIES:
            if quantity in line:
                found = found_for(line["layer"], quantity)
                if isinstance(found, list) and line[quantity] == [*found, 1, 1]:
                    found = line[quantity]  # a map of one pixel is a row of numbers
                ok = agrees(reads.get(quantity, line[quantity]), found)
                # Beside `reads`, a note is about the figures that differ; without, a remark on all of the line.
                note = "" if reads and agrees(line[quantity], found) else line.get("note", "")
                source = source_of(line["source"], quantity)
                yield Row(line["layer"], quantity, line[quantity], found, ok, source, note)


def source_of(source: str, quantity: str) -> str:
    """The part of a source that speaks of a quantity: of "Table 1; parameters derived", for parameters the second."""
    first, *others = re.split(r";\s*", source)
    words = {"output": r"(size|output)", "macs": r"(macs|multiply-adds)"}.get(quantity, quantity)
    own = next((one for one in others if re.match(rf"(\w+ and )?{words}\b", one)), first)
    return f"derived from {first}" if own.endswith(" derived") else own


def measure(model: nn.Module, calls: dict[str, LayerShape], layer: str, quantity: str) -> Any:
    """What the model has for a printed figure: a list for a shape, a number, or None where there is no such layer."""
    if layer == "total":
        leaves = [call for name, call in calls.items() if is_leaf(model.get_submodule(name))]
        if quantity == "parameters":
            return sum(p.numel() for p in model.parameters())
        if quantity == "connections":
            return sum(connections(model.get_submodule(call.name), call) for call in leaves)
        return sum(call.macs for call in leaves)
    call = calls.get(layer)
    if call is None:
        return None
    module = model.get_submodule(layer)
    if quantity == "output":
        return list(call.output_shape)
    if quantity == "parameters":
        return sum(p.numel() for p in module.parameters())
    return connections(module, call) if quantity == "connections" else call.macs


def measure_foreign(
    model: nn.Module,
    calls: dict[str, LayerShape],
    operations: Sequence[Operation],
    counterparts: Mapping[str, int],
    layer: str,
    quantity: str,
) -> Any:
    """`measure` for somebody else's network: what corresponds to a layer are the operations that stand for its own.

    Args:
        model: the network.
        calls: its layers that ran, by name.
        operations: what it computes.
        counterparts: for each of the paper's layers the operation that stands for its last one, in their order.
        layer: the paper's name.
        quantity: what to measure.
    """
    if layer == "total":
        return measure(model, calls, layer, quantity)
    own = [i for name, i in counterparts.items() if name == layer or name.startswith(f"{layer}.")]
    if not own:
        return None
    if quantity == "output":
        channels, *size = operations[own[-1]].shape
        return [channels] if set(size) == {1} else [channels, *size]
    parts = dict.fromkeys(operations[i].layer for i in own)
    if quantity == "parameters":
        return sum(p.numel() for part in parts for p in model.get_submodule(part).parameters(recurse=False))
    counted = [calls[part] for part in parts if part in calls]
    if quantity == "connections":
        return sum(connections(model.get_submodule(call.name), call) for call in counted)
    return sum(call.macs for call in counted if is_leaf(model.get_submodule(call.name)))


def connections(module: nn.Module, call: LayerShape) -> int:
    """Connections as LeCun et al. count them: each unit's inputs and its bias."""
    own: Any = getattr(module, "connections", None)
    return call.params * math.prod(call.output_shape[1:]) if own is None else own(call.output_shape)
