"""Weights on disk: safetensors files, written aside and renamed, read as a mapping of the file."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cnnzoo.errors import CheckpointError


def write_weights(model: nn.Module, path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write a network's state as safetensors, with how it was made in the header.

    The file appears whole, with mode 0644, or not at all.
    """
    from safetensors.torch import save_file

    path = Path(path)
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    header = dict(metadata or {})
    config = getattr(model, "config", None)
    if config is not None:
        header |= {"name": config.name, "options": json.dumps(plain(config.options))}
    with replacing(path) as aside:
        save_file(state, aside, metadata=header)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end, with mode 0644, or is gone after an error."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, mapped rather than copied, and its metadata.

    Raises:
        CheckpointError: there is no such file, or it is damaged or of another format.
    """
    from safetensors.torch import load_file

    with _opened(path) as opened:
        metadata = opened.metadata() or {}
    return load_file(path), metadata


def read_config(path: Path | str) -> tuple[str, dict[str, Any]]:
    """The registered name and the arguments of the network that a file was written from.

    Raises:
        CheckpointError: there is no such file, or it does not say what network it holds.
    """
    with _opened(path) as opened:
        return stated_config(opened.metadata() or {}, path)


def stated_config(metadata: dict[str, str], path: Path | str) -> tuple[str, dict[str, Any]]:
    """`read_config` for a file whose metadata is at hand."""
    try:
        name, options = metadata["name"], json.loads(metadata["options"])
    except (KeyError, ValueError):
        raise CheckpointError(
            f"load_pretrained: {path} does not say what network it holds; "
            f"name it: load_pretrained(name, checkpoint={str(path)!r})"
        ) from None
    if not isinstance(options, dict):
        raise CheckpointError(f"load_pretrained: {path} holds options that are not a table: {options!r}")
    return name, options


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"load_pretrained: there is no file {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"load_pretrained: {path} ({path.stat().st_size} bytes) is not a whole safetensors file: {error}; "
            "fetch or write it again"
        ) from None


def plain(value: Any) -> Any:
    """Arguments of a constructor as JSON has them: tensors and tuples become lists."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple, range)) else value
