"""What a training recipe states, and the file it stands in."""

import dataclasses
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.data.datasets import DATA_SETS
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import OptionError, unknown
from cnnzoo.models.lenet import MAPLoss

LOSSES: dict[str, Callable[..., nn.Module]] = {"cross_entropy": nn.CrossEntropyLoss, "map": MAPLoss}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@dataclass(frozen=True)
class Recipe:
    """A training run as data; the files beside this one hold those that come with cnnzoo.

    Attributes:
        name: the file's name.
        title: one line that says what it is for.
        network: the network's registered name.
        options: arguments of its constructor.
        data: the data set.
        preprocessing: from pictures to inputs.
        loss: `name` and the arguments of the loss.
        optimizer: `name` and the arguments of the optimiser, the peak learning rate `lr` among them.
        batch_size: pictures in a step.
        epochs: passes over the training set.
        init: the initialization; by default the network's own.
        augment: names of augmentations, in order: `flip` (left-right) and `shift` (up to 2 pixels).
        schedule: of the learning rate: `constant`, or `cosine` down to 0, after `warmup` epochs of linear rise.
        warmup: see `schedule`.
        published: what a publication reports for this run, with its source.
    """

    name: str
    title: str
    network: str
    data: str
    preprocessing: Preprocessing
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    batch_size: int
    epochs: int
    options: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    augment: tuple[str, ...] = ()
    schedule: str = "constant"
    warmup: float = 0.0
    published: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, name, known in (
            ("data set", self.data, DATA_SETS),
            ("loss", self.loss["name"], LOSSES),
            ("optimizer", self.optimizer["name"], OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            *(("augmentation", one, AUGMENTATIONS) for one in self.augment),
        ):
            if name not in known:
                raise unknown(f"recipe {self.name}", what, name, known)
        if self.epochs < 1 or self.batch_size < 1:
            raise OptionError(
                f"recipe {self.name}: got epochs={self.epochs}, batch_size={self.batch_size}; both are at least 1"
            )

    def make_loss(self) -> nn.Module:
        """The criterion: scores and targets to a scalar."""
        return _make(LOSSES, self.loss)

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over all parameters."""
        return _make(OPTIMIZERS, self.optimizer, model.parameters())

    def learning_rate(self, progress: float) -> float:
        """The factor on the peak learning rate after `progress` epochs."""
        if progress < self.warmup:
            return progress / self.warmup
        rest = self.epochs - self.warmup
        return SCHEDULES[self.schedule]((progress - self.warmup) / rest if rest > 0 else 0.0)

    def augmented(self, images: Tensor, background: float, generator: torch.Generator) -> Tensor:
        """A batch of images (N, C, H, W) as training sees it: each picture changed on its own."""
        for name in self.augment:
            images = AUGMENTATIONS[name](images, background, generator)
        return images


def load_recipe(name: str, **changes: Any) -> Recipe:
    """A recipe that comes with cnnzoo, by name, with other values for some of its fields.

    Raises:
        UnknownNameError: there is no such recipe.
    """
    if name not in list_recipes():
        raise unknown("train", "recipe", name, list_recipes())
    table = tomllib.loads(files("cnnzoo.recipes").joinpath(f"{name}.toml").read_text("utf-8"))
    table["preprocessing"] = Preprocessing(**table["preprocessing"])
    table["augment"] = tuple(table.get("augment", ()))
    return dataclasses.replace(Recipe(name=name, **table), **changes)


def list_recipes() -> list[str]:
    """The names of the recipes that come with cnnzoo."""
    return sorted(p.name.removesuffix(".toml") for p in files("cnnzoo.recipes").iterdir() if p.name.endswith(".toml"))


def _make(known: dict[str, Callable[..., Any]], stated: dict[str, Any], *args: Any) -> Any:
    return known[stated["name"]](*args, **{key: value for key, value in stated.items() if key != "name"})


def _cosine(progress: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))


def _flip(images: Tensor, background: float, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(chosen, images.flip(-1), images)


def _shift(images: Tensor, background: float, generator: torch.Generator, pixels: int) -> Tensor:
    n, c, h, w = images.shape
    padded = nn.functional.pad(images, [pixels] * 4, value=background)
    offsets = torch.randint(2 * pixels + 1, (2, n, 1), generator=generator, device=images.device)
    rows = (offsets[0] + torch.arange(h, device=images.device)).view(n, 1, h, 1)
    columns = (offsets[1] + torch.arange(w, device=images.device)).view(n, 1, 1, w)
    picture = torch.arange(n, device=images.device).view(n, 1, 1, 1)
    return padded[picture, torch.arange(c, device=images.device).view(1, c, 1, 1), rows, columns]


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": lambda progress: 1.0, "cosine": _cosine}
AUGMENTATIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "flip": _flip,
    "shift": partial(_shift, pixels=2),
}
