"""The command line as its user sees it."""

import json
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from test_data import write_idx_folder

import cnnzoo
from cnnzoo.checkpoints.pin import pin
from cnnzoo.cli import main
from cnnzoo.data.captcha import Captcha
from cnnzoo.data.image_files import samples
from cnnzoo.training.recipe import list_recipes


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fine(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    samples("fashion_mnist")[9].image.save(tmp_path / "boot.png")
    return tmp_path / "boot.png"


def test_list() -> None:
    text = fine("list", "lenet*")
    assert "lenet5" in text
    assert "61,706" in text
    assert "captcha" not in text
    rows = json.loads(fine("list", "--json"))
    assert [row["name"] for row in rows] == cnnzoo.list_models()
    assert next(row for row in rows if row["name"] == "lenet5")["weights"] == list(cnnzoo.spec("lenet5").checkpoints)
    blocks = [row["name"] for row in json.loads(fine("list", "--blocks", "--json"))]
    assert blocks == cnnzoo.list_models(kind="block")
    assert "basic_block" in blocks
    pretrained = [row["name"] for row in json.loads(fine("list", "--pretrained", "--json"))]
    assert pretrained == cnnzoo.list_models(pretrained=True)
    assert {"lenet5", "resnet50"} <= set(pretrained)
    assert "convnet" not in pretrained


def test_weights() -> None:
    rows = json.loads(fine("weights", "resnet50", "--json"))
    assert rows[0]["name"] == f"resnet50.{cnnzoo.spec('resnet50').checkpoints[0]}"
    assert {"resnet50.a1_in1k", "resnet50.tv2_in1k", "resnet50.imagenet1k_v2"} <= {row["name"] for row in rows}
    assert len(json.loads(fine("weights", "--json"))) > 80
    text = fine("weights", "vgg11")
    assert "timm/vgg11.tv_in1k" in text
    assert "VGG11_Weights" in text


def test_pinning_writes_revision_and_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.toml"
    line = '  { tag = "a1_in1k", repo = "timm/resnet18.a1_in1k", license = "apache-2.0" },'
    table.write_text(f"# kept\nresnet18 = [\n{line}\n]\n")
    weights = SimpleNamespace(rfilename="model.safetensors", lfs=SimpleNamespace(sha256="b" * 64))
    info = SimpleNamespace(sha="a" * 40, siblings=[SimpleNamespace(rfilename="config.json", lfs=None), weights])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, repo, files_metadata: info)
    assert pin(table) == pin(table) == 1  # a second time, the old values make room
    text = table.read_text()
    assert text.startswith("# kept\n")
    row = tomllib.loads(text)["resnet18"][0]
    assert (row["revision"], row["sha256"]) == ("a" * 40, "b" * 64)
    assert (row["tag"], row["repo"], row["license"]) == ("a1_in1k", "timm/resnet18.a1_in1k", "apache-2.0")


def test_show() -> None:
    text = fine("show", "lenet5")
    assert "Gradient-Based Learning" in text
    assert "connections" in text
    assert "fashion_mnist" in text
    shown = json.loads(fine("show", "lenet5", "--json"))
    assert shown["options"]["classic"] == "False"
    assert shown["checkpoints"][0]["license"] == "MIT"


def test_shapes() -> None:
    assert "16x10x10" in fine("shapes", "lenet5", "--classic")
    table = json.loads(fine("shapes", "convnet", "--set", "filters=[4, 8]", "--set", "image_size=[16, 16]", "--json"))
    assert [layer["output_shape"] for layer in table["layers"] if layer["name"] == "pool2"] == [[8, 4, 4]]
    assert "relu" in fine("shapes", "lenet5", "--set", "activation=relu")
    assert "7x28x28" not in fine("shapes", "tutorial_cifar_lenet", "--input", "3x32x32")


def test_verify() -> None:
    assert "43 figures: 43 agree" in fine("verify", "lenet5", "--classic")
    everything = json.loads(fine("verify", "--all", "--json"))
    assert {one["name"] for one in everything} == set(cnnzoo.list_models())
    assert all(one["ok"] for one in everything)


def test_verify_fails_on_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    table = cnnzoo.spec("lenet5").paper.table["networks"][0]
    monkeypatch.setitem(table["rows"][0], "parameters", 157)
    result = run("verify", "lenet5", "--classic")
    assert result.exit_code == 1
    assert "DIFFERS" in result.output
    assert "42 agree, 1 DIFFER" in result.output


def test_verify_against_somebody_elses_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my_network.py"
    file.write_text(
        "from torchvision.models import alexnet\nfrom torch import nn\n"
        "def tower():\n    model = alexnet()\n    model.features[2] = nn.AvgPool2d(3, 2)\n    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("verify", "alexnet", "--against", "my_network.tower", "--differences", "--json")
    assert result.exit_code == 1
    ((row,), ok) = (json.loads(result.output)[0][key] for key in ("rows", "ok"))
    assert not ok
    assert (row["layer"], row["paper"], row["model"]) == ("pool1 (features.2)", "max 3x3/2", "average 3x3/2")
    assert "36 agree" in fine("verify", "--against", "torchvision.models.alexnet")  # its name is the paper's
    wrong = run("verify", "alexnet", "--against", "no_such.network")
    assert wrong.exit_code != 0
    assert "--against no_such.network: cannot import it" in wrong.output


def test_predict(boot: Path) -> None:
    assert "Ankle boot" in fine("predict", boot, "--model", "lenet5", "--checkpoint", "fashion_mnist")
    (result,) = json.loads(fine("predict", boot, "--model", "lenet5.classic_fashion_mnist", "--top", "2", "--json"))
    assert result["classes"][0]["label"] == "Ankle boot"
    assert len(result["classes"]) == 2
    assert result["classes"][0]["share"] > 0.9


@pytest.mark.parametrize("classic", [(), ("--classic",)])
def test_predict_reads_digits_by_default(tmp_path: Path, classic: tuple[str, ...]) -> None:
    samples()[7].image.save(tmp_path / "seven.png")
    (result,) = json.loads(fine("predict", tmp_path / "seven.png", *classic, "--json"))
    assert result["classes"][0]["label"] == "7"


def test_predict_with_weights_of_one_s_own(tmp_path: Path, boot: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5.fashion_mnist")
    weights = tmp_path / "mine.pth"
    torch.save(model.state_dict(), weights)
    own = ("predict", boot, "--model", "lenet5", "--checkpoint", weights, "--top", "1")
    result = run(*own)
    assert result.exit_code == 2
    assert "nothing says how this network wants its images" in result.stderr
    assert "(--preprocessing, --transforms or --recipe)" in result.stderr
    prepared = [
        part for one in ("channels=1", "size=28", "mean=0.2860", "std=0.3530") for part in ("--preprocessing", one)
    ]
    assert "Ankle boot" in fine(*own, *prepared, "--classes", "fashion_mnist")
    assert "class 9" in fine(*own, *prepared)
    names = tmp_path / "names.txt"
    names.write_text("".join(f"thing {i}\n" for i in range(10)))
    assert "thing 9" in fine(*own, *prepared, "--classes", names)
    assert "Ankle boot" in fine("predict", boot, "--checkpoint", weights, "--recipe", "lenet5_fashion", "--top", "1")
    for more, message in (
        ((*prepared, "--classes", "a,b"), "got 2 names of classes for 10 scores"),
        ((*prepared, "--classes", "fashion"), "unknown list of classes 'fashion': did you mean 'fashion_mnist'"),
        (("--preprocessing", "sizes=28"), "preprocessing takes no 'sizes': did you mean 'size'"),
        (("--recipe", "lenet5_fashon"), "unknown recipe 'lenet5_fashon': did you mean 'lenet5_fashion'"),
    ):
        result = run(*own, *more)
        assert result.exit_code == 2
        assert message in result.stderr


def test_eval_of_a_bare_state_dict(tmp_path: Path) -> None:
    write_idx_folder(tmp_path, repeat=3)
    model = cnnzoo.load_pretrained("lenet5.fashion_mnist")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    measure = ("eval", "lenet5_fashion", "--data", tmp_path, "--device", "cpu", "--json")
    bare, named = (
        json.loads(fine(*measure, "--weights", weights)) for weights in (tmp_path / "mine.pth", "lenet5.fashion_mnist")
    )
    assert bare == named
    assert (bare["images"], bare["published_images"]) == (30, 10_000)
    more = json.loads(fine(*measure, "--weights", "lenet5.fashion_mnist", "--seed", "1", "--set", "validation=20"))
    assert 0 <= more["validation"]["accuracy"] <= 1
    text = fine(*measure[:-1], "--weights", tmp_path / "mine.pth")
    assert "measured on 30 of the 10,000 test images" in text
    result = run("eval", "lenet5_classic_fashion", "--data", tmp_path, "--weights", tmp_path / "mine.pth")
    assert result.exit_code == 2
    assert "mine.pth" in result.stderr


def test_predict_inverted(boot: Path, tmp_path: Path) -> None:
    from PIL import ImageOps

    ImageOps.invert(Image.open(boot)).resize((112, 112)).save(tmp_path / "white.jpg")
    assert "Ankle boot" in fine(
        *("predict", tmp_path / "white.jpg", "--model", "lenet5.fashion_mnist", "--invert", "--top", "1")
    )


@pytest.fixture
def boots(tmp_path: Path, boot: Path) -> Path:
    """A folder of images with two classes, and one file that is none."""
    for name in ("bags/a.png", "boots/a.png", "boots/b.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(boot.read_bytes())
    (tmp_path / "images" / "boots" / "text.png").write_text("not an image")
    return tmp_path / "images"


def test_features(boots: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    command = ("features", boots, "--model", "lenet5", "--layer", "f6", "--layer", "c5", "--out", out)
    text = fine(*command, "--device", "cpu", "--workers", "0", "--batch-size", "2", "--dtype", "bfloat16")
    assert f"{out}: 3 images x 204 features, 2 classes\nleft out: " in text
    assert "text.png is not an image that PIL knows" in text
    table = cnnzoo.load_features(out)
    assert table.files == ["bags/a.png", "boots/a.png", "boots/b.png"]
    assert (table.layers, table.features.dtype) == (("f6", "c5"), torch.bfloat16)
    said = json.loads(fine(*command, "--dtype", "bfloat16", "--json"))  # nothing left to do
    assert (said["images"], said["features"], said["classes"]) == (3, 204, ["bags", "boots"])
    assert list(said["skipped"]) == ["boots/text.png"]


def test_features_lists_twenty_of_what_is_left_out(boots: Path, tmp_path: Path) -> None:
    for i in range(21):
        (boots / f"{i}.jpg").write_text("not an image")
    text = fine("features", boots, "--model", "lenet5", "--out", tmp_path / "t.safetensors", "--workers", "0")
    assert "load_features" in text
    assert text[text.index("t.safetensors: ") :].count("not an image that PIL knows") == 20
    assert "left out: 2 more; load_features(" in text


def test_features_of_a_file_that_says_nothing_of_images(boots: Path, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    by_file = ("--model", "lenet5", "--checkpoint", tmp_path / "mine.pth", "--out", tmp_path / "mine.safetensors")
    result = run("features", boots, *by_file)
    assert result.exit_code == 2
    assert "nothing says how this network wants its images" in result.stderr
    assert "(--transforms TAG)" in result.stderr
    fine("features", boots, *by_file, "--transforms", "mnist", "--workers", "0")
    fine("features", boots, "--model", "lenet5", "--out", tmp_path / "published.safetensors", "--workers", "0")
    tables = [cnnzoo.load_features(tmp_path / name) for name in ("mine.safetensors", "published.safetensors")]
    assert torch.equal(tables[0].features, tables[1].features)


def test_train_and_use_the_result(tmp_path: Path, boot: Path) -> None:
    write_idx_folder(tmp_path, repeat=20)
    arguments = ("train", "fashion_textbook", "--data", tmp_path, "--epochs", "1", "--out", tmp_path / "out")
    last = json.loads(fine(*arguments, "--json"))
    assert last["epoch"] == 1
    assert 0 <= last["test_accuracy"] <= 1
    assert "published test_accuracy: 0.852" in fine(*arguments)  # nothing left to do
    model = cnnzoo.load_pretrained(tmp_path / "out" / "model.safetensors")
    assert model.config.name == "tutorial_lenet5_sigmoid"
    measured = json.loads(
        fine("eval", "fashion_textbook", "--weights", tmp_path / "out", "--data", tmp_path, "--device", "cpu", "--json")
    )
    assert measured["accuracy"] == last["test_accuracy"]
    assert "test accuracy" in fine("eval", "fashion_textbook", "--weights", tmp_path / "out", "--data", tmp_path)
    (guesses,) = json.loads(fine("predict", boot, "--model", tmp_path / "out", "--json"))  # it knows its classes
    assert len(guesses["classes"]) == 5


def test_train_with_other_values(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    settings = ("--set", "optimizer.lr=0.5", "--set", "batch_size=4", "--set", 'options={"pool": "max"}')
    fine("train", "lenet5_fashion", "--data", tmp_path, "--steps", "2", *settings, "--out", tmp_path / "out", "--json")
    kept = json.loads((tmp_path / "out" / "result.json").read_text())
    assert kept["stated"]["optimizer"]["lr"] == 0.5
    assert kept["epochs"][-1]["step"] == 2
    assert kept["command"] == (
        'cnnzoo train lenet5_fashion --set optimizer.lr=0.5 --set batch_size=4 --set \'options={"pool": "max"}\' '
        "--set steps=2 --seed 0"
    )
    assert shlex.split(kept["command"])[-3:] == ["steps=2", "--seed", "0"]
    assert cnnzoo.load_pretrained(tmp_path / "out").config.options["pool"] == "max"


def test_recipes() -> None:
    assert "fashion_textbook" in fine("recipes")
    known = json.loads(fine("recipes", "--json"))
    assert [one["name"] for one in known] == list_recipes()
    assert next(one for one in known if one["name"] == "cifar_resnet20")["steps"] == 64000


def test_captchas_are_drawn_trained_on_and_read(tmp_path: Path) -> None:
    small = ("--charset", "01", "--length", "2", "--width", "60", "--height", "40")
    text = fine("captchas", "--count", "8", "--test", "2", *small, "--out", tmp_path / "some.zip")
    assert "8 training and 2 test images" in text
    data = '{"name": "captchas", "train": 8, "test": 2, "charset": "01", "length": 2, "width": 60, "height": 40}'
    options = '{"charset": "01", "length": 2, "image_size": [40, 60]}'
    settings = [
        f"data={data}",
        f"options={options}",
        "preprocessing.size=[40, 60]",
        "batch_size=4",
        "precision=float32",
    ]
    chosen = [part for setting in settings for part in ("--set", setting)]
    arguments = ("--data", tmp_path / "some.zip", "--epochs", "1", *chosen, "--out", tmp_path / "out", "--json")
    last = json.loads(fine("train", "captcha_cnn_small", *arguments))
    assert 0 <= last["test_accuracy"] <= last["test_characters"] <= 1
    text, image = Captcha("01", 2, 60, 40).draw("test", 0)
    image.save(tmp_path / "captcha.png")
    (result,) = json.loads(fine("predict", tmp_path / "captcha.png", "--model", tmp_path / "out", "--json"))
    (guess,) = result["classes"]
    model = cnnzoo.load_pretrained(tmp_path / "out")
    scores = model(model.checkpoint.transforms()(image).unsqueeze(0))
    assert guess["label"] == model.decode(scores)[0]
    shares = scores.view(2, 2).softmax(1).amax(1)
    assert guess["share"] == pytest.approx(shares.prod().item())


def test_a_captcha_is_read(tmp_path: Path) -> None:
    text, image = Captcha().draw("test", 0)
    image.save(tmp_path / "captcha.png")
    (result,) = json.loads(fine("predict", tmp_path / "captcha.png", "--model", "captcha_cnn_small", "--json"))
    assert [guess["label"] for guess in result["classes"]] == [text]


def test_demo(tmp_path: Path) -> None:
    text = fine("demo", "--out", tmp_path / "maps.png")
    assert "9 of 10 right; on all 10,000 test images 99.45%" in text  # the 3 is read as an 8
    assert "things to wear (Fashion-MNIST): 10 of 10 right" in text
    assert "a CAPTCHA that says 9575: read as 9575" in text
    assert "Subsample" in text
    with Image.open(tmp_path / "maps.png") as image:
        assert image.width > 400
        assert len(image.getcolors(1 << 24)) > 50


FEATURES = ("features", "--out", "t.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "no.png", "--strict"), "there is no file no.png"),
        (("predict", "{text}", "--strict"), "is not an image that PIL knows"),
        (("predict", "{boot}", "--model", "lenet"), "unknown network 'lenet': did you mean 'lenet5'?"),
        (("predict", "{boot}", "--checkpoint", "{truncated}"), "is not a whole safetensors file"),
        (("predict", "{boot}", "--checkpoint", "imagenet"), "unknown checkpoint 'imagenet'"),
        (("predict", "{boot}", "--model", "convnet"), "there are no weights of convnet"),
        (("shapes", "lenet5", "--input", "3x28x28"), "takes 1 input channel(s), got 3"),
        (("shapes", "lenet5", "--input", "1x8x8"), "The smallest input that works is 28x28"),
        (("shapes", "lenet5", "--input", "large"), "expected sizes joined by x"),
        (("shapes", "lenet5", "--set", "dropout=0.5"), "unknown option 'dropout'"),
        (("shapes", "lenet5", "--set", "dropout"), "expected KEY=VALUE"),
        (("shapes", "convnet", "--classic"), "convnet takes no classic="),
        (("verify", "lenet"), "unknown network 'lenet'"),
        (("show", "lenet"), "unknown network 'lenet'"),
        (("list", "--family", "lenets"), "unknown family 'lenets': did you mean 'lenet'?"),
        (("train", "mnist"), "unknown recipe 'mnist'"),
        (("train", "lenet5_fashion", "--set", "epoch=3"), "unknown key 'epoch': did you mean 'epochs'?"),
        (("train", "lenet5_fashion", "--set", "optimizer.learning_rate=3"), "optimizer sgd takes no 'learning_rate'"),
        (("train", "lenet5_fashion", "--epochs", "1", "--steps", "1"), "a run has one length"),
        (("train", "resnet18"), "name a folder with --data"),
        (("train", "resnet18", "--data", "{folder}"), "train holds no <class>/<image>"),
        (("train", "cifar_resnet20", "--data", "{folder}"), "Looked for data_batch_1 in cifar-10-batches-py/ or"),
        (("eval", "fashion_textbook", "--weights", "lenet5"), "recipe fashion_textbook is for tutorial_lenet5_sigmoid"),
        (
            ("eval", "lenet5_classic_fashion", "--weights", "lenet5"),
            "is for lenet5 with classic=True; got lenet5 with its",
        ),
        (("eval", "lenet5_fashion"), "lenet5_fashion-seed0"),
        (("train", "cifar_resnet20", "--set", "data=cifar10"), "set data.name=cifar10, and --data for the folder"),
        (("train", "cifar_resnet20", "--set", "data=images"), "set data.name=NAME, and --data for the folder with the"),
        (("train", "cifar_resnet20", "--set", "optimizer=adam"), "set optimizer.name=adam, with one of sgd, adam"),
        (("train", "cifar_resnet20", "--set", "validation=-1"), "got validation=-1; it is a number of training images"),
        (("captchas", "--out", "{folder}/no/some.zip"), "No such file or directory"),
        (
            ("train", "fashion_textbook", "--data", "{folder}"),
            "images in train/<class>/ with test/<class>/ or val/<class>/",
        ),
        (("demo", "--out", "{folder}/no/maps.png"), "No such file or directory"),
        ((*FEATURES, "{folder}", "--model", "lenet"), "unknown network 'lenet': did you mean 'lenet5'?"),
        ((*FEATURES, "{folder}", "--model", "lenet5", "--layer", "f7"), "unknown layer 'f7': "),
        ((*FEATURES, "{folder}", "--model", "lenet5"), "holds no images"),
        ((*FEATURES, "{folder}/no", "--model", "lenet5"), "no is not a folder"),
        ((*FEATURES, "{folder}", "--model", "lenet5", "--device", "gpu"), "unknown device 'gpu'"),
        ((*FEATURES, "{folder}", "--model", "lenet5", "--transforms", "imagenet"), "unknown checkpoint 'imagenet'"),
        (("features", "{folder}", "--model", "lenet5", "--out", "t.npy"), "tables are safetensors files"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, boot: Path, arguments: tuple[str, ...], message: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    names = {"text": tmp_path / "text.png", "boot": boot, "truncated": tmp_path / "short.safetensors", "folder": empty}
    result = run(*(argument.format(**names) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert isinstance(result.exception, SystemExit)
    assert list(empty.iterdir()) == []


def test_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "cnnzoo", "shapes", "lenet5", "--set", "dropout=1"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr


def test_runs_as_a_module() -> None:
    """As torchrun starts it: `torchrun -m cnnzoo features ...`."""
    command = [sys.executable, "-m", "cnnzoo", "--version"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout == f"cnnzoo, version {cnnzoo.__version__}\n"
