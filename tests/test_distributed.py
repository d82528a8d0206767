"""Two processes train as one does, go on under torchrun after they were killed, and let one of them write."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from test_data import write_idx_folder

import cnnzoo
from cnnzoo.training import loop
from cnnzoo.training.recipe import load_recipe
from cnnzoo.training.world import World

# 220 images in batches of 60: the last one is smaller.
CHANGES = {
    "batch_size": 60,
    "optimizer.lr": 0.05,
    "crop": {"name": "random", "padding": 2},
    "schedule": {"name": "constant"},
}


def arguments(folder: Path, out: Path, epochs: int) -> list[str]:
    settings = [part for key, value in CHANGES.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    where = ["--data", str(folder), "--out", str(out), "--device", "cpu", "--json"]
    return ["cnnzoo", "train", "lenet5_fashion", *where, "--epochs", str(epochs), *settings]


def environment(**more: object) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"OMP_NUM_THREADS": 1, "PYTHONPATH": os.pathsep.join(sys.path), "MASTER_ADDR": "127.0.0.1"} | more
    return os.environ | {"MASTER_PORT": str(port)} | {key: str(value) for key, value in given.items()}


@pytest.fixture
def killed(tmp_path: Path) -> int:
    """Train with two processes and kill both in the middle of an epoch; how many epochs were saved."""
    write_idx_folder(tmp_path, repeat=11)
    out, command = tmp_path / "two", [sys.executable, "-m", *arguments(tmp_path, tmp_path / "two", 10_000)]
    world = environment(WORLD_SIZE=2, LOCAL_WORLD_SIZE=2)
    with ExitStack() as stack, (tmp_path / "said").open("w") as said:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, env=world | {"RANK": rank, "LOCAL_RANK": rank}, stdout=said, stderr=said)
            )
            for rank in "01"
        ]
        stack.callback(lambda: [process.kill() for process in processes])
        while not (out / "log.jsonl").exists():
            assert all(process.poll() is None for process in processes), (tmp_path / "said").read_text()
            time.sleep(0.05)
    return len(torch.load(out / "last.pt", weights_only=True)["epochs"])


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
@pytest.mark.slow
def test_two_processes_are_killed_go_on_and_equal_one(tmp_path: Path, killed: int) -> None:
    assert killed >= 1
    out, epochs = tmp_path / "two", killed + 2
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    finished = subprocess.run(
        [*launcher, *arguments(tmp_path, out, epochs)], env=environment(), capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert json.loads(finished.stdout)["train_loss"] == lines[-1]["train_loss"]  # one of them prints

    recipe = load_recipe("lenet5_fashion", CHANGES, epochs=epochs)
    alone = loop.train(recipe, recipe.load_data(tmp_path), tmp_path / "one", progress=False, device="cpu")
    assert [line["epoch"] for line in lines] == list(range(1, epochs + 1))
    for line, epoch in zip(lines, alone.epochs, strict=True):
        assert line["train_loss"] == pytest.approx(epoch.train_loss, rel=1e-4)
        assert line["test_loss"] == pytest.approx(epoch.test_loss, rel=1e-4)
        assert line["train_accuracy"] == pytest.approx(epoch.train_accuracy, abs=1e-6)  # of 220 images, each once
        assert line["step"] == epoch.step
    kept = json.loads((out / "result.json").read_text())
    assert kept["command"].startswith("torchrun --nproc-per-node 2 -m cnnzoo train lenet5_fashion --set ")
    assert kept["hardware"].endswith("2 processes")
    assert cnnzoo.load_pretrained(out).config.name == "lenet5"
    assert not list(out.glob("*.part"))


def test_batches_that_cannot_be_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def three(device: object) -> Iterator[World]:
        yield World(size=3)

    monkeypatch.setattr(loop, "joined", three)
    write_idx_folder(tmp_path, repeat=11)
    recipe = load_recipe("lenet5_fashion", batch_size=64)
    message = r"3 processes cannot share batches of 64 evenly; set batch_size to a multiple of 3"
    with pytest.raises(cnnzoo.OptionError, match=message):
        loop.train(recipe, recipe.load_data(tmp_path), tmp_path / "out", progress=False)
