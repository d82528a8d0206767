"""The scripts on transfer learning in docs/examples: they learn, and keep still what they say they do."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import cnnzoo
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.data.image_files import samples
from cnnzoo.data.preprocessing import Preprocessing

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three things to wear, each in 16 noisy copies to train with and in 8 to test."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for sample in samples("fashion_mnist")[7:]:
        clean = pil_to_tensor(sample.image)[0].float()
        for split, count in (("train", 16), ("test", 8)):
            place = folder / split / sample.label
            place.mkdir(parents=True)
            for i in range(count):
                noisy = clean + 80 * torch.randn(clean.shape, generator=generator)
                Image.fromarray(noisy.clamp(0, 255).byte().numpy()).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with batch normalisation, whose weights are random."""
    model = cnnzoo.create("cifar_resnet20", seed=0)
    with torch.no_grad():
        model.train()(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    model.checkpoint = Checkpoint("random", Preprocessing(size=32, mean=0.5, std=0.25))
    folder = tmp_path_factory.mktemp("network")
    cnnzoo.save_pretrained(model, folder)
    return folder


def run(script: str, *arguments: str | Path) -> tuple[list[float], list[float]]:
    """The losses and the test accuracies that a script prints."""
    command = runpy.run_path(str(EXAMPLES / f"{script}.py"))[script]
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = re.findall(r"loss ([\d.]+), test accuracy ([\d.]+)", result.output)
    losses, accuracies = zip(*lines, strict=True)
    return [float(loss) for loss in losses], [float(share) for share in accuracies]


def body(model: cnnzoo.CNN) -> dict[str, torch.Tensor]:
    """The state of all layers but the last."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(model.head[0])}


def test_finetune(images: Path, tmp_path: Path) -> None:
    few = ("--epochs", "3", "--batch-size", "8", "--workers", "0", "--out", tmp_path / "out")
    losses, accuracies = run("finetune", images, "--model", "lenet5", *few)
    assert losses[-1] < losses[0] / 2
    assert accuracies[-1] > 0.8  # chance is 1/3
    tuned, before = cnnzoo.load_pretrained(tmp_path / "out"), cnnzoo.load_pretrained("lenet5")
    assert tuned.checkpoint.classes == ("Ankle boot", "Bag", "Sneaker")
    moved = {name: (tensor - before.state_dict()[name]).abs().mean().item() for name, tensor in body(tuned).items()}
    assert all(moved.values())
    assert moved["c1.bias"] < moved["f6.bias"]  # earlier layers train slower


def test_linear_probe(images: Path, tmp_path: Path) -> None:
    few = ("--epochs", "5", "--batch-size", "8", "--workers", "0", "--out", tmp_path / "out")
    losses, accuracies = run("linear_probe", images, "--model", "lenet5", *few)
    assert losses[-1] < losses[0] / 2
    assert accuracies[-1] > 0.8


def test_linear_probe_keeps_the_body(images: Path, normalised: Path, tmp_path: Path) -> None:
    few = ("--epochs", "2", "--batch-size", "16", "--workers", "0", "--out", tmp_path / "out")
    losses, _ = run("linear_probe", images, "--model", normalised, *few)
    assert losses[-1] < losses[0]
    before, after = body(cnnzoo.load_pretrained(normalised)), body(cnnzoo.load_pretrained(tmp_path / "out"))
    assert any(name.endswith("running_mean") for name in before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_concatenated_features(images: Path, normalised: Path, tmp_path: Path) -> None:
    networks = ("--model", "lenet5", "--model", "lenet5:s4", "--model", normalised)
    few = ("--steps", "50", "--workers", "0", "--tables", tmp_path / "tables")
    losses, accuracies = run("concatenated_features", images, *networks, *few)
    assert losses[-1] < losses[0] / 2
    assert accuracies[-1] > 0.8
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "tables").iterdir()}
    assert len(written) == 6
    run("concatenated_features", images, *networks, *few, "--weight-decay", "0.1")
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "tables").iterdir()}
