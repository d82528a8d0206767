"""Handwritten digits of one's own: found in photographs and drawings, and read."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import cnnzoo
from cnnzoo.classification import classify
from cnnzoo.data.digits import find_digits
from cnnzoo.data.image_files import samples

DIGITS = samples()


def page(placed: list[tuple[Image.Image, int, int]], size: tuple[int, int], paper: int, ink: int) -> Image.Image:
    """Digits, light on dark and already of their size, as ink on paper."""
    strength = np.zeros(size[::-1], np.float32)
    for digit, left, top in placed:
        place = strength[top : top + digit.height, left : left + digit.width]
        np.maximum(place, np.asarray(digit, np.float32) / 255, out=place)
    return Image.fromarray((paper + (ink - paper) * strength).round().astype(np.uint8))


def photograph(digit: Image.Image, chance: random.Random) -> Image.Image:
    """A digit at a random place, size and rotation, in random ink on random paper, lit unevenly, blurred, as JPEG."""
    side = chance.randint(60, 400)
    size = round(side * chance.uniform(0.25, 0.9))
    large = digit.resize((size, size), Image.Resampling.BICUBIC).rotate(chance.uniform(-6, 6), Image.Resampling.BICUBIC)
    shades = chance.randint(0, 80), chance.randint(160, 255)
    ink, paper = shades if chance.random() < 0.6 else shades[::-1]
    left, top = chance.randint(0, side - size), chance.randint(0, side - size)
    pixels = np.asarray(page([(large, left, top)], (side, side), paper, ink), np.float32)
    pixels = pixels * np.linspace(chance.uniform(0.75, 1), 1, side)[None, :]
    pixels = pixels + np.random.default_rng(chance.randrange(2**32)).normal(0, chance.uniform(0, 6), pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")
    image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0, 0.015) * size))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=chance.randint(40, 95))
    return Image.open(file)


def read(image: Image.Image) -> str:
    return classify(cnnzoo.load_pretrained("lenet5"), [image])[0][0].label


def test_digits_of_mnist_s_form_are_left_as_they_are() -> None:
    for sample in DIGITS:
        (found,) = find_digits(sample.image)
        assert found.tobytes() == sample.image.tobytes()


def test_photographs_of_digits() -> None:
    chance = random.Random(0)
    right = sum(read(photograph(sample.image, chance)) == sample.label for sample in DIGITS * 20)
    assert right / 200 >= 0.95


@pytest.mark.parametrize("sample", DIGITS, ids=lambda one: one.label)
@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (200, 90), (70, 170)])
def test_found_digits_are_as_mnist_has_them(sample, paper: int, ink: int) -> None:
    large = sample.image.resize((224, 224), Image.Resampling.BICUBIC)
    (found,) = find_digits(page([(large, 150, 20)], (400, 300), paper, ink))
    pixels = torch.from_numpy(np.asarray(found).copy()).float()
    rows, columns = (pixels.amax(axis).gt(0).nonzero().flatten() for axis in (1, 0))
    height, width = (int(line[-1] - line[0]) + 1 for line in (rows, columns))
    assert max(height, width) == 20
    weights = pixels / pixels.sum()
    middle = [(weights.sum(1 - axis) * (torch.arange(28) + 0.5)).sum().item() for axis in (0, 1)]
    assert middle == pytest.approx([14.5, 14.5], abs=0.75)
    theirs = torch.from_numpy(np.asarray(sample.image).copy()).float()
    shifted = (pixels.roll((down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1))  # by what is rounded
    likeness = max(torch.corrcoef(torch.stack([one.flatten(), theirs.flatten()]))[0, 1] for one in shifted)
    assert likeness > 0.93


@pytest.mark.parametrize("width", [2, 6, 12, 24])
@pytest.mark.parametrize("inverted", [False, True])
def test_thin_and_thick_pens(width: int, inverted: bool) -> None:
    from PIL import ImageDraw

    image = Image.new("L", (300, 300), 0 if inverted else 255)
    ImageDraw.Draw(image).line([(90, 60), (210, 60), (130, 250)], fill=255 if inverted else 0, width=width)
    assert read(image) == "7"


def test_several_digits_are_read_in_order() -> None:
    chance = random.Random(0)
    for text in ("4821", "90", "1357902468"):
        placed, left = [], 20
        for character in text:
            size = chance.randint(60, 80)
            placed.append((DIGITS[int(character)].image.resize((size, size)), left, chance.randint(10, 25)))
            left += size + 4
        image = page(placed, (left + 20, 120), 240, 30)
        assert len(find_digits(image)) == len(text)
        ((guess,),) = classify(cnnzoo.load_pretrained("lenet5"), [image])
        assert guess.label == text
        assert 0 < guess.share <= 1


def test_lines_are_read_from_above() -> None:
    image = [sample.image.resize((80, 80)) for sample in DIGITS]
    placed = [(image[3], 20, 10), (image[7], 120, 14), (image[1], 30, 120), (image[4], 130, 116)]
    assert read(page(placed, (240, 220), 255, 0)) == "3714"


def test_specks_are_no_digits() -> None:
    image = page([(DIGITS[5].image.resize((140, 140)), 60, 60)], (280, 280), 250, 20)
    for place in ((5, 5), (270, 12), (15, 260)):
        image.paste(60, (*place, place[0] + 3, place[1] + 3))
    assert read(image) == "5"


def test_transparent_ground_and_colour() -> None:
    ink = np.asarray(DIGITS[8].image.resize((200, 200)))
    pixels = np.dstack([np.full_like(ink, 30), np.full_like(ink, 60), np.full_like(ink, 160), ink])
    assert read(Image.fromarray(pixels)) == "8"


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (300, 2), (640, 480)])
def test_no_digit(size: tuple[int, int], level: int) -> None:
    image = Image.new("L", size, level)
    if size == (28, 28) and level == 0:
        return  # of MNIST's form: it is left as it is
    with pytest.raises(
        cnnzoo.DataError, match=r"find_digits: nothing in empty\.png stands out from its ground; take an image of dark"
    ):
        find_digits(image, "empty.png")


def test_noise_is_no_digit() -> None:
    noise = np.random.default_rng(0).normal(200, 4, (200, 300)).clip(0, 255).astype(np.uint8)
    with pytest.raises(cnnzoo.DataError, match="nothing in the image stands out"):
        find_digits(Image.fromarray(noise))


def test_predict_reads_a_file(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cnnzoo.cli import main

    placed = [(DIGITS[d].image.resize((90, 90)), 20 + 100 * i, 20) for i, d in enumerate((2, 0))]
    page(placed, (260, 140), 230, 40).save(tmp_path / "digits.jpg")
    result = CliRunner().invoke(main, ["predict", str(tmp_path / "digits.jpg"), "--model", "lenet5"])
    assert result.exit_code == 0
    assert "\t20\t" in result.stdout
    Image.new("L", (50, 50), 255).save(tmp_path / "empty.png")
    result = CliRunner().invoke(main, ["predict", str(tmp_path / "empty.png")])
    assert result.exit_code == 1
    assert f"nothing in {tmp_path / 'empty.png'} stands out" in result.stderr
