"""Weights on disk: written aside and renamed, mapped rather than copied, and never trusted.

Whatever is wrong with a file or folder is one `CheckpointError` that names it and says what to do.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.folder import header
from cnnzoo.checkpoints.formats import (
    format_of,
    opened_safetensors,
    short,
)
from cnnzoo.checkpoints.pickles import DTYPES
from cnnzoo.checkpoints.sharded import check_shard, is_index, shards_of
from cnnzoo.checkpoints.state_dicts import by_own_names, check_name, planned
from cnnzoo.checkpoints.structure import described
from cnnzoo.checkpoints.torch_files import opened_torch
from cnnzoo.cnn import CNN
from cnnzoo.errors import CheckpointError, operation
from cnnzoo.support.files import replacing
from cnnzoo.support.wrappers import inside


@operation
def write_weights(weights: nn.Module | Mapping[str, Tensor], path: Path | str) -> None:
    """Write weights to a file, which appears whole or not at all.

    Args:
        weights: a network, or a state dict such as `to_layout` gives.
        path: of a safetensors file, whose header says how a network of the registry was made; where its name ends in
            `.pth`, as `torch.save` writes a state dict.

    Raises:
        CheckpointError: the network is not what its arguments describe, or the file could not be written; what was
            there before is intact.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> cnnzoo.write_weights({"weight": torch.ones(2)}, "two.safetensors")
        >>> cnnzoo.read_weights("two.safetensors")[0]["weight"]
        tensor([1., 1.])
    """
    path = Path(path)
    weights = inside(weights) if isinstance(weights, nn.Module) else weights
    if path.suffix != ".pth" and isinstance(weights, CNN) and weights.config is not None:
        write(weights.state_dict(), path, header(described(weights)))
    else:
        write(weights.state_dict() if isinstance(weights, nn.Module) else weights, path, {"format": "pt"})


def write(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors to a file, which appears whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain_state = _apart({name: tensor.detach().contiguous() for name, tensor in state.items()})
    try:
        with replacing(path) as aside:
            if path.suffix == ".pth":
                torch.save(plain_state, aside)
            else:
                save_file(plain_state, aside, metadata)
    except SafetensorError as error:
        raise CheckpointError(f"{path} could not be written: {error}; make room on the disk") from None


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors each with numbers of its own: layers may share a weight, and the format does not know that."""
    places = Counter(tensor.data_ptr() for tensor in state.values() if tensor.numel())
    return {name: tensor.clone() if places[tensor.data_ptr()] > 1 else tensor for name, tensor in state.items()}


@operation
def read_weights(
    path: Path | str, *, mmap: bool = True, weights_key: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a file by name, on the CPU, and its metadata.

    Names lose what wrappers (`module.`, `_orig_mod.`, a LightningModule's `model.`) put before them.

    Args:
        path: a safetensors file, or one that `torch.save` wrote (.pth, .pt, .bin). Of the latter, the state dict is
            found among what a training program keeps beside it, and no code in it ever runs. Such files have no
            metadata. Or the index of several such files (`model.safetensors.index.json`).
        mmap: whether the tensors are a private mapping of the file, which must then not be changed in place while they
            live; otherwise they are a copy. Files that torch wrote before 1.6 cannot be mapped and are always read.
        weights_key: the entry of a training checkpoint that holds the weights, `"model"` or `"model_ema"`; None finds
            it, and takes averaged weights rather than raw ones, with a warning.

    Raises:
        CheckpointError: there is no such file or entry, or it is damaged, of another format, or holds no tensors.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> cnnzoo.write_weights(cnnzoo.create("lenet5", seed=0), "lenet5.safetensors")
        >>> tensors, metadata = cnnzoo.read_weights("lenet5.safetensors")
        >>> tensors["c1.weight"].shape
        torch.Size([6, 1, 5, 5])
    """
    path = Path(path)
    tensors, metadata = _sharded(path, mmap) if is_index(path) else _tensors(path, mmap, weights_key)
    return by_own_names(tensors), metadata


def _sharded(index: Path, mmap: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    for shard, names in shards_of(index).items():
        found, _ = _tensors(shard, mmap, None)
        check_shard(set(found), names, shard)
        tensors |= found
    return tensors, {}


def _tensors(path: Path, mmap: bool, weights_key: str | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one file under the names that they have there, and its metadata."""
    kind = format_of(path)
    if kind != "safetensors":
        with opened_torch(path, kind, mmap) as file:
            return file.tensors(planned(file.found, path, weights_key)), {}
    if weights_key is not None:
        raise CheckpointError(
            f"{path} is a safetensors file, which has no entries (weights_key={weights_key!r}); leave weights_key out"
        )
    with opened_safetensors(path) as opened:
        metadata = opened.metadata() or {}
        for name in opened.keys():  # noqa: SIM118
            check_name(name, path)
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise CheckpointError(
                f"{path} holds a tensor {short(name)!r} of {tensor.dtype}, in which torch cannot compute; write it in "
                "another dtype"
            )
    if not mmap:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    return tensors, metadata


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
