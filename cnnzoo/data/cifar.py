"""The two official versions of CIFAR-10 and CIFAR-100: records of bytes, and pickles for Python."""

import hashlib
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnnzoo.data.places import Place
from cnnzoo.errors import DataError

PIXELS = 3 * 32 * 32


def read_binary(place: Place, names: Sequence[str], label_bytes: int) -> tuple[Tensor, Tensor]:
    """Read files of the binary version: images (N, 3, 32, 32) in uint8 and labels (N,).

    Args:
        place: the folder or archive with the files.
        names: the files of a split, in order.
        label_bytes: bytes before the pixels of a record, of which the last is the label: CIFAR-100 has the label of the
            superclass before it.

    Raises:
        DataError: a file is missing, or does not consist of whole records.
    """
    length = label_bytes + PIXELS
    parts = []
    for name in names:
        content = place.read(name)
        if not content or len(content) % length:
            raise DataError(
                f"{place.shown(name)} holds {len(content):,} bytes, which is no multiple of {length:,}, the "
                "length of a record; it is truncated or another file: download it again"
            )
        parts.append(torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, length))
    records = torch.cat(parts)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].long()


def read_pickled(place: Place, files: Sequence[Sequence[str]], key: str) -> tuple[Tensor, Tensor]:
    """Read files of the version for Python: images (N, 3, 32, 32) in uint8 and labels (N,).

    Args:
        place: the folder or archive with the files.
        files: name and MD5 sum of each file of a split, in order; a pickle can run any program, so that only the files
            that the authors published are unpickled.
        key: of the labels.

    Raises:
        DataError: a file is missing, or does not have its MD5 sum.
    """
    images, labels = [], []
    for name, md5 in files:
        batch = unpickled(place, name, md5)
        images.append(torch.as_tensor(batch["data"]).view(-1, 3, 32, 32))
        labels += batch[key]
    return torch.cat(images), torch.tensor(labels)


def unpickled(place: Place, name: str, md5: str) -> Any:
    """Unpickle a file after its MD5 sum was checked."""
    content = place.read(name)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{place.shown(name)} has the MD5 sum {found}; the file that its authors published has {md5}: "
            "download it again, or use the binary version or image folders"
        )
    return pickle.loads(content, encoding="latin1")
