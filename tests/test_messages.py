"""What is said of values that cannot be, on every network, in Python and on the command line."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Variant
from test_cli import run
from torch import nn

import cnnzoo
from cnnzoo.checkpoints.layouts import counterpart, unknown_layer
from cnnzoo.registry import checked

SPECS = [cnnzoo.spec(name) for name in cnnzoo.list_models(kind=None)]


def test_an_input_without_a_batch_is_explained_by_every_network(variant: Variant) -> None:
    model = variant.build(device="meta").eval()
    channels, height, width = model.input_shape
    for shape, hint in (
        ((channels, height, width), r" \(a single image is `x\.unsqueeze\(0\)`\)"),
        ((height, width), ""),
        ((1, 1, channels, height, width), ""),
        ((7,), ""),
    ):
        with pytest.raises(
            cnnzoo.ShapeError, match=rf"^\w+: got an input of shape .*; it takes images \(N, C, H, W\){hint}$"
        ):
            model(torch.empty(shape, device="meta"))


def test_features_of_an_image_without_a_batch_are_refused_too() -> None:
    model = cnnzoo.create("vgg11", num_classes=0, device="meta")  # convolutions would take the channels for a batch
    with pytest.raises(cnnzoo.ShapeError, match=r"got an input of shape \(3, 64, 64\)"):
        model(torch.empty(3, 64, 64, device="meta"))
    assert model[:3](torch.empty(2, 3, 8, 8, device="meta")).ndim == 4
    assert cnnzoo.create("lenet5")[-2:](torch.zeros(2, 84)).shape == (2, 10)  # a part takes what it is given


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_images_in_whole_numbers_are_explained(kind: torch.dtype) -> None:
    with pytest.raises(cnnzoo.OptionError, match=rf"LeNet5: got images of {kind}; .*model\.checkpoint\.transforms\(\)"):
        cnnzoo.create("lenet5")(torch.zeros(1, 1, 28, 28, dtype=kind))


@pytest.mark.parametrize("given", [np.zeros((1, 1, 28, 28)), [[0.0]], None])
def test_what_is_no_tensor_is_explained(given: Any) -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"LeNet5: got \w+; it takes a tensor of images \(N, C, H, W\)"):
        cnnzoo.create("lenet5")(given)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_number_that_a_constructor_takes_is_checked(spec: cnnzoo.ModelSpec) -> None:
    wrong = {
        int: ("3", 0.5, 2.0, -1, True, [3]),
        float: ("0.5", True, float("nan"), [0.5]),
        bool: (1, "yes", 0),
    }
    for name, parameter in spec.parameters.items():
        kind: Any = {int | None: int, float | None: float}.get(parameter.annotation, parameter.annotation)
        for value in wrong.get(kind, ()):
            expected = {int: "a whole number of at least [01]", float: "a number", bool: "True or False"}[kind]
            with pytest.raises(
                cnnzoo.OptionError,
                match=rf"{spec.name}: got {name}={value!r}, expected {expected}".replace("[3]", r"\[3\]").replace(
                    "[0.5]", r"\[0.5\]"
                ),
            ):
                spec.build(**{name: value})
        if name == "in_channels":
            for value in (0, None):
                with pytest.raises(
                    cnnzoo.OptionError, match=f"got in_channels={value}, expected a whole number of at least 1"
                ):
                    spec.build(in_channels=value)
        if name == "dropout":
            for value in (-0.1, 1.5):
                with pytest.raises(cnnzoo.OptionError, match=f"got dropout={value}, expected a number from 0 to 1"):
                    spec.build(dropout=value)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet5", num_classes=np.int64(3))  # pyright: ignore[reportArgumentType]
    assert type(model.config.options["num_classes"]) is int
    cnnzoo.save_pretrained(model, tmp_path)
    assert cnnzoo.load_pretrained(tmp_path).num_classes == 3
    parameter = inspect.Parameter("dropout", inspect.Parameter.KEYWORD_ONLY, annotation=float | None)
    assert checked("x", parameter, None) is None


@pytest.mark.parametrize("option", ["pretrained", "weights"])
def test_options_of_other_libraries_point_to_load_pretrained(option: str) -> None:
    with pytest.raises(
        cnnzoo.OptionError,
        match=rf"takes no {option}=, its weights are random; load_pretrained\('resnet50', hub=True\)",
    ):
        cnnzoo.create("resnet50", **{option: True})  # pyright: ignore


@pytest.mark.parametrize(
    ("network", "theirs", "ours"),
    [
        ("resnet18", "layer3", "conv4_x"),
        ("resnet50", "layer4.2.conv3", "conv5_x.2.conv3"),
        ("vgg16", "features.28", "conv5_3"),
        ("vgg16", "classifier.3", "fc7"),
        ("alexnet", "classifier.1", "fc6"),
        ("googlenet", "inception4a", "inception_4a"),
        ("inception_v3", "Mixed_7c", "mixed_7c"),
        ("preresnet18", "stages.2.blocks.0.conv1", "conv4_x.0.conv1"),
    ],
)
def test_layers_by_their_names_elsewhere(network: str, theirs: str, ours: str) -> None:
    model = cnnzoo.create(network, device="meta")  # pyright: ignore
    assert counterpart(model, theirs) == ours
    known = [name for name, _ in model.named_modules()]
    assert f"here it is {ours!r}" in str(unknown_layer(model, theirs, known))
    for name in known:
        assert counterpart(model, name) in (None, name) or name not in known or counterpart(model, name) in known


@pytest.mark.parametrize("ask", [cnnzoo.extract, cnnzoo.features])
def test_extracting_by_another_library_s_name_names_ours(ask: Any) -> None:
    with pytest.raises(
        cnnzoo.UnknownNameError, match=r"unknown layer 'layer3', which is another library's name: here it is 'conv4_x'"
    ):
        ask(cnnzoo.create("resnet18", init=False).eval(), "layer3")


def test_layers_that_nobody_has_are_unknown() -> None:
    assert counterpart(cnnzoo.create("lenet5", device="meta"), "layer3") is None
    assert counterpart(nn.Linear(1, 1), "layer3") is None


def test_images_that_are_too_large_name_the_largest() -> None:
    model = cnnzoo.create("lenet5")
    for size in (32, 40):
        with pytest.raises(cnnzoo.ShapeError, match=r"The smallest input that works is 28x28, the largest 31x31\.$"):
            model(torch.zeros(1, 1, size, size))
    with pytest.raises(cnnzoo.ShapeError, match=r"The smallest input that works is 28x28\.$"):
        model(torch.zeros(1, 1, 20, 20))
    for size in (28, 31):
        assert model(torch.zeros(1, 1, size, size)).shape == (1, 10)


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 128), ("googlenet", 16)])
def test_auxiliary_classifiers_name_images_and_not_maps(name: str, size: int) -> None:
    model = cnnzoo.create(name, aux=True, num_classes=2, device="meta").eval()  # pyright: ignore
    if name == "googlenet":  # whose classifiers take maps of any size
        assert len(model.forward_with_aux(torch.zeros(1, 3, size, size, device="meta"))) == 3  # pyright: ignore
        return
    with pytest.raises(
        cnnzoo.ShapeError,
        match=r"gets maps of 768x6x6, which it cannot take; the network is made for 3x299x299, and the smallest images that it works with are",
    ) as caught:
        model.forward_with_aux(torch.zeros(1, 3, size, size, device="meta"))  # pyright: ignore
    sides = [int(one) for one in str(caught.value).rpartition(" ")[2].split("x")]
    model.forward_with_aux(torch.zeros(1, 3, *sides, device="meta"))  # pyright: ignore
    with pytest.raises(cnnzoo.ShapeError):
        model.forward_with_aux(torch.zeros(1, 3, sides[0] - 1, sides[1] - 1, device="meta"))  # pyright: ignore


# Places --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["runs/nosuch", "./nosuch", "nosuch/", "~/nosuch", "../nosuch/x", "/nosuch/x", "a/b/c", "nosuch/a.safetensors"],
)
@pytest.mark.parametrize("named", [False, True])
def test_what_is_not_there_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, named: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cnnzoo.CheckpointError, match=rf"^load_pretrained: there is no file (or folder )?{place}"):
        cnnzoo.load_pretrained("lenet5", checkpoint=place) if named else cnnzoo.load_pretrained(place)
    result = run("predict", "x.png", "--model", place)
    assert result.exit_code == 2
    assert f"{place}" in result.stderr
    assert "load_pretrained(" not in result.stderr


def test_eval_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("eval", "lenet5_fashion")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: there is no run runs/lenet5_fashion-seed0; `cnnzoo train lenet5_fashion` makes it, or name weights by "
        "--weights\n"
    )


def test_train_of_a_network_names_its_recipes() -> None:
    result = run("train", "lenet5", "--data", "x")
    assert result.exit_code == 2
    assert "'lenet5' is a network; the recipes that train it: " in result.stderr
    assert "lenet5_fashion" in result.stderr
    assert "resnet50" not in result.stderr


def test_train_of_a_file_that_is_missing() -> None:
    result = run("train", "nosuch.toml")
    assert result.exit_code == 2
    assert "cannot read the recipe nosuch.toml: No such file or directory; name a file" in result.stderr
    assert "Errno" not in result.stderr


def test_a_choice_of_weights_is_said_with_the_option(tmp_path: Path) -> None:
    state = cnnzoo.load_pretrained("lenet5").state_dict()
    torch.save({"model": state, "model_ema": {k: v * 2 for k, v in state.items()}}, tmp_path / "a.pth")
    cnnzoo.data.samples()[7].image.save(tmp_path / "a.png")
    program = [sys.executable, "-m", "cnnzoo", "predict", "a.png", "--model", "lenet5", "--checkpoint", "a.pth"]
    own = ["--transforms", "mnist", "--top", "1"]
    root = Path(__file__).parent.parent
    said = [
        subprocess.run(
            [*program, *own, *more], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(root)}
        )
        for more in ((), ("--weights-key", "model"), ("--weights-key", "model_ema"), ("--weights-key", "nosuch"))
    ]
    assert said[0].stderr.startswith(
        "warning: a.pth holds averaged weights under 'model_ema' and raw ones under 'model'"
    )
    assert "pass --weights-key model for the others" in said[0].stderr
    assert said[0].stderr.count("\n") == 1
    assert [one.stderr for one in said[1:3]] == ["", ""]
    assert said[0].stdout == said[2].stdout != said[1].stdout
    assert said[3].returncode == 2
    assert "a.pth has no entry 'nosuch'" in said[3].stderr


@pytest.mark.parametrize("flags", [("-O",), ("-OO",), ("-X", "utf8=0")])
@pytest.mark.parametrize("command", [("list", "lenet*"), ("shapes", "lenet5"), ("show", "lenet5")])
def test_the_command_line_under_other_flags(flags: tuple[str, ...], command: tuple[str, ...]) -> None:
    def answer(flags: tuple[str, ...], **more: str) -> subprocess.CompletedProcess:
        env = {"PYTHONPATH": str(Path(__file__).parent.parent), "COLUMNS": "100", **more}
        return subprocess.run([sys.executable, *flags, "-m", "cnnzoo", *command], capture_output=True, env=env)

    plain = answer(())
    other = answer(flags, LC_ALL="C", LANG="C", PYTHONCOERCECLOCALE="0")
    assert (plain.returncode, other.returncode, other.stderr) == (0, 0, b"")
    if flags != ("-OO",):  # which takes the documentation away
        words = [
            set(
                b"".join(bytes([c]) if 32 <= c < 127 else b" " for c in one.stdout)
                .replace(b"+", b" ")
                .replace(b"|", b" ")
                .replace(b"-", b" ")
                .split()
            )
            for one in (plain, other)
        ]
        assert words[0] <= words[1] | {b"?"} or words[1] <= words[0] | {b"?"}
