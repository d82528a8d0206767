"""What the training loop costs: its steps beside bare ones on batches that lie ready."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from benchmarks.harness import (
    Comparison,
    Report,
    Target,
    device,
    interleave,
    min_time,
    repeats,
    reporting,
    synchronizer,
)
from cnnzoo.data.images import ImageSet
from cnnzoo.training.batches import Plan
from cnnzoo.training.display import Display
from cnnzoo.training.loop import Session
from cnnzoo.training.recipe import Recipe, load_recipe
from cnnzoo.training.world import World

RECIPES = ("lenet5_fashion", "lenet5_1998", "tutorial_mnist_cnn_fashion", "cifar_resnet20_short", "captcha_cnn_small")
PROMISED = 0.95

# So small that the weights stay about where they are: every round then computes with numbers of the same size.
LEARNING_RATE = 1e-7


@click.command()
@click.option("--recipes", "names", default=",".join(RECIPES), show_default=True, help="Of data sets in memory.")
@click.option("--steps", type=click.IntRange(min=1), help="In a sample; by default what 2,000 pictures take.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="By default the recipe's.")
@device()
@repeats()
@min_time(default=0.0)
@reporting
def training(
    names: str, steps: int | None, precision: str | None, device: str, repeats: int, min_time: float, report: Report
) -> None:
    """The training loop beside bare steps: forward, backward and optimiser on batches that lie ready."""
    comparisons = []
    with ExitStack() as stack:
        for name in names.split(","):
            changes = {"precision": precision} if precision else {}
            recipe = load_recipe(name, {"optimizer.lr": LEARNING_RATE, **changes})
            count = steps or max(4, 2000 // recipe.batch_size)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            calls = candidates(recipe, count, World(torch.device(device)), folder)
            samples = interleave(calls, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
            case = f"{name}, {count} steps of {recipe.batch_size}, {recipe.precision}, {device}"
            comparisons.append(Comparison(case, "bare steps", samples))
    speed = "bare steps / loop"
    targets = [Target(f"{one.case}: {speed}", 1 / one.ratio("loop").median, at_least=PROMISED) for one in comparisons]
    report.timings("training", comparisons, targets)


def candidates(recipe: Recipe, steps: int, world: World, folder: Path) -> dict[str, Callable[[], object]]:
    """So many steps in the loop, and bare, on the same pictures with networks of the same weights."""
    pictures = noise(recipe, steps * recipe.batch_size)
    sets, path = {"train": pictures, "test": pictures}, folder / "last.pt"
    looped, plain = (Session(recipe, sets, path, seed=0, world=world, workers=None) for _ in range(2))
    plan = Plan(len(pictures), recipe.batch_size, seed=0, epoch=1, world=world)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    batches = [(one.inputs.contiguous(memory_format=layout), one.labels) for one in plain.loader.epoch(plan)]
    for session in (looped, plain):
        session.prepare(plan)
    display = Display(1, enabled=False)
    return {
        "bare steps": lambda: bare_steps(plain, batches),
        "loop": lambda: looped.fit(islice(looped.loader.epoch(plan), steps), display),
    }


def bare_steps(session: Session, batches: list[tuple[Tensor, Tensor]]) -> None:
    """What every training loop has to do."""
    network: nn.Module = session.network.train()
    half = session.recipe.precision == "bfloat16"
    for inputs, labels in batches:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=half):
            scores = network(inputs)
        session.optimizer.zero_grad()
        session.criterion(scores.float(), labels).backward()
        session.optimizer.step()


def noise(recipe: Recipe, count: int) -> ImageSet:
    """Pictures of the recipe's size, with ten classes, at four positions for a CAPTCHA."""
    shape = (recipe.preprocessing.channels, *recipe.preprocessing.frame)
    labels = torch.randint(10, (count, 4) if recipe.data["name"] == "captchas" else (count,))
    return ImageSet(torch.randint(256, (count, *shape), dtype=torch.uint8), labels, tuple("0123456789"))
