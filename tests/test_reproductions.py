"""The page of reproductions says what the results say, and "not run" where there is none."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnzoo.cli.options import settings_of
from cnnzoo.support.files import plain
from cnnzoo.training.recipe import list_recipes, load_recipe
from cnnzoo.training.results import Result
from cnnzoo.training.state import BEFORE, FREE, Epoch

reproductions = pytest.importorskip("benchmarks.reproductions")


def result(recipe: str, seed: int, accuracy: float, changes: str = "", **settings) -> Result:
    epoch = Epoch(1, 10, 0.1, 1.5, 0.4, 1.2, 0.5, None, None, 30.0)
    last = replace(epoch, epoch=2, step=20, test_accuracy=accuracy)
    return Result(
        recipe=recipe,
        stated=plain(load_recipe(recipe, settings).stated),
        seed=seed,
        images={"train": 10, "test": 10},
        epochs=[epoch, last],
        command=f"cnnzoo train {recipe}{changes} --seed {seed}",
        hardware="an abacus",
        versions={"cnnzoo": "0", "torch": "2"},
        date="2026-01-02",
    )


RESULTS = [
    result("cifar_resnet20", 1, 0.915),
    result("cifar_resnet20", 0, 0.913),
    result("lenet5_1998", 0, 0.9, " --set data.name=fashion_mnist", **{"data.name": "fashion_mnist"}),
]


def test_page_has_every_recipe() -> None:
    rows = reproductions.page({}).splitlines()
    for name in list_recipes():
        (row,) = (row for row in rows if row.startswith(f"| [{name}]("))
        assert row.endswith("| not run |")


def test_page_has_mean_and_spread_of_the_seeds() -> None:
    text = reproductions.page(reproductions.grouped(RESULTS))
    (row,) = (row for row in text.splitlines() if row.startswith("| [cifar_resnet20]("))
    assert "| 0.9125 | [0.9140 ± 0.0014, 2 seeds](#cifar_resnet20) |" in row
    section = text.partition("\n## cifar_resnet20\n")[2].partition("\n## ")[0]
    assert "$ cnnzoo train cifar_resnet20 --seed 0\n" in section
    assert section.index("- seed 0: test 0.9130") < section.index("- seed 1: test 0.9150")
    assert "2 epochs in 1.0 minutes; an abacus, torch 2, 2026-01-02" in section
    assert "Published: test accuracy 0.9125 (He et al. 2015, Table 6: 8.75 % error)." in section
    assert "The paper subtracts the mean of each pixel" in section


def test_other_data_are_not_compared_with_the_publication() -> None:
    text = reproductions.page(reproductions.grouped(RESULTS))
    (row,) = (row for row in text.splitlines() if row.startswith("| [lenet5_1998]("))
    assert row.startswith("| [lenet5_1998](recipes.md#lenet5_1998), data.name=fashion_mnist |")
    assert row.endswith("| fashion_mnist |  | [0.9000](#lenet5_1998-datanamefashion_mnist) |")
    assert "\n## lenet5_1998, data.name=fashion_mnist\n" in text


def test_command_keeps_results_and_writes_page_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(reproductions, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(reproductions, "PAGE", tmp_path / "docs" / "reproductions.md")
    (tmp_path / "docs").mkdir()
    folders = []
    for number, one in enumerate(RESULTS):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        one.write(folders[-1] / "result.json")
    for arguments in (folders, []):  # kept results are read again
        done = CliRunner().invoke(reproductions.reproductions, list(map(str, arguments)))
        assert done.exit_code == 0, done.output
        assert "from 3 results" in done.output
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "cifar_resnet20_seed_0.json",
        "cifar_resnet20_seed_1.json",
        "lenet5_1998_data.name=fashion_mnist_seed_0.json",
    ]
    text = (tmp_path / "docs" / "reproductions.md").read_text()
    assert text == reproductions.page(reproductions.grouped(RESULTS))
    for path in (tmp_path / "docs" / "assets" / "curves").iterdir():
        assert f"](assets/curves/{path.name})" in text
        assert "<svg" in path.read_text()


def test_page_in_the_documentation_is_that_of_the_results() -> None:
    """`python -m benchmarks reproductions` writes it again."""
    assert reproductions.PAGE.read_text() == reproductions.page(reproductions.grouped(reproductions.kept()))


def test_results_are_of_the_recipes_as_they_are() -> None:
    for one in reproductions.kept():
        words = shlex.split(one.command)
        changed = settings_of(words[i + 1] for i, word in enumerate(words) if word == "--set")
        now = plain(load_recipe(one.recipe, changed).stated)
        assert {key: (BEFORE | one.stated)[key] for key in now if key not in FREE} == {
            key: now[key] for key in now if key not in FREE
        }, one.command
