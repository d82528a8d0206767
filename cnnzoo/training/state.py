"""What a training run keeps, so that it can go on after it was killed."""

from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import CheckpointError
from cnnzoo.support.files import replacing
from cnnzoo.support.text import first_line
from cnnzoo.training.recipe import Recipe
from cnnzoo.training.world import World

BEFORE = {"validation": 0, "own_size": False}
"""Values of fields that recipes did not have when a state was saved."""

FREE = {"epochs", "steps", "title", "published", "differs", "compile", "channels_last", "own_size"}
"""Fields of a recipe that may change from one call to the next: its length, what is said of it, and how it runs."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set came to; losses are means, accuracies shares, times seconds."""

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    test_top5: float | None
    test_characters: float | None
    seconds: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None

    @property
    def watched(self) -> float:
        """The accuracy that a schedule may follow: of the validation set where there is one, else of the test set."""
        return self.test_accuracy if self.validation_accuracy is None else self.validation_accuracy

    @property
    def line(self) -> str:
        """What it came to, for people."""
        validated = "" if self.validation_accuracy is None else f"validation {self.validation_accuracy:.4f}, "
        return (
            f"epoch {self.epoch:3d}: loss {self.train_loss:.4f}, train {self.train_accuracy:.4f}, {validated}"
            f"test {self.test_accuracy:.4f}, {self.seconds:.1f} s"
        )


@dataclass
class State:
    """The state of a run after an epoch: weights, optimiser, and the epochs so far."""

    path: Path
    recipe: Recipe
    seed: int
    network: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for a run to go on."""
        stated = self.recipe.stated | {"seed": self.seed}
        return {key: value for key, value in stated.items() if key not in FREE}

    def save(self, epochs: list[Epoch]) -> None:
        """Write the state aside, then rename it over the last one.

        Raises:
            CheckpointError: it could not be written; the last one is intact.
        """
        state = {
            "identity": self.identity,
            "epochs": [asdict(epoch) for epoch in epochs],
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        try:
            with replacing(self.path) as aside:
                torch.save(state, aside)
        except (OSError, RuntimeError) as error:  # torch's own writer does not raise OSErrors
            kept = f"that of epoch {len(epochs) - 1} is intact" if self.path.exists() else "there is none yet"
            raise CheckpointError(
                f"the state of the run could not be written to {self.path} ({first_line(error)}); {kept}: make room on "
                "the disk and run the same command again"
            ) from None

    def load(self, world: World) -> list[Epoch]:
        """Bring network and optimiser to the saved state, if there is one; only the first process reads it.

        Raises:
            CheckpointError: the file is of another run, or no state of a run.
        """
        state = world.agreed(self._read() if world.is_first else None)
        if isinstance(state, str):
            raise CheckpointError(state)
        if state is None:
            return []
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        return [Epoch(**epoch) for epoch in state["epochs"]]

    def _read(self) -> dict[str, Any] | str | None:
        """What was saved, what is wrong with it, or None."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            identity = BEFORE | state["identity"]
            names = {one.name: one.default is MISSING for one in fields(Epoch)}
            needed = {name for name, required in names.items() if required}
            if not all(needed <= epoch.keys() <= names.keys() for epoch in state["epochs"]):
                raise ValueError("another version of cnnzoo wrote it")
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            return f"{self.path} is not the state of a run ({said}); delete it to start afresh"
        changed = [
            f"{key} {identity.get(key)} there, {new} here"
            for key, new in self.identity.items()
            if identity.get(key) != new
        ]
        if changed:
            return f"{self.path} is of another run ({'; '.join(changed)}); choose another --out"
        return state
