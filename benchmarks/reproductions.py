"""The page of reproductions, made from results of training runs: what publications report, and what came out here."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import click

from benchmarks.harness import RESULTS
from cnnzoo.training import Recipe, Result, list_recipes, load_recipe
from cnnzoo.training.curves import draw

RUNS = RESULTS / "runs"
PAGE = Path(__file__).parent.parent / "docs" / "reproductions.md"
CURVES = "assets/curves"

INTRODUCTION = """# Reproductions

What publications report, and what their recipes came to here. This page is made from the `result.json` of training runs
(`python -m benchmarks reproductions RUN...`); nothing on it is typed in. Accuracies are shares of the test set, after
the last epoch; of several seeds, their mean and standard deviation. For CAPTCHAs it is the share of whole ones. Where a
recipe holds images out of the training set, their share stands beside it; where fewer test images were at hand than
were published, their number does, with the standard error that follows from it. A recipe of which there is no result
was not run, mostly for want of its data.

[Training recipes](recipes.md) has what every recipe states, and in what it differs from its publication.
"""


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def reproductions(runs: tuple[Path, ...]) -> None:
    """Keep the results of training RUNS (their folders), and write docs/reproductions.md from all that are kept."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for run in runs:
        result = Result.read(run / "result.json")
        result.write(RUNS / f"{slug(result.command)}.json")
    groups = grouped(kept())
    PAGE.write_text(page(groups), "utf-8")
    folder = PAGE.parent / CURVES
    folder.mkdir(parents=True, exist_ok=True)
    for command, results in groups.items():
        seeds = {f"seed {one.seed}": one.epochs for one in results}
        draw(seeds, folder / f"{slug(command)}.svg", results[0].stated["title"])
    click.echo(f"wrote {PAGE} from {sum(map(len, groups.values()))} results")


def kept() -> list[Result]:
    """All results that are kept."""
    return [Result.read(path) for path in sorted(RUNS.glob("*.json"))]


def grouped(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by their command without the seed, in the order of their names and seeds."""
    groups: dict[str, list[Result]] = {}
    for one in sorted(results, key=lambda one: (title(one.command), one.seed)):
        groups.setdefault(one.command.rpartition(" --seed ")[0], []).append(one)
    return groups


def title(command: str) -> str:
    """What a command runs: the recipe and its settings."""
    words = shlex.split(command.partition(" train ")[2])
    return ", ".join(word for word in words if word != "--set")


def slug(command: str) -> str:
    """The same as the name of a file."""
    return re.sub(r"[^\w.=]+", "_", title(command))


def anchor(command: str) -> str:
    """The same as Python-Markdown's table of contents calls it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title(command)).strip().lower())


def page(groups: Mapping[str, Sequence[Result]]) -> str:
    """The page: a table of all recipes, then how those that were run came about."""
    rows = []
    for name in list_recipes():
        recipe = load_recipe(name)
        own = [row(recipe, *group) for group in groups.items() if group[1][0].recipe == name]
        rows += own or [row(recipe, "", ())]
    columns = "| recipe | network | data | published | here |\n| --- | --- | --- | ---: | ---: |\n"
    return "\n".join([INTRODUCTION, columns + "".join(rows), *(section(*group) for group in groups.items())])


def row(recipe: Recipe, command: str, results: Sequence[Result]) -> str:
    """A line of the table; settings that are not the recipe's stand behind its name."""
    settings = title(command).removeprefix(recipe.name)
    data = results[0].stated["data"] if results else recipe.data
    here = f"[{reached(results)}](#{anchor(command)})" if results else "not run"
    cells = (
        f"[{recipe.name}](recipes.md#{recipe.name}){settings}",
        f"`{recipe.network}`",
        data["name"],
        published(recipe.published) if data["name"] == recipe.data["name"] else "",
        here,
    )
    return f"| {' | '.join(cells)} |\n"


def published(figures: Mapping[str, float]) -> str:
    """What the publication reports of its test set."""
    shown = [f"{figures['test_accuracy']:.4f}"] if "test_accuracy" in figures else []
    return ", ".join(shown + ([f"top 5 {figures['test_top5']:.4f}"] if "test_top5" in figures else []))


def reached(results: Sequence[Result]) -> str:
    """What the runs came to."""
    last = [one.epochs[-1] for one in results]
    top5 = [one.test_top5 for one in last if one.test_top5 is not None]
    shown = [spread([one.test_accuracy for one in last])] + ([f"top 5 {spread(top5)}"] if top5 else [])
    held_out = [one.validation_accuracy for one in last if one.validation_accuracy is not None]
    shown += [f"{spread(held_out)} held out"] if held_out else []
    part = f" (on {test_images(results[0])})" if results[0].published_test else ""
    return ", ".join(shown) + part + (f", {len(last)} seeds" if len(last) > 1 else "")


def test_images(result: Result) -> str:
    """How many of the published test images a result was measured on, where they are not all."""
    return f"{result.images['test']:,} of {result.published_test:,} test images"


def spread(values: Sequence[float]) -> str:
    """The mean, and of several values their standard deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def section(command: str, results: Sequence[Result]) -> str:
    """How the runs of a command came about."""
    stated = results[0].stated
    command_line = f"{command} --seed {results[0].seed}"
    parts = [f"## {title(command)}\n", f"{stated['title']}.\n", f"```console\n$ {command_line}\n```\n"]
    parts.append("".join(map(line, results)))
    if stated["published"]:
        figures = {key.replace("_", " "): value for key, value in stated["published"].items()}
        source = figures.pop("source")
        numbers = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
        parts.append(f"Published: {numbers} ({source}).\n")
    if stated["differs"]:
        parts.append(f"{stated['differs']}\n")
    parts.append(f"![Loss and accuracy]({CURVES}/{slug(command)}.svg)\n")
    return "\n".join(parts)


def line(result: Result) -> str:
    """What a run came to, how long it took, and where and when that was."""
    last, minutes = result.epochs[-1], sum(epoch.seconds for epoch in result.epochs) / 60
    figures = {"test": last.test_accuracy, "training": last.train_accuracy}
    more = {"top 5": last.test_top5, "characters": last.test_characters, "held out": last.validation_accuracy}
    figures |= {name: value for name, value in more.items() if value is not None}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    if result.published_test:
        share, count = last.test_accuracy, result.images["test"]
        error = (share * (1 - share) / count) ** 0.5
        shown += f" (test on {test_images(result)}, standard error {error:.4f})"
    where = f"{result.hardware}, torch {result.versions['torch']}, {result.date}"
    epochs = f"{last.epoch:,} epoch{'s' * (last.epoch > 1)}"
    return f"- seed {result.seed}: {shown}; {epochs} in {minutes:.1f} minutes; {where}\n"
