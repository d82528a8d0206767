"""Weights on disk: written aside and renamed, mapped rather than copied, and never trusted.

Whatever is wrong with a file or folder is one `CheckpointError` that names it and says what to do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.folder import header
from cnnzoo.checkpoints.formats import (
    format_of,
    kind_of,
    opened_safetensors,
    read_torch,
    short,
)
from cnnzoo.errors import CheckpointError, operation
from cnnzoo.support.files import replacing


@operation
def write_weights(weights: nn.Module | Mapping[str, Tensor], path: Path | str) -> None:
    """Write weights to a file, which appears whole or not at all.

    Args:
        weights: a network, or a state dict such as `to_layout` gives.
        path: of a safetensors file, whose header says how a network of the registry was made; where its name ends in
            `.pth`, as `torch.save` writes a state dict.

    Raises:
        CheckpointError: it could not be written; what was there before is intact.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    config = getattr(weights, "config", None)
    plain_state = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    try:
        with replacing(path) as aside:
            if path.suffix == ".pth":
                torch.save(plain_state, aside)
            else:
                save_file(plain_state, aside, {"format": "pt"} if config is None else header(config))
    except SafetensorError as error:
        raise CheckpointError(f"{path} could not be written: {error}; make room on the disk") from None


@operation
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
            f"{path} holds NaN or infinity in {len(bad)} of {len(tensors)} tensors: {listed}; it is "
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


def _unpacked(found: Any) -> Any:
    """Training scripts keep the weights beside the optimiser's state."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    return found


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """The same, if it holds nothing but tensors, and those nothing but numbers on the CPU."""
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds {kind_of(found)}, not tensors by name; write state_dict() of the network")
    for name, tensor in found.items():
        if not isinstance(name, str) or not name.isprintable():
            raise CheckpointError(f"{path} holds {short(repr(name))}, which is no tensor's name; write it again")
        if not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{path} holds {kind_of(tensor)} under {short(name)!r}, where only tensors are "
                "expected; write state_dict() of the network alone"
            )
        if not _ordinary(tensor):
            raise CheckpointError(
                f"{path} holds a tensor {short(name)!r} that is sparse, quantised or without its "
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
