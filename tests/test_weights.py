"""Weights: the bundled ones, files, and files that are not what they should be."""

import hashlib
import json
import struct
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import cnnzoo
from cnnzoo.checkpoints.table import list_checkpoints
from cnnzoo.checkpoints.weights import read_weights, write_weights
from cnnzoo.data.captcha import Captcha
from cnnzoo.data.image_files import samples
from cnnzoo.training.recipe import list_recipes

BUNDLED = [
    (name, one)
    for name in cnnzoo.list_models(pretrained=True)
    for one in list_checkpoints(name)
    if one.source == "bundled"
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of a LeNet-5 of 1998 with two codes."""
    model = cnnzoo.create("lenet5", classic=True, num_classes=2, codes=torch.eye(2, 84), seed=0)
    write_weights(model, tmp_path / "two.safetensors")
    return tmp_path / "two.safetensors"


@pytest.mark.parametrize(("name", "checkpoint"), BUNDLED, ids=lambda value: getattr(value, "tag", value))
def test_bundled_weights(name: str, checkpoint) -> None:
    resource = files("cnnzoo.checkpoints.bundled").joinpath(checkpoint.file)
    content = resource.read_bytes()
    assert len(content) <= 1_200_000
    assert hashlib.sha256(content).hexdigest() == checkpoint.sha256
    assert checkpoint.license
    assert checkpoint.data
    assert len(checkpoint.card) > 100
    assert checkpoint.recipe in list_recipes()
    assert 0.5 < checkpoint.accuracy < 1
    model = cnnzoo.load_pretrained(cnnzoo.spec(name).name, checkpoint=checkpoint.tag)
    assert not model.training
    assert model.checkpoint == checkpoint
    reads = isinstance(model, cnnzoo.CaptchaCNN)  # whose scores are characters at positions
    assert len(checkpoint.classes) == (0 if reads else model.num_classes)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("classic", [False, True])
@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
def test_bundled_lenet5_classifies_the_ten_samples(data: str, classic: bool) -> None:
    model = cnnzoo.load_pretrained(f"lenet5.{'classic_' if classic else ''}{data}")  # pyright: ignore
    assert data == "fashion_mnist" or model.checkpoint == cnnzoo.load_pretrained("lenet5", classic=classic).checkpoint
    prepare = model.checkpoint.transforms()
    shown = samples(data)
    scores = model(torch.stack([prepare(sample.image) for sample in shown]))
    said = [model.checkpoint.classes[i] for i in scores.argmax(1).tolist()]
    assert [sample.label for sample in shown] == list(model.checkpoint.classes)
    assert sum(a == sample.label for a, sample in zip(said, shown, strict=True)) >= 9


def test_bundled_reader_reads_what_it_never_saw() -> None:
    model = cnnzoo.load_pretrained("captcha_cnn_small")
    prepare = model.checkpoint.transforms()
    texts, images = zip(*(Captcha(seed=1).draw("test", number) for number in range(100)), strict=True)
    read = model.decode(model(torch.stack([prepare(image) for image in images])))
    assert sum(a == b for a, b in zip(read, texts, strict=True)) >= 93


def test_classic_images_are_normalised_as_the_paper_says() -> None:
    prepare = cnnzoo.load_pretrained("lenet5", classic=True).checkpoint.transforms()
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[0, 0, 0] = 255
    prepared = prepare(image)
    assert prepared.shape == (1, 32, 32)
    assert prepared[0, 0, 0].item() == pytest.approx(-0.1)  # background, padding too
    assert prepared[0, 2, 2].item() == pytest.approx(1.175)


def test_tag_implies_its_options() -> None:
    model = cnnzoo.load_pretrained("lenet5.classic_fashion_mnist")
    assert model.config.classic
    assert isinstance(model.output, cnnzoo.nn.RBFOutput)


def test_device_and_dtype() -> None:
    model = cnnzoo.load_pretrained("lenet5", classic=True, dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(torch.zeros(1, 1, 32, 32, dtype=torch.float64)).shape == (1, 10)
    assert cnnzoo.load_pretrained("lenet5", device="meta").c1.weight.is_meta


def test_loaded_weights_can_be_trained() -> None:
    model = cnnzoo.load_pretrained("lenet5").train()
    model(torch.randn(2, 1, 28, 28)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    again = cnnzoo.load_pretrained("lenet5")
    assert not torch.equal(model.c1.weight, again.c1.weight)  # and the file is as it was


def test_file_says_what_it_holds(saved: Path) -> None:
    model = cnnzoo.load_pretrained(saved)
    assert model.config.options["num_classes"] == 2
    assert torch.equal(model.output.codes, torch.eye(2, 84))
    fresh = cnnzoo.create("lenet5", classic=True, num_classes=2, codes=torch.eye(2, 84), seed=0).eval()
    images = torch.randn(3, 1, 32, 32)
    assert torch.equal(model(images), fresh(images))
    assert saved.stat().st_mode & 0o777 == 0o644
    assert list(saved.parent.iterdir()) == [saved]


def test_file_decides_what_is_built(saved: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5", checkpoint=saved)
    assert model.config.classic
    assert torch.equal(model.output.codes, torch.eye(2, 84))
    same = cnnzoo.load_pretrained("lenet5", classic=True, codes=torch.eye(2, 84), checkpoint=saved)
    assert torch.equal(same.output.codes, torch.eye(2, 84))


def test_equal_shapes_are_not_enough(tmp_path: Path) -> None:
    """Average and max pooling have the same tensors and are different functions."""
    path = tmp_path / "max.safetensors"
    write_weights(cnnzoo.lenet5(pool="max"), path)
    assert isinstance(cnnzoo.load_pretrained("lenet5", checkpoint=path).s2, torch.nn.MaxPool2d)
    with pytest.raises(cnnzoo.CheckpointError, match=r"made with .*pool='max'.*; got pool='avg', another network"):
        cnnzoo.load_pretrained("lenet5", checkpoint=path, pool="avg")


def test_file_without_a_header_fits_by_its_tensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = cnnzoo.create("lenet5", classic=True, seed=0)
    save_file(model.state_dict(), tmp_path / "bare.safetensors")
    loaded = cnnzoo.load_pretrained("lenet5", classic=True, checkpoint=tmp_path / "bare.safetensors")
    assert torch.equal(loaded.c3.weight, model.c3.weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda: (model := cnnzoo.create("lenet5", seed=0), model.reset_classifier(3))[0],
        lambda: (model := cnnzoo.create("lenet5", seed=0), model.reset_classifier(0))[0],
        lambda: (model := cnnzoo.create("lenet5", seed=0, classic=True), model.reset_classifier(2, torch.eye(2, 84)))[
            0
        ],
        lambda: (model := cnnzoo.create("captcha_cnn_small", seed=0), model.reset_charset("abc", 5))[0],
        lambda: (model := cnnzoo.load_pretrained("lenet5"), model.reset_classifier(4))[0],
    ],
)
def test_changed_network_says_what_it_is(tmp_path: Path, change) -> None:
    model = change()
    if model.checkpoint is not None:
        assert model.checkpoint.made_from == "lenet5.mnist"
        assert (model.checkpoint.classes, model.checkpoint.accuracy, model.checkpoint.card) == ((), None, "")
    write_weights(model, tmp_path / "a.safetensors")
    loaded = cnnzoo.load_pretrained(tmp_path / "a.safetensors")
    assert loaded.num_classes == model.num_classes
    images = torch.randn(2, *model.input_shape)
    assert torch.equal(loaded(images), model.eval()(images))


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_weights(cnnzoo.lenet5(), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [1, 7, 8, 9, 100, 1000, -1])
def test_truncated_file(saved: Path, keep: int) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[:keep])
    with pytest.raises(cnnzoo.CheckpointError, match=r"two\.safetensors \(\d+ bytes\) is not a whole safetensors file"):
        cnnzoo.load_pretrained(saved)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"name": "lenet5", "options": "{"}, "options that are not a table: a str and a NoneType"),
        ({"name": "lenet5"}, r"does not say what network it holds; name it: load_pretrained\(name, checkpoint="),
        ({"name": "lenet5", "options": "[1]"}, "options that are not a table: a str and a list"),
    ],
)
def test_file_with_a_bad_header(tmp_path: Path, header: dict[str, str], message: str) -> None:
    path = tmp_path / "a.safetensors"
    text = json.dumps({"__metadata__": header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(cnnzoo.CheckpointError, match=message):
        cnnzoo.load_pretrained(path)


def test_file_that_names_what_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for name, options in (("lenet7", "{}"), ("lenet5", '{"a": 1}')):
        text = json.dumps({"__metadata__": {"name": name, "options": options}}).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(cnnzoo.CheckpointError, match=r"a\.safetensors: .*lenet5"):
            cnnzoo.load_pretrained(path)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda p: cnnzoo.load_pretrained("lenet5", pool="max"),
            cnnzoo.CheckpointError,
            r"no weights of lenet5 with pool='max'; there are: mnist, fashion_mnist \(its default",
        ),
        (lambda p: cnnzoo.load_pretrained("convnet"), cnnzoo.CheckpointError, r"no weights of convnet with its default arguments$"),
        (lambda p: cnnzoo.load_pretrained("lenet5.digits"), cnnzoo.UnknownNameError, r"unknown checkpoint 'digits': known: mnist, "),
        (lambda p: cnnzoo.load_pretrained("lenet5.classic_fashion_mnist", classic=False), cnnzoo.CheckpointError, r"was made with classic=True; got classic=False, another network"),
        (lambda p: cnnzoo.load_pretrained("lenet5.fashion_mnist", classic=True), cnnzoo.CheckpointError, r"with its default arguments; got classic=True"),
        (lambda p: cnnzoo.load_pretrained("lenet5", dropout=1), cnnzoo.OptionError, r"load_pretrained: lenet5: unknown option 'dropout'"),
        (lambda p: cnnzoo.load_pretrained(Path("no/such.safetensors")), cnnzoo.CheckpointError, r"there is no file no/such\.safetensors"),
        (lambda p: cnnzoo.load_pretrained("convnet", checkpoint=p), cnnzoo.CheckpointError, r"holds weights of lenet5, not of convnet"),
        (lambda p: cnnzoo.load_pretrained("lenet5", classic=False, checkpoint=p), cnnzoo.CheckpointError, r"two\.safetensors was made with classic=True"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(saved: Path, call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(saved)


def test_names_and_shapes_that_do_not_fit(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "bare.safetensors"
    state = cnnzoo.lenet5(num_classes=7).state_dict()
    state["f7.weight"] = state.pop("f6.weight")
    save_file(state, path)
    with pytest.raises(cnnzoo.CheckpointError, match=r"does not fit LeNet5 in 4 of 10 tensors: ") as caught:
        cnnzoo.load_pretrained("lenet5", checkpoint=path)
    assert "missing: f6.weight (84, 120)" in str(caught.value)
    assert "unexpected: f7.weight (84, 120)" in str(caught.value)
    assert "shape of output.bias: (7,) in the file, (10,) in the network" in str(caught.value)


def test_wrong_dtype(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: tensor.int() for name, tensor in cnnzoo.lenet5().state_dict().items()}
    save_file(state, tmp_path / "ints.safetensors")
    with pytest.raises(cnnzoo.CheckpointError, match=r"dtype of c1\.bias: torch\.int32 in the file, torch\.float32"):
        cnnzoo.load_pretrained("lenet5", checkpoint=tmp_path / "ints.safetensors")


def test_reading_gives_what_was_written(saved: Path) -> None:
    tensors, metadata = read_weights(saved)
    assert metadata["name"] == "lenet5"
    assert json.loads(metadata["options"])["classic"] is True
    assert tensors["c3.weight"].shape == (60, 5, 5)
