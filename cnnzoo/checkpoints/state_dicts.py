"""Find a network's state dict in what training programs save, and its own names under those of wrappers."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from cnnzoo.checkpoints.formats import kind_of, short
from cnnzoo.checkpoints.pickles import Reference, Table, TensorPlan
from cnnzoo.checkpoints.torch_files import foreign
from cnnzoo.errors import CheckpointError

T = TypeVar("T")

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
"""Where programs keep the running average of the weights, in the order in which they are looked for."""

RAW = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
"""Where they keep the weights themselves."""

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""What torch's wrappers (several devices, averaging, compiling, sharding) call the network that they hold."""

ATTRIBUTES = ("model", "net", "network", "backbone", "ema_model", "online_model")
"""What programs call the network in a class of theirs, such as a LightningModule."""

LONGEST_NAME = 500
"""Characters of a tensor's name; the longest of our networks' has under 60."""

NESTED = 4
"""Levels of dictionaries around a state dict; three are known."""


class ChosenWeightsWarning(UserWarning):
    """A training checkpoint holds more than one set of weights, and one of them was taken."""


def planned(found: Any, path: Path, key: str | None = None) -> dict[str, TensorPlan]:
    """The state dict in what a file of `torch.save` holds: that itself, or an entry of it.

    Of averaged and raw weights the averaged ones are taken, with a warning, as timm takes them.

    Args:
        found: the content of the file.
        path: of the file, for messages.
        key: the entry to take; None finds it.

    Raises:
        CheckpointError: nothing in the file is a state dict, there are several, or there is no such entry.
    """
    if key is not None:
        if not isinstance(found, Table) or key not in found:
            raise CheckpointError(
                f"{path} has no entry {key!r} (weights_key); entries with tensors: {_listed(found) or 'none'}"
            )
        return planned(found[key], path) if _nested(found[key]) else _state_dict(found[key], path)
    for _ in range(NESTED):
        taken = _entry(found, path)
        if taken is None:
            break
        found = taken
    return _state_dict(found, path)


def _entry(found: Any, path: Path) -> Any:
    """The entry of a training checkpoint that holds the weights; None where there is no entry to take."""
    if not isinstance(found, Table):
        return None
    averaged = next((key for key in AVERAGED if _nested(found.get(key)) or _has_tensors(found.get(key))), None)
    raw = next((key for key in RAW if isinstance(found.get(key), Table)), None)
    if averaged is not None and raw is not None:
        warnings.warn(
            f"load_pretrained: {path} holds averaged weights under {averaged!r} and raw ones under {raw!r}: took the "
            f"averaged; pass weights_key={raw!r} for the others",
            ChosenWeightsWarning,
            stacklevel=2,
        )
    if averaged is not None or raw is not None:
        return found[averaged or raw or ""]
    sets = [] if _has_tensors(found) else [key for key, value in found.items() if _has_tensors(value)]
    if len(sets) > 1:
        raise CheckpointError(
            f"{path} holds several sets of tensors: {_listed(found)}; choose one: weights_key={short(sets[0], 60)!r}"
        )
    return found[sets[0]] if sets else None


def _has_tensors(value: Any) -> bool:
    """Whether this is a dictionary with tensors, such as a state dict."""
    return isinstance(value, Table) and any(isinstance(one, TensorPlan) for one in value.values())


def _nested(value: Any) -> bool:
    """Whether this is a dictionary with a state dict under one of the usual names."""
    return isinstance(value, Table) and not _has_tensors(value) and any(_has_tensors(value.get(one)) for one in RAW)


def _listed(found: Any) -> str:
    """The entries of a file that hold tensors, for a message."""
    sets = (
        [key for key, value in found.items() if _has_tensors(value) or _nested(value)]
        if isinstance(found, Table)
        else []
    )
    return ", ".join(repr(short(key, 60)) for key in sets[:8]) + (", ..." if len(sets) > 8 else "")


def _state_dict(found: Any, path: Path) -> dict[str, TensorPlan]:
    """The same, if it holds nothing but tensors by name."""
    if isinstance(found, Reference):
        raise foreign(path, found.name)
    if not isinstance(found, Table):
        raise CheckpointError(
            f"{path} holds {_described(found)}, not tensors by name; write state_dict() of the network"
        )
    if found.strange is not None:
        raise not_a_name(path, found.strange)
    for name, plan in found.items():
        check_name(name, path)
        if isinstance(plan, Reference) and plan.name.startswith("torch._utils._rebuild_"):
            raise CheckpointError(
                f"{path} holds a tensor {short(name)!r} that is sparse, quantised or without its "
                "numbers; write it as a dense one"
            )
        if isinstance(plan, Reference):
            raise foreign(path, plan.name)
        if not isinstance(plan, TensorPlan):
            raise CheckpointError(
                f"{path} holds {_described(plan)} under {short(name)!r}, where only tensors are "
                "expected; write state_dict() of the network alone"
            )
    return found


def _described(value: Any) -> str:
    if isinstance(value, TensorPlan):
        return "a Tensor"
    return "a dict" if isinstance(value, Table) else kind_of(value)


def check_name(name: str, path: Path) -> None:
    """Raise unless this may be a tensor's name."""
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise not_a_name(path, name)


def not_a_name(path: Path, name: Any) -> CheckpointError:
    """The error for a key in a state dict that is no tensor's name."""
    shown = (
        f"a {name.name}" if isinstance(name, Reference) else short(repr(name[:200] if isinstance(name, str) else name))
    )
    return CheckpointError(f"{path} holds {shown}, which is no tensor's name; write it again")


def by_own_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """Tensors without what wrappers, averaging and profilers add to a network's state dict.

    A wrapper of a network, or of a part as in `features.module.0.weight`, puts its word into all names of that part;
    where only some have it, it stays. An average counts its updates in `n_averaged`; a profiler leaves `total_ops` and
    `total_params` in each layer.
    """
    kept = {
        name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in ("total_ops", "total_params")
    }
    for _ in range(NESTED * 2):
        names = list(kept)
        if "n_averaged" in kept and all(name.startswith("module.") for name in names if name != "n_averaged"):
            del kept["n_averaged"]
            continue
        prefix = next((one for one in ATTRIBUTES if names and all(name.startswith(f"{one}.") for name in names)), None)
        own = [name.removeprefix(f"{prefix}.") for name in names] if prefix else _unwrapped(names)
        if own == names or len(set(own)) < len(own):
            break
        kept = dict(zip(own, kept.values(), strict=True))
    return kept


_WRAPPER = re.compile(rf"(?:^|\.)({'|'.join(WRAPPERS)})\.")


def _unwrapped(names: list[str]) -> list[str]:
    """Names without the first wrapper's word in each, where all names of the same part have it."""
    found = {name: match.start(1) for name in names if (match := _WRAPPER.search(name))}
    parts = {name[:at]: name[at : name.index(".", at) + 1] for name, at in found.items()}
    for name in names:
        at = 0
        while True:
            if (word := parts.get(name[:at])) is not None and not name.startswith(word, at):
                del parts[name[:at]]
            at = name.find(".", at) + 1
            if not at:
                break
    return [
        name[:at] + name[at + len(parts[name[:at]]) :]
        if (at := found.get(name, -1)) >= 0 and name[:at] in parts
        else name
        for name in names
    ]
