"""The figures that papers print: output shapes, parameters, connections and multiply-adds."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from cnnzoo.shapes.trace import LayerShape, is_leaf
from cnnzoo.verification.rows import Row, agrees

QUANTITIES = ("output", "parameters", "connections", "macs")


def figure_rows(
    table: Mapping[str, Any], model: nn.Module, calls: dict[str, LayerShape], names: Mapping[str, str]
) -> Iterator[Row]:
    """A row for each figure; `names` has the model's names of the layers where they are not the paper's."""
    for line in table["rows"]:
        reads = line.get("reads", {})
        for quantity in QUANTITIES:
            if quantity in line:
                found = measure(model, calls, names.get(line["layer"], line["layer"]), quantity)
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


def connections(module: nn.Module, call: LayerShape) -> int:
    """Connections as LeCun et al. count them: each unit's inputs and its bias."""
    own: Any = getattr(module, "connections", None)
    return call.params * math.prod(call.output_shape[1:]) if own is None else own(call.output_shape)
