"""The recipes as data: what they state, what else can be stated, and that every one of them trains."""

import json
import math
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

import cnnzoo
from cnnzoo.training import loop
from cnnzoo.training.recipe import Recipe, list_recipes, load_recipe


def takes_small_images(recipe: Recipe) -> bool:
    """Whether its network can be tried on 96x96, which its auxiliary classifiers cannot."""
    network = cnnzoo.create(cnnzoo.spec(recipe.network).name, device="meta", **recipe.options)
    try:
        cnnzoo.infer_shapes(network, (3, 96, 96))
    except cnnzoo.ShapeError:
        return False
    return recipe.data["name"] == "image_folder" and "aux" not in recipe.options


def recipe_parameters() -> list:
    """Every recipe; those of large, deep or costly networks are slow."""
    found = []
    for recipe in map(load_recipe, list_recipes()):
        network = cnnzoo.create(cnnzoo.spec(recipe.network).name, device="meta")
        slow = sum(p.numel() for p in network.parameters()) > 15e6 or len(list(network.modules())) > 100
        slow = slow or (cnnzoo.summary(network).macs > 5e8 and not takes_small_images(recipe))
        found.append(pytest.param(recipe.name, marks=[pytest.mark.slow] if slow else []))
    return found


# A few steps with small batches: smaller rates than those of whole runs, and no warm-up.
RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001, "sdlm": 0.0005}


@pytest.mark.parametrize("name", recipe_parameters())
def test_every_recipe_makes_its_loss_fall(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "can_draw", lambda: False)
    stated = load_recipe(name)
    large = stated.data["name"] in ("image_folder", "captchas")
    changes = {
        "schedule": {"name": "constant"},
        "optimizer.lr": RATES[stated.optimizer["name"]],
        "epochs": 4 if large else 6,
        "batch_size": min(stated.batch_size, 4 if large else 10),
        "validation": 0,
    }
    if stated.data["name"] == "image_folder":  # of these networks, some have no normalisation, some pixels up to 255
        changes["optimizer.lr"] /= 200 if stated.preprocessing.std == 1 / 255 else 4
    if stated.network == "cifar_resnet1202":  # its identity paths add up six hundred blocks
        changes["optimizer.lr"] /= 20
    if "dropout" in cnnzoo.spec(stated.network).parameters:  # in a few steps it hides what they do
        changes["options.dropout"] = 0.0
    if takes_small_images(stated):
        changes |= {"preprocessing.size": 96, "crop.size": 96}
    recipe = load_recipe(name, changes)
    run = loop.train(recipe, tiny.sets(recipe, tmp_path / "data"), tmp_path / "run", progress=False, workers=0)
    losses = [epoch.train_loss for epoch in run.epochs]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_whole(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.title
    assert not recipe.title.endswith(".")
    network = cnnzoo.create(cnnzoo.spec(recipe.network).name, device="meta", **recipe.options)
    assert network.input_shape[0] == recipe.preprocessing.channels
    if recipe.preprocessing.input_shape != network.input_shape:
        cnnzoo.infer_shapes(network, recipe.preprocessing.input_shape)
    assert isinstance(recipe.make_loss(), nn.Module)
    optimizer = recipe.make_optimizer(network)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))
    recipe.make_transforms()
    assert 0 <= recipe.make_schedule().rate(1, 1000) <= 1
    for quantity, value in recipe.published.items():
        assert quantity == "source" or 0.5 < value < 1
    assert not recipe.published or recipe.published["source"]
    json.dumps(recipe.stated)


def test_error_rates_that_the_papers_print() -> None:
    """The accuracies that recipes state are 1 minus the error that their source quotes."""
    for name in list_recipes():
        published = load_recipe(name).published
        if "% error" in published.get("source", "") or "% test error" in published.get("source", ""):
            accuracy = published.get("test_accuracy", published.get("test_top5"))
            assert f"{100 * (1 - accuracy):.2f}".rstrip("0") in published["source"], name


def test_recipe_that_is_like_another() -> None:
    mnist, fashion = load_recipe("lenet5_mnist"), load_recipe("lenet5_fashion")
    assert (mnist.loss, mnist.optimizer, mnist.epochs) == (fashion.loss, fashion.optimizer, fashion.epochs)
    assert (mnist.data, mnist.augment) == ({"name": "mnist"}, ())


def test_length_takes_the_place_of_the_other() -> None:
    assert load_recipe("cifar_resnet20").length == "64,000 steps"
    assert load_recipe("cifar_resnet20", epochs=3).length == "3 epochs"
    assert load_recipe("cifar_resnet20", epochs=1).length == "1 epoch"
    assert load_recipe("cifar_resnet20", {"steps": 5}).steps == 5
    assert load_recipe("lenet5_fashion", {"steps": 5}).epochs is None
    assert load_recipe("preresnet200").length == "90 epochs"  # it is like one of 600,000 steps


def test_settings_reach_into_tables() -> None:
    recipe = load_recipe("lenet5_fashion", {"optimizer.lr": 0.5, "options.pool": "max", "crop.name": "random"})
    assert recipe.optimizer["lr"] == 0.5
    assert recipe.optimizer["momentum"] == 0.9
    assert recipe.options == {"pool": "max"}
    assert recipe.crop == {"name": "random"}
    assert load_recipe("lenet5_fashion").optimizer["lr"] == 0.1
    assert load_recipe("lenet5_fashion", {"preprocessing.pad": 2}).preprocessing.pad == 2


def test_recipe_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('like = "lenet5_fashion"\ntitle = "Mine"\nepochs = 2\n')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.name, recipe.title, recipe.epochs, recipe.network) == ("mine", "Mine", 2, "lenet5")


def test_decay_of_weights_alone() -> None:
    network = cnnzoo.create("cifar_resnet20", device="meta")
    stated = load_recipe("cifar_resnet20", decay="weights", optimizer={"name": "sgd", "lr": 0.1, "weight_decay": 0.1})
    shrunk, spared = stated.make_optimizer(network).param_groups
    assert (shrunk["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {parameter.ndim for parameter in shrunk["params"]} == {2, 4}
    assert {parameter.ndim for parameter in spared["params"]} == {1}
    (both,) = load_recipe("cifar_resnet20").make_optimizer(network).param_groups
    assert len(both["params"]) == len(shrunk["params"]) + len(spared["params"])


def test_initialization_that_a_recipe_states() -> None:
    recipe = load_recipe("lenet5_1998")
    network = cnnzoo.create("lenet5", classic=True, seed=0)
    recipe.initialize(network, torch.Generator().manual_seed(0))
    assert 0.9 * 1.3 / 400**0.5 < network.c5.weight.abs().max() <= 1.3 / 400**0.5
    before = network.c5.weight.clone()
    load_recipe("lenet5_classic_fashion").initialize(network, torch.Generator().manual_seed(0))
    assert torch.equal(network.c5.weight, before)  # states none


@pytest.mark.parametrize(
    ("schedule", "unit_length", "expected"),
    [
        ({"name": "constant"}, 10, {1: 1, 10: 1}),
        ({"name": "cosine", "warmup": 2}, 10, {1: 0.5, 2: 1, 6: 0.5, 10: 0}),
        ({"name": "cosine", "warmup": 10}, 10, {5: 0.5, 10: 1}),  # all of it is warm-up
        ({"name": "piecewise", "factors": [[2, 0.4], [5, 0.2]]}, 10, {1: 1, 2: 1, 2.1: 0.4, 5: 0.4, 5.1: 0.2}),
        ({"name": "piecewise", "factors": [[0, 0.1], [400, 1.0]]}, 1000, {1: 0.1, 400: 0.1, 401: 1}),
        ({"name": "decay", "factor": 0.5, "every": 20}, 60, {0.1: 1, 20: 1, 20.1: 0.5, 40: 0.5, 60: 0.25}),
        ({"name": "plateau"}, 60, {30: 1}),
    ],
)  # fmt: skip
def test_schedules(schedule: dict, unit_length: float, expected: dict) -> None:
    made = load_recipe("lenet5_fashion", schedule=schedule).make_schedule()
    for now, factor in expected.items():
        assert made.rate(now, unit_length) == pytest.approx(factor, abs=1e-9)


def test_plateau_waits_for_the_accuracy_to_rise() -> None:
    made = load_recipe("lenet5_fashion", schedule={"name": "plateau", "factor": 0.1, "patience": 2}).make_schedule()
    rising, stuck = [0.1, 0.2, 0.3], [0.3, 0.2]
    assert made.rate(1, 9, rising) == 1
    assert made.rate(1, 9, [*rising, 0.3]) == 1
    assert made.rate(1, 9, [*rising, *stuck]) == pytest.approx(0.1)
    assert made.rate(1, 9, [*rising, *stuck, 0.2]) == pytest.approx(0.1)
    assert made.rate(1, 9, [*rising, *stuck, *stuck]) == pytest.approx(0.01)
    assert made.rate(1, 9, [*rising, *stuck, 0.4, 0.4]) == pytest.approx(0.1)


def changed(**fields) -> Recipe:
    return load_recipe("lenet5_fashion", **fields)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: load_recipe("fashion"), cnnzoo.UnknownNameError, r"load_recipe: unknown recipe 'fashion'"),
        (lambda: changed(epoch=1), cnnzoo.UnknownNameError, r"recipe lenet5_fashion: unknown key 'epoch': did you mean 'epochs'"),
        (lambda: changed(epochs=0), cnnzoo.OptionError, r"got epochs=0; it is a whole number of at least 1"),
        (lambda: changed(batch_size="many"), cnnzoo.OptionError, r"got batch_size='many'; it is a whole number"),
        (lambda: Recipe(**{**vars(changed()), "steps": 3}), cnnzoo.OptionError, r"got epochs=60 and steps=3; state one"),
        (lambda: changed(loss={"name": "hinge"}), cnnzoo.UnknownNameError, r"unknown loss 'hinge'"),
        (lambda: changed(loss="map"), cnnzoo.OptionError, r"got loss='map'; it is a table with a name and arguments"),
        (lambda: changed(loss={"name": "map"}), cnnzoo.OptionError, r"loss map needs j"),
        (lambda: changed(data={"name": "svhn"}), cnnzoo.UnknownNameError, r"unknown data 'svhn': known: fashion_mnist"),
        (lambda: load_recipe("captcha_cnn", {"data.fresher": 1}), cnnzoo.OptionError, r"data captchas takes no 'fresher': did you mean 'fresh'"),
        (lambda: changed(schedule={"name": "step"}), cnnzoo.UnknownNameError, r"unknown schedule 'step'"),
        (lambda: changed(schedule={"name": "decay"}), cnnzoo.OptionError, r"schedule decay needs factor, every"),
        (lambda: changed(augment=[{"name": "blur"}]), cnnzoo.UnknownNameError, r"unknown augment 'blur'"),
        (lambda: changed(crop={"name": "corner"}), cnnzoo.UnknownNameError, r"unknown crop 'corner'"),
        (lambda: changed(init={"name": "he"}), cnnzoo.UnknownNameError, r"unknown init 'he'"),
        (lambda: changed(optimizer={"name": "lion", "lr": 1}), cnnzoo.UnknownNameError, r"unknown optimizer 'lion'"),
        (lambda: changed(optimizer={"name": "sgd"}), cnnzoo.OptionError, r"optimizer states no learning rate; add lr"),
        (lambda: load_recipe("lenet5_fashion", {"optimizer.lrr": 1}), cnnzoo.OptionError, r"optimizer sgd takes no 'lrr': did you mean 'lr'"),
        (lambda: load_recipe("lenet5_fashion", {"optimizer.params": 1}), cnnzoo.OptionError, r"optimizer sgd takes no 'params'"),
        (lambda: load_recipe("lenet5_fashion", {"optimizer.name": "adam"}), cnnzoo.OptionError, r"optimizer adam takes no '(momentum|nesterov)'"),
        (lambda: load_recipe("lenet5_fashion", {"epochs.lr": 1}), cnnzoo.OptionError, r"epochs is not a table, so that there is no epochs\.lr"),
        (lambda: load_recipe("lenet5_fashion", {"preprocessing.sizes": 1}), cnnzoo.OptionError, r"preprocessing takes no 'sizes': did you mean 'size'"),
        (lambda: changed(schedule={"name": "cosine", "unit": "step"}), cnnzoo.UnknownNameError, r"schedule: unknown unit 'step': did you mean 'steps'"),
        (lambda: changed(schedule={"name": "piecewise", "factors": [3, 0.1]}), cnnzoo.OptionError, r"got factors=\[3, 0\.1\]; they are pairs"),
        (lambda: changed(crop={"name": "random", "resize": [1, 2, 3]}), cnnzoo.OptionError, r"crop: got resize=\[1, 2, 3\]; it is a number"),
        (lambda: changed(precision="float16"), cnnzoo.UnknownNameError, r"unknown precision 'float16': did you mean"),
        (lambda: changed(decay="none"), cnnzoo.UnknownNameError, r"unknown decay 'none'"),
        (lambda: changed(views="five"), cnnzoo.UnknownNameError, r"unknown views 'five'"),
        (lambda: changed(optimizer={"name": "sgd", "lr": -1.0}).make_optimizer(nn.Linear(1, 1)), cnnzoo.OptionError, r"sgd cannot be made with lr=-1\.0: Invalid learning rate"),
    ],
)  # fmt: skip
def test_recipes_that_do_not_exist(call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("title = ")
    with pytest.raises(cnnzoo.OptionError, match=r"a\.toml is not TOML"):
        load_recipe(str(tmp_path / "a.toml"))
    (tmp_path / "b.toml").write_text('title = "b"\nepochs = 1\n')
    with pytest.raises(cnnzoo.OptionError, match=r"b\.toml: states no network, data, loss, optimizer, batch_size"):
        load_recipe(str(tmp_path / "b.toml"))
    (tmp_path / "c.toml").write_text('like = "lenet"\n')
    with pytest.raises(cnnzoo.UnknownNameError, match="unknown recipe 'lenet'"):
        load_recipe(str(tmp_path / "c.toml"))
