"""The pages of the recipes and of the classes and layers, which mkdocstrings documents."""

import dataclasses
import inspect
import json
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import cnnzoo
from pages.markdown import first_sentence, plain, table
from pages.registry import families, module_of


def recipes_page() -> str:
    """What each training recipe states."""
    parts = [
        "# Training recipes\n",
        "What `cnnzoo train RECIPE` runs; [Training](guide/training.md) says how, and "
        "[`Recipe`][cnnzoo.training.recipe.Recipe] what each line means.\n",
    ]
    for name in cnnzoo.list_recipes():
        recipe = cnnzoo.load_recipe(name)
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


def fields(record: Any, leave_out: set[str]) -> str:
    """A dataclass as a table of what it states."""
    rows = [(name.replace("_", " "), shown(value)) for name, value in stated(record).items() if name not in leave_out]
    return table(("", ""), rows, "ll")


def stated(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that do not have their default."""
    found = {}
    for field in dataclasses.fields(record):
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
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


def directive(module: ModuleType, name: str, **options: Any) -> str:
    """The line by which mkdocstrings documents a name."""
    lines = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in options.items())
    return f"::: {module.__name__}.{name}\n    options:\n{lines}"
