"""What a paper states of a network, as it is written in `papers/*.toml`, one line for each operation.

    conv1  conv 11x11/4, 96 maps [section 3.5], pad 0 [derived: maps of 55x55], bias [section 5]
    relu1  relu [section 3.1]

is the layer's name, the operation, and its facts, each followed by where it stands. A line may call a block of the
file, `conv2_x.0..2  bottleneck 64`, and join branches:

    .      add [section 3.2]
    - conv1  conv 3x3, 64 maps, pad 1, no bias
      bn1    bn
    - identity

`.` is the block itself. The module docs of `guide/verify.md` explain the whole notation.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnzoo.verification.computed import INPUT, Operation, ordered
from cnnzoo.verification.operations import Facts

MAIN = {"dropout": "p", "scale": "by", "shift": "by", "subsample": "stride"}
"""The fact that an operation's first number is."""
DEFAULTS: dict[str, Facts] = {
    "conv": {"stride": "1", "pad": "0", "dilation": "1", "groups": 1},
    "max": {"stride": "1", "pad": "0", "dilation": "1", "rounding": "down"},
    "average": {"stride": "1", "pad": "0", "rounding": "down"},
    "bn": {"affine": True},
    "lstm": {"layers": 1, "directions": 1},
}
"""What a line need not say. It is compared all the same."""
KINDS = (
    *("global average", "global max", "adaptive average", "coefficients", "subsample", "sigmoid", "dropout", "average"),
    *("linear", "biases", "square", "zeros", "minus", "scale", "shift", "conv", "relu", "tanh", "max", "lrn", "cat"),
    *("add", "sum", "bn", "columns", "lstm"),
)


@dataclass(frozen=True)
class Reading:
    """A fact that is not the network's: what the network has instead, and why."""

    reads: Any
    note: str


@dataclass(frozen=True)
class Line:
    """An operation as it is stated.

    Attributes:
        expected: the operation that the network must do.
        sources: for each part of the line where it stands, and the facts of that part; "" is the kind.
        readings: the facts in which the network is known to differ.
        group: the layers that are shown together, as the network's own line names them: `conv2_x.0..2`.
        within: the layer's name in its block.
    """

    expected: Operation
    sources: tuple[tuple[str, tuple[str, ...]], ...]
    readings: Mapping[str, Reading]
    group: str
    within: str


@dataclass
class _Reader:
    blocks: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, str]
    operations: list[Operation] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def chain(self, lines: Sequence[str], at: int, path: "_Path") -> int:
        """Operations one behind the other, from `at`; returns the last."""
        i = 0
        while i < len(lines):
            text = lines[i]
            i += 1
            names, _, rest = text.strip().partition(" ")
            rest = rest.strip()
            word = rest.split()[0].rstrip(",") if rest else ""
            if word in ("cat", "add") or rest.startswith("multiply"):
                branches, i = _branches(lines, i)
                ends = [self.chain(branch, at, path) for branch in branches]
                at = self.operation(path.at(names, names), rest, tuple(ends))
            elif word in self.blocks:
                for name in _each(names):
                    at = self.call(word, rest.split()[1:], at, path.at(name, names))
            elif names != "identity":
                at = self.operation(path.at(names, names), rest, (at,))
        return at

    def call(self, block: str, arguments: Sequence[str], at: int, path: "_Path") -> int:
        """The operations of a block with its arguments in their places."""
        given = {one.partition("=")[0]: one.partition("=")[2] for one in self.blocks[block].get("takes", "").split()}
        named = {one.partition("=")[0]: one.partition("=")[2] for one in arguments if "=" in one}
        placed = (one for one in arguments if "=" not in one)
        values = {key: named.get(key) or next(placed, default) for key, default in given.items()}
        text = re.sub(r"\{(\w+)\}", lambda hit: values[hit[1]], self.blocks[block]["lines"])
        return self.chain(lines_of(text), at, path)

    def operation(self, path: "_Path", text: str, takes: tuple[int, ...]) -> int:
        kind, facts, sources, readings = parse(text, self.sources)
        self.operations.append(Operation(path.name, kind, facts, takes))
        self.lines.append(Line(self.operations[-1], sources, readings, path.group, path.within))
        return len(self.operations) - 1


@dataclass(frozen=True)
class _Path:
    """Where in the nest of blocks a line stands.

    Attributes:
        name: of the layer.
        group: the layers as the network's own line names them: `conv2_x.0..2`.
        within: the layer's name in its block, which is the same for all layers of a group.
    """

    name: str = ""
    group: str = ""
    within: str = ""

    def at(self, name: str, names: str) -> "_Path":
        """The path of a line, or of a call, in this block."""
        full = _joined(self.name, name)
        if not self.group or name.startswith("/"):
            return _Path(full, "" if names == "." else names.removeprefix("/"), "")
        return _Path(full, self.group, _joined(self.within, name))


def read(table: Mapping[str, Any], paper: Mapping[str, Any]) -> tuple[Line, ...]:
    """The lines of a network in canonical order; each line's operation says by index what it takes."""
    reader = _Reader(paper.get("blocks", {}), paper.get("sources", {}))
    end = reader.chain(lines_of(table.get("computes", "")), INPUT, _Path())
    order = ordered([replace(one, shape=(i,)) for i, one in enumerate(reader.operations)], [end])
    return tuple(replace(reader.lines[one.shape[0]], expected=replace(one, shape=())) for one in order)


def lines_of(text: str) -> list[str]:
    """The lines that say something."""
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _joined(outer: str, name: str) -> str:
    """A name inside a block; with a slash in front it is the network's own."""
    if name.startswith("/"):
        return name[1:]
    return ".".join(part for part in (outer, name) if part and part != ".")


def _each(names: str) -> Iterator[str]:
    """`conv2_x.0..2` is conv2_x.0, conv2_x.1 and conv2_x.2."""
    hit = re.fullmatch(r"(.*?)(\d+)\.\.(\d+)", names)
    if hit is None:
        yield names
    else:
        yield from (f"{hit[1]}{i}" for i in range(int(hit[2]), int(hit[3]) + 1))


def _branches(lines: Sequence[str], i: int) -> tuple[list[list[str]], int]:
    """The lines behind a join that belong to it, cut into branches."""
    branches: list[list[str]] = []
    margin = None
    while i < len(lines):
        text = lines[i]
        indent = len(text) - len(text.lstrip())
        if margin is None:
            margin = indent
        if indent < margin or (indent == margin and not text.lstrip().startswith("- ")):
            break
        if indent == margin:
            branches.append([])
            text = " " * margin + "  " + text.lstrip()[2:]
        branches[-1].append(text)
        i += 1
    return branches, i


def parse(
    text: str, sources: Mapping[str, str]
) -> tuple[str, Facts, tuple[tuple[str, tuple[str, ...]], ...], dict[str, Reading]]:
    """An operation, its facts, where each stands, and in which the network is known to differ."""
    kind = next((one for one in KINDS if re.match(rf"{one}(?![\w-])", text)), None)
    if kind is None:
        raise ValueError(f"papers: unknown operation or block in {text!r}")
    facts: Facts = dict(DEFAULTS.get(kind, {}))
    readings: dict[str, Reading] = {}
    parts: list[tuple[str, tuple[str, ...]]] = []
    keys: list[str] = [""]
    for piece in re.findall(r"\[[^\]]*\]|(?:\([^)]*\)|[^,\[(])+", text[len(kind) :]):
        piece = piece.strip()
        if piece.startswith("["):
            source = piece[1:-1]
            parts.append((sources.get(source, source), tuple(keys)))
            keys = []
            continue
        hit = re.fullmatch(r"(.*?)\s*\(here ([^:)]*)(?:: ([^)]*))?\)", piece)
        stated = _fact(kind, hit[1] if hit else piece) if piece else {}
        if hit is not None:
            (key,) = stated
            here = hit[2].strip()
            value = _fact(kind, here if " " in here or key in ("kernel", MAIN.get(kind)) else f"{key} {here}")[key]
            readings[key] = Reading(value, (hit[3] or "").strip())
        facts |= stated
        keys += stated
    if keys:
        parts.append(("", tuple(keys)))
    return kind, facts, tuple(parts), readings


def _fact(kind: str, text: str) -> Facts:
    hit = re.fullmatch(r"(\d+(?:x\d+)+)(?:/(\d+(?:x\d+)?))?", text)
    if hit is not None:
        return {"kernel": hit[1]} | ({"stride": hit[2]} if hit[2] else {})
    hit = re.fullmatch(r"(\d+) (maps|units|groups|numbers|layers|directions)", text)
    if hit is not None:
        return {hit[2]: int(hit[1])}
    if text in ("bias", "no bias"):
        return {"bias": text == "bias"}
    if text in ("affine", "no scale and shift"):
        return {"affine": text == "affine"}
    if text.startswith("padding "):
        return {"padding": text.removeprefix("padding ")}
    key, _, value = text.partition(" ")
    if not value:
        return {MAIN[kind]: key if kind == "subsample" else number(key)}
    return {key: value if key in ("pad", "dilation", "stride", "rounding", "table", "checksum") else number(value)}


def number(text: str) -> Any:
    """A number, or one divided by another; other text as it is."""
    if text.isdigit():
        return int(text)
    try:
        one, _, other = text.partition("/")
        return float(one) / float(other) if other else float(one)
    except ValueError:
        return text


ORDER = ("kernel", "stride", "maps", "units", "numbers", "n", "k", "alpha", "beta")


def shown(kind: str, facts: Facts, only: Sequence[str] | None = None) -> str:
    """An operation in the notation of the files, or some of its facts; `""` among them stands for the kind."""
    default = DEFAULTS.get(kind, {})
    parts: list[str] = []
    for key in sorted(facts, key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER)):
        if only is not None and key not in only and not (key == "stride" and "kernel" in only):
            continue
        if key == "stride" and parts and "kernel" in facts:
            parts[-1] += f"/{facts[key]}" if facts[key] != "1" else ""
        elif only is not None or key not in default or default[key] != facts[key]:
            parts.append(shown_fact(kind, key, facts[key]))
    if only is not None and "" not in only:
        return ", ".join(parts)
    first = parts and (kind in MAIN or kind in ("conv", "max", "average")) and ("kernel" in facts or kind in MAIN)
    return f"{kind}{' ' if first else ', ' if parts else ''}{', '.join(parts)}"


def shown_fact(kind: str, key: str, value: Any) -> str:
    """One fact in the notation of the files."""
    if key == "kernel" or MAIN.get(kind) == key:
        return f"{value:g}" if isinstance(value, float) else str(value)
    if key in ("maps", "units", "groups", "numbers", "layers", "directions"):
        return f"{value} {key}"
    if key == "bias":
        return "bias" if value else "no bias"
    if key == "affine":
        return "affine" if value else "no scale and shift"
    return f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
