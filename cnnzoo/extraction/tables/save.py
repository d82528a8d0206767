"""From a folder of images to a table of features."""

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import DataError, OptionError, operation
from cnnzoo.extraction.extractor import features
from cnnzoo.extraction.tables.batches import Transforms
from cnnzoo.extraction.tables.folder import list_images
from cnnzoo.extraction.tables.parts import Parts
from cnnzoo.extraction.tables.ranks import Ranks
from cnnzoo.extraction.tables.table import FeatureTable, load_features
from cnnzoo.extraction.tables.work import Work
from cnnzoo.support.files import plain
from cnnzoo.support.wrappers import inside


@operation
def save_features(
    model: CNN,
    folder: Path | str,
    path: Path | str,
    *layers: str,
    transforms: Transforms | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    part_size: int = 512,
    strict: bool = False,
    progress: bool = True,
) -> FeatureTable:
    """Write the features of every image below a folder to a file.

    A run that was stopped goes on with the same call: what is finished is in the folder `<path>.parts` until the table
    is whole. Under torchrun the processes share the work.

    Args:
        model: in evaluation mode, on the device and in the dtype that it is to compute in.
        folder: holds the images, or a folder of them for each class. The end of its name says what is an image, as
            it does for torchvision's `ImageFolder`.
        path: of the file, which ends in `.safetensors`.
        *layers: whose outputs are taken, as `cnnzoo.features` takes them.
        transforms: from a PIL image to an image (C, H, W); by default those of the network's weights.
        batch_size: images that the network takes at a time.
        workers: processes that read images, 0 for none but this one; by default one for each core, at most 16.
        part_size: images of a part. A run that is killed loses what it had done of a part; one that is interrupted
            (Ctrl-C) or ends in an error loses a batch at most.
        strict: whether an image that cannot be read is an error. Otherwise it is left out, and the table's `skipped`
            says why.
        progress: show a bar, or where there is no terminal a line every few seconds.

    Returns:
        The table, mapped.

    Raises:
        UnknownNameError: the network has no such layer.
        OptionError: the network is in training mode, or nothing says how its images are prepared.
        DataError: there are no images, they cannot be read, the file or its parts are of another run, or another
            process of this run stopped.
        OSError: the disk is full, or cannot be written.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> model = cnnzoo.load_pretrained("lenet5")
        >>> table = cnnzoo.save_features(model, "photos/train", "features.safetensors", progress=False, workers=0)
        >>> table.features.shape, table.classes
        (torch.Size([8, 84]), ['green', 'red'])
    """
    path, root = Path(path), Path(folder)
    model = inside(model)
    _check(model, path, batch_size=batch_size, part_size=part_size)
    extractor = features(model, *layers)
    prepare = transforms or _own_transforms(model)
    like = next(model.parameters())
    made_by = _made_by(model, layers, prepare, like.dtype) | {"part_size": part_size}
    with Ranks() as ranks:
        ranks.same(made_by, "networks")
        images = ranks.agree(partial(list_images, root))
        origin = made_by | {"images": len(images.files), "folder": images.fingerprint}
        parts = Parts(path, len(images.files), part_size, extractor.num_features, like.dtype)
        missing = ranks.agree(partial(_missing, parts, origin, strict))
        if missing is not None:
            work = Work(extractor, like.device, prepare, images, parts, missing, batch_size, workers, strict)
            ranks.conclude(work.attempt(ranks, progress))
            ranks.agree(partial(parts.join, images, origin))
    return load_features(path)


def _check(model: CNN, path: Path, **sizes: int) -> None:
    if path.suffix != ".safetensors":
        raise OptionError(f"{path}: tables are safetensors files; call it {path.stem}.safetensors")
    for name, value in sizes.items():
        if value < 1:
            raise OptionError(f"got {name}={value}; it is 1 or more")
    if any(module.training for module in model.modules()):
        raise OptionError(
            "the network is in training mode, in which an image's features depend on chance and on the "
            "images beside it; call model.eval() first"
        )


def _own_transforms(model: CNN) -> Transforms:
    if model.checkpoint is None:
        raise OptionError(
            "nothing says how this network wants its images: its weights are random, or from a file "
            "alone; pass transforms= (--transforms TAG), such as those of the published weights that it was trained "
            "from"
        )
    return model.checkpoint.transforms()


def _made_by(model: CNN, layers: Iterable[str], prepare: Transforms, dtype: torch.dtype) -> dict[str, Any]:
    """Everything the features depend on except the images, as JSON-compatible values."""
    config = model.config
    said = {
        "model": config.name if config else type(model).__name__,
        "options": plain(config.options) if config else str(model),
        "checkpoint": model.checkpoint.tag if model.checkpoint else None,
        "weights": _sha256(model),
        "layers": list(layers),
        "transforms": repr(prepare),
        "dtype": str(dtype).removeprefix("torch."),
    }
    return json.loads(json.dumps(said, default=repr))


def _sha256(model: nn.Module) -> str:
    """Of all parameters and buffers, names and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _missing(parts: Parts, origin: dict[str, Any], strict: bool) -> list[int] | None:
    """The parts that are to be made; None where the table is there already."""
    if parts.finished_before(origin):
        parts.remove()  # what a run leaves that was killed between the two
        return None
    parts.begin(origin)
    finished = parts.finished()
    missing = [number for number in range(len(parts)) if number not in finished]
    there = [*finished.values(), *map(parts.begun, missing)]
    unread = next((why for part in there for why in part.skipped.values()), None)
    if strict and unread:
        raise DataError(f"{unread}; leave out strict to go on without it")
    parts.check_room(missing)
    return missing
