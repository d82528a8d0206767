"""Finding weights: bundled with the package, in a file or folder, on the hub, or from torchvision."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from cnnzoo.checkpoints.folder import CONFIG, WEIGHTS, Description, describe, unnamed, weights_in
from cnnzoo.checkpoints.formats import TORCH_SUFFIXES
from cnnzoo.checkpoints.layouts import Layout
from cnnzoo.checkpoints.table import Checkpoint, list_checkpoints
from cnnzoo.errors import CheckpointError, HubError, UnknownNameError, unknown
from cnnzoo.registry import ModelSpec, find


@dataclass(frozen=True)
class Source:
    """Weights that were found, and what is known about them.

    Attributes:
        path: of the file.
        spec: the network that they belong to.
        made_with: the constructor's arguments that they were made with; None where nothing says.
        checkpoint: the row of the table, or what a folder says of its own weights.
        layout: whose names the tensors carry; None where nothing says.
        published: whether the table vouches for them.
        folded: whether batch normalisation is folded into the layers before it.
    """

    path: Path
    spec: ModelSpec
    made_with: Mapping[str, Any] | None = None
    checkpoint: Checkpoint | None = None
    layout: Layout | None = None
    published: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Access:
    """Where files may come from: the arguments of `load_pretrained` that say so."""

    hub: bool = False
    revision: str | None = None
    cache_dir: Path | str | None = None
    token: str | None = None
    progress: bool = True
    checksum: bool = False

    def fetching(self, call: str) -> dict[str, Any]:
        """The arguments that every kind of download takes; `call` is what would fetch the file."""
        cache = None if self.cache_dir is None else Path(self.cache_dir)
        return {"hub": self.hub, "cache_dir": cache, "progress": self.progress, "call": call}


def locate(name: Path | str, checkpoint: Path | str | None, options: Mapping[str, Any], access: Access) -> Source:
    """The weights that `load_pretrained` is asked for; its documentation says what `name` and `checkpoint` may be.

    Raises:
        UnknownNameError: there is no such network or tag.
        OptionError: the network does not take these options.
        CheckpointError: the file is not at hand, or belongs to another network.
    """
    spec, tag = _named(name)
    if spec is None:
        return _at(name, None, options, access)
    spec.check(options)
    if checkpoint is None or checkpoint in spec.checkpoints or not _is_place(checkpoint):
        return _in_table(spec, published(spec, str(checkpoint or tag) or None, options), access)
    return _at(checkpoint, spec, options, access)


SUFFIXES = frozenset({".safetensors", *TORCH_SUFFIXES})


def _named(name: Path | str) -> tuple[ModelSpec | None, str]:
    """The network that a name is of, and the tag behind it; no network where it is a place."""
    network, _, tag = str(name).partition(".")
    if isinstance(name, str) and Path(name).suffix not in SUFFIXES:
        try:
            return find(network), tag
        except UnknownNameError:
            if not _is_place(name):
                raise
    return None, ""


def _is_place(text: Path | str) -> bool:
    """Whether this is a file, a folder or a repository, and not the name of a network or a tag."""
    path = Path(text)
    return isinstance(text, Path) or "/" in text or path.suffix in SUFFIXES or os.path.exists(text)


def _is_repository(place: Path | str) -> bool:
    """Whether a place that is not there is one of the hub's: `owner/name`, and no path that was mistyped."""
    if isinstance(place, Path) or Path(place).suffix in SUFFIXES:
        return False
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", place) is not None and not os.path.isdir(Path(place).parent)


def _at(place: Path | str, spec: ModelSpec | None, options: Mapping[str, Any], access: Access) -> Source:
    """The weights in a file, a folder or, where neither is there, a repository; of this network, if one was named."""
    path = Path(place)
    if not os.path.exists(place) and _is_repository(place):
        path = _fetched(str(place), access)
    elif not os.path.exists(place) and path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"there is no file or folder {place}; a repository of the Hugging Face Hub is named 'owner/name'"
        )
    weights = weights_in(path) if os.path.isdir(path) else path  # os.path's, unlike Path's, take any text
    said = describe(path)
    if said is None:
        if spec is None:
            raise unnamed(path)
        return Source(weights, spec)
    return _described(weights, said, spec, options)


def _described(weights: Path, said: Description, spec: ModelSpec | None, options: Mapping[str, Any]) -> Source:
    if spec is not None and said.name != spec.name:
        raise CheckpointError(f"{weights} holds weights of {said.name}, not of {spec.name}")
    spec = find(said.name, str(weights))
    spec.check(options)
    spec.check(said.options, str(weights))
    return Source(weights, spec, said.options, said.checkpoint, said.layout, folded=said.folded)


def _fetched(repo: str, access: Access) -> Path:
    """The folder in the cache with the files of a repository that `push_to_hub` or timm made."""
    from cnnzoo.checkpoints.hub import fetch

    def get(file: str, revision: str | None) -> Path:
        options = access.fetching(f"load_pretrained({repo!r}, hub=True)")
        return fetch(repo, file, revision=revision, sha256="", token=access.token, **options)

    try:
        folder = get(CONFIG, access.revision).parent
    except CheckpointError as error:
        if access.hub or isinstance(error, HubError):
            raise
        raise CheckpointError(
            f"there is no file or folder {repo}, and no repository of that name in the cache; "
            f"load_pretrained({repo!r}, hub=True) looks for one on the Hugging Face Hub"
        ) from None
    get(WEIGHTS, folder.name)  # of the same commit
    return folder


def _in_table(spec: ModelSpec, row: Checkpoint, access: Access) -> Source:
    """A published checkpoint."""
    path = _path_of(row, access, f"load_pretrained('{spec.name}.{row.tag}', hub=True)")
    if access.checksum:
        check_sha256(path, row.sha256)
    return Source(path, spec, row.options, row, row.layout, published=True)


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
        raise CheckpointError(f"nothing says what sha256 {path} should have; load it with checksum=False")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise CheckpointError(
            f"{path} has sha256 {found}, expected {expected}; it has changed since it was published: delete it and "
            "fetch it again"
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


def published(spec: ModelSpec, tag: str | None, options: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of that tag; without one, the first made with these options, adaptable ones apart."""
    known = list_checkpoints(spec.name)
    if tag is not None:
        named = next((one for one in known if one.tag == tag), None)
        if named is None:
            raise unknown(spec.name, "checkpoint", tag, [one.tag for one in known])
        return named
    for one in known:
        if spec.is_same(one.options, options):
            return one
    tags: dict[str, list[str]] = {}
    for one in known:
        tags.setdefault(spec.shown(one.options), []).append(one.tag)
    groups = (f"{', '.join(some[:3])}{', ...' if len(some) > 3 else ''} ({made})" for made, some in tags.items())
    there = f"; there are: {'; '.join(groups)}" if known else ""
    raise CheckpointError(f"there are no weights of {spec.name} with {spec.shown(options)}{there}")
