"""What a network computes beside what its paper states: which operations correspond, and in what they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from cnnzoo.verification.computed import INPUT, Computation, Operation, linear_as, ordered
from cnnzoo.verification.notation import MAIN, Line, shown, shown_fact

ALIKE = (
    {"max", "average", "global average", "global max", "adaptive average", "subsample"},
    {"relu", "tanh", "sigmoid", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardtanh"},
    {"bn", "lrn", "batch_norm", "group_norm", "layer_norm"},
    {"conv", "linear"},
    {"add", "cat", "multiply"},
)
"""Operations of which one may stand in the other's place."""
LARGE = 400
"""Longer stretches without a counterpart are aligned by their kinds alone."""


@dataclass(frozen=True)
class Difference:
    """What differs at one place.

    Attributes:
        line: the line of the file, as an index; None for an operation that the paper does not have.
        layer: where.
        quantity: `"operation"`, `"place"`, `"input"`, or the fact that differs, such as `"stride"`.
        paper: as stated.
        model: as computed.
        known: the note, where the file knows of it.
    """

    line: int | None
    layer: str
    quantity: str
    paper: str
    model: str
    known: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The differences, and which operation of the network stands for each line."""

    differences: tuple[Difference, ...]
    pairs: dict[int, int]


def compare(lines: Sequence[Line], computation: Computation, *, foreign: bool = False) -> Comparison:
    """Put a network's operations beside the lines of its paper."""
    expected = [line.expected for line in lines]
    found = _like(expected, list(computation.operations))
    found, swapped = _in_order(expected, found)
    pairs = align(expected, found, by_name=not foreign)
    partner = dict(pairs)
    differences: list[Difference] = []
    for i, j in pairs:
        differences += _facts(lines[i], i, found[j], indifferent(found, j) if foreign else ())
    missing = [i for i in range(len(expected)) if i not in partner]
    extra = sorted(set(range(len(found))) - set(partner.values()))
    # A network that stopped early lacks whatever would have come behind, which is no difference of its own.
    last = max(partner, default=-1)
    if computation.error:
        missing = [i for i in missing if i <= last + 1]
    for i in missing:
        twin = next((j for j in extra if _equal(expected[i], found[j])), None)
        elsewhere = "none" if twin is None else _place(found, twin, expected, partner)
        if twin is not None:
            extra.remove(twin)
        text = shown(expected[i].kind, expected[i].facts)
        model = elsewhere if twin is None else f"{text} {elsewhere}"
        differences.append(Difference(i, expected[i].layer, "place", f"{text} {_place(expected, i)}", model))
    for j in extra:
        text = f"{shown(found[j].kind, found[j].facts)} {_place(found, j, expected, partner)}"
        layer = _nearest(expected, found, partner, j) if foreign or not found[j].layer else found[j].layer
        differences.append(Difference(None, layer, "place", "none", text))
    differences += _edges(expected, found, partner, foreign)
    for order, layer in swapped:
        differences.append(Difference(None, layer, "order of the concatenation", *order))
    return Comparison(tuple(differences), partner)


def _like(expected: Sequence[Operation], found: list[Operation]) -> list[Operation]:
    """Read a convolution over a whole map as the linear layer that it is, where the paper has one there."""
    wanted = sum(one.kind == "linear" for one in expected)
    have = sum(one.kind == "linear" for one in found)
    for j in reversed(range(len(found))):
        if have >= wanted:
            break
        one = found[j]
        if one.kind == "conv" and one.takes and one.takes[0] >= 0:
            other = linear_as(one, found[one.takes[0]].shape)
            have += other is not one
            found[j] = other
    return found


def _equal(one: Operation, other: Operation) -> bool:
    return one.kind == other.kind and not differing(one.facts, other.facts)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The facts that are not the same; numbers are if they differ by less than a millionth."""
    return [key for key in (one.keys() | other.keys()) if not _same(one.get(key), other.get(key))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        try:
            return abs(float(one) - float(other)) <= 1e-6 * max(abs(float(one)), abs(float(other)))
        except (TypeError, ValueError):
            return False
    return one == other


def align(expected: Sequence[Operation], found: Sequence[Operation], *, by_name: bool) -> list[tuple[int, int]]:
    """Pairs of corresponding operations, such that as few as possible are left over or differ."""

    def twins(one: Operation, other: Operation) -> bool:
        return _equal(one, other) and (not by_name or one.layer == other.layer)

    start, end_e, end_f = 0, len(expected), len(found)
    while start < min(end_e, end_f) and twins(expected[start], found[start]):
        start += 1
    while min(end_e, end_f) > start and twins(expected[end_e - 1], found[end_f - 1]):
        end_e, end_f = end_e - 1, end_f - 1
    middle = _cheapest(expected[start:end_e], found[start:end_f], by_name)
    return [
        *((i, i) for i in range(start)),
        *((start + i, start + j) for i, j in middle),
        *((end_e + k, end_f + k) for k in range(len(expected) - end_e)),
    ]


def _cheapest(expected: Sequence[Operation], found: Sequence[Operation], by_name: bool) -> list[tuple[int, int]]:
    """An alignment by dynamic programming; of long stretches, between the anchors that difflib finds."""
    if len(expected) * len(found) > LARGE * LARGE:
        pairs: list[tuple[int, int]] = []
        keys = [
            [(one.kind, str(one.facts), one.layer if by_name else "") for one in side] for side in (expected, found)
        ]
        i = j = 0
        for block in SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
            gap = (expected[i : block.a], found[j : block.b])
            if len(gap[0]) * len(gap[1]) <= LARGE * LARGE:
                pairs += [(i + a, j + b) for a, b in _cheapest(*gap, by_name)]
            else:  # nothing in common but, perhaps, the kinds
                kinds = SequenceMatcher(None, *([one.kind for one in side] for side in gap), autojunk=False)
                for run in kinds.get_matching_blocks():
                    pairs += [(i + run.a + k, j + run.b + k) for k in range(run.size)]
            pairs += [(block.a + k, block.b + k) for k in range(block.size)]
            i, j = block.a + block.size, block.b + block.size
        return pairs
    rows, columns = len(expected), len(found)
    cost = [[float(i + j) for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(rows):
        above, line = cost[i], cost[i + 1]
        for j in range(columns):
            price = _price(expected[i], found[j], by_name)
            line[j + 1] = min(above[j] + price, above[j + 1] + 1, line[j] + 1)
    pairs = []
    i, j = rows, columns
    while i and j:
        if abs(cost[i][j] - cost[i - 1][j - 1] - _price(expected[i - 1], found[j - 1], by_name)) < 1e-9:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif abs(cost[i][j] - cost[i - 1][j] - 1) < 1e-9:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _price(one: Operation, other: Operation, by_name: bool) -> float:
    named = 0.2 if by_name and one.layer != other.layer else 0.0
    if one.kind == other.kind:
        return named + 0.15 * min(len(differing(one.facts, other.facts)), 4)
    if any(one.kind in kinds and other.kind in kinds for kinds in ALIKE):
        return named + 1.2
    return 3.0 if named or not by_name else 1.6


def indifferent(operations: Sequence[Operation], i: int) -> Sequence[str]:
    """Settings without an effect on maps of this size: which way a window is rounded that fits."""
    one = operations[i]
    if "rounding" not in one.facts or not one.takes or one.takes[0] < 0:
        return ()
    each = [one.facts["kernel"].split("x")]
    for key in ("stride", "pad", "dilation"):
        value = one.facts.get(key, "1").split("x")
        each.append(value if len(value) == len(each[0]) else value * len(each[0]))
    sizes = operations[one.takes[0]].shape[1:]
    fits = (
        (size + 2 * int(p) - int(d) * (int(k) - 1) - 1) % int(s) == 0
        for size, k, s, p, d in zip(sizes, *each, strict=True)
    )
    return ("rounding",) if all(fits) else ()


def _facts(line: Line, i: int, found: Operation, passed_over: Sequence[str]) -> list[Difference]:
    expected = line.expected
    where = expected.layer
    if expected.kind != found.kind:
        paper, model = shown(expected.kind, expected.facts), shown(found.kind, found.facts)
        return [Difference(i, where, "operation", paper, model)]
    differences = []
    for key in sorted(set(differing(expected.facts, found.facts)) - set(passed_over)):
        stated, own = expected.facts.get(key), found.facts.get(key)
        reading = line.readings.get(key)
        known = reading.note if reading is not None and _same(reading.reads, own) else None
        paper, model = (_shown(expected.kind, key, value) for value in (stated, own))
        differences.append(Difference(i, where, key, paper, model, known))
    for key in line.readings.keys() - set(differing(expected.facts, found.facts)):
        reads, own = (_shown(expected.kind, key, value) for value in (line.readings[key].reads, found.facts[key]))
        differences.append(Difference(i, where, key, reads, own))
    return differences


def _shown(kind: str, key: str, value: Any) -> str:
    if value is None:
        return "none"
    return shown(kind, {key: value}) if MAIN.get(kind) == key else shown_fact(kind, key, value)


def _place(
    operations: Sequence[Operation],
    i: int,
    expected: Sequence[Operation] = (),
    partner: Mapping[int, int] | None = None,
) -> str:
    """Where an operation stands: behind which other one, in the paper's words where that has a counterpart there."""
    takes = operations[i].takes
    if not takes or takes[0] == INPUT:
        return "first"
    back = {j: k for k, j in (partner or {}).items()}
    before = expected[back[takes[0]]] if takes[0] in back else operations[takes[0]]
    return f"after {before.layer or before.kind}"


def _nearest(expected: Sequence[Operation], found: Sequence[Operation], partner: dict[int, int], j: int) -> str:
    """The paper's layer behind which an operation stands that the paper does not have."""
    back = {found_at: i for i, found_at in partner.items()}
    at = j
    while at >= 0 and at not in back:
        at = found[at].takes[0] if found[at].takes else -1
    return expected[back[at]].layer if at >= 0 else "input"


def _edges(
    expected: Sequence[Operation], found: Sequence[Operation], partner: dict[int, int], foreign: bool
) -> list[Difference]:
    """Operations that correspond and take something else; what stands between and has no counterpart is passed over."""
    back = {j: i for i, j in partner.items()}

    def resolved(index: int, side: Sequence[Operation], counterpart: dict[int, int]) -> int:
        while index >= 0 and index not in counterpart:
            index = side[index].takes[0] if side[index].takes else INPUT
        return index

    differences = []
    for i, j in partner.items():
        wanted = [resolved(k, expected, partner) for k in expected[i].takes]
        taken = [back.get(resolved(k, found, back), INPUT) for k in found[j].takes]
        if expected[i].kind in ("add", "multiply"):
            wanted, taken = sorted(wanted), sorted(taken)
        if wanted != taken and found[j].kind == expected[i].kind:
            paper, model = (
                ", ".join("the input" if k < 0 else expected[k].layer for k in side) for side in (wanted, taken)
            )
            differences.append(Difference(i, expected[i].layer, "input", paper, model))
    return differences


def _signature(operations: Sequence[Operation], end: int, uses: Sequence[int]) -> tuple[str, ...]:
    """The operations from an end back to where several paths begin."""
    texts = []
    while end >= 0 and (uses[end] == 1 or not texts) and len(operations[end].takes) == 1:
        texts.append(shown(operations[end].kind, operations[end].facts))
        end = operations[end].takes[0]
    return (*texts, operations[end].kind if end >= 0 else "input")


def _in_order(
    expected: Sequence[Operation], found: Sequence[Operation]
) -> tuple[Sequence[Operation], list[tuple[tuple[str, str], str]]]:
    """Turn concatenations with the paper's branches in another order into the paper's order, and say which they are."""
    sides = [[i for i, one in enumerate(side) if one.kind == "cat"] for side in (expected, found)]
    if len(sides[0]) != len(sides[1]):
        return found, []
    turned = list(found)
    swapped = []
    uses = [_uses(side) for side in (expected, found)]
    for i, j in zip(*sides, strict=True):
        wanted = [_signature(expected, k, uses[0]) for k in expected[i].takes]
        have = [_signature(found, k, uses[1]) for k in found[j].takes]
        if wanted == have or sorted(wanted) != sorted(have):
            continue
        rest = list(range(len(have)))
        order = []
        for signature in wanted:
            place = next(k for k in rest if have[k] == signature)
            rest.remove(place)
            order.append(place)
        turned[j] = replace(found[j], takes=tuple(found[j].takes[k] for k in order))
        names = tuple(", ".join(one[0] for one in side) for side in (wanted, have))
        swapped.append((names, expected[i].layer))
    if not swapped:
        return found, []
    return ordered(turned, [len(turned) - 1]), swapped


def _uses(operations: Sequence[Operation]) -> list[int]:
    uses = [0] * len(operations)
    for one in operations:
        for k in one.takes:
            if k >= 0:
                uses[k] += 1
    return uses
