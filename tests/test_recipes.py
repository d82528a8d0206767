"""The training loop: it learns, resumes where it was killed, and refuses what is not its own."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import cnnzoo
from cnnzoo.data.datasets import ImageSet, class_names
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.recipes import loop
from cnnzoo.recipes.recipe import AUGMENTATIONS, Recipe, list_recipes, load_recipe

TINY = Recipe(
    name="tiny",
    title="A few steps",
    network="lenet5",
    data="fashion_mnist",
    preprocessing=Preprocessing(channels=1, size=28, pad=0, mean=0.3, std=0.35),
    loss={"name": "cross_entropy"},
    optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9},
    batch_size=16,
    epochs=4,
    augment=("flip", "shift"),
    schedule="cosine",
    warmup=1,
)


def pictures(n: int, seed: int) -> ImageSet:
    """Bars at ten heights, one for each class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n).remainder(10)
    images = torch.randint(60, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 4 + 2 * label : 6 + 2 * label, 4:24] = 255
    return ImageSet(images, labels, class_names("fashion_mnist"))


SETS = {"train": pictures(120, 0), "test": pictures(40, 1)}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_makes_its_loss_fall(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, epochs=6, batch_size=20, schedule="constant", warmup=0.0)
    run = loop.train(recipe, SETS, tmp_path, progress=False)
    assert len(run.epochs) == 6
    assert run.epochs[-1].train_loss < run.epochs[0].train_loss
    assert recipe.title


def test_learns_the_bars(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=25, augment=(), schedule="constant", warmup=0.0)
    run = loop.train(recipe, SETS, tmp_path, progress=False)
    assert run.epochs[-1].test_accuracy > 0.95


def test_result_files(tmp_path: Path) -> None:
    run = loop.train(TINY, SETS, tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["test_accuracy"] == run.epochs[-1].test_accuracy
    loaded = cnnzoo.load_pretrained(tmp_path / "model.safetensors")
    images = TINY.preprocessing.transforms()(SETS["test"].images)
    assert loop.accuracy(loaded, images, SETS["test"].labels) == run.epochs[-1].test_accuracy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "log.jsonl", "model.safetensors"]


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = loop.train(TINY, SETS, tmp_path / "whole", progress=False)
    killed = kill_after(2, tmp_path / "parts")
    assert killed == 2
    resumed = loop.train(TINY, SETS, tmp_path / "parts", progress=False)
    assert [losses(epoch) for epoch in resumed.epochs] == [losses(epoch) for epoch in whole.epochs]
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def losses(epoch: loop.Epoch) -> dict:
    return {key: value for key, value in dataclasses.asdict(epoch).items() if key != "seconds"}


def kill_after(epochs: int, folder: Path) -> int:
    """Run TINY and stop it like a killed process in the middle of the next epoch; how many epochs were saved."""
    steps = 0

    class Killed(BaseException):
        pass

    def step(display: loop.Display) -> None:
        nonlocal steps
        steps += 1
        if steps == epochs * 8 + 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Display, "advance", step)
        with pytest.raises(Killed):
            loop.train(TINY, SETS, folder, progress=False)
    return len(torch.load(folder / "last.pt", weights_only=True)["epochs"])


def test_more_epochs_go_on(tmp_path: Path) -> None:
    loop.train(dataclasses.replace(TINY, epochs=2, schedule="constant"), SETS, tmp_path, progress=False)
    run = loop.train(dataclasses.replace(TINY, epochs=3, schedule="constant"), SETS, tmp_path, progress=False)
    assert [epoch.epoch for epoch in run.epochs] == [1, 2, 3]


def test_failed_save_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.train(dataclasses.replace(TINY, epochs=1), SETS, tmp_path, progress=False)
    before = (tmp_path / "last.pt").read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        loop.train(dataclasses.replace(TINY, epochs=2), SETS, tmp_path, progress=False)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_checkpoint_of_another_run(tmp_path: Path) -> None:
    loop.train(dataclasses.replace(TINY, epochs=1), SETS, tmp_path, progress=False)
    with pytest.raises(
        cnnzoo.CheckpointError, match=r"last\.pt is of another run \(seed 0 there, 1 here\); choose another --out"
    ):
        loop.train(TINY, SETS, tmp_path, seed=1, progress=False)
    other = dataclasses.replace(TINY, optimizer={"name": "adam", "lr": 0.1})
    with pytest.raises(cnnzoo.CheckpointError, match=r"of another run \(optimizer .*'sgd'.* there, .*'adam'.* here\)"):
        loop.train(other, SETS, tmp_path, progress=False)
    (tmp_path / "last.pt").write_bytes(b"nonsense")
    with pytest.raises(cnnzoo.CheckpointError, match=r"is not a training checkpoint .*; delete it to start afresh"):
        loop.train(TINY, SETS, tmp_path, progress=False)


def test_seed_decides(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=1)
    a, b, c = (
        loop.train(recipe, SETS, tmp_path / str(i), seed=seed, progress=False) for i, seed in enumerate((0, 0, 1))
    )
    assert losses(a.epochs[0]) == losses(b.epochs[0])
    assert losses(a.epochs[0]) != losses(c.epochs[0])


def test_schedule() -> None:
    assert [round(TINY.learning_rate(t), 3) for t in (0.0, 0.5, 1.0, 2.5, 4.0)] == [0, 0.5, 1, 0.5, 0]
    assert load_recipe("fashion_textbook").learning_rate(9.9) == 1
    assert dataclasses.replace(TINY, epochs=1).learning_rate(1.0) == 1  # all of it is warm-up


def test_augmentations_change_each_picture_on_its_own() -> None:
    images = torch.rand(64, 1, 12, 12)
    generator = torch.Generator().manual_seed(0)
    flipped = AUGMENTATIONS["flip"](images, 0.0, generator)
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, images, strict=True)]
    assert 10 < sum(same) < 54
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    shifted = AUGMENTATIONS["shift"](images, -7.0, generator)
    moves = set()
    for new, old in zip(shifted, images, strict=True):
        padded = torch.nn.functional.pad(old, [2] * 4, value=-7.0)
        moves |= {
            (dy, dx) for dy in range(5) for dx in range(5) if torch.equal(new, padded[:, dy : dy + 12, dx : dx + 12])
        }
    assert len(moves) > 15


def test_progress_shows_every_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop.train(TINY, SETS, tmp_path)
    assert "epoch   4: loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: load_recipe("fashion"), cnnzoo.UnknownNameError, r"train: unknown recipe 'fashion'"),
        (
            lambda: load_recipe("lenet5_fashion", epochs=0),
            cnnzoo.OptionError,
            r"got epochs=0, batch_size=128; both are at",
        ),
        (lambda: dataclasses.replace(TINY, loss={"name": "hinge"}), cnnzoo.UnknownNameError, r"unknown loss 'hinge'"),
        (
            lambda: dataclasses.replace(TINY, data="mnist"),
            cnnzoo.UnknownNameError,
            r"unknown data set 'mnist': known: fashion_mnist",
        ),
        (lambda: dataclasses.replace(TINY, schedule="step"), cnnzoo.UnknownNameError, r"unknown schedule 'step'"),
        (lambda: dataclasses.replace(TINY, augment=("blur",)), cnnzoo.UnknownNameError, r"unknown augmentation 'blur'"),
        (
            lambda: dataclasses.replace(TINY, optimizer={"name": "lion"}),
            cnnzoo.UnknownNameError,
            r"unknown optimizer 'lion'",
        ),
    ],
)
def test_recipes_that_do_not_exist(call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_too_few_pictures(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, batch_size=500)
    with pytest.raises(cnnzoo.OptionError, match="120 pictures are fewer than a batch of 500; lower batch_size"):
        loop.train(recipe, SETS, tmp_path, progress=False)


@pytest.mark.cuda
def test_trains_on_cuda(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=25, augment=(), schedule="constant", warmup=0.0)
    run = loop.train(recipe, SETS, tmp_path, device="cuda", progress=False)
    assert run.epochs[-1].test_accuracy > 0.95
