"""Paper beside model: every figure that a paper prints for a network, and what the network has."""

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

import cnnzoo.models  # noqa: F401  registers the constructors
from cnnzoo.construction import construct
from cnnzoo.errors import UnknownNameError, operation
from cnnzoo.registry import ModelSpec, find
from cnnzoo.shapes.trace import LayerShape, is_leaf, trace
from cnnzoo.support.text import html_table, rich_table

if TYPE_CHECKING:
    from rich.table import Table

QUANTITIES = ("output", "parameters", "connections", "macs")
COLUMNS = ("layer", "quantity", "paper", "model", "", "source", "note")
SUFFIXES = {"K": 3, "M": 6, "G": 9}
"""What a letter behind a rounded figure stands for: thousands, millions, thousand millions, as powers of ten."""


@dataclass(frozen=True)
class Row:
    """One printed figure.

    Attributes:
        layer: the layer's name, or `"total"`.
        quantity: `"output"` (shape), `"parameters"`, `"connections"` or `"macs"`.
        paper: as printed: exact, or a string where the paper rounds it, such as `"3.8G"`.
        model: as built.
        ok: whether they agree, or differ exactly as the note says.
        source: where the figure stands.
        note: why a printed figure is not the model's, where that is known, or a remark on it.
    """

    layer: str
    quantity: str
    paper: Any
    model: Any
    ok: bool
    source: str
    note: str

    @property
    def agrees(self) -> bool:
        """Whether the model has what is printed, to the last printed digit."""
        return agrees(self.paper, self.model)


@dataclass(frozen=True)
class Verification:
    """A network beside its paper; prints as a table, in notebooks as HTML."""

    name: str
    classic: bool
    citation: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether every row is."""
        return all(row.ok for row in self.rows)

    def cells(self, row: Row) -> tuple[str, ...]:
        """A row as text, under `COLUMNS`."""
        mark = ("=" if row.agrees else "noted") if row.ok else "DIFFERS"
        return (row.layer, row.quantity, _shown(row.paper), _shown(row.model), mark, row.source, row.note)

    @property
    def title(self) -> str:
        """The network and its paper in one line."""
        return f"{self.name}{' --classic' if self.classic else ''}: {self.citation}"

    @property
    def total(self) -> str:
        """How many of the figures agree, in one line."""
        marks = [row.agrees if row.ok else None for row in self.rows]
        return f"{len(marks)} figures: {marks.count(True)} agree" + "".join(
            f", {count} {how}"
            for count, how in ((marks.count(False), "differ as noted"), (marks.count(None), "DIFFER"))
            if count
        )

    def __rich__(self) -> "Table":
        columns = COLUMNS if any(row.note for row in self.rows) else COLUMNS[:-1]
        cells = (self.cells(row)[: len(columns)] for row in self.rows)
        table = rich_table(columns, cells, right=("paper", "model"), title=self.title, total=self.total)
        for line, row in zip(table.rows, self.rows, strict=True):
            line.style = None if row.ok else "bold red"
        return table

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, map(self.cells, self.rows), self.title)


@operation
def verify(name: str, *, classic: bool = False) -> Verification:
    """Compare a network with every figure that its paper prints for it.

    The network is built on the meta device, and its shapes are inferred: nothing is allocated and nothing runs.

    Args:
        name: as `list_models` shows it.
        classic: the network exactly as printed, where it differs from the default.

    Raises:
        UnknownNameError: there is no such network, or its paper prints nothing about this variant.
        OptionError: the network has no classic variant.
    """
    known = find(name)
    options = {"classic": True} if classic else {}
    known.check(options)
    printed = _printed(known, classic)
    model = construct(partial(known.constructor, **options), device="meta")
    shape = tuple(printed.get("input", getattr(model, "input_shape", known.input_shape)))
    calls = {call.name: call for call in reversed(trace(model, shape, "verify"))}
    rows = []
    for line in printed["rows"]:
        reads = line.get("reads", {})
        for quantity in QUANTITIES:
            if quantity in line:
                found = measure(model, calls, line["layer"], quantity)
                ok = agrees(reads.get(quantity, line[quantity]), found)
                # Beside `reads`, a note is about the figures that differ; without, a remark on all of the line.
                note = "" if reads and agrees(line[quantity], found) else line.get("note", "")
                rows.append(Row(line["layer"], quantity, line[quantity], found, ok, line["source"], note))
    return Verification(name, classic, known.paper.citation, tuple(rows))


def printed_networks(known: ModelSpec) -> list[dict[str, Any]]:
    """The tables that the network's paper prints for it, one for each variant."""
    return [table for table in known.paper.table["networks"] if table["name"] == known.name]


def _printed(known: ModelSpec, classic: bool) -> dict[str, Any]:
    for table in printed_networks(known):
        if table.get("classic", False) == classic:
            return table
    raise UnknownNameError(
        f"{known.paper.title!r} prints nothing about {known.name} with classic={classic}; "
        f"papers/{known.paper.key}.toml has no such table"
    )


def agrees(printed: Any, found: Any) -> bool:
    """Whether a printed figure is the model's.

    An exact figure is, where they are equal. A rounded one, such as `"3.8G"`, is, where they differ by less than one
    unit of its last digit: papers cut digits off as often as they round them, and print 3.86 G as 3.8. Any other
    string, such as `"<25M"`, agrees with nothing, and its row says what the model `reads`.
    """
    if not isinstance(printed, str):
        return printed == found
    rounded = re.fullmatch(r"(\d+)(?:\.(\d+))?([KMG])", printed)
    if rounded is None or not isinstance(found, int):
        return False
    whole, decimals, suffix = rounded.groups(default="")
    unit = 10 ** (SUFFIXES[suffix] - len(decimals))
    return abs(found - int(whole + decimals) * unit) < unit


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


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
