"""The training loop: one for every recipe."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from cnnzoo.checkpoints.save import save_pretrained
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.cnn import CNN
from cnnzoo.data.captcha import FreshCaptchas
from cnnzoo.data.images import ImageSet
from cnnzoo.errors import OptionError, operation
from cnnzoo.support.files import replacing
from cnnzoo.support.progress import Display
from cnnzoo.support.text import counted
from cnnzoo.training.batches import Batch, Plan, Split, loader
from cnnzoo.training.curves import can_draw, draw
from cnnzoo.training.evaluation import Measures, evaluate
from cnnzoo.training.fitting import require_scores, require_size
from cnnzoo.training.losses import Objective
from cnnzoo.training.recipe import Recipe, load_recipe
from cnnzoo.training.results import RESULT, result
from cnnzoo.training.sdlm import SDLM
from cnnzoo.training.state import Epoch, State
from cnnzoo.training.world import World, joined
from cnnzoo.zoo import construct_named


@dataclass
class Run:
    """A finished run: the trained network, what each epoch came to, and the folder with its files."""

    model: CNN
    epochs: list[Epoch]
    folder: Path


@operation
def train(
    recipe: Recipe | str,
    sets: Mapping[str, Split] | Path | str | None = None,
    folder: Path | str | None = None,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
    workers: int | None = None,
    command: str = "",
) -> Run:
    """Run a recipe, or resume where an earlier call in the same folder stopped.

    After every epoch the run's state is written aside and renamed, so that a killed run loses less than an epoch; the
    random numbers of an epoch follow from seed and epoch alone, so that a resumed run equals an uninterrupted one.

    Under torchrun the processes share every batch; the first of them writes. Batch normalisation then sees each
    process's own part of a batch.

    Args:
        recipe: what to do; a name or a path is read by `load_recipe`.
        sets: images to train (`"train"`) and to measure on (`"test"`), or the folder from which the recipe loads them;
            `"validation"` is measured too, and by default held out of the training set where the recipe states how
            many images.
        folder: where `last.pt` (the run's state) and `log.jsonl` go, and at the end `model.safetensors` with its
            `config.json` and card, `result.json`, and `curves.png` where matplotlib is installed; by default
            `runs/RECIPE-seedN`.
        seed: of the weights, the order of the images and their augmentation.
        device: where to train; by default CUDA where there is one.
        progress: whether to show a progress bar and a line for each epoch.
        workers: processes that read images from files; by default one less than there are processors.
        command: what was typed, for `result.json`.

    Raises:
        UnknownNameError: there is no recipe of that name.
        DataError: the folder does not hold the recipe's data set.
        CheckpointError: the folder holds the state of another run, or the state could not be written.
        OptionError: the images do not fit the recipe's network, or their number its batches.

    Examples:
        >>> import cnnzoo
        >>> recipe = cnnzoo.load_recipe("lenet5_mnist", steps=1, batch_size=10, validation=0)
        >>> run = cnnzoo.train(recipe, "data/mnist", device="cpu", progress=False)
        >>> run.folder.name, run.epochs[-1].step
        ('lenet5_mnist-seed0', 1)
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    sets = sets if isinstance(sets, Mapping) else recipe.load_data(sets)
    folder = Path("runs") / f"{recipe.name}-seed{seed}" if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        world = stack.enter_context(joined(device))
        stack.enter_context(torch.random.fork_rng([world.device] if world.device.type == "cuda" else []))
        if isinstance(sets["train"], FreshCaptchas):
            stack.callback(sets["train"].stop)
        if world.is_first:
            for unfinished in folder.glob("*.part"):  # of a run that was killed while it wrote
                unfinished.unlink()
        sets = recipe.hold_out(sets, seed)
        recipe = recipe.fitted(sets)
        session = Session(recipe, sets, folder / "last.pt", seed, world, workers)
        display = stack.enter_context(Display(enabled=progress and world.is_first))
        finished = session.step >= session.last_step and (folder / RESULT).exists()
        while session.step < session.last_step:
            session.run_epoch(display)
            if world.is_first:
                session.state.save(session.epochs)
                _write_log(session.epochs, folder / "log.jsonl")
            display.end()
            display.say(session.epochs[-1].line)
        if world.is_first and not finished:
            _write_result(session, folder, command)
        return Run(session.network, session.epochs, folder)


class Session:
    """A run in progress: what a recipe states, made, and how far it has come."""

    def __init__(
        self, recipe: Recipe, sets: Mapping[str, Split], path: Path, seed: int, world: World, workers: int | None
    ) -> None:
        self.recipe, self.sets, self.seed, self.world, self.workers = recipe, sets, seed, world, workers
        if recipe.batch_size % world.size:
            raise OptionError(
                f"{world.size} processes cannot share batches of {recipe.batch_size} evenly; set batch_size to "
                f"a multiple of {world.size}"
            )
        if len(sets["train"]) < recipe.batch_size:
            raise OptionError(
                f"{len(sets['train'])} images are fewer than a batch of {recipe.batch_size}; lower batch_size"
            )
        self.steps_per_epoch = len(Plan(len(sets["train"]), recipe.batch_size, seed, 1, world))
        self.last_step = recipe.steps or (recipe.epochs or 0) * self.steps_per_epoch
        self.last_epoch = -(-self.last_step // self.steps_per_epoch)

        self.measured = {name: split for name, split in sets.items() if name != "train"}
        self.network = self._network()
        require_size(recipe, self.network)
        for split in self.measured.values():
            require_scores(self.network, split)
        self.criterion = recipe.make_loss()
        self.optimizer = recipe.make_optimizer(self.network)
        self.schedule = recipe.make_schedule()
        self.state = State(path, recipe, seed, self.network, self.optimizer)
        self.epochs = self.state.load(world)
        self.loader = loader(sets["train"], recipe.make_transforms(), world, workers)
        objective = Objective(self.network, self.criterion, recipe.loss.get("aux", 0.0), recipe.precision)
        if recipe.compile:
            objective.compile()
        self.objective = world.wrap(objective)

    def _network(self) -> CNN:
        recipe, device = self.recipe, self.world.device
        options = recipe.options_for(self.sets["train"].classes)
        network = construct_named(recipe.network, options, device=device, seed=self.seed, init=recipe.init is None)
        recipe.initialize(network, torch.Generator(device).manual_seed(self.seed))
        assert isinstance(network, CNN)
        return network.to(memory_format=torch.channels_last) if recipe.channels_last else network

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.epochs[-1].step if self.epochs else 0

    def run_epoch(self, display: Display) -> None:
        """One pass over the training set, or what is left of the run, and a look at the test set."""
        number, started = len(self.epochs) + 1, time.perf_counter()
        torch.manual_seed(self.seed * 1_000_003 + number * 1009 + self.world.rank)  # of dropout
        last = number == self.last_epoch
        plan = Plan(len(self.sets["train"]), self.recipe.batch_size, self.seed, number, self.world, last)
        steps = min(len(plan), self.last_step - self.step)
        display.begin(f"epoch {number} of {self.last_epoch}", steps)
        self.prepare(plan)
        loss, accuracy = self.fit(islice(self.loader.epoch(plan), steps), display)
        self.world.share_buffers(self.network)
        measures = {name: self.measure(name, split, display) for name, split in self.measured.items()}
        tested, validated = measures["test"], measures.get("validation")
        self.epochs.append(
            Epoch(
                epoch=number,
                step=self.step + steps,
                learning_rate=self.optimizer.param_groups[0]["lr"],
                train_loss=loss,
                train_accuracy=accuracy,
                test_loss=tested.loss,
                test_accuracy=tested.accuracy,
                test_top5=tested.top5,
                test_characters=tested.characters,
                seconds=round(time.perf_counter() - started, 3),
                validation_loss=validated and validated.loss,
                validation_accuracy=validated and validated.accuracy,
            )
        )

    def measure(self, name: str, split: Split, display: Display) -> Measures:
        """Measure the network on the test set or the validation set."""
        assert not isinstance(split, FreshCaptchas)
        display.begin(f"{name} images", len(split), unit="image")
        return evaluate(
            self.network,
            split,
            self.recipe.preprocessing,
            self.criterion,
            views=self.recipe.views,
            world=self.world,
            workers=self.workers,
            display=display,
        )

    def fit(self, batches: Iterator[Batch], display: Display) -> tuple[float, float]:
        """Train on batches: the mean loss and the accuracy meanwhile."""
        self.network.train()
        so_far, accuracies = Total(self.world), [epoch.watched for epoch in self.epochs]
        for done, batch in enumerate(batches, 1):
            self._set_learning_rate(self.step + done, accuracies)
            inputs = batch.inputs
            if self.recipe.channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            loss, hits = self.objective(inputs, batch.labels)
            self.optimizer.zero_grad(set_to_none=True)
            (loss if batch.weight == 1 else loss * batch.weight).backward()
            self.optimizer.step()
            so_far.add(loss.detach(), hits, batch.rows)
            display.step(done, so_far.line)
        return so_far.of_all()

    def _set_learning_rate(self, step: int, accuracies: list[float]) -> None:
        unit = self.steps_per_epoch if self.schedule.unit == "epochs" else 1
        rate = self.recipe.optimizer["lr"] * self.schedule.rate(step / unit, self.last_step / unit, accuracies)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def prepare(self, plan: Plan) -> None:
        """What the optimiser of 1998 does before an epoch: measure the curvature on its first images."""
        optimizer = self.optimizer
        if not isinstance(optimizer, SDLM):
            return
        wanted, images, labels = -(-optimizer.samples // self.world.size), [], []
        for batch in self.loader.epoch(plan):
            images.append(batch.inputs)
            labels.append(batch.labels)
            if sum(map(len, labels)) >= wanted:
                break
        optimizer.estimate(self.network, self.criterion, torch.cat(images)[:wanted], torch.cat(labels)[:wanted])
        for state in optimizer.state.values():
            self.world.sum(state["curvature"]).div_(self.world.size)


class Total:
    """Loss and hits of an epoch, added up where they are: reading them would make this process wait for a GPU."""

    def __init__(self, world: World) -> None:
        self.world, self.seen = world, 0
        self.loss, self.hits = (torch.zeros((), dtype=torch.float64, device=world.device) for _ in range(2))

    def add(self, loss: Tensor, hits: Tensor, rows: int) -> None:
        """A batch, of which so many images are this process's."""
        if rows:
            self.loss.add_(loss, alpha=rows)
            self.hits.add_(hits)
            self.seen += rows

    def means(self) -> tuple[float, float]:
        """Over the images of this process."""
        return self.loss.item() / self.seen, self.hits.item() / self.seen

    def line(self) -> str:
        """The same, for people."""
        return "loss {:.4f}, accuracy {:.4f}".format(*self.means())

    def of_all(self) -> tuple[float, float]:
        """Over the images of all processes."""
        loss, hits, seen = self.world.sum(torch.stack([self.loss, self.hits, torch.full_like(self.loss, self.seen)]))
        return (loss / seen).item(), (hits / seen).item()


def _write_log(epochs: list[Epoch], path: Path) -> None:
    with replacing(path) as aside:
        aside.write_text("".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs), "utf-8")


def _write_result(session: Session, folder: Path, command: str) -> None:
    """What is left of a run: the network with what is known of it, the evidence, and the curves."""
    recipe, epochs, classes = session.recipe, session.epochs, session.sets["test"].classes
    length, test = counted(len(epochs), "epoch"), session.sets["test"]
    measured = ""
    if isinstance(test, ImageSet) and test.is_part:
        measured = f" The accuracy is that of {len(test):,} of the {test.whole:,} published test images."
    session.network.checkpoint = Checkpoint(
        tag=recipe.name,
        preprocessing=recipe.preprocessing,
        class_set=tuple(classes) if len(classes) == session.network.num_classes else (),
        accuracy=round(epochs[-1].test_accuracy, 4),
        recipe=recipe.name,
        data=recipe.data["name"],
        card=f"Trained by the recipe {recipe.name} ({length}, seed {session.seed}): {recipe.title}.{measured}",
    )
    save_pretrained(session.network, folder)
    result(recipe, session.seed, session.sets, epochs, command, session.world).write(folder / RESULT)
    if can_draw():
        draw({recipe.name: epochs}, folder / "curves.png", recipe.title)
