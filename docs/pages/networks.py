"""The pages of networks and blocks, and their indices."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch

import cnnzoo
from cnnzoo.shapes.summary import COLUMNS as LAYER_COLUMNS
from cnnzoo.verification import COLUMNS as VERIFICATION_COLUMNS
from pages.markdown import code, first_sentence, link, plain, sized, table, titled
from pages.reference import directive
from pages.registry import build, families, module_of, summarised, variants


def networks_page() -> str:
    """The table of families, and that of all networks."""
    rows = []
    for family, names in families("model").items():
        specs = [cnnzoo.spec(name) for name in names]
        about = first_sentence(inspect.getdoc(module_of(specs[0])) or "")
        papers = dict.fromkeys(cited(spec) for spec in specs)
        rows.append((f"[{family}](#{family})", about, "<br>".join(papers)))
    parts = [
        "# Networks\n",
        f"{len(cnnzoo.list_models())} networks of {len(rows)} families, as `cnnzoo list` shows them. What they are "
        "made of can be had by itself, as [blocks](../blocks/index.md).\n",
        table(("family", "what it is", "papers"), rows, "lll"),
        "In the tables below, input is channels x height x width; parameters and multiply-adds are those of the "
        "default variant; `classic` says whether `classic=True` builds another network, [the one exactly as its paper "
        "printed it](../guide/networks.md#classictrue); `weights` is the tag of the default among those that "
        "`cnnzoo.load_pretrained` takes.\n",
    ]
    for family, names in families("model").items():
        parts += [f"## {family}\n", listing("network", names)]
    return "\n".join(parts)


def blocks_page() -> str:
    """The table of all blocks."""
    parts = [
        "# Blocks\n",
        "What the networks are made of, to build others with: `cnnzoo.create` makes a block as it makes a network, and "
        "so does the function of its name. Input is channels x height x width of the maps that the default block is "
        "for; other heights and widths do as well.\n",
    ]
    for family, names in families("block").items():
        parts += [f"## {family}\n", listing("block", names)]
    return "\n".join(parts)


def listing(what: str, names: Iterable[str]) -> str:
    """A table with a line for each network or block."""
    rows = []
    for name in names:
        spec = cnnzoo.spec(name)
        totals = summarised(spec)
        rows.append(
            (
                f"[{name}]({name}.md)",
                sized(totals.input_shape),
                f"{totals.params:,}",
                f"{totals.macs:,}",
                "yes" if spec.has_classic else "",
                tags(spec) if what == "network" else spec.summary,
            )
        )
    last = "weights" if what == "network" else "what it is"
    return table((what, "input", "parameters", "multiply-adds", "classic", last), rows, "llrrll")


def registered_page(spec: cnnzoo.ModelSpec) -> str:
    """A network or block: what it is, its constructor, its layers, and its paper beside it."""
    tables = {title: summarised(spec, classic=classic) for title, classic in variants(spec).items()}
    calls = "".join(
        f'{spec.kind} = cnnzoo.create("{spec.name}"{", classic=True" if classic else ""})\n'
        for classic in variants(spec).values()
    )
    parts = [
        f"# {spec.name}\n",
        f"{spec.summary}\n",
        f"Paper: {link(spec.paper.citation, spec.paper.url)}\n",
        table(("", *(title for title in tables)), facts(spec, tables), "l" + "r" * len(tables)),
        f"```python\n{calls}```\n",
        directive(module_of(spec), spec.name, heading="Constructor", toc_label="Constructor"),
    ]
    for title, layers in tables.items():
        rows = [(code(name), code(kind), *rest) for name, kind, *rest in layers.rows()]
        parts += [titled("Layers", title), f"{layers.total}, on {sized(layers.input_shape)}.\n"]
        parts += [table(LAYER_COLUMNS, rows, "llrrrr")]
    for title, classic in variants(spec).items():
        parts += verification(spec, title, classic)
    parts += weights(spec)
    return "\n".join(parts)


def facts(spec: cnnzoo.ModelSpec, tables: Mapping[str, cnnzoo.Summary]) -> list[tuple[str, ...]]:
    """The head of a page: a line for each fact, a column for each variant."""
    rows = [
        ("input", *(sized(one.input_shape) for one in tables.values())),
        ("parameters", *(f"{one.params:,}" for one in tables.values())),
        ("multiply-adds", *(f"{one.macs:,}" for one in tables.values())),
    ]
    built = [build(spec, classic=classic) for classic in variants(spec).values()]
    if spec.kind == "block":
        maps = torch.empty(1, *spec.input_shape, device="meta")
        return [*rows[:1], ("output", *(sized(one(maps).shape[1:]) for one in built)), *rows[1:]]
    return [
        *rows,
        (
            "[receptive field](../guide/shapes.md#receptive-fields)",
            *(sized(cnnzoo.receptive_field(one).size) for one in built),
        ),
        ("[smallest image](../guide/shapes.md#the-smallest-image)", *map(smallest, built)),
        ("[initialization](../guide/initialization.md)", *(scheme_of(one) for one in built)),
    ]


def smallest(model: cnnzoo.CNN) -> str:
    """The smallest square image that fits, where a square one does."""
    try:
        size = cnnzoo.min_input_size(model)
    except cnnzoo.ShapeError:
        return "not square"
    return sized(size if isinstance(size, tuple) else (size, size))


def scheme_of(model: cnnzoo.CNN) -> str:
    """What a new network is initialised by; a scheme of the library is linked to."""
    scheme = model.init
    if isinstance(scheme, str):
        return f"[`{scheme}`][cnnzoo.initialization.{cnnzoo.initialization.SCHEMES[scheme].__name__}]"
    if not isinstance(scheme, partial):
        return code(scheme.__name__)
    settings = ", ".join(f"{key}={value!r}" for key, value in scheme.keywords.items())
    return f"[`{scheme.func.__name__}`][cnnzoo.initialization.{scheme.func.__name__}], {code(settings)}"


def verification(spec: cnnzoo.ModelSpec, title: str, classic: bool) -> Iterator[str]:
    """What the paper prints beside what the model has, where it prints anything."""
    try:
        found = cnnzoo.verify(spec.name, classic=classic)
    except cnnzoo.UnknownNameError:
        return
    noted = any(row.note for row in found.rows)
    columns = VERIFICATION_COLUMNS if noted else VERIFICATION_COLUMNS[:-1]
    rows = []
    for row in found.rows:
        layer, *rest = found.cells(row)[: len(columns)]
        rows.append((layer if layer == "total" else code(layer), *map(plain, rest)))
    yield titled("Paper beside model", title)
    yield f"{found.total}.\n"
    yield table(columns, rows, "llrrlll"[: len(columns)])


def cited(spec: cnnzoo.ModelSpec) -> str:
    """The paper's title and year."""
    return f"{link(spec.paper.title, spec.paper.url)} ({spec.paper.table['year']})"


def tags(spec: cnnzoo.ModelSpec) -> str:
    """The default weights, and how many others the page of the network lists."""
    first, *others = spec.checkpoints or ("",)
    return f"{code(first)}{f', [{len(others)} more]({spec.name}.md#weights)' if others else ''}" if first else ""


def weights(spec: cnnzoo.ModelSpec) -> Iterator[str]:
    """The published checkpoints: a line for each, then what is known of how they were made."""
    known = cnnzoo.list_checkpoints(spec.name)
    if not known:
        return
    yield "## Weights\n"
    first = known[0]
    hub = "" if first.source == "bundled" else ", hub=True"
    yield f'```python\nmodel = cnnzoo.load_pretrained("{spec.name}.{first.tag}"{hub})\n```\n'
    yield (
        "Without a tag it is the first that was made with the arguments given. [Weights](../guide/weights.md) explains "
        "the columns.\n"
    )
    rows = [(code(one.tag), *published(one), images(one), plain(one.data)) for one in known]
    yield table(("tag", "from", "top 1", "licence", "images", "data"), rows, "llrlll")
    made: dict[str, list[str]] = {}
    for one in known:
        recipe = f" Recipe: [{one.recipe}](../recipes.md#{one.recipe})." if one.recipe else ""
        made.setdefault(plain(one.card.strip()) + recipe, []).append(code(one.tag))
    for text, names in made.items():
        if text:
            yield f"{', '.join(names)}: {text}\n"


def published(one: cnnzoo.Checkpoint) -> tuple[str, str, str]:
    """Where weights are, how good they are, and their licence."""
    where = {
        "hub": link(one.repo, f"https://huggingface.co/{one.repo}"),
        "torchvision": f"torchvision, {code(one.weights.rpartition('.')[2])}",
    }
    accuracy = "" if one.accuracy is None else f"{one.accuracy:.1%}"
    return where.get(one.source, "this package"), accuracy, one.license


def images(one: cnnzoo.Checkpoint) -> str:
    """What is made of an image before it is normalised."""
    stated = one.preprocessing
    return sized(stated.input_shape) + (f" of {stated.resize}" if stated.resize else "")
