"""What timm writes beside its weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CheckpointError


def by_timm(said: Mapping[str, Any], path: Path) -> tuple[str, dict[str, Any], Checkpoint | None]:
    """Our name, arguments and description of the network that a `config.json` of timm's describes.

    Raises:
        CheckpointError: it is not as timm writes it.
    """
    try:
        name = str(said["architecture"]).replace("resnetv2_", "preresnet")
        options = {"num_classes": int(said["num_classes"])} if "num_classes" in said else {}
        images = said.get("pretrained_cfg") or {}
        if "input_size" not in images:
            return name, options, None
        size = int(images["input_size"][-1])
        prepared = Preprocessing(
            size=size,
            resize=math.floor(size / float(images.get("crop_pct", 0.875))),
            interpolation=images.get("interpolation", "bicubic"),
            mean=tuple(images["mean"]),
            std=tuple(images["std"]),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path} is not a configuration as timm writes it: {error}") from None
    classes = "imagenet1k" if options.get("num_classes") == 1000 else ()
    return (
        name,
        options,
        Checkpoint(tag=str(images.get("tag") or path.parent.name), preprocessing=prepared, class_set=classes),
    )
