"""Weights on disk: written aside and renamed, mapped rather than copied, and never trusted.

Whatever is wrong with a file or folder is one `CheckpointError` that names it and says what to do.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.formats import (
    TORCH_SUFFIXES,
    first_bytes,
    format_of,
    kind_of,
    opened_safetensors,
    read_torch,
    reason,
    short,
    unreadable,
)
from cnnzoo.errors import CheckpointError, OptionError, UnknownNameError
from cnnzoo.registry import find
from cnnzoo.support.files import plain, replacing

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""What the files of a folder of weights are called."""

LARGEST_CONFIG = 16 * 2**20
"""Bytes of a config.json that are read at most; one of cnnzoo's has a few hundred."""


def write_weights(model: nn.Module, path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write a network's state as safetensors, with how it was made in the header.

    The file appears whole, with mode 0644, or not at all.

    Raises:
        CheckpointError: it could not be written; what was there before is intact.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    header = dict(metadata or {})
    config = getattr(model, "config", None)
    if config is not None:
        header |= {"name": config.name, "options": json.dumps(plain(config.options))}
    try:
        with replacing(path) as aside:
            save_file(state, aside, metadata=header)
    except SafetensorError as error:
        raise CheckpointError(f"write_weights: {path} could not be written: {error}; make room on the disk") from None


def read_weights(path: Path | str, *, mmap: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, on the CPU, and its metadata.

    Args:
        path: a safetensors file, or one that `torch.save` wrote (.pth, .pt, .bin). Of the latter, what is nested under
            `state_dict` or `model` is taken out, and no code in it ever runs. Such files have no metadata.
        mmap: whether the tensors are a private mapping of the file, which must then not be changed in place while they
            live; otherwise they are a copy. Files that torch wrote before 1.6 cannot be mapped and are always read.

    Raises:
        CheckpointError: there is no such file, or it is damaged, of another format, or holds more than tensors.
    """
    path = Path(path)
    kind = format_of(path)
    if kind != "safetensors":
        found = _tensors(_unpacked(read_torch(path, kind, mmap)), path)
        return _without_prefix({name: tensor.detach() for name, tensor in found.items()}), {}
    with opened_safetensors(path) as opened:
        metadata = opened.metadata() or {}
        tensors = _tensors({name: opened.get_tensor(name) for name in opened.keys()}, path)  # noqa: SIM118
    if not mmap:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    return _without_prefix(tensors), metadata


def check_finite(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise unless every number is finite.

    `read_weights` leaves this out: it has to look at every number, and so to read all of a file that was only mapped.
    One pass over 241 MB of a ResNet-152 in the page cache takes one core 18 ms, mapping it 11 ms. It is worth that for
    files that no checksum vouches for. Looking at a part of each tensor would cost less and prove nothing.

    Raises:
        CheckpointError: a tensor holds NaN or infinity; the message names up to eight.
    """
    bad = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if bad:
        listed = ", ".join(sorted(bad)[:8]) + (", ..." if len(bad) > 8 else "")
        raise CheckpointError(
            f"load_pretrained: {path} holds NaN or infinity in {len(bad)} of {len(tensors)} tensors: {listed}; it is "
            "damaged, or its training diverged: fetch it again, or take an earlier checkpoint"
        )


def _finite(tensor: Tensor) -> bool:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.itemsize == 1:  # eight bits: aminmax knows none of these
        tensor = tensor.float()
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())  # NaN is both least and greatest


def read_config(path: Path | str) -> tuple[str, dict[str, Any]]:
    """The registered name and the arguments of the network that a file or folder was written from.

    Args:
        path: a safetensors file, which has them in its header, or a folder, which has them in its config.json
            (`{"name": ..., "options": {...}, "library_version": ...}`) or in the header of its weights.

    Raises:
        CheckpointError: there is nothing there, or it does not say what network it holds, or one that does not exist.
    """
    path = Path(path)
    if os.path.isdir(path):  # which, other than Path's, is no error where permissions are missing
        config = inside(path, CONFIG)
        return stated_config(read_json(config), config) if os.path.exists(config) else read_config(weights_in(path))
    if format_of(path) != "safetensors":
        return stated_config({}, path)
    with opened_safetensors(path) as opened:
        return stated_config(opened.metadata() or {}, path)


def stated_config(metadata: Mapping[str, Any], path: Path | str) -> tuple[str, dict[str, Any]]:
    """`read_config` for a file whose metadata is at hand."""
    try:
        name, options = metadata["name"], metadata["options"]
        options = json.loads(options) if isinstance(options, str) else options
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError(
            f"load_pretrained: {path} does not say what network it holds; "
            f"name it: load_pretrained(name, checkpoint={str(path)!r})"
        ) from None
    if not isinstance(name, str) or not isinstance(options, dict):
        raise CheckpointError(
            f"load_pretrained: {path} holds a name that is no text, or options that are not a table: "
            f"{kind_of(name)} and {kind_of(options)}; it is damaged, or was not written by cnnzoo"
        )
    if not _shallow(options):
        raise CheckpointError(
            f"load_pretrained: {path} holds options of {name!r} that nest deeper than arguments do; it is damaged"
        )
    import cnnzoo.models  # registers the constructors

    try:
        find(name[:200], f"load_pretrained: {path}").check(options, f"load_pretrained: {path}")
    except (UnknownNameError, OptionError) as error:
        version = metadata.get("library_version", cnnzoo.__version__)
        other = "" if version == cnnzoo.__version__ else f", {short(repr(version))}, where this is {cnnzoo.__version__}"
        raise CheckpointError(
            f"{short(str(error), 800)} The file is damaged, or from another version of cnnzoo{other}."
        ) from None
    return name, options


def read_json(path: Path) -> dict[str, Any]:
    """The table that a config.json holds.

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
        raise CheckpointError(
            f"load_pretrained: {path} is not a table in JSON: {reason(error)}; fetch or write it again"
        ) from None
    return found


@contextmanager
def built_from(path: Path | str) -> Iterator[None]:
    """While a network is built with arguments that a file states: whatever goes wrong is the file's `CheckpointError`.

    A constructor trusts its arguments, as any function does; those of a file may be anything that JSON can say.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"load_pretrained: {path} states arguments that no network can be built with: {reason(error)}; it is "
            "damaged, or from another version of cnnzoo"
        ) from None


def weights_in(folder: Path | str) -> Path:
    """The one file of weights of a folder.

    Raises:
        CheckpointError: there is no such folder or file, or it lies elsewhere.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise CheckpointError(f"load_pretrained: there is no folder {folder}")
    path = inside(folder, WEIGHTS)
    if os.path.isfile(path):
        return path
    try:
        others = sorted(one.name for one in folder.iterdir() if one.suffix in {".safetensors", *TORCH_SUFFIXES})
    except OSError as error:
        raise unreadable(folder, error) from None
    remedy = f"name the file itself: checkpoint={str(folder / others[0])!r}" if others else "is it the right folder?"
    raise CheckpointError(
        f"load_pretrained: there is no {WEIGHTS} in {folder}; a folder of weights holds {WEIGHTS} and {CONFIG}, as "
        f"save_pretrained writes them; {remedy}"
    )


def inside(folder: Path | str, name: str) -> Path:
    """The path of a file in a folder that somebody else has filled, whether the file is there or not.

    Symbolic links are followed as long as they stay inside. A snapshot in Hugging Face's cache may also link to the
    `blobs` beside it: that is how the cache is built.

    Raises:
        CheckpointError: the name leads out of the folder, by itself or through a link.
    """
    path = Path(folder) / name
    try:
        home, target = Path(folder).resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links
        raise unreadable(path, error) from None
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if target == home or not any(target.is_relative_to(one) for one in homes):
        raise CheckpointError(
            f"load_pretrained: {name!r} leads out of {folder}, to {target}; a folder of weights holds its files "
            "itself: copy the file there, if you trust it"
        )
    return path


def _unpacked(found: Any) -> Any:
    """Training scripts keep the weights beside the optimiser's state."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    return found


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """The same, if it holds nothing but tensors, and those nothing but numbers on the CPU."""
    if not isinstance(found, dict):
        raise CheckpointError(
            f"load_pretrained: {path} holds {kind_of(found)}, not tensors by name; write state_dict() of the network"
        )
    for name, tensor in found.items():
        if not isinstance(name, str) or not name.isprintable():
            raise CheckpointError(
                f"load_pretrained: {path} holds {short(repr(name))}, which is no tensor's name; write it again"
            )
        if not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"load_pretrained: {path} holds {kind_of(tensor)} under {short(name)!r}, where only tensors are "
                "expected; write state_dict() of the network alone"
            )
        if not _ordinary(tensor):
            raise CheckpointError(
                f"load_pretrained: {path} holds a tensor {short(name)!r} that is sparse, quantised or without its "
                "numbers; write it as a dense one"
            )
    return found


def _ordinary(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and tensor.nbytes <= tensor.untyped_storage().nbytes()  # a stride of 0 makes gigabytes of four bytes
    )


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What torch's wrappers for several devices and for compiling put before every name is not part of it."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _shallow(value: Any, levels: int = 8) -> bool:
    """Whether containers nest no deeper than a constructor's arguments could, and the stack can take."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(one, levels - 1) for one in inner)
