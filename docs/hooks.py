"""Pages that follow from the registry: one for each network and block, their indices, the recipes, and some tables.

MkDocs calls the functions named `on_*`. Nothing that the registry, a paper's file or a docstring states is written
down a second time, so a network that is added has its page at the next build. docs/pages makes them.
"""

import logging
import re
from types import ModuleType

from mkdocs.structure.files import File

import cnnzoo
from pages.fragments import TABLE_OF, decisions, drawn
from pages.networks import blocks_page, networks_page, registered_page
from pages.reference import classes_page, layers_page, recipes_page
from pages.registry import Kind, families, page_of

log = logging.getLogger("mkdocs.hooks.cnnzoo")

documented: set[str] = set()
"""The public names that a page has a `:::` line for."""


def on_config(config):
    """Put the networks and blocks into the navigation, by family."""
    for entry in config.nav or ():
        sections: dict[str, Kind] = {"Networks": "model", "Blocks": "block"}
        for title, kind in sections.items():
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
    names = {name for name in dir(cnnzoo) if not isinstance(getattr(cnnzoo, name), ModuleType)}
    public = {name for name in names if not name.startswith("_")} | set(cnnzoo.nn.__all__)
    missing = sorted(public - documented)
    if missing:
        log.warning("public names without documentation: %s", ", ".join(missing))
