"""Pages that follow from the registry: one for each network, their index, the recipes, and two tables.

MkDocs calls the functions named `on_*`. Nothing that the registry, a paper's file or a docstring states is written
down a second time, so a network that is added has its page at the next build.
"""

import dataclasses
import inspect
import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File

import cnnzoo
from cnnzoo.checkpoints.load import checkpoints
from cnnzoo.recipes.recipe import list_recipes, load_recipe
from cnnzoo.shapes.summary import COLUMNS as LAYER_COLUMNS
from cnnzoo.verification import COLUMNS as VERIFICATION_COLUMNS

log = logging.getLogger("mkdocs.hooks.cnnzoo")

RECIPE_TABLE = "<!-- initialization recipes -->"

documented: set[str] = set()
"""The public names that a page has a `:::` line for."""


def on_config(config):
    """Put the networks into the navigation, by family."""
    for entry in config.nav or ():
        if isinstance(entry, dict) and "Networks" in entry:
            entry["Networks"] = entry["Networks"][:1] + [
                {family: [{name: page_of(name)} for name in names]} for family, names in families().items()
            ]
    documented.clear()
    return config


def on_files(files, config):
    """Write the pages that have no file."""
    pages = {
        "models/index.md": index_page(),
        "recipes.md": recipes_page(),
        "api/models.md": classes_page(),
        **{page_of(name): network_page(cnnzoo.spec(name)) for name in cnnzoo.list_models()},
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fill in the table of initialization recipes, and note what is documented where."""
    if RECIPE_TABLE in markdown:
        markdown = markdown.replace(RECIPE_TABLE, initialization_table())
    for path in re.findall(r"^::: cnnzoo\.([\w.]+)", markdown, re.MULTILINE):
        documented.add(path.rpartition(".")[2])
    return markdown


def on_post_build(config):
    """Every public name has its place in the reference."""
    missing = sorted({name for name in dir(cnnzoo) if not name.startswith("_")} - documented)
    if missing:
        log.warning("public names without documentation: %s", ", ".join(missing))


def families() -> dict[str, list[str]]:
    """The networks by family."""
    found: dict[str, list[str]] = {}
    for name in cnnzoo.list_models():
        found.setdefault(cnnzoo.spec(name).family, []).append(name)
    return dict(sorted(found.items()))


def page_of(name: str) -> str:
    """Where a network's page is."""
    return f"models/{name}.md"


def build(spec: cnnzoo.ModelSpec, *, classic: bool = False):
    """A network on the meta device: nothing is allocated."""
    return cnnzoo.create(spec.name, device="meta", **({"classic": True} if classic else {}))


def variants(spec: cnnzoo.ModelSpec) -> dict[str, bool]:
    """What the variants of a network are called, and whether they are the classic one."""
    return {"default": False, "`classic=True`": True} if spec.has_classic else {"": False}


# Pages


def index_page() -> str:
    """The table of all networks."""
    rows = []
    for name in cnnzoo.list_models():
        spec = cnnzoo.spec(name)
        rows.append(
            (
                f"[{name}]({name}.md)",
                sized(spec.input_shape),
                f"{cnnzoo.summary(build(spec)).params:,}",
                "yes" if spec.has_classic else "",
                ", ".join(code(tag) for tag in spec.checkpoints),
                f"{link(spec.paper.title, spec.paper.url)} ({spec.paper.table['year']})",
            )
        )
    columns = ("network", "input", "parameters", "classic", "weights", "paper")
    return (
        "# Networks\n\n"
        f"{len(rows)} networks, as `cnnzoo list` shows them. Input is channels x height x width; parameters are those "
        "of the default variant; `classic` says whether `classic=True` builds another network, the one exactly as its "
        "paper printed it; `weights` are the tags that `cnnzoo.load_pretrained` takes.\n\n"
        + table(columns, rows, "llrlll")
    )


def network_page(spec: cnnzoo.ModelSpec) -> str:
    """A network: what it is, its constructor, its layers, and its paper beside it."""
    tables = {title: cnnzoo.summary(build(spec, classic=classic)) for title, classic in variants(spec).items()}
    calls = "".join(
        f'model = cnnzoo.create("{spec.name}"{", classic=True" if classic else ""})\n'
        for classic in variants(spec).values()
    )
    facts = [
        ("input", *(sized(one.input_shape) for one in tables.values())),
        ("parameters", *(f"{one.params:,}" for one in tables.values())),
        ("multiply-adds", *(f"{one.macs:,}" for one in tables.values())),
    ]
    parts = [
        f"# {spec.name}\n",
        f"{spec.summary}\n",
        f"Paper: {link(spec.paper.citation, spec.paper.url)}\n",
        table(("", *(title for title in tables)), facts, "l" + "r" * len(tables)),
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


def weights(spec: cnnzoo.ModelSpec) -> Iterator[str]:
    """The published checkpoints."""
    known = checkpoints(spec.name)
    if known:
        yield "## Weights\n"
    for one in known:
        yield f"### {one.tag}\n"
        yield f'```python\nmodel = cnnzoo.load_pretrained("{spec.name}.{one.tag}")\n```\n'
        yield fields(one, leave_out={"tag"})


def recipes_page() -> str:
    """What each training recipe states."""
    parts = [
        "# Training recipes\n",
        "What `cnnzoo train RECIPE` runs; [Training](guide/training.md) says how, and "
        "[`Recipe`][cnnzoo.recipes.recipe.Recipe] what each line means.\n",
    ]
    for name in list_recipes():
        recipe = load_recipe(name)
        parts += [f"## {name}\n", f"{plain(recipe.title)}.\n", fields(recipe, leave_out={"name", "title"})]
    return "\n".join(parts)


def classes_page() -> str:
    """What the model files export besides the networks: classes, criteria, tables, blocks."""
    parts = ["# Classes of the networks\n", "What the model files hold besides the constructors, by family.\n"]
    for family, names in families().items():
        module = module_of(cnnzoo.spec(names[0]))
        others = [name for name in module.__all__ if name not in names]
        if others:
            parts.append(f"## {family}\n")
        for name in others:
            value = getattr(module, name)
            drawn = isinstance(value, str)  # a drawing is shown as it is, not as a literal
            parts.append(directive(module, name, heading_level=3, show_attribute_values=not drawn))
            if drawn:
                parts.append(f"```text\n{value.strip()}\n```\n")
    return "\n".join(parts)


def initialization_table() -> str:
    """The recipes by name: what each does and where it is from."""
    rows = []
    for name, recipe in cnnzoo.initialization.RECIPES.items():
        text = inspect.getdoc(recipe) or ""
        source = re.search(r"^Source: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        path = f"cnnzoo.initialization.{recipe.__name__}"
        rows.append((f"[`{name}`][{path}]", text.partition("\n")[0], " ".join(source[1].split()) if source else ""))
    return table(("recipe", "what it does", "source"), rows, "lll")


# Markdown


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


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], align: str) -> str:
    """A table; cells are Markdown, in which only what would end a cell is escaped."""
    rule = ("---:" if one == "r" else "---" for one in align)
    lines = (columns, rule, *rows)
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def fields(record: Any, leave_out: set[str]) -> str:
    """A dataclass as a table of its fields, without those that are empty."""
    rows = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.name not in leave_out and value not in (None, "", (), {}):
            rows.append((field.name.replace("_", " "), shown(value)))
    return table(("", ""), rows, "ll")


def shown(value: Any) -> str:
    """A field's value as Markdown."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        named = {"" if key == "name" else f"{plain(key.replace('_', ' '))} ": one for key, one in value.items()}
        return ", ".join(f"{name}{shown(one)}" for name, one in named.items())
    if isinstance(value, (tuple, list)):
        return plain(", ".join(map(str, value[:10]))) + (f", and {len(value) - 10} more" if len(value) > 10 else "")
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
