"""Read the tensors of files that `torch.save` wrote, with no unpickler: neither Python's nor torch's.

Since torch 1.6 such a file is a zip archive: a pickle that describes the object, and a file with the numbers of each
storage. Before, pickles and numbers followed each other. Of both, `pickles.py` reads what the object is; the numbers of
a tensor are read, or mapped, when that tensor is asked for.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, UntypedStorage

from cnnzoo.checkpoints.archives import Entry, place_of, read_directory
from cnnzoo.checkpoints.formats import reason, short
from cnnzoo.checkpoints.pickles import Storage, Table, TensorPlan, read_pickle
from cnnzoo.errors import CheckpointError

LARGEST_PICKLE = 64 * 2**20
"""Bytes that describe the object beside the numbers; of a ResNet-152 they are 0.1 MB."""

MOST_SHARED = 8
"""How many times the tensors of a file may together be larger than the file, since tensors may share their numbers."""

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""The first two numbers in files from before torch 1.6."""

ALIGNMENT = 16
"""Bytes; a mapped storage begins at a multiple, as all do that `torch.save` aligned, or it is copied."""


class TorchFile:
    """An opened file of `torch.save`.

    Attributes:
        path: of the file.
        found: what it holds, with a `TensorPlan` in place of each tensor and a `Reference` in place of what is neither
            tensor nor plain container.
    """

    def __init__(self, path: Path, buffer: mmap, archive: bool, mapped: bool) -> None:
        self.path, self._buffer = path, buffer
        self._whole = UntypedStorage.from_file(str(path), False, len(buffer)) if mapped and archive else None
        self._storages: dict[tuple[str, int], UntypedStorage] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._entries: dict[str, Entry] = {}
        self._folder, self._limit, self._read = "", len(buffer), 0
        self._swapped = False
        self.found: Any = self._archive() if archive else self._sequence()

    def tensors(self, plans: Mapping[str, TensorPlan]) -> dict[str, Tensor]:
        """The planned tensors.

        Raises:
            ValueError: their numbers are missing, or shared so often that they would fill the memory.
        """
        if sum(plan.nbytes for plan in plans.values()) > MOST_SHARED * len(self._buffer):
            raise ValueError(f"its tensors together are more than {MOST_SHARED} times as large as the file")
        return {name: self._tensor(plan) for name, plan in plans.items()}

    def _tensor(self, plan: TensorPlan) -> Tensor:
        untyped = self._storage(plan.storage, plan.dtype)
        offset = plan.offset + plan.storage.start  # which counts in numbers, where it is other than 0
        return torch.empty(0, dtype=plan.dtype, device="cpu").set_(untyped, offset, plan.size, plan.stride)

    def _storage(self, storage: Storage, dtype: torch.dtype) -> UntypedStorage:
        """A block of numbers, once however many tensors share it."""
        width = (dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize) if self._swapped else 1
        begin, size = self._place(storage.key)
        if (storage.start + storage.length) * storage.width > size:
            raise ValueError(f"the numbers of storage {storage.key[:40]!r} are not all there")
        known = self._storages.get((storage.key, width))
        if known is None:
            if self._whole is not None and begin % ALIGNMENT == 0 and width == 1:
                known = cast(UntypedStorage, self._whole[begin : begin + size])
            else:
                known = self._copied(begin, size, width)
            self._storages[storage.key, width] = known
        return known

    def _copied(self, begin: int, size: int, width: int) -> UntypedStorage:
        self._read += size
        if self._read > 2 * len(self._buffer):  # twice where it is read in two byte orders
            raise ValueError("its storages overlap")
        if size == 0:
            return UntypedStorage(0)
        numbers = torch.frombuffer(bytearray(memoryview(self._buffer)[begin : begin + size]), dtype=torch.uint8)
        if width > 1:
            whole = size // width * width
            numbers = torch.cat([numbers[:whole].view(-1, width).flip(1).flatten(), numbers[whole:]])
        return numbers.untyped_storage()

    def _place(self, key: str) -> tuple[int, int]:
        """Where a storage's bytes begin, and how many there are."""
        if key not in self._places:
            name = f"{self._folder}/data/{key}"
            entry = self._entries.get(name)
            if entry is None:
                raise ValueError(f"the numbers of storage {key[:40]!r} are missing")
            self._places[key] = place_of(self._buffer, name, entry, self._limit), entry.size
        return self._places[key]

    def _archive(self) -> Any:
        """The object of a zip archive."""
        self._entries, self._limit = read_directory(self._buffer)
        if any(not entry.stored for entry in self._entries.values()):
            raise CheckpointError(
                f"{self.path} is a compressed archive, which torch.save does not write; if the file "
                "of weights is inside, unpack it"
            )
        if any(name.endswith("/constants.pkl") for name in self._entries):
            raise CheckpointError(
                f"{self.path} is a TorchScript program, which is not run; write its state_dict() alone"
            )
        pickles = [name for name in self._entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if not pickles:
            raise CheckpointError(
                f"{self.path} is an archive, but not one of torch.save; if the file of weights is inside, unpack it"
            )
        if len(pickles) > 1:
            raise ValueError("it holds several pickles")
        self._folder = pickles[0].removesuffix("/data.pkl")
        self._swapped = self._record("byteorder", 16) not in (sys.byteorder.encode(), b"")
        at, size = self._file("data.pkl")
        if size > LARGEST_PICKLE:
            raise ValueError(f"its pickle has more than {LARGEST_PICKLE} bytes")
        return read_pickle(self._buffer, at, at + size).value

    def _file(self, name: str) -> tuple[int, int]:
        name = f"{self._folder}/{name}"
        entry = self._entries[name]
        return place_of(self._buffer, name, entry, self._limit), entry.size

    def _record(self, name: str, longest: int) -> bytes:
        """A short file of the archive, which need not be there."""
        if f"{self._folder}/{name}" not in self._entries:
            return b""
        at, size = self._file(name)
        return self._buffer[at : at + min(size, longest)].strip()

    def _sequence(self) -> Any:
        """The object of a file from before torch 1.6: number, version, system, object and keys, then the storages."""
        first = read_pickle(self._buffer, 0, self._longest(0))
        if first.value != MAGIC:
            if first.called:
                raise foreign(self.path, first.called)
            raise ValueError("Invalid magic number")
        version = read_pickle(self._buffer, first.end, self._longest(first.end))
        system = read_pickle(self._buffer, version.end, self._longest(version.end))
        if version.value != PROTOCOL or not isinstance(system.value, Table):
            raise ValueError("it is of another version")
        self._swapped = system.value.get("little_endian", True) is not (sys.byteorder == "little")
        found = read_pickle(self._buffer, system.end, self._longest(system.end))
        keys = read_pickle(self._buffer, found.end, self._longest(found.end))
        at = keys.end
        for key in keys.value if isinstance(keys.value, list) else ():
            count, width = int.from_bytes(self._buffer[at : at + 8], "little"), found.widths[key]
            if count * width > len(self._buffer) - at - 8:
                raise ValueError(f"the numbers of storage {key[:40]!r} are not all there")
            self._places[key] = at + 8, count * width
            at += 8 + count * width
        return found.value

    def _longest(self, at: int) -> int:
        return min(len(self._buffer), at + LARGEST_PICKLE)


@contextmanager
def opened_torch(path: Path, kind: Literal["zip", "pickle"], mmap_it: bool) -> Iterator[TorchFile]:
    """A file of `torch.save`; errors while it is open are taken to be the file's.

    Args:
        path: of the file.
        kind: what its first bytes say that it is.
        mmap_it: whether tensors may be a private mapping of the file; of files from before torch 1.6 they never are.

    Raises:
        CheckpointError: the file is damaged, or nothing that `torch.save` writes.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as buffer:
            yield TorchFile(path, buffer, kind == "zip", mmap_it)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a whole file of torch.save: "
            f"{reason(error)}; fetch or write it again"
        ) from None


def foreign(path: Path, name: str) -> CheckpointError:
    """The error for a file that holds something else where its tensors should be."""
    return CheckpointError(
        f"{path} holds more than tensors: it refers to {short(name)!r}, which was not run; "
        "ask for a safetensors file, or write state_dict() alone"
    )
