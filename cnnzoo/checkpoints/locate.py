"""Finding weights: bundled with the package, in a file or folder, on the hub, or from torchvision."""

import hashlib
import math
import os
import re
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cnnzoo.checkpoints.adapt import ADAPTABLE
from cnnzoo.checkpoints.files import (
    CONFIG,
    WEIGHTS,
    inside,
    read_config,
    read_json,
    read_weights,
    stated_config,
    weights_in,
)
from cnnzoo.checkpoints.formats import TORCH_SUFFIXES
from cnnzoo.checkpoints.layouts import Layout
from cnnzoo.checkpoints.table import Checkpoint, checkpoints
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CheckpointError, unknown
from cnnzoo.registry import ModelSpec
from cnnzoo.support.files import plain

ZeroChannels = Literal["after", "around"]
"""Where a shortcut without parameters puts its zeros: after the old channels, or half before and half after them."""


@dataclass(frozen=True)
class Source:
    """Weights that were found, and what is known about them.

    Attributes:
        path: of the file.
        tensors: its content, mapped.
        name: the network's registered name; None where nothing says.
        options: the constructor's arguments that the weights were made with; None where nothing says.
        checkpoint: the row of the table, or what a folder says of its own weights.
        layout: whose names the tensors carry; None where nothing says.
        zero_channels: where the shortcuts of a CIFAR ResNet put their zeros; None where the user did not say.
    """

    path: Path
    tensors: dict[str, Tensor]
    name: str | None = None
    options: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None
    layout: Layout | None = None
    zero_channels: ZeroChannels | None = None


@dataclass(frozen=True)
class Access:
    """How files are read, and fetched where they are not at hand; the arguments of `load_pretrained`."""

    hub: bool = False
    revision: str | None = None
    cache_dir: Path | str | None = None
    token: str | None = None
    progress: bool = True
    mmap: bool = True
    checksum: bool = False
    zero_channels: ZeroChannels | None = None

    def fetching(self, call: str) -> dict[str, Any]:
        """The arguments that every kind of download takes; `call` is what would fetch the file."""
        cache = None if self.cache_dir is None else Path(self.cache_dir)
        return {"hub": self.hub, "cache_dir": cache, "progress": self.progress, "call": call}


SUFFIXES = frozenset({".safetensors", *TORCH_SUFFIXES})


def is_place(text: Path | str) -> bool:
    """Whether this is a file, a folder or a repository, and not the name of a network or a tag."""
    path = Path(text)
    return isinstance(text, Path) or "/" in text or path.suffix in SUFFIXES or os.path.exists(text)


def at(place: Path | str, access: Access) -> Source:
    """The weights in a file, a folder or, where neither is there, a repository `"owner/name"`."""
    path = Path(place)
    if os.path.isdir(place):  # which, unlike Path's, takes any text
        return in_folder(path, access)
    named = isinstance(place, str) and path.suffix not in SUFFIXES and place.count("/") == 1
    return in_repository(str(place), access) if named and not os.path.exists(place) else in_file(path, access)


def in_file(path: Path, access: Access) -> Source:
    """A weights file, which may say what network it holds."""
    tensors, metadata = read_weights(path, mmap=access.mmap)
    if "name" not in metadata:
        return Source(path, tensors, zero_channels=access.zero_channels)
    name, options = stated_config(metadata, path)
    return Source(path, tensors, name, options, layout="cnnzoo")


def in_folder(folder: Path, access: Access) -> Source:
    """A folder that `save_pretrained` wrote."""
    return _described(inside(folder, CONFIG), weights_in(folder), access)


def in_repository(repo: str, access: Access) -> Source:
    """A repository of the hub that `push_to_hub` or timm made."""
    from cnnzoo.checkpoints.hub import fetch

    def get(file: str, revision: str | None) -> Path:
        options = access.fetching(f"load_pretrained({repo!r}, hub=True)")
        return fetch(repo, file, revision=revision, sha256="", token=access.token, **options)

    config = get(CONFIG, access.revision)
    weights = get(WEIGHTS, config.parent.name)  # of the same commit
    said = read_json(config)
    if "architecture" not in said:
        return _described(config, weights, access)
    try:
        name, options, row = _by_timm(said, repo)
    except (TypeError, ValueError, LookupError) as error:
        raise CheckpointError(f"load_pretrained: {config} is not a configuration as timm writes it: {error}") from None
    return Source(weights, read_weights(weights, mmap=access.mmap)[0], name, options, row, "timm")


def _by_timm(said: dict[str, Any], repo: str) -> tuple[str, dict[str, Any], Checkpoint | None]:
    """Our name, arguments and description of a network that timm published."""
    name = str(said["architecture"]).replace("resnetv2_", "preresnet")
    options = {"num_classes": int(said["num_classes"])} if "num_classes" in said else {}
    pictures = said.get("pretrained_cfg") or {}
    if "input_size" not in pictures:
        return name, options, None
    size = int(pictures["input_size"][-1])
    prepared = Preprocessing(
        size=size,
        resize=math.floor(size / float(pictures.get("crop_pct", 0.875))),
        interpolation=pictures.get("interpolation", "bicubic"),
        mean=tuple(pictures["mean"]),
        std=tuple(pictures["std"]),
    )
    classes = "imagenet1k" if options.get("num_classes") == 1000 else ()
    return name, options, Checkpoint(tag=repo, preprocessing=prepared, class_set=classes)


def in_table(spec: ModelSpec, row: Checkpoint, access: Access) -> Source:
    """A published checkpoint."""
    path = _path_of(row, access, f"load_pretrained('{spec.name}.{row.tag}', hub=True)")
    if access.checksum:
        check_sha256(path, row.sha256)
    tensors, _ = read_weights(path, mmap=access.mmap)
    return Source(path, tensors, spec.name, row.options, row, row.layout)


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with its sha256, or with the beginning of it.

    Args:
        path: of the file.
        expected: in hexadecimal; `""` takes the name of the file in the hub client's cache, which is its sha256.

    Raises:
        CheckpointError: they differ, or nothing says what it should be.
    """
    blob = path.resolve().name
    expected = expected or (blob if re.fullmatch("[0-9a-f]{64}", blob) else "")
    if not expected:
        raise CheckpointError(
            f"load_pretrained: nothing says what sha256 {path} should have; load it with checksum=False"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise CheckpointError(
            f"load_pretrained: {path} has sha256 {found}, expected {expected}; it has changed since it was published: "
            "delete it and fetch it again"
        )


def _path_of(row: Checkpoint, access: Access, call: str) -> Path:
    if row.source == "bundled":
        with as_file(files("cnnzoo.checkpoints.bundled").joinpath(row.file)) as path:
            return path
    from cnnzoo.checkpoints.hub import fetch, fetch_torchvision

    fetching: dict[str, Any] = access.fetching(call) | {"size_mb": row.size_mb}
    if row.source == "torchvision":
        return fetch_torchvision(row.file, row.weights, sha256=row.sha256, **fetching)
    revision = access.revision or row.revision or None
    sha256 = row.sha256 if revision == (row.revision or None) else ""
    return fetch(row.repo, row.file, revision=revision, sha256=sha256, token=access.token, **fetching)


def _described(config: Path, weights: Path, access: Access) -> Source:
    """Weights with the configuration that `save_pretrained` wrote beside them."""
    name, options = read_config(config.parent)
    tensors, _ = read_weights(weights, mmap=access.mmap)
    said = read_json(config) if config.exists() else {}
    row = None
    if "preprocessing" in said:
        try:
            prepared = Preprocessing(**said["preprocessing"])
            classes = said.get("classes", "")
            named = classes if isinstance(classes, str) else tuple(map(str, classes))
            stated = {"tag": config.parent.name} | said.get("checkpoint", {})
            row = Checkpoint(**stated, preprocessing=prepared, class_set=named)
        except TypeError as error:
            raise CheckpointError(f"load_pretrained: {config} describes its pictures wrongly: {error}") from None
    return Source(weights, tensors, name, options, row, "cnnzoo")


def published(spec: ModelSpec, tag: str | None, options: dict[str, Any]) -> Checkpoint:
    """The checkpoint of that tag; without one, the first made with these options, adaptable ones apart."""
    known = checkpoints(spec.name)
    if tag is not None:
        named = next((one for one in known if one.tag == tag), None)
        if named is None:
            raise unknown(f"load_pretrained: {spec.name}", "checkpoint", tag, [one.tag for one in known])
        return named
    for one in known:
        if same_network(spec, one.options, options):
            return one
    tags: dict[str, list[str]] = {}
    for one in known:
        tags.setdefault(shown(one.options), []).append(one.tag)
    groups = (f"{', '.join(some[:3])}{', ...' if len(some) > 3 else ''} ({made})" for made, some in tags.items())
    there = f"; there are: {'; '.join(groups)}" if known else ""
    raise CheckpointError(f"load_pretrained: there are no weights of {spec.name} with {shown(options)}{there}")


def same_network(spec: ModelSpec, made_with: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether arguments differ at most in what weights can be adapted to."""
    defaults = {name: parameter.default for name, parameter in spec.parameters.items() if name not in ADAPTABLE}

    def fixed(options: dict[str, Any]) -> dict[str, Any]:
        return plain({name: options.get(name, default) for name, default in defaults.items()})

    return fixed(made_with) == fixed(asked)


def shown(options: dict[str, Any]) -> str:
    """Arguments for a message."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "its default arguments"
