"""The rows that `verify` gives: what is stated, what the network has, and whether they agree."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cnnzoo.support.text import as_text, html_table, rich_table

if TYPE_CHECKING:
    from cnnzoo.support.text import Table

COLUMNS = ("layer", "quantity", "paper", "model", "", "source", "note")
PROSE = ("paper", "model", "source", "note")
SUFFIXES = {"K": 3, "M": 6, "G": 9}
"""What a letter behind a rounded figure stands for: thousands, millions, thousand millions, as powers of ten."""

Origin = Literal["printed", "released", "derived", "chosen"]
ORIGINS: tuple[Origin, ...] = ("printed", "released", "derived", "chosen")
CODE = r"released|code|torchvision|timm|fb\.resnet\.torch|Caffe|torch"
"""Words of a source that is a program."""


@dataclass(frozen=True)
class Row:
    """One thing that is stated of a network, beside what the network has.

    Attributes:
        layer: the layer's name, or `"total"`.
        quantity: `"output"` (shape), `"parameters"`, `"connections"`, `"macs"`, `"operation"` (what the layer computes,
            with its settings), `"initialization"`; where an operation differs, the setting, such as `"stride"`, or
            `"place"`.
        paper: as stated: exact, or a string where the paper rounds it, such as `"3.8G"`.
        model: as built.
        ok: whether they agree, or differ exactly as the note says.
        source: where it is stated.
        note: why it is not the model's, where that is known, or a remark on it.
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
        """Whether the model has what is stated, to the last printed digit."""
        return agrees(self.paper, self.model)

    @property
    def origin(self) -> Origin:
        """Whether it is printed, is in released code only, follows from what is printed, or is nowhere but here."""
        return origin(self.source)


def origin(source: str) -> Origin:
    """What a source is, by its words; without one of them it is the paper."""
    if re.search(r"\bderived\b", source):
        return "derived"
    if re.search(r"\b(chosen|design)\b", source):
        return "chosen"
    return "released" if re.search(rf"\b({CODE})\b", source) else "printed"


@dataclass(frozen=True, repr=False)
class Verification:
    """A network beside its paper; prints as a table, in notebooks as HTML."""

    name: str
    classic: bool
    citation: str
    rows: tuple[Row, ...]
    against: str = ""

    @property
    def ok(self) -> bool:
        """Whether every row is."""
        return all(row.ok for row in self.rows)

    @property
    def differences(self) -> tuple[Row, ...]:
        """The rows that are not."""
        return tuple(row for row in self.rows if not row.ok)

    def cells(self, row: Row) -> tuple[str, ...]:
        """A row as text, under `COLUMNS`."""
        mark = ("=" if row.agrees else "noted") if row.ok else "DIFFERS"
        return (row.layer, row.quantity, _shown(row.paper), _shown(row.model), mark, row.source, row.note)

    @property
    def title(self) -> str:
        """The network and its paper in one line."""
        against = f"{self.against} against " if self.against else ""
        return f"{against}{self.name}{' --classic' if self.classic else ''}: {self.citation}"

    @property
    def total(self) -> str:
        """How many of the rows agree, and how many of them are printed, released or derived, in one line."""
        marks = [row.agrees if row.ok else None for row in self.rows]
        text = f"{len(marks)} figures: {marks.count(True)} agree" + "".join(
            f", {count} {how}"
            for count, how in ((marks.count(False), "differ as noted"), (marks.count(None), "DIFFER"))
            if count
        )
        origins = [row.origin for row in self.rows if row.source]
        return f"{text} ({', '.join(f'{origins.count(one)} {one}' for one in ORIGINS if one in origins)})"

    def __rich__(self) -> "Table":
        columns = COLUMNS if any(row.note for row in self.rows) else COLUMNS[:-1]
        cells = (self.cells(row)[: len(columns)] for row in self.rows)
        wrong = [i for i, row in enumerate(self.rows) if not row.ok]
        return rich_table(columns, cells, prose=PROSE, title=self.title, total=self.total, marked=wrong)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, map(self.cells, self.rows), self.title)


def agrees(printed: Any, found: Any) -> bool:
    """Whether a stated figure is the model's.

    An exact figure is, where they are equal. A rounded one, such as `"3.8G"`, is, where they differ by less than one
    unit of its last digit: papers cut digits off as often as they round them, and print 3.86 G as 3.8. Any other
    string, such as `"<25M"`, agrees with no number, and its row says what the model `reads`.
    """
    if not isinstance(printed, str) or isinstance(found, str):
        return printed == found
    rounded = re.fullmatch(r"(\d+)(?:\.(\d+))?([KMG])", printed)
    if rounded is None or not isinstance(found, int):
        return False
    whole, decimals, suffix = rounded.groups(default="")
    unit = 10 ** (SUFFIXES[suffix] - len(decimals))
    return abs(found - int(whole + decimals) * unit) < unit


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
