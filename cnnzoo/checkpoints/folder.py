"""What a folder or a file says of the network that it holds: `config.json` and the header, written and read.

A folder is somebody else's: its files must lie inside it, and what they say is checked before it is believed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnzoo import __version__
from cnnzoo.checkpoints.formats import (
    TORCH_SUFFIXES,
    first_bytes,
    format_of,
    kind_of,
    opened_safetensors,
    reason,
    short,
    unreadable,
)
from cnnzoo.checkpoints.layouts import Layout
from cnnzoo.checkpoints.structure import Described
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.checkpoints.timm import by_timm
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CheckpointError, OptionError, UnknownNameError
from cnnzoo.registry import find
from cnnzoo.support.files import plain

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""What the files of a folder of weights are called."""

LARGEST_CONFIG = 16 * 2**20
"""Bytes of a config.json that are read at most; one of cnnzoo's has a few hundred."""

NETWORK = {"name", "options"}
"""What says what network weights belong to."""

STATED = ("tag", "accuracy", "recipe", "data", "license", "card", "made_from")
"""What a folder keeps of the checkpoint that its weights are from."""


@dataclass(frozen=True)
class Description:
    """What is said of weights.

    Attributes:
        name: the network's registered name.
        options: the constructor's arguments.
        checkpoint: what the weights are; None where nothing says.
        layout: whose names the tensors carry.
        folded: whether batch normalisation is folded into the layers before it.
    """

    name: str
    options: dict[str, Any]
    checkpoint: Checkpoint | None = None
    layout: Layout = "cnnzoo"
    folded: bool = False


def header(made: Described) -> dict[str, str]:
    """A network's constructor and arguments as a safetensors file has them in its header."""
    said = {"name": made.config.name, "options": json.dumps(plain(made.config.options))}
    return said | ({"folded": "true"} if made.folded else {})


def config_of(made: Described, known: Checkpoint | None) -> dict[str, Any]:
    """What `config.json` says of a network and its weights."""
    config = {
        "library_name": "cnnzoo",
        "library_version": __version__,
        "name": made.config.name,
        "options": plain(made.config.options),
    }
    if made.folded:
        config["folded"] = True
    if known is not None:
        config["preprocessing"] = plain(asdict(known.preprocessing))
        config["classes"] = plain(known.class_set)
        config["checkpoint"] = {name: getattr(known, name) for name in STATED}
        if known.source:
            config["checkpoint"]["made_from"] = f"{made.config.name}.{known.tag}"
    return config


def describe(path: Path) -> Description | None:
    """What a weights file, or the folder it lies in, says of itself; None where it says nothing.

    Args:
        path: a safetensors file, which says it in its header; a file of `torch.save`, which says nothing; or a folder,
            which says it in its `config.json`, as cnnzoo or timm writes it, or in the header of its weights.

    Raises:
        CheckpointError: it is damaged, or describes no network that cnnzoo has.
    """
    if not os.path.isdir(path):  # which, unlike Path's, is no error where permissions are missing
        if path.name.endswith(".index.json") or format_of(path) != "safetensors":
            return None
        with opened_safetensors(path) as opened:
            metadata = opened.metadata() or {}
        if not metadata.keys() >= NETWORK:
            return None
        return Description(*_network(metadata, path), folded=metadata.get("folded") == "true")
    config = inside(path, CONFIG)
    if not os.path.exists(config):
        return describe(weights_in(path))
    said = read_json(config)
    if "architecture" in said:
        return Description(*by_timm(said, config), layout="timm")
    if not said.keys() >= NETWORK:
        return None
    name, options = _network(said, config)
    return Description(name, options, _checkpoint(said, config), folded=said.get("folded") is True)


def weights_in(folder: Path) -> Path:
    """The one file of weights of a folder, or the index of several.

    Raises:
        CheckpointError: there is no such folder or file, or it lies elsewhere.
    """
    if not os.path.isdir(folder):
        raise CheckpointError(f"there is no folder {folder}")
    for name in (WEIGHTS, f"{WEIGHTS}.index.json"):
        if os.path.isfile(path := inside(folder, name)):
            return path
    try:
        others = sorted(one.name for one in folder.iterdir() if one.suffix in {".safetensors", *TORCH_SUFFIXES})
    except OSError as error:
        raise unreadable(folder, error) from None
    remedy = f"name the file itself: checkpoint={str(folder / others[0])!r}" if others else "is it the right folder?"
    raise CheckpointError(
        f"there is no {WEIGHTS} in {folder}; a folder of weights holds {WEIGHTS} and {CONFIG}, as save_pretrained "
        f"writes them; {remedy}"
    )


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder that somebody else has filled, whether the file is there or not.

    Symbolic links are followed as long as they stay inside. A snapshot in Hugging Face's cache may also link to the
    `blobs` beside it: that is how the cache is built.

    Raises:
        CheckpointError: the name leads out of the folder, by itself or through a link.
    """
    path = folder / name
    try:
        home, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links
        raise unreadable(path, error) from None
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if target == home or not any(target.is_relative_to(one) for one in homes):
        raise CheckpointError(
            f"{name!r} leads out of {folder}, to {target}; a folder of weights holds its files itself: copy the file "
            "there, if you trust it"
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The table that a `config.json` holds.

    Raises:
        CheckpointError: the file is missing, too large, or holds no table.
    """
    text = first_bytes(path, LARGEST_CONFIG + 1)
    try:
        if len(text) > LARGEST_CONFIG:
            raise ValueError(f"more than {LARGEST_CONFIG} bytes")
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(f"it holds {kind_of(found)}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a table in JSON: {reason(error)}; fetch or write it again") from None
    return found


def _network(said: Mapping[str, Any], path: Path) -> tuple[str, dict[str, Any]]:
    """The name and the arguments that a header or a `config.json` states."""
    name, options = said["name"], said["options"]
    try:
        options = json.loads(options) if isinstance(options, str) else options
    except (ValueError, RecursionError):
        options = None
    if not isinstance(name, str) or not isinstance(options, dict):
        raise CheckpointError(
            f"{path} holds a name that is no text, or options that are not a table: {kind_of(name)} and "
            f"{kind_of(options)}; it is damaged, or was not written by cnnzoo"
        )
    if not _shallow(options):
        raise CheckpointError(f"{path} holds options of {name!r} that nest deeper than arguments do; it is damaged")
    try:
        find(name[:200], str(path)).check(options, str(path))
    except (UnknownNameError, OptionError) as error:
        version = said.get("library_version", __version__)
        other = "" if version == __version__ else f", {short(repr(version))}, where this is {__version__}"
        raise CheckpointError(
            f"{short(error.text, 800)} The file is damaged, or from another version of cnnzoo{other}."
        ) from None
    return name, options


def unnamed(path: Path) -> CheckpointError:
    """The error for weights that do not say what network they belong to, where nobody else says it."""
    return CheckpointError(
        f"{path} does not say what network it holds; name it: load_pretrained(name, checkpoint={str(path)!r})"
    )


def _checkpoint(said: Mapping[str, Any], path: Path) -> Checkpoint | None:
    """What a `config.json` says of its weights."""
    if "preprocessing" not in said:
        return None
    try:
        classes = said.get("classes", "")
        named = classes if isinstance(classes, str) else tuple(map(str, classes))
        stated = dict(said.get("checkpoint", {}))
        stated["tag"] = stated.get("tag") or path.parent.name
        return Checkpoint(**stated, preprocessing=Preprocessing(**said["preprocessing"]), class_set=named)
    except TypeError as error:
        raise CheckpointError(f"{path} describes its images wrongly: {error}") from None


def _shallow(value: Any, levels: int = 8) -> bool:
    """Whether containers nest no deeper than a constructor's arguments could, and the stack can take."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(one, levels - 1) for one in inner)
