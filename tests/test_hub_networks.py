"""Whole networks over the hub: what a user types, from pushing to the prediction, and offline the second time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from hub_server import Hub
from PIL import Image
from safetensors.torch import save
from test_hub import Client
from test_layouts import randomise

import cnnzoo


class User:
    """Runs scripts in processes of their own, whose hub is the one on the loopback interface."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.environment = Client(hub.url, home).environment | {"HF_TOKEN": "hf_ada", "COLUMNS": "200"}

    def run(self, script: str, *arguments: str, **environment: str) -> str:
        command = [sys.executable, "-c", "import torch, cnnzoo, sys, json\n" + script, *map(str, arguments)]
        done = subprocess.run(command, env=self.environment | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cnnzoo(self, *arguments: object) -> str:
        command = [sys.executable, "-m", "cnnzoo", *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture
def user(hub: Hub, tmp_path: Path) -> User:
    return User(hub, tmp_path / "home")


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False)
    randomise(model)
    return model.eval()


SCORES = "print(json.dumps(model(torch.ones(1, 3, 64, 64)).flatten()[:8].tolist()))"


def test_push_and_load(hub: Hub, user: User, tmp_path: Path) -> None:
    model = cnnzoo.create("cifar_resnet20", seed=0, shortcut="B").eval()
    cnnzoo.save_pretrained(model, tmp_path / "saved")
    push = "print(cnnzoo.push_to_hub(cnnzoo.load_pretrained(sys.argv[1] + '/'), 'ada/tiny'))"
    assert user.run(push.replace("sys.argv[1] + '/'", "__import__('pathlib').Path(sys.argv[1])"), tmp_path / "saved")
    found = hub.repositories["ada/tiny"]
    assert {"README.md", "config.json", "model.safetensors"} <= set(found.commits[found.refs["main"]])
    load = "model = cnnzoo.load_pretrained('ada/tiny', hub=HUB)\nassert model.config.options['shortcut'] == 'B'\n"
    expected = pytest.approx(model(torch.ones(1, 3, 64, 64)).flatten()[:8].tolist(), rel=1e-5)
    assert json.loads(user.run(load.replace("HUB", "True") + SCORES)) == expected
    hub.stop()
    assert json.loads(user.run(load.replace("HUB", "False") + SCORES)) == expected


def test_a_published_checkpoint_by_its_name(hub: Hub, user: User, theirs: torch.nn.Module, tmp_path: Path) -> None:
    hub.commit("timm/resnet18.a1_in1k", {"model.safetensors": save(theirs.state_dict())})
    refused = "try: cnnzoo.load_pretrained('resnet18')\nexcept cnnzoo.CheckpointError as error: print(error)"
    assert "load_pretrained('resnet18.a1_in1k', hub=True) downloads it" in user.run(refused)
    assert hub.requests == []
    load = "model = cnnzoo.load_pretrained('resnet18', hub=True)\nassert model.checkpoint.tag == 'a1_in1k'\n"
    expected = pytest.approx(theirs(torch.ones(1, 3, 64, 64)).flatten()[:8].tolist(), rel=1e-4)
    assert json.loads(user.run(load + SCORES)) == expected
    Image.effect_mandelbrot((300, 260), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "image.png")
    told = json.loads(user.cnnzoo("predict", tmp_path / "image.png", "--model", "resnet18", "--hub", "--json"))
    assert len(told[0]["classes"]) == 5
    image = Image.open(tmp_path / "image.png")
    checkpoint = cnnzoo.list_checkpoints("resnet18")[0]
    best = theirs(checkpoint.transforms()(image)[None]).topk(5).indices[0].tolist()
    assert [guess["label"] for guess in told[0]["classes"]] == [checkpoint.classes[i] for i in best]
    hub.stop()
    assert json.loads(user.run(load.replace("hub=True", "hub=False") + SCORES)) == expected


def test_a_repository_of_timm_s(hub: Hub, user: User, theirs: torch.nn.Module) -> None:
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 160, 160], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    files = {"model.safetensors": save(theirs.state_dict()), "config.json": json.dumps(config).encode()}
    hub.commit("ada/from_timm", files)
    load = (
        "model = cnnzoo.load_pretrained('ada/from_timm', hub=True)\n"
        "known = model.checkpoint.preprocessing\n"
        "assert (known.size, known.resize, known.mean) == (160, 177, (0.5, 0.5, 0.5)), known\n"
    )
    expected = pytest.approx(theirs(torch.ones(1, 3, 64, 64)).flatten()[:8].tolist(), rel=1e-4)
    assert json.loads(user.run(load + SCORES)) == expected


def test_a_repository_that_is_not_one_of_ours(hub: Hub, user: User) -> None:
    weights = save({"a": torch.zeros(1)})
    hub.commit("ada/other", {"model.safetensors": weights, "config.json": b'{"model_type": "bert"}'})
    hub.commit("ada/broken", {"model.safetensors": weights, "config.json": b'{"architecture": "resnet18"}'})
    load = "try: cnnzoo.load_pretrained(sys.argv[1], hub=True)\nexcept cnnzoo.CheckpointError as error: print(error)"
    assert "does not say what network it holds" in user.run(load, "ada/other")
    assert "does not fit ResNet" in user.run(load, "ada/broken")
