"""Paper beside model: everything that is stated of a network, and what the network has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

import cnnzoo.models  # noqa: F401  registers the constructors
from cnnzoo.construction import outline
from cnnzoo.errors import OptionError, ShapeError, UnknownNameError, operation
from cnnzoo.registry import ModelSpec, find
from cnnzoo.shapes.trace import LayerShape, trace
from cnnzoo.support.torch_private import without_modes
from cnnzoo.support.wrappers import inside
from cnnzoo.verification.comparison import Comparison, Difference, compare
from cnnzoo.verification.computed import Computation, blank, computed
from cnnzoo.verification.figures import figure_rows, measure, measure_foreign
from cnnzoo.verification.initial import Distribution, Start, distributions, sizes_of, starts, while_building
from cnnzoo.verification.notation import Line, read, shown
from cnnzoo.verification.rows import Row, Verification

INITIALIZATION = "initialization"
NAMED = 3
"""Layers that start otherwise and have a row of their own; more of them are counted."""


@operation
def verify(
    network: str | nn.Module | Callable[[], nn.Module],
    *,
    paper: str | None = None,
    classic: bool | None = None,
    **options: Any,
) -> Verification:
    """Compare a network with everything that its paper states: sizes, operations and their settings, initialization.

    The network is built on the meta device: nothing is allocated and no value is computed.

    Args:
        network: a name, as `list_models` shows it; a network that the library built; or any other network, or a
            function that builds one, together with `paper`. Of a network that is built already nobody knows how it
            was initialised: those rows are left out, while a function is watched building it.
        paper: the name of the network whose paper somebody else's network is compared with, such as `"alexnet"`. Its
            layers are found by what they do and in what order, whatever they are called.
        classic: compare with the network exactly as printed, where it differs from the default. By default what the
            network itself says, else False.
        **options: other arguments of the network's constructor, where it is given by name. What the paper prints stays
            as it is; so other options are differences.

    Raises:
        UnknownNameError: there is no such network, or its paper prints nothing about this variant.
        OptionError: the network has no classic variant, or does not say which paper it is from.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.verify("alexnet", classic=True).ok
        True
        >>> other = cnnzoo.verify(cnnzoo.alexnet(classic=True, dropout=0.6))
        >>> [(row.layer, row.quantity, row.paper, row.model) for row in other.differences]
        [('drop6', 'p', 'dropout 0.5', 'dropout 0.6'), ('drop7', 'p', 'dropout 0.5', 'dropout 0.6')]
    """
    network = inside(network) if isinstance(network, nn.Module) else network
    with without_modes():  # in one of them there may be no values, which codes and tables have
        return _verify(network, paper, classic, options)


def _verify(
    network: str | nn.Module | Callable[[], nn.Module], paper: str | None, classic: bool | None, options: dict[str, Any]
) -> Verification:
    if isinstance(network, str):
        known = find(paper or network)
        chosen = options | ({"classic": True} if classic else {})
        find(network).check(chosen)
        model = outline(partial(find(network).constructor, **chosen))
        return _verification(known, bool(classic), model, distributions(model), foreign=False)
    if options:
        raise OptionError(f"{', '.join(options)}: options belong to a name; this network is built already")
    config = getattr(network, "config", None)
    name = paper or getattr(config, "name", None)
    if not isinstance(name, str):
        raise OptionError(
            f"{getattr(network, '__name__', type(network).__name__)} does not say which paper it is from; "
            'name one of the networks: verify(network, paper="alexnet")'
        )
    known = find(name)
    own = bool(getattr(config, "classic", False))
    variant = own if classic is None else classic
    if variant:
        known.check({"classic": True})
    if isinstance(network, nn.Module):
        foreign = config is None or config.name != known.name
        start = {} if foreign else distributions(blank(network)[0])  # how it would be initialised anew
        return _verification(known, variant, network, start, foreign=foreign)
    model, start = while_building(network)
    title = getattr(network, "__qualname__", type(model).__name__)
    return _verification(known, variant, model, start, foreign=True, title=title)


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


def _verification(
    known: ModelSpec,
    classic: bool,
    model: nn.Module,
    start: Mapping[str, Distribution],
    *,
    foreign: bool,
    title: str = "",
) -> Verification:
    table = _printed(known, classic)
    shape = tuple(table.get("input") or getattr(model, "input_shape", None) or known.input_shape)
    empty, constants = blank(model)
    computation = computed(empty, constants, shape)
    lines = read(table, known.paper.table)
    comparison = compare(lines, computation, foreign=foreign)
    names = _names(lines, computation, comparison) if foreign else {}
    calls = _calls(empty, shape)
    found_for = partial(measure, empty, calls)
    if foreign:
        last = {lines[i].expected.layer: j for i, j in sorted(comparison.pairs.items())}
        found_for = partial(measure_foreign, empty, calls, computation.operations, last)
    rows = [
        *_stopped(computation),
        *figure_rows(table, found_for),
        *_operation_rows(lines, computation, comparison, names),
        *_start_rows(starts(table.get("init", ()), known.paper.table.get("sources", {})), model, start, names),
    ]
    against = (title or type(model).__name__) if foreign else ""
    return Verification(known.name, classic, known.paper.citation, tuple(rows), against)


def _calls(model: nn.Module, shape: Sequence[int]) -> dict[str, LayerShape]:
    """The layers that ran, by name; none where the network cannot run, which has a row of its own."""
    try:
        return {call.name: call for call in reversed(trace(model, shape))}
    except (ShapeError, OptionError):
        return {}


def _stopped(computation: Computation) -> Iterator[Row]:
    if computation.error:
        layer = computation.stopped_in or "forward"
        yield Row(layer, "operation", "runs", computation.error, False, "", "")


def _names(lines: Sequence[Line], computation: Computation, comparison: Comparison) -> dict[str, str]:
    """Somebody else's names for the paper's layers: of the operations that correspond."""
    return {
        lines[i].expected.layer: computation.operations[j].layer
        for i, j in comparison.pairs.items()
        if computation.operations[j].layer
    }


def _operation_rows(
    lines: Sequence[Line], computation: Computation, comparison: Comparison, names: Mapping[str, str]
) -> Iterator[Row]:
    """A row for each part of a line that agrees everywhere, and one for each difference."""
    wrong: dict[int | None, list[Difference]] = {}
    for difference in comparison.differences:
        wrong.setdefault(difference.line, []).append(difference)
    groups: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        groups.setdefault(line.group, []).append(i)
    for group, members in groups.items():
        yield from _group(group, lines, members, wrong)
        noted: set[Row] = set()
        for i in members:
            for one in wrong.get(i, ()):
                row = _difference(lines, one, names)
                if one.known is not None:  # the same everywhere in the group
                    row = replace(row, layer=group or row.layer)
                if row not in noted:
                    noted.add(row)
                    yield row
    yield from (_difference(lines, one, names) for one in wrong.get(None, ()))


def _group(group: str, lines: Sequence[Line], members: Sequence[int], wrong: Mapping[int | None, Any]) -> Iterator[Row]:
    """What a group states, a row for each source, without what differs."""
    texts: dict[str, list[str]] = {}
    seen: set[Any] = set()
    for i in members:
        line = lines[i]
        differing = {one.quantity for one in wrong.get(i, ())}
        if differing & {"operation", "place"}:
            continue
        for source, keys in line.sources or (("", ("",)),):
            text = shown(line.expected.kind, line.expected.facts, [key for key in keys if key not in differing])
            if text and (text, source, line.within) not in seen:
                seen.add((text, source, line.within))
                texts.setdefault(source, []).append(text)
    for source, parts in texts.items():
        counted = ((parts.count(part), part) for part in dict.fromkeys(parts))
        text = "; ".join(f"{count} x {part}" if count > 1 else part for count, part in counted)
        yield Row(group, "operation", text, text, True, source, "")


def _difference(lines: Sequence[Line], one: Difference, names: Mapping[str, str]) -> Row:
    source = ""
    if one.line is not None:
        sources = lines[one.line].sources
        source = next((s for s, keys in sources if one.quantity in keys), sources[0][0] if sources else "")
    other = names.get(one.layer, one.layer)
    layer = one.layer if other == one.layer else f"{one.layer} ({other})"
    return Row(layer, one.quantity, one.paper, one.model, one.known is not None, source, one.known or "")


def _start_rows(
    lines: Sequence[Start], model: nn.Module, found: Mapping[str, Distribution], names: Mapping[str, str]
) -> Iterator[Row]:
    if not found:
        return
    back = {other: name for name, other in names.items()}
    parameters = {name: model.get_submodule(name.rpartition(".")[0]) for name, _ in model.named_parameters()}
    spoken: dict[str, Start] = {}
    for name, module in parameters.items():
        layer, _, parameter = name.rpartition(".")
        for line in lines:
            if line.speaks_of(f"{back.get(layer, layer)}.{parameter}", module):
                spoken[name] = line
    for line in lines:
        own = [name for name, speaker in spoken.items() if speaker is line]
        wrong = []
        for name in own:
            expected = line.here(sizes_of(parameters[name]))
            have = found.get(name)
            if have is None or not expected.same(have):
                wrong.append((name, expected, have))
        if len(wrong) < len(own):
            paper, model_has = f"{line.which} {line.text}", f"{line.which} {line.reads or line.text}"
            yield Row(line.of, INITIALIZATION, paper, model_has, True, line.source, line.note)
        for name, expected, have in wrong[:NAMED]:
            layer = name.rpartition(".")[0]
            shown_as = f"{back[layer]} ({layer})" if layer in back else layer
            model_has = f"{line.which} {have or 'left as they come'}"
            yield Row(shown_as, INITIALIZATION, f"{line.which} {expected}", model_has, False, line.source, "")
        if len(wrong) > NAMED:
            rest = f"{len(wrong) - NAMED} more layers"
            yield Row(rest, INITIALIZATION, f"{line.which} {line.text}", "otherwise", False, line.source, "")
