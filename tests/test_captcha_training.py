"""CAPTCHAs of one's own: what recipe and network are follows from the files, for training and for measuring."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data import Captcha, write_captchas
from cnnzoo.data.captcha import DrawnCaptchas
from cnnzoo.data.captcha_files import captchas
from cnnzoo.training import loop
from cnnzoo.training.evaluation import evaluate
from cnnzoo.training.losses import CTC, characters, right
from cnnzoo.training.recipe import load_recipe

OWN = Captcha("ab3", 2, 60, 32)
SHORT = {"epochs": 1, "batch_size": 8}


def drawn_into(folder: Path, captcha: Captcha, count: int = 20) -> Path:
    """Images of one's own: a flat folder of files that are called after their text."""
    folder.mkdir()
    for number in range(count):
        text, image = captcha.draw("train", number)
        image.save(folder / f"{text}_{number}.png")
    return folder


def trained(name: str, folder: Path, out: Path, **settings) -> loop.Run:
    recipe = load_recipe(name, SHORT | settings)
    return loop.train(recipe, recipe.load_data(folder), out, progress=False)


@pytest.mark.parametrize("name", ["captcha_cnn_small", "captcha_crnn"])
def test_everything_follows_from_the_files(name: str, tmp_path: Path) -> None:
    run = trained(name, drawn_into(tmp_path / "own", OWN), tmp_path / "run")
    model = run.model
    assert model.charset == "3ab"
    assert getattr(model, "length", 2) == 2
    assert model.input_shape == (1 if name == "captcha_crnn" else 3, 32, 60)
    again = cnnzoo.load_pretrained(tmp_path / "run")
    assert again.checkpoint.preprocessing.input_shape == model.input_shape
    assert again.config.options["charset"] == "3ab"
    stated = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stated["images"] == {"train": 16, "test": 4}


def test_one_command_trains_and_one_measures(tmp_path: Path) -> None:
    folder = drawn_into(tmp_path / "own", OWN)
    options = ["--data", str(folder), "--set", "batch_size=8", "--json"]
    out = str(tmp_path / "run")
    done = CliRunner().invoke(main, ["train", "captcha_cnn_small", *options, "--epochs", "1", "--out", out])
    assert done.exit_code == 0, done.output
    last = json.loads(done.stdout)
    done = CliRunner().invoke(main, ["eval", "captcha_cnn_small", *options, "--weights", out])
    assert done.exit_code == 0, done.output
    measured = json.loads(done.stdout)
    assert measured["images"] == 4
    assert measured["loss"] == pytest.approx(last["test_loss"], rel=1e-4)
    fewer = tmp_path / "fewer"  # characters than the network reads
    for part in ("train", "test"):
        (fewer / part).mkdir(parents=True)
        Image.new("RGB", (60, 32)).save(fewer / part / "ab.png")
    done = CliRunner().invoke(main, ["eval", "captcha_cnn_small", "--data", str(fewer), "--weights", out, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["images"]) == (0, 1)
    read = CliRunner().invoke(main, ["predict", str(next(folder.iterdir())), "--model", out, "--json"])
    assert read.exit_code == 0, read.output


def test_network_reads_what_it_is_trained_on(tmp_path: Path) -> None:
    folder = drawn_into(tmp_path / "own", Captcha("ab", 1, 32, 24), 200)
    run = trained("captcha_cnn_small", folder, tmp_path / "run", epochs=5)
    assert run.epochs[-1].test_accuracy >= 0.8


def test_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    folder = drawn_into(tmp_path / "own", OWN)
    trained("captcha_cnn_small", folder, tmp_path / "run")
    assert len(trained("captcha_cnn_small", folder, tmp_path / "run", epochs=2).epochs) == 2


VARIED = Captcha("ab", (1, 2), 60, 32)


@pytest.mark.parametrize(
    ("name", "captcha", "settings", "message"),
    [
        ("captcha_cnn_small", OWN, {"options.charset": "3ba"}, r"reads the characters '3ba' \(options\.charset\), and .* '3ab'"),
        ("captcha_crnn", OWN, {"options.charset": "3abc"}, r"CaptchaCRNN reads .*'3abc' \(options\.charset\)"),
        ("captcha_cnn_small", OWN, {"options.length": 3}, r"reads 3 characters \(options\.length\), and .* 2; leave out"),
        ("captcha_cnn_small", OWN, {"options.image_size": [10, 60]}, r"is made for 10x60 pixels \(options\.image_size\)"),
        ("captcha_cnn_small", VARIED, {}, r"reads 2 characters .* show 2 or fewer; captcha_crnn reads texts of any length"),
        ("captcha_cnn_small", OWN, {"data.length": 3}, r"got length=3, .* leave out length= \(data\.length\)"),
        ("captcha_cnn_small", OWN, {"data.width": 61}, r"got width=61, .* leave out width= \(data\.width\)"),
    ],
)  # fmt: skip
def test_message_names_the_setting_that_is_wrong(
    tmp_path: Path, name: str, captcha: Captcha, settings: dict, message: str
) -> None:
    folder = drawn_into(tmp_path / "own", captcha)
    with pytest.raises(cnnzoo.CnnzooError, match=message):
        trained(name, folder, tmp_path / "run", **settings)


def test_images_are_resized_where_a_size_is_stated(tmp_path: Path) -> None:
    folder = drawn_into(tmp_path / "own", OWN)
    run = trained("captcha_cnn_small", folder, tmp_path / "run", **{"preprocessing.size": [40, 80]})
    assert run.model.input_shape == (3, 40, 80)


@pytest.mark.parametrize("name", ["captcha_cnn", "captcha_cnn_small", "captcha_crnn"])
def test_drawn_captchas_are_those_that_the_network_is_made_for(name: str) -> None:
    recipe = load_recipe(name, {"data.train": 2, "data.test": 2, "data.fresh": False})
    sets = recipe.load_data()
    network = cnnzoo.create(cnnzoo.spec(name).name, device="meta")
    assert sets["train"].classes == tuple(network.charset)
    assert tuple(sets["train"].images.shape[2:]) == network.input_shape[1:] == recipe.preprocessing.frame
    assert recipe.fitted(sets).options == {}
    other = dataclasses.replace(recipe, options={"charset": "xyz", "image_size": (40, 100)})
    sets = other.load_data()
    assert sets["train"].classes == tuple("xyz")
    assert sets["train"].images.shape[2:] == (40, 100)


def test_ctc_is_torchs() -> None:
    scores = torch.randn(3, 9, 5, requires_grad=True)
    labels = torch.tensor([[0, 1, 3], [2, 2, -1], [3, -1, -1]])
    loss = CTC()(scores, labels)
    theirs = torch.nn.CTCLoss(blank=4)(
        scores.log_softmax(2).transpose(0, 1), torch.tensor([0, 1, 3, 2, 2, 3]), (9, 9, 9), (3, 2, 1)
    )
    torch.testing.assert_close(loss, theirs)
    loss.backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_measures_of_texts_of_any_length() -> None:
    model = cnnzoo.captcha_crnn(charset="abc", image_size=(32, 64)).eval()
    images = DrawnCaptchas(Captcha("abc", (1, 3), 64, 32), "train").take(range(6))
    recipe = load_recipe("captcha_crnn")
    found = evaluate(model, images, dataclasses.replace(recipe.preprocessing, size=(32, 64)))
    inputs = dataclasses.replace(recipe.preprocessing, size=(32, 64)).transforms()(images.images)
    scores = model(inputs)
    texts = ["".join("abc"[label] for label in row if label >= 0) for row in images.labels.tolist()]
    known = [text == read for text, read in zip(texts, model.decode(scores), strict=True)]
    assert right(scores, images.labels).tolist() == known
    assert found.accuracy == pytest.approx(sum(known) / 6)
    assert found.loss == pytest.approx(CTC()(scores, images.labels).item(), rel=1e-4)
    assert found.characters == pytest.approx(characters(scores, images.labels).mean().item())


def test_texts_that_were_read_right() -> None:
    paths = torch.tensor([[0, 3, 0, 1], [0, 0, 1, 1], [3, 3, 3, 3], [0, 1, 2, 1]])
    scores = torch.nn.functional.one_hot(paths, 4).float()
    labels = torch.tensor([[0, 0, 1], [0, 0, 1], [2, -1, -1], [0, 1, 2]])
    assert right(scores, labels).tolist() == [True, False, False, False]
    torch.testing.assert_close(characters(scores, labels), torch.tensor([1, 2 / 3, 0, 2 / 3], dtype=torch.float64))


@pytest.mark.parametrize(("length", "known"), [("4", 4), ("4-6", (4, 6))])
def test_command_draws_texts_of_several_lengths(tmp_path: Path, length: str, known) -> None:
    out = tmp_path / "some.zip"
    options = ["--count", "3", "--test", "2", "--length", length, "--charset", "ab", "--width", "60", "--height", "30"]
    done = CliRunner().invoke(main, ["captchas", "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    drawn = captchas(train=3, test=2, charset="ab", length=known, width=60, height=30)
    assert torch.equal(captchas(out, train=3, test=2)["train"].labels, drawn["train"].labels)


@pytest.mark.parametrize("length", ["four", "4-", "0", "6-4"])
def test_command_refuses_other_lengths(tmp_path: Path, length: str) -> None:
    done = CliRunner().invoke(main, ["captchas", "--out", str(tmp_path / "x.zip"), "--length", length])
    assert done.exit_code == 2
    assert "the fewest and" in done.output


def test_archive_is_read_for_a_network_of_any_length(tmp_path: Path) -> None:
    captcha = Captcha("ab", (1, 2), 40, 32)
    write_captchas(tmp_path / "own.zip", captcha, train=8, test=2)
    recipe = load_recipe("captcha_crnn", SHORT | {"data.train": 8, "data.test": 2})
    run = loop.train(recipe, recipe.load_data(tmp_path / "own.zip"), tmp_path / "run", progress=False)
    assert run.model.charset == "ab"
    assert run.model.input_shape == (1, 32, 40)
