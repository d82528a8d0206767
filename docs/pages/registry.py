"""The registry as the pages read it: families, variants, and networks on the meta device."""

import sys
from types import ModuleType
from typing import Any, Literal

import cnnzoo

Kind = Literal["model", "block"]

FOLDERS: dict[Kind, str] = {"model": "models", "block": "blocks"}
"""Where the pages of networks and blocks are."""


def families(kind: Kind) -> dict[str, list[str]]:
    """The networks or blocks by family, resnet18 before resnet101."""
    found: dict[str, list[str]] = {}
    for name in cnnzoo.list_models(kind=kind):
        found.setdefault(cnnzoo.spec(name).family, []).append(name)
    return dict(sorted(found.items()))


def page_of(name: str) -> str:
    """Where a network's or block's page is."""
    return f"{FOLDERS[cnnzoo.spec(name).kind]}/{name}.md"


def build(spec: cnnzoo.ModelSpec, *, classic: bool = False) -> Any:
    """A network or block on the meta device: nothing is allocated."""
    options: dict[str, Any] = {"classic": True} if classic else {}
    return cnnzoo.create(spec.name, device="meta", **options)


def summarised(spec: cnnzoo.ModelSpec, *, classic: bool = False) -> cnnzoo.Summary:
    """Its layers, on the images that it is made for; a block does not know its maps, the registry does."""
    return cnnzoo.summary(build(spec, classic=classic), None if spec.kind == "model" else spec.input_shape)


def variants(spec: cnnzoo.ModelSpec) -> dict[str, bool]:
    """What the variants of a network are called, and whether they are the classic one."""
    return {"default": False, "`classic=True`": True} if spec.has_classic else {"": False}


def module_of(spec: cnnzoo.ModelSpec) -> ModuleType:
    """The model file."""
    return sys.modules[spec.build.__module__]
