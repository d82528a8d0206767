"""The scripts in docs/examples: each has a command line, and those without data of their own run here, small."""

import re
import runpy
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from conftest import Variant
from PIL import Image
from torchvision.utils import save_image

import cnnzoo

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def run(name: str, *arguments: object) -> str:
    """What a script prints."""
    script = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)
    result = CliRunner().invoke(script[name], [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def numbers(label: str, output: str) -> list[float]:
    """What a script prints behind a word, line by line."""
    return [float(number) for number in re.findall(rf"{label} ([-+.\de]+)", output)]


def shades(path: Path, size: tuple[int, int]) -> int:
    """How many shades of grey an image has, which is (width, height)."""
    with Image.open(path) as image:
        assert image.size == size
        return len(image.convert("L").getcolors())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_is_a_command_that_explains_itself(path: Path) -> None:
    script = runpy.run_path(str(path), run_name=path.stem)
    command = script[path.stem]
    assert isinstance(command, click.Command)
    assert f"python {path.name}" in script["__doc__"]
    assert command.help
    assert "Usage" in run(path.stem, "--help")


def test_style_transfer(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, height, width in (("content.png", 40, 32), ("style.png", 32, 48)):
        blocks = torch.rand(3, height // 8, width // 8, generator=generator)
        save_image(blocks.repeat_interleave(8, 1).repeat_interleave(8, 2), tmp_path / name)
    content, out = tmp_path / "content.png", tmp_path / "out.png"
    options = ("--model", "vgg11", "--no-weights", "--size", 24, "--steps", 1, "--out", out)
    output = run("style_transfer", content, tmp_path / "style.png", *options)
    before, after = numbers("style", output)
    assert after < before / 2
    assert shades(out, (24, 30)) > 20


def test_feature_visualisation(tmp_path: Path) -> None:
    out = tmp_path / "feature.png"
    small = ("--layer", "c3", "--size", 28, "--jitter", 2, "--steps", 40, "--out", out)
    for channel in (0, 5):
        activations = numbers(
            "activation", run("feature_visualisation", "--model", "lenet5", "--channel", channel, *small)
        )
        assert len(activations) == 9
        assert activations[-1] > activations[0] + 0.5
    assert shades(out, (28, 28)) > 20


def test_feature_visualisation_of_a_block(tmp_path: Path) -> None:
    cnnzoo.save_pretrained(Variant("googlenet", False).settled(num_classes=2), tmp_path / "googlenet")
    out = tmp_path / "feature.png"
    small = ("--size", 64, "--jitter", 0, "--steps", 16, "--out", out)
    activations = numbers("activation", run("feature_visualisation", "--model", tmp_path / "googlenet", *small))
    assert activations[-1] > activations[0]
    assert shades(out, (64, 64)) > 20
