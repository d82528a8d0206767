"""Test accuracy: of the bundled weights, on Fashion-MNIST and on CAPTCHAs, and of the textbook's own training run."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch
from rich.table import Table
from torch import nn

import cnnzoo
from benchmarks.environment import Environment
from benchmarks.harness import Report, Target, reporting
from cnnzoo.data.datasets import fashion_mnist
from cnnzoo.data.images import ImageSet
from cnnzoo.training import loop
from cnnzoo.training.evaluation import evaluate
from cnnzoo.training.recipe import load_recipe

SEEDS = range(10)
# What the weights and the textbook's run should reach; the weights must also be as good as their table says, up to
# five pictures of 10,000, since processors round differently.
PROMISED = {
    "lenet5.fashion_mnist": 0.90,
    "lenet5.classic_fashion_mnist": 0.89,
    "captcha_cnn_small.captchas": 0.97,
}
PROMISED_TEXTBOOK = 0.85
ROUNDING = 0.0005
EIGHT_BITS = 0.005
"""Accuracy that int8 may cost."""
CALIBRATION = 500


@click.command()
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder with Fashion-MNIST's files.")
@click.option("--textbook", is_flag=True, help="Also train the textbook's network as it does, with ten seeds.")
@reporting
def accuracy(data: Path | None, textbook: bool, report: Report) -> None:
    """Test accuracy of the bundled weights."""
    sets = fashion_mnist(data)
    measured, targets = bundled(sets)
    if textbook:
        more, target = trained(sets)
        measured |= more
        targets.append(target)
    table = Table("weights", "test accuracy", title="accuracy")
    lines = []
    for case, share in measured.items():
        table.add_row(case, f"{share:.4f}")
        line = {"name": "accuracy", "case": case, "test_accuracy": share}
        lines.append(line | {"environment": asdict(Environment.here())})
    report.conclude("accuracy", table, lines, targets)


def bundled(sets: dict[str, ImageSet]) -> tuple[dict[str, float], list[Target]]:
    """The weights that come with cnnzoo; they must be as good as their table says, the LeNet-5s also in eight bits."""
    lenets = cnnzoo.load_pretrained("lenet5"), cnnzoo.load_pretrained("lenet5", classic=True)
    reader = cnnzoo.load_pretrained("captcha_cnn_small")
    drawn = load_recipe(reader.checkpoint.recipe).load_data()
    measured, targets = {}, []
    for model, test in (*((lenet, sets["test"]) for lenet in lenets), (reader, drawn["test"])):
        name = f"{model.config.name}.{model.checkpoint.tag}"
        measured[name] = on_test_set(model, test)
        targets.append(Target(name, measured[name], at_least=PROMISED[name]))
        stated = model.checkpoint.accuracy
        targets.append(Target(f"{name}, as its table states", measured[name], at_least=stated - ROUNDING))
        if model in lenets:
            in_eight_bits = on_test_set(model, test, quantized(model, sets["train"]))
            measured[f"{name}, int8"] = in_eight_bits
            targets.append(Target(f"{name}, int8", in_eight_bits, at_least=measured[name] - EIGHT_BITS))
    return measured, targets


def on_test_set(model: cnnzoo.CNN, test: ImageSet, deployed: nn.Module | None = None) -> float:
    """The share of the test pictures that a network with its weights, or what was made of it, gets right."""
    return evaluate(deployed or model, test, model.checkpoint.preprocessing).accuracy


def quantized(model: cnnzoo.CNN, train: ImageSet) -> cnnzoo.Optimized:
    """In integers of eight bits, calibrated on the first training pictures."""
    pictures = model.checkpoint.transforms()(train.images[:CALIBRATION])
    return cnnzoo.optimize(model, batch_size=256, dtype=torch.int8, calibration=pictures)


def trained(sets: dict[str, ImageSet], **changes: Any) -> tuple[dict[str, float], Target]:
    """The textbook's run with each seed, the mean of the first three and of all; the textbook prints one run.

    Args:
        sets: pictures to train and to test on.
        **changes: other values for fields of the recipe.
    """
    recipe = load_recipe("fashion_textbook", **changes)
    reached = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            reached.append(loop.train(recipe, sets, folder, seed=seed).epochs[-1].test_accuracy)
    measured = {f"textbook, seed {seed}": share for seed, share in zip(SEEDS, reached, strict=True)}
    measured["textbook, mean of seeds 0 to 2"] = mean(reached[:3])
    measured[f"textbook, mean of {len(reached)} seeds"] = mean(reached)
    measured["textbook, as printed"] = recipe.published["test_accuracy"]
    target = Target("textbook, mean of seeds 0 to 2", mean(reached[:3]), at_least=PROMISED_TEXTBOOK)
    return measured, target
