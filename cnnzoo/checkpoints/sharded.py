"""Weights that are spread over several files, with an index that says which tensor is in which."""

from pathlib import Path

from cnnzoo.checkpoints.folder import inside, read_json
from cnnzoo.checkpoints.formats import short
from cnnzoo.errors import CheckpointError

MOST_SHARDS = 1000
"""Files that an index may name."""


def is_index(path: Path) -> bool:
    """Whether a file is called as an index is: `model.safetensors.index.json`."""
    return path.name.endswith(".index.json")


def shards_of(index: Path) -> dict[Path, set[str]]:
    """The files that an index names, and the tensors that each of them must hold.

    Raises:
        CheckpointError: the index is damaged, or names files outside its folder.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(one, str) for one in places.values()):
        raise CheckpointError(f"{index} has no weight_map, a table of tensors and files; fetch or write it again")
    names: dict[str, set[str]] = {}
    for tensor, file in places.items():
        names.setdefault(file, set()).add(tensor)
    if len(names) > MOST_SHARDS:
        raise CheckpointError(f"{index} names {len(names)} files; up to {MOST_SHARDS} are read")
    return {inside(index.parent, file): tensors for file, tensors in names.items()}


def check_shard(found: set[str], expected: set[str], shard: Path) -> None:
    """Raise unless a file holds the tensors that the index says."""
    wrong = sorted(found ^ expected)
    if wrong:
        raise CheckpointError(
            f"{shard} and its index disagree on {len(wrong)} tensors: {short(', '.join(wrong), 200)}; fetch the files "
            "again, all of one version"
        )
