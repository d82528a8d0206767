"""What the training loop costs: its steps beside bare ones on batches that lie ready."""

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.harness import Bench, benchmark
from cnnzoo.data import ImageSet
from cnnzoo.support.progress import Display
from cnnzoo.training import Recipe, load_recipe
from cnnzoo.training.batches import Plan
from cnnzoo.training.loop import Session
from cnnzoo.training.world import World

RECIPES = ("lenet5_fashion", "lenet5_1998", "tutorial_mnist_cnn_fashion", "cifar_resnet20_short", "captcha_cnn_small")

# So small that the weights stay about where they are: every round then computes with numbers of the same size.
LEARNING_RATE = 1e-7


@benchmark(min_time=0.0, device=True)
@click.option("--recipes", "names", default=",".join(RECIPES), show_default=True, help="Of data sets in memory.")
@click.option("--steps", type=click.IntRange(min=1), help="In a sample; by default what 2,000 images take.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="By default the recipe's.")
def training(bench: Bench, names: str, steps: int | None, precision: str | None) -> None:
    """The training loop beside bare steps: forward, backward and optimiser on batches that lie ready."""
    for name in names.split(","):
        changes = {"precision": precision} if precision else {}
        recipe = load_recipe(name, {"optimizer.lr": LEARNING_RATE, **changes})
        count = steps or max(4, 2000 // recipe.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            calls = candidates(recipe, count, World(torch.device(bench.device)), Path(folder))
            case = f"{name}, {count} steps of {recipe.batch_size}, {recipe.precision}, {bench.device}"
            bench.ratio(bench.compare(case, "bare steps", calls), "bare steps", to="loop", at_least=0.95)


def candidates(recipe: Recipe, steps: int, world: World, folder: Path) -> dict[str, Callable[[], object]]:
    """So many steps in the loop, and bare, on the same images with networks of the same weights."""
    images = noise(recipe, steps * recipe.batch_size)
    sets, path = {"train": images, "test": images}, folder / "last.pt"
    looped, plain = (Session(recipe, sets, path, seed=0, world=world, workers=None) for _ in range(2))
    plan = Plan(len(images), recipe.batch_size, seed=0, epoch=1, world=world)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    batches = [(one.inputs.contiguous(memory_format=layout), one.labels) for one in plain.loader.epoch(plan)]
    for session in (looped, plain):
        session.prepare(plan)
    display = Display(enabled=False)
    return {
        "bare steps": lambda: bare_steps(plain, batches),
        "loop": lambda: looped.fit(islice(looped.loader.epoch(plan), steps), display),
    }


def bare_steps(session: Session, batches: list[tuple[Tensor, Tensor]]) -> None:
    """What every training loop has to do."""
    network, half = session.network.train(), session.recipe.precision == "bfloat16"
    for inputs, labels in batches:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=half):
            scores = network(inputs)
        session.optimizer.zero_grad()
        session.criterion(scores.float(), labels).backward()
        session.optimizer.step()


def noise(recipe: Recipe, count: int) -> ImageSet:
    """Images of the recipe's size, with ten classes, at four positions for a CAPTCHA."""
    shape = (recipe.preprocessing.channels, *recipe.preprocessing.frame)
    labels = torch.randint(10, (count, 4) if recipe.data["name"] == "captchas" else (count,))
    return ImageSet(torch.randint(256, (count, *shape), dtype=torch.uint8), labels, tuple("0123456789"))
