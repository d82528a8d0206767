"""What is written in place of a comment on a page: some tables, and drawings."""

import inspect
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cnnzoo
from pages.markdown import code, first_upper, table
from pages.networks import published
from pages.registry import build, families, page_of

log = logging.getLogger("mkdocs.hooks.cnnzoo")

DOCS = Path(__file__).parents[1]


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
    libraries: tuple[Literal["torchvision", "timm"], ...] = ("torchvision", "timm")
    rows = []
    for name in (name for names in families("model").values() for name in names):
        known = ["yes" if translated(name, library) else "" for library in libraries]
        if any(known):
            rows.append((f"[{name}](../{page_of(name)})", *known))
    return table(("network", *libraries), rows, "lll")


def translated(name: str, library: Literal["torchvision", "timm"]) -> bool:
    """Whether a library has the network, under names of its own."""
    try:
        cnnzoo.to_layout(build(cnnzoo.spec(name)), library)
    except cnnzoo.CnnzooError:
        return False
    return True


def weights_table() -> str:
    """The default weights of each network, and how many others there are."""
    rows = []
    for names in families("model").values():
        for name in names:
            known = cnnzoo.list_checkpoints(name)
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
