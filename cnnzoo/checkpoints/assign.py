"""Making the tensors of a file a network's own, all of them or none."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.errors import CheckpointError
from cnnzoo.support.torch_private import tensors_of


def assign(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, fresh: Collection[str] = ()) -> None:
    """Make these tensors the network's own, after all names, shapes and dtypes are checked.

    Args:
        model: the network; on an error it is as it was.
        tensors: by its own names.
        path: where they are from, for the message.
        fresh: layers that are left as they are.

    Raises:
        CheckpointError: something is missing, unexpected or misshapen.
    """
    left = tuple(f"{layer}." for layer in fresh)
    places = {name: place for name, place in places_of(model) if not name.startswith(left)}
    expected = {name: held[key] for name, (held, key, _) in places.items()}
    # Files from before 2018 do not count the batches that batch normalisation has seen.
    counters = {name for name in expected.keys() - tensors.keys() if name.endswith(".num_batches_tracked")}
    given = {**tensors, **{name: torch.zeros((), dtype=torch.long) for name in counters}}
    problems = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected.keys() - given.keys()]
    problems += [f"unexpected: {name} {tuple(given[name].shape)}" for name in given.keys() - expected.keys()]
    for name in expected.keys() & given.keys():
        ours, theirs = expected[name], given[name]
        if ours.shape != theirs.shape:
            problems.append(f"shape of {name}: {tuple(theirs.shape)} in the file, {tuple(ours.shape)} in the network")
        elif ours.is_floating_point() != theirs.is_floating_point():
            problems.append(f"dtype of {name}: {theirs.dtype} in the file, {ours.dtype} in the network")
    if problems:
        listed = "; ".join(sorted(problems)[:8]) + ("; ..." if len(problems) > 8 else "")
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__} in {len(problems)} of {len(expected)} tensors: {listed}"
        )
    for name, (held, key, learned) in places.items():
        held[key] = nn.Parameter(given[name], held[key].requires_grad) if learned else given[name]


def places_of(model: nn.Module) -> Iterator[tuple[str, tuple[dict[str, Any], str, bool]]]:
    """Where a network keeps each tensor of its state dict, and whether it is a parameter."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for held, key, tensor in tensors_of(module, persistent=True):
            yield prefix + key, (held, key, isinstance(tensor, nn.Parameter))
