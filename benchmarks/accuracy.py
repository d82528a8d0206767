"""Test accuracy: of the bundled weights, on what they were made for, and of the textbook's own training run."""

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch

import cnnzoo
from benchmarks.harness import Bench, benchmark
from cnnzoo.data import ImageSet, fashion_mnist, mnist
from cnnzoo.training import evaluate, load_recipe, train

SEEDS = range(10)
ROUNDING = 0.0005
"""By how much weights may be worse than their table says: five of 10,000 images, since processors round differently."""
FEWER_BITS = 0.005
"""Accuracy that int8 or bfloat16 may cost."""
CALIBRATION = 500
"""Training images."""
TEXTBOOK = 0.85
"""What the textbook's run should reach, as the mean of three seeds; the textbook prints one run."""


@benchmark(repeats=None, min_time=None)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder with Fashion-MNIST's files.")
@click.option("--digits", type=click.Path(file_okay=False, path_type=Path), help="Folder with MNIST's files.")
@click.option("--textbook", is_flag=True, help="Also train the textbook's network as it does, with ten seeds.")
def accuracy(bench: Bench, data: Path | None, digits: Path | None, textbook: bool) -> None:
    """Test accuracy of the bundled weights."""
    sets = fashion_mnist(data)
    bundled(bench, {"fashion_mnist": sets, "mnist": mnist(digits)})
    if textbook:
        trained(bench, sets)


def bundled(bench: Bench, data: dict[str, dict[str, ImageSet]]) -> None:
    """The weights that come with cnnzoo; they must be as good as their table says, the LeNet-5s also with fewer bits.

    Args:
        bench: where the accuracies go.
        data: the data sets of the LeNet-5s by the names of their classes.
    """
    promised = {
        cnnzoo.load_pretrained("lenet5.mnist"): 0.993,
        cnnzoo.load_pretrained("lenet5.classic_mnist"): 0.992,
        cnnzoo.load_pretrained("lenet5.fashion_mnist"): 0.90,
        cnnzoo.load_pretrained("lenet5.classic_fashion_mnist"): 0.89,
        cnnzoo.load_pretrained("captcha_cnn_small.captchas"): 0.97,
    }
    for model, least in promised.items():
        known = model.checkpoint
        name = f"{model.config.name}.{known.tag}"
        reads = isinstance(model, cnnzoo.CaptchaCNN)
        sets: Any = load_recipe(known.recipe).load_data() if reads else data[known.class_set]
        test = sets["test"]
        reached = bench.accuracies[name] = evaluate(model, test, known.preprocessing).accuracy
        bench.target(name, reached, at_least=least)
        bench.target(f"{name}, as its table states", reached, at_least=known.accuracy - ROUNDING)
        if not reads:
            some = known.transforms()(sets["train"].images[:CALIBRATION])
            for dtype, more in ((torch.int8, {"calibration": some}), (torch.bfloat16, {})):
                fast = cnnzoo.optimize(model, batch_size=256, dtype=dtype, **more)
                case = f"{name}, {str(dtype).removeprefix('torch.')}"
                bench.accuracies[case] = after = evaluate(fast, test, known.preprocessing).accuracy
                bench.target(case, after, at_least=reached - FEWER_BITS)


def trained(bench: Bench, sets: dict[str, ImageSet], **changes: Any) -> None:
    """The textbook's run with each seed, the mean of the first three and of all.

    Args:
        bench: where the accuracies go.
        sets: images to train and to test on.
        **changes: other values for fields of the recipe.
    """
    recipe = load_recipe("fashion_textbook", **changes)
    reached = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            reached.append(train(recipe, sets, folder, seed=seed).epochs[-1].test_accuracy)
        bench.accuracies[f"textbook, seed {seed}"] = reached[-1]
    few = bench.accuracies["textbook, mean of seeds 0 to 2"] = mean(reached[:3])
    bench.accuracies[f"textbook, mean of {len(reached)} seeds"] = mean(reached)
    bench.accuracies["textbook, as printed"] = recipe.published["test_accuracy"]
    bench.target("textbook, mean of seeds 0 to 2", few, at_least=TEXTBOOK)
