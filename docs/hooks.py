"""Pages that follow from the registry: one for each network and block, their indices, the recipes, and some tables.

MkDocs calls the functions named `on_*`. Nothing that the registry, a paper's file or a docstring states is written
down a second time, so a network that is added has its page at the next build.
"""

import dataclasses
import inspect
import json
import logging
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mkdocs.structure.files import File

import cnnzoo
from benchmarks.report.markdown import table
from cnnzoo.checkpoints.layouts import TABLES
from cnnzoo.checkpoints.table import Checkpoint, list_checkpoints
from cnnzoo.registry import Kind
from cnnzoo.shapes.summary import COLUMNS as LAYER_COLUMNS
from cnnzoo.training.recipe import list_recipes, load_recipe
from cnnzoo.verification import COLUMNS as VERIFICATION_COLUMNS

log = logging.getLogger("mkdocs.hooks.cnnzoo")

FOLDERS: dict[Kind, str] = {"model": "models", "block": "blocks"}
"""Where the pages of networks and blocks are."""

DOCS = Path(__file__).parent

documented: set[str] = set()
"""The public names that a page has a `:::` line for."""


def on_config(config):
    """Put the networks and blocks into the navigation, by family."""
    for entry in config.nav or ():
        for title, kind in (("Networks", "model"), ("Blocks", "block")):
            if isinstance(entry, dict) and title in entry:
                entry[title] = entry[title][:1] + [
                    {family: [{name: page_of(name)} for name in names]} for family, names in families(kind).items()
                ]
            if isinstance(entry, dict) and "Decisions" in entry:
                entry["Decisions"] = entry["Decisions"][:1] + [{title: path} for path, title, _ in decisions()]
    documented.clear()
    return config


def on_files(files, config):
    """Write the pages that have no file."""
    pages = {
        "models/index.md": networks_page(),
        "blocks/index.md": blocks_page(),
        "recipes.md": recipes_page(),
        "api/models.md": classes_page(),
        "api/layers.md": layers_page(),
        **{page_of(name): registered_page(cnnzoo.spec(name)) for name in cnnzoo.list_models(kind=None)},
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fill in the tables that a comment asks for, and note what is documented where."""
    for comment, written in TABLE_OF.items():
        if comment in markdown:
            markdown = markdown.replace(comment, written())
    markdown = re.sub(r"<!-- drawing: (.+?) -->", lambda found: drawn(found[1]), markdown)
    for path in re.findall(r"^::: cnnzoo\.([\w.]+)", markdown, re.MULTILINE):
        documented.add(path.rpartition(".")[2])
    return markdown


def on_post_build(config):
    """Every public name has its place in the reference."""
    public = {name for name in dir(cnnzoo) if not name.startswith("_")} | set(cnnzoo.nn.__all__)
    missing = sorted(public - documented)
    if missing:
        log.warning("public names without documentation: %s", ", ".join(missing))


def families(kind: Kind) -> dict[str, list[str]]:
    """The networks or blocks by family, resnet18 before resnet101."""
    found: dict[str, list[str]] = {}
    for name in sorted(cnnzoo.list_models(kind=kind), key=numerically):
        found.setdefault(cnnzoo.spec(name).family, []).append(name)
    return dict(sorted(found.items()))


def numerically(name: str) -> list[Any]:
    """Sorts names by the numbers in them."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def page_of(name: str) -> str:
    """Where a network's or block's page is."""
    return f"{FOLDERS[cnnzoo.spec(name).kind]}/{name}.md"


def build(spec: cnnzoo.ModelSpec, *, classic: bool = False):
    """A network or block on the meta device: nothing is allocated."""
    return cnnzoo.create(spec.name, device="meta", **({"classic": True} if classic else {}))


def summarised(spec: cnnzoo.ModelSpec, *, classic: bool = False) -> cnnzoo.Summary:
    """Its layers, on the pictures that it is made for; a block does not know its maps, the registry does."""
    return cnnzoo.summary(build(spec, classic=classic), None if spec.kind == "model" else spec.input_shape)


def variants(spec: cnnzoo.ModelSpec) -> dict[str, bool]:
    """What the variants of a network are called, and whether they are the classic one."""
    return {"default": False, "`classic=True`": True} if spec.has_classic else {"": False}


# Pages


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
        ("[smallest picture](../guide/shapes.md#the-smallest-picture)", *map(smallest, built)),
        ("[initialization](../guide/initialization.md)", *(scheme_of(one) for one in built)),
    ]


def smallest(model: cnnzoo.CNN) -> str:
    """The smallest square picture that fits, where a square one does."""
    try:
        size = cnnzoo.min_input_size(model)
    except cnnzoo.ShapeError:
        return "not square"
    return sized((size, size))


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


def tags(spec: cnnzoo.ModelSpec) -> str:
    """The default weights, and how many others the page of the network lists."""
    first, *others = spec.checkpoints or ("",)
    return f"{code(first)}{f', [{len(others)} more]({spec.name}.md#weights)' if others else ''}" if first else ""


def weights(spec: cnnzoo.ModelSpec) -> Iterator[str]:
    """The published checkpoints: a line for each, then what is known of how they were made."""
    known = list_checkpoints(spec.name)
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
    rows = [(code(one.tag), *published(one), pictures(one), plain(one.data)) for one in known]
    yield table(("tag", "from", "top 1", "licence", "pictures", "data"), rows, "llrlll")
    made: dict[str, list[str]] = {}
    for one in known:
        recipe = f" Recipe: [{one.recipe}](../recipes.md#{one.recipe})." if one.recipe else ""
        made.setdefault(plain(one.card.strip()) + recipe, []).append(code(one.tag))
    for text, names in made.items():
        if text:
            yield f"{', '.join(names)}: {text}\n"


def published(one: Checkpoint) -> tuple[str, str, str]:
    """Where weights are, how good they are, and their licence."""
    where = {
        "hub": link(one.repo, f"https://huggingface.co/{one.repo}"),
        "torchvision": f"torchvision, {code(one.weights.rpartition('.')[2])}",
    }
    accuracy = "" if one.accuracy is None else f"{one.accuracy:.1%}"
    return where.get(one.source, "this package"), accuracy, one.license


def pictures(one: Checkpoint) -> str:
    """What is made of a picture before it is normalised."""
    stated = one.preprocessing
    return sized(stated.input_shape) + (f" of {stated.resize}" if stated.resize else "")


def recipes_page() -> str:
    """What each training recipe states."""
    parts = [
        "# Training recipes\n",
        "What `cnnzoo train RECIPE` runs; [Training](guide/training.md) says how, and "
        "[`Recipe`][cnnzoo.training.recipe.Recipe] what each line means.\n",
    ]
    for name in list_recipes():
        recipe = load_recipe(name)
        parts += [f"## {name}\n", f"{plain(recipe.title)}.\n", fields(recipe, leave_out={"name", "title"})]
    return "\n".join(parts)


def classes_page() -> str:
    """What the model files export besides the networks and blocks: classes, criteria, tables."""
    parts = ["# Classes of the networks\n", "What the model files hold besides the constructors, by family.\n"]
    registered = cnnzoo.list_models(kind=None)
    for family, names in families("model").items():
        module = module_of(cnnzoo.spec(names[0]))
        others = [name for name in module.__all__ if name not in registered]
        if others:
            parts.append(f"## {family}\n")
        for name in others:
            value = getattr(module, name)
            drawn = isinstance(value, str)  # a drawing is shown as it is, not as a literal
            parts.append(directive(module, name, heading_level=3, show_attribute_values=not drawn))
            if drawn:
                parts.append(f"```text\n{value.strip()}\n```\n")
    return "\n".join(parts)


def layers_page() -> str:
    """The layers of `cnnzoo.nn`, by the file that they stand in."""
    parts = ["# Layers\n", directive(cnnzoo, "nn", members=[], show_root_heading=False, show_root_toc_entry=False)]
    for found in pkgutil.iter_modules(cnnzoo.nn.__path__):
        module = import_module(f"{cnnzoo.nn.__name__}.{found.name}")
        parts += [f"## {found.name}\n", f"{first_sentence(inspect.getdoc(module) or '')}\n"]
        for name in cnnzoo.nn.__all__:
            if hasattr(module, name):
                parts.append(directive(cnnzoo.nn, name, heading_level=3))
    return "\n".join(parts)


def classic_table() -> str:
    """What `classic=True` changes, from the constructors' documentation; networks that it changes alike share a row."""
    rows: dict[str, list[str]] = {}
    for names in families("model").values():
        for name in names:
            if cnnzoo.spec(name).has_classic:
                rows.setdefault(argument(name, "classic"), []).append(name)
    linked = ((", ".join(f"[{name}](../{page_of(name)})" for name in names), text) for text, names in rows.items())
    return table(("network", "with `classic=True`"), linked, "ll")


def argument(name: str, option: str) -> str:
    """What a constructor's documentation says of an argument, there or in the one that it refers to."""
    text = inspect.getdoc(cnnzoo.spec(name).build) or ""
    found = re.search(rf"^    {option}: (.+?)(?=^    \w|^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    if found:
        return first_upper(" ".join(found[1].split()))
    referred = re.search(r"[Aa]rguments as for `(\w+)`", text)
    if referred:
        return argument(referred[1], option)
    log.warning("%s: the documentation does not say what %s= does", name, option)
    return ""


def drawn(arguments: str) -> str:
    """What `cnnzoo draw` makes of these arguments, once for each palette of the site."""
    name, *options = arguments.split()
    style = options[options.index("--style") + 1] if "--style" in options else "volumes"
    model = build(cnnzoo.spec(name), classic="--classic" in options)
    shown = (
        f'<div class="drawing-{theme}">{cnnzoo.draw(model, style=style, theme=theme).svg}</div>'  # type: ignore[arg-type]
        for theme in ("light", "dark")
    )
    return "\n\n".join(shown)


def layouts_table() -> str:
    """Which networks `from_layout` and `to_layout` translate."""
    known = dict.fromkeys(name for names in families("model").values() for name in names)
    rows = [
        (f"[{name}](../{page_of(name)})", *("yes" if name in names else "" for names in TABLES.values()))
        for name in known
        if any(name in names for names in TABLES.values())
    ]
    return table(("network", *TABLES), rows, "lll")


def weights_table() -> str:
    """The default weights of each network, and how many others there are."""
    rows = []
    for names in families("model").values():
        for name in names:
            known = list_checkpoints(name)
            if known:
                more = f"[{len(known) - 1}](../{page_of(name)}#weights)" if len(known) > 1 else ""
                rows.append((f"[{name}](../{page_of(name)})", code(known[0].tag), *published(known[0]), more))
    return table(("network", "default", "from", "top 1", "licence", "others"), rows, "lllrlr")


def initialization_table() -> str:
    """The schemes by name: what each does and where it is from."""
    rows = []
    for name, scheme in cnnzoo.initialization.SCHEMES.items():
        text = inspect.getdoc(scheme) or ""
        source = re.search(r"^Source: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        path = f"cnnzoo.initialization.{scheme.__name__}"
        rows.append((f"[`{name}`][{path}]", text.partition("\n")[0], " ".join(source[1].split()) if source else ""))
    return table(("scheme", "what it does", "source"), rows, "lll")


def decisions() -> list[tuple[str, str, str]]:
    """Path, title and date of each record of a decision, in their order."""
    found = []
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title, date = path.read_text("utf-8").split("\n\n")[:2]
        found.append((f"decisions/{path.name}", title.removeprefix("# "), date))
    return found


def decisions_table() -> str:
    """The records of decisions."""
    rows = [(date, f"[{title}](../{path})") for path, title, date in decisions()]
    return table(("date", "decision"), rows, "ll")


TABLE_OF: dict[str, Callable[[], str]] = {
    "<!-- initialization schemes -->": initialization_table,
    "<!-- classic variants -->": classic_table,
    "<!-- layouts -->": layouts_table,
    "<!-- published weights -->": weights_table,
    "<!-- decisions -->": decisions_table,
}
"""What is written in place of a comment on a page."""


# Markdown


def first_sentence(text: str) -> str:
    """The line before the first blank one."""
    return " ".join(text.partition("\n\n")[0].split())


def first_upper(text: str) -> str:
    """A sentence begins with a capital."""
    return text[:1].upper() + text[1:]


def cited(spec: cnnzoo.ModelSpec) -> str:
    """The paper's title and year."""
    return f"{link(spec.paper.title, spec.paper.url)} ({spec.paper.table['year']})"


def directive(module: ModuleType, name: str, **options: Any) -> str:
    """The line by which mkdocstrings documents a name."""
    lines = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in options.items())
    return f"::: {module.__name__}.{name}\n    options:\n{lines}"


def module_of(spec: cnnzoo.ModelSpec) -> ModuleType:
    """The model file."""
    return sys.modules[spec.build.__module__]


def titled(heading: str, variant: str) -> str:
    """A heading, with the variant where there are two."""
    return f"## {heading}{': ' + variant if variant else ''}\n"


def fields(record: Any, leave_out: set[str]) -> str:
    """A dataclass as a table of what it states."""
    rows = [(name.replace("_", " "), shown(value)) for name, value in stated(record).items() if name not in leave_out]
    return table(("", ""), rows, "ll")


def stated(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that do not have their default."""
    found = {}
    for field in dataclasses.fields(record):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        if getattr(record, field.name) != default:
            found[field.name] = getattr(record, field.name)
    return found


def shown(value: Any) -> str:
    """A field's value as Markdown."""
    if dataclasses.is_dataclass(value):
        value = stated(value)
    if isinstance(value, Mapping):
        named = {"" if key == "name" else f"{plain(key.replace('_', ' '))} ": one for key, one in value.items()}
        return ", ".join(f"{name}{shown(one)}" for name, one in named.items())
    if isinstance(value, (tuple, list)):
        nested = any(isinstance(one, (tuple, list, Mapping)) for one in value)
        return ("; " if nested else ", ").join(map(shown, value))
    return plain(value if isinstance(value, str) else json.dumps(value))


def sized(shape: Iterable[int]) -> str:
    """A shape as papers print it: 3x224x224."""
    return "x".join(map(str, shape))


def code(text: str) -> str:
    """A name as it is typed."""
    return f"`{text}`"


def link(text: str, url: str) -> str:
    """A link, or its text where there is nothing to link to."""
    return f"[{plain(text)}]({url})" if url else plain(text)


def plain(text: str) -> str:
    """Text without any meaning in Markdown or HTML."""
    return re.sub(r"[\\`*_{}\[\]<>|#~^$&]", lambda found: f"&#{ord(found[0])};", text)
