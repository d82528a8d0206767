"""What is kept of a finished run: the evidence for what its recipe reaches."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import cnnzoo
from cnnzoo.data.images import ImageSet
from cnnzoo.errors import DataError
from cnnzoo.support.files import plain, replacing
from cnnzoo.support.hardware import processor
from cnnzoo.support.text import counted
from cnnzoo.training.batches import Split
from cnnzoo.training.recipe import Recipe
from cnnzoo.training.state import Epoch
from cnnzoo.training.world import World

RESULT = "result.json"


@dataclass(frozen=True)
class Result:
    """A finished run, as `result.json` has it.

    Attributes:
        recipe: its name.
        stated: everything that the recipe stated, changes included.
        seed: of weights, order and augmentation.
        images: training and test images, and those held out for validation.
        epochs: what every epoch came to.
        command: that does the same again.
        hardware: processors and how many processes used them.
        versions: of cnnzoo and torch.
        date: of the end, UTC.
        published_test: images in the published test set, where fewer were used.
    """

    recipe: str
    stated: dict[str, Any]
    seed: int
    images: dict[str, int]
    epochs: list[Epoch]
    command: str
    hardware: str
    versions: dict[str, str]
    date: str
    published_test: int | None = None

    def write(self, path: Path) -> None:
        """As JSON; the file appears whole or not at all."""
        with replacing(path) as aside:
            aside.write_text(json.dumps(plain(asdict(self)), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> "Result":
        """What `write` wrote.

        Raises:
            DataError: the file holds something else.
        """
        try:
            found = json.loads(path.read_text("utf-8"))
            return cls(**found | {"epochs": [Epoch(**epoch) for epoch in found["epochs"]]})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path} is not the result of a training run: {error}") from None


def result(
    recipe: Recipe, seed: int, sets: Mapping[str, Split], epochs: list[Epoch], command: str, world: World
) -> Result:
    """The result of a run that has ended here and now."""
    test = sets["test"]
    return Result(
        recipe=recipe.name,
        stated=recipe.stated,
        seed=seed,
        images={name: len(split) for name, split in sets.items()},
        epochs=epochs,
        command=command,
        hardware=hardware(world),
        versions={"cnnzoo": cnnzoo.__version__, "torch": torch.__version__},
        date=datetime.now(UTC).date().isoformat(),
        published_test=test.whole if isinstance(test, ImageSet) and test.is_part else None,
    )


def hardware(world: World) -> str:
    """Processors, as their makers call them, and how many of them a run uses."""
    if world.device.type == "cuda":
        return f"{world.size} x {torch.cuda.get_device_name(world.device)}"
    processes = f", {world.size} processes" if world.size > 1 else ""
    return f"{processor()}, {counted(torch.get_num_threads(), 'thread')}{processes}"
