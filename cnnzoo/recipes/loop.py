"""The training loop: one for every recipe."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.files import replacing, write_weights
from cnnzoo.data.datasets import ImageSet
from cnnzoo.errors import CheckpointError, OptionError
from cnnzoo.initialization import initialize
from cnnzoo.recipes.recipe import Recipe
from cnnzoo.zoo import construct_named


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set came to; losses are means, accuracies shares, times seconds."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass
class Run:
    """A finished run: the trained network, a line for each epoch, and the folder with its files."""

    model: nn.Module
    epochs: list[Epoch]
    folder: Path


def train(
    recipe: Recipe,
    sets: dict[str, ImageSet],
    folder: Path | str,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Run:
    """Run a recipe, or go on with it where an earlier call in the same folder stopped.

    Every epoch ends with a checkpoint, written aside and renamed, so that a killed run loses less than an epoch; the
    random numbers of an epoch follow from seed and epoch alone, so that a resumed run equals an uninterrupted one.

    Args:
        recipe: what to do.
        sets: pictures to train (`"train"`) and to measure on (`"test"`).
        folder: where `last.pt` (the checkpoint), `log.jsonl` and `model.safetensors` (the result) go.
        seed: of the weights, the order of the pictures and their augmentation.
        device: where to train; by default CUDA where there is one.
        progress: whether to show a progress bar and a line for each epoch.

    Raises:
        CheckpointError: the folder holds the checkpoint of another run.
        OptionError: the pictures do not fit the recipe's network.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = recipe.init is None
    model = construct_named(recipe.network, recipe.options, device=device, seed=seed, init=own)
    if not own:
        initialize(model, recipe.init, generator=torch.Generator(device).manual_seed(seed))
    loss, optimizer = recipe.make_loss(), recipe.make_optimizer(model)
    state = State(folder / "last.pt", recipe, seed, model, optimizer)
    epochs = state.load(device)

    prepare = recipe.preprocessing.transforms()
    inputs = {split: prepare(one.images.to(device)) for split, one in sets.items()}
    labels = {split: one.labels.to(device) for split, one in sets.items()}
    if len(inputs["train"]) < recipe.batch_size:
        raise OptionError(
            f"train: {len(inputs['train'])} pictures are fewer than a batch of {recipe.batch_size}; lower batch_size"
        )
    with Display(recipe, len(epochs), enabled=progress) as display:
        for number in range(len(epochs) + 1, recipe.epochs + 1):
            started = time.perf_counter()
            batches = Batches(recipe, inputs["train"], labels["train"], seed, number)
            train_loss, train_accuracy = fit(model, loss, optimizer, recipe, batches, number, display.advance)
            epoch = Epoch(
                epoch=number,
                learning_rate=optimizer.param_groups[0]["lr"],
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                test_accuracy=accuracy(model, inputs["test"], labels["test"]),
                seconds=round(time.perf_counter() - started, 3),
            )
            epochs.append(epoch)
            state.save(epochs)
            (folder / "log.jsonl").write_text("".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs))
            display.finish(epoch)
    write_weights(model, folder / "model.safetensors", {"recipe": recipe.name, "seed": str(seed)})
    return Run(model, epochs, folder)


def fit(
    model: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    batches: "Batches",
    number: int,
    advance: Callable[[], None],
) -> tuple[float, float]:
    """One pass over the training set: the mean loss and the accuracy while training."""
    model.train()
    total = torch.zeros(2, device=batches.inputs.device)  # loss and hits; read once, so that CUDA need not wait
    seen = 0
    for step, (images, targets) in enumerate(batches):
        rate = recipe.learning_rate(number - 1 + (step + 1) / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = recipe.optimizer["lr"] * rate
        with autocast(images.device):
            scores = model(images)
        value = loss(scores.float(), targets)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        total += torch.stack([value.detach() * len(targets), (scores.argmax(1) == targets).sum()])
        seen += len(targets)
        advance()
    mean_loss, hits = (total / seen).tolist()
    return mean_loss, hits


def autocast(device: torch.device):
    """bfloat16 where it helps: on CUDA devices whose matrix units take it."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


@torch.inference_mode()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 1000) -> float:
    """The share of pictures whose highest score is at their label."""
    model.eval()
    pairs = zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
    hits = sum((model(images).argmax(1) == targets).sum() for images, targets in pairs)
    return float(hits) / len(labels)


class Batches:
    """The shuffled and augmented batches of one epoch; the last, smaller one is left in."""

    def __init__(self, recipe: Recipe, inputs: Tensor, labels: Tensor, seed: int, number: int) -> None:
        self.recipe, self.inputs, self.labels = recipe, inputs, labels
        self.generator = torch.Generator(inputs.device).manual_seed(seed * 1_000_003 + number)
        self.background = recipe.preprocessing.background

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.recipe.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.inputs), generator=self.generator, device=self.inputs.device)
        for chosen in order.split(self.recipe.batch_size):
            images = self.recipe.augmented(self.inputs[chosen], self.background, self.generator)
            yield images, self.labels[chosen]


@dataclass
class State:
    """The state of a run after an epoch: weights, optimiser, and the epochs so far."""

    path: Path
    recipe: Recipe
    seed: int
    model: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for a run to go on: everything but the number of epochs and what is said about it."""
        stated = asdict(self.recipe) | {"seed": self.seed}
        return {key: value for key, value in stated.items() if key not in ("epochs", "title", "published")}

    def save(self, epochs: list[Epoch]) -> None:
        """Write the state aside, then rename it over the last one."""
        state = {
            "identity": self.identity,
            "epochs": [asdict(epoch) for epoch in epochs],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(self.path) as aside:
            torch.save(state, aside)

    def load(self, device: torch.device) -> list[Epoch]:
        """Bring model and optimiser to the saved state, if there is one."""
        if not self.path.exists():
            return []
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            identity = state["identity"]
        except Exception as error:
            raise CheckpointError(
                f"train: {self.path} is not a training checkpoint ({type(error).__name__}); delete it to start afresh"
            ) from None
        changed = [
            f"{key} {identity.get(key)} there, {new} here"
            for key, new in self.identity.items()
            if identity.get(key) != new
        ]
        if changed:
            raise CheckpointError(f"train: {self.path} is of another run ({'; '.join(changed)}); choose another --out")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return [Epoch(**epoch) for epoch in state["epochs"]]


class Display:
    """A progress bar over the run's steps and a line for each epoch, or nothing."""

    def __init__(self, recipe: Recipe, done: int, *, enabled: bool) -> None:
        self.recipe, self.done, self.enabled = recipe, done, enabled

    def __enter__(self) -> "Display":
        if self.enabled:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns)
            self.bar.start()
            self.epochs = self.bar.add_task("epochs", total=self.recipe.epochs, completed=self.done)
            self.steps = self.bar.add_task("steps", total=None)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.enabled:
            self.bar.stop()

    def advance(self) -> None:
        """One step is done."""
        if self.enabled:
            self.bar.advance(self.steps)

    def finish(self, epoch: Epoch) -> None:
        """One epoch is done."""
        if self.enabled:
            self.bar.advance(self.epochs)
            self.bar.console.print(
                f"epoch {epoch.epoch:3d}: loss {epoch.train_loss:.4f}, train {epoch.train_accuracy:.4f}, "
                f"test {epoch.test_accuracy:.4f}, {epoch.seconds:.1f} s"
            )
