"""The training loop: it learns, resumes where it was killed, and refuses what is not its own."""

import dataclasses
import json
import os
import resource
from pathlib import Path

import pytest
import tiny
import torch
from test_data import write_idx_folder
from torch import nn

import cnnzoo
from cnnzoo.checkpoints.weights import write_weights
from cnnzoo.data.images import ImageSet
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.support.progress import Display
from cnnzoo.training import loop
from cnnzoo.training.curves import draw
from cnnzoo.training.evaluation import evaluate
from cnnzoo.training.losses import CrossEntropy, MultiLabelSoftMargin, Objective, right
from cnnzoo.training.recipe import Recipe, load_recipe
from cnnzoo.training.results import Result
from cnnzoo.training.state import Epoch

TINY = Recipe(
    name="tiny",
    title="A few steps",
    network="lenet5",
    data={"name": "fashion_mnist"},
    preprocessing=Preprocessing(channels=1, size=28, pad=0, mean=0.3, std=0.35),
    loss={"name": "cross_entropy"},
    optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9},
    batch_size=16,
    epochs=4,
    crop={"name": "random", "padding": 2},
    augment=({"name": "flip"},),
    schedule={"name": "cosine", "warmup": 1},
)
LONG = dataclasses.replace(TINY, epochs=25, crop=None, augment=(), schedule={"name": "constant"})
SETS = {"train": tiny.bars(120, 0), "test": tiny.bars(40, 1)}


@pytest.fixture(autouse=True)
def _without_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "curves" not in request.node.name:  # matplotlib takes its time
        monkeypatch.setattr(loop, "can_draw", lambda: False)


def test_learns_the_bars(tmp_path: Path) -> None:
    run = loop.train(LONG, SETS, tmp_path, progress=False)
    assert run.epochs[-1].test_accuracy > 0.95
    assert run.epochs[-1].train_accuracy > 0.95
    assert run.epochs[-1].test_loss < 0.5 * run.epochs[0].test_loss


def test_result_files(tmp_path: Path) -> None:
    run = loop.train(TINY, SETS, tmp_path, progress=False, command="cnnzoo train tiny")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in lines] == [8, 16, 24, 32]
    assert lines[-1]["test_accuracy"] == run.epochs[-1].test_accuracy
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("README.md", "config.json", "last.pt", "log.jsonl", "model.safetensors", "result.json")
    ]
    loaded = cnnzoo.load_pretrained(tmp_path)
    assert loaded.checkpoint.preprocessing == TINY.preprocessing
    assert loaded.checkpoint.classes == SETS["test"].classes
    assert loaded.checkpoint.accuracy == pytest.approx(run.epochs[-1].test_accuracy, abs=1e-4)
    assert "Trained by the recipe tiny (4 epochs, seed 0): A few steps." in (tmp_path / "README.md").read_text()
    measures = evaluate(loaded, SETS["test"], loaded.checkpoint.preprocessing)
    assert (measures.accuracy, measures.loss) == (run.epochs[-1].test_accuracy, run.epochs[-1].test_loss)


def test_result_is_the_evidence(tmp_path: Path) -> None:
    run = loop.train(TINY, SETS, tmp_path, seed=3, progress=False, command="cnnzoo train tiny --seed 3")
    found = Result.read(tmp_path / "result.json")
    assert (found.recipe, found.seed, found.command) == ("tiny", 3, "cnnzoo train tiny --seed 3")
    assert found.epochs == run.epochs
    assert found.images == {"train": 120, "test": 40}
    assert found.stated["optimizer"] == TINY.optimizer
    assert found.hardware
    assert found.versions["torch"] == torch.__version__
    (tmp_path / "result.json").write_text('{"recipe": "tiny"}')
    with pytest.raises(cnnzoo.DataError, match=r"result\.json is not the result of a training run"):
        Result.read(tmp_path / "result.json")


def test_images_held_out_are_measured_beside_the_test_set(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=2, validation=20)
    few = {**SETS, "test": dataclasses.replace(SETS["test"], whole=10_000)}
    run = loop.train(recipe, few, tmp_path, seed=1, progress=False)
    found = Result.read(tmp_path / "result.json")
    assert found.images == {"train": 100, "test": 40, "validation": 20}
    assert found.published_test == 10_000
    assert "The accuracy is that of 40 of the 10,000 published test images." in (tmp_path / "README.md").read_text()
    assert [epoch.step for epoch in run.epochs] == [7, 14]
    held_out = recipe.hold_out(few, 1)["validation"]
    assert isinstance(held_out, ImageSet)
    measures = evaluate(run.model, held_out, recipe.preprocessing)
    last = run.epochs[-1]
    assert (measures.accuracy, measures.loss) == (last.validation_accuracy, last.validation_loss)
    assert last.watched == last.validation_accuracy
    assert loop.train(TINY, SETS, tmp_path / "whole", progress=False).epochs[-1].watched == last_test(
        tmp_path / "whole"
    )
    with pytest.raises(cnnzoo.DataError, match="got 500 images to hold out of a training set of 120"):
        loop.train(dataclasses.replace(TINY, validation=500), SETS, tmp_path / "all", progress=False)


def last_test(folder: Path) -> float:
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["test_accuracy"]


def test_state_from_before_validation_goes_on(tmp_path: Path) -> None:
    loop.train(dataclasses.replace(TINY, epochs=1), SETS, tmp_path, progress=False)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["identity"]["validation"]
    state["epochs"] = [{k: v for k, v in one.items() if "validation" not in k} for one in state["epochs"]]
    torch.save(state, tmp_path / "last.pt")
    run = loop.train(dataclasses.replace(TINY, epochs=2), SETS, tmp_path, progress=False)
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    with pytest.raises(cnnzoo.CheckpointError, match="is of another run \\(validation 0 there, 20 here\\)"):
        loop.train(dataclasses.replace(TINY, epochs=3, validation=20), SETS, tmp_path, progress=False)


def test_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = loop.train(dataclasses.replace(TINY, epochs=2), SETS, tmp_path, progress=False)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in ("a.svg", "b.svg"):
        draw({"one": run.epochs, "other": run.epochs}, tmp_path / name, "Two runs")
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()
    assert "Two runs" in (tmp_path / "a.svg").read_text()


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = loop.train(TINY, SETS, tmp_path / "whole", progress=False)
    killed = kill_after(2, tmp_path / "parts")
    assert killed == 2
    (tmp_path / "parts" / "last.pt0123.part").write_bytes(b"half")
    resumed = loop.train(TINY, SETS, tmp_path / "parts", progress=False)
    assert [losses(epoch) for epoch in resumed.epochs] == [losses(epoch) for epoch in whole.epochs]
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not list((tmp_path / "parts").glob("*.part"))


def losses(epoch: Epoch) -> dict:
    return {key: value for key, value in dataclasses.asdict(epoch).items() if key != "seconds"}


def kill_after(epochs: int, folder: Path) -> int:
    """Run TINY and stop it like a killed process in the middle of the next epoch; how many epochs were saved."""
    steps = 0

    class Killed(BaseException):
        pass

    def step(display: Display, *arguments: object) -> None:
        nonlocal steps
        steps += 1
        if steps == epochs * 8 + 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Display, "step", step)
        with pytest.raises(Killed):
            loop.train(TINY, SETS, folder, progress=False)
    return len(torch.load(folder / "last.pt", weights_only=True)["epochs"])


def test_dropout_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=2)

    def train(folder: str, epochs: int) -> list[float]:
        run = loop.train(dataclasses.replace(recipe, epochs=epochs), SETS, tmp_path / folder, progress=False)
        return [epoch.train_loss for epoch in run.epochs]

    with pytest.MonkeyPatch.context() as patch:
        build = loop.construct_named

        def with_dropout(*arguments, **options) -> nn.Module:
            network = build(*arguments, **options)
            network.tanh6 = nn.Dropout(0.5)
            return network

        patch.setattr(loop, "construct_named", with_dropout)
        patch.setattr(loop, "save_pretrained", lambda *arguments: None)  # which refuses such a network
        state = torch.get_rng_state()
        constant = {"name": "constant"}
        recipe = dataclasses.replace(recipe, schedule=constant)
        whole = train("whole", 2)
        train("parts", 1)
        torch.rand(7)
        assert train("parts", 2) == whole
        torch.set_rng_state(state)
        train("again", 1)
        assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are his own


def test_more_epochs_go_on(tmp_path: Path) -> None:
    constant = {"name": "constant"}
    loop.train(dataclasses.replace(TINY, epochs=2, schedule=constant), SETS, tmp_path, progress=False)
    run = loop.train(dataclasses.replace(TINY, epochs=3, schedule=constant), SETS, tmp_path, progress=False)
    assert [epoch.epoch for epoch in run.epochs] == [1, 2, 3]


def test_run_of_steps_ends_within_an_epoch(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=None, steps=11, schedule={"name": "cosine"})
    run = loop.train(recipe, SETS, tmp_path, progress=False)
    assert [epoch.step for epoch in run.epochs] == [8, 11]
    assert run.epochs[-1].learning_rate == pytest.approx(0, abs=1e-12)
    before = (tmp_path / "result.json").stat().st_mtime_ns
    again = loop.train(recipe, SETS, tmp_path, progress=False)  # nothing left to do
    assert [epoch.step for epoch in again.epochs] == [8, 11]
    assert (tmp_path / "result.json").stat().st_mtime_ns == before


def test_schedule_in_steps(tmp_path: Path) -> None:
    schedule = {"name": "piecewise", "unit": "steps", "factors": [[0, 0.5], [8, 1.0], [16, 0.1]]}
    run = loop.train(dataclasses.replace(TINY, epochs=3, schedule=schedule), SETS, tmp_path, progress=False)
    assert [epoch.learning_rate for epoch in run.epochs] == pytest.approx([0.025, 0.05, 0.005])


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="limits of file sizes are Unix")
def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files fails in the middle of writing, as a full disk does."""
    constant = dataclasses.replace(TINY, schedule={"name": "constant"})
    loop.train(dataclasses.replace(constant, epochs=1), SETS, tmp_path, progress=False)
    before = (tmp_path / "last.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(
            cnnzoo.CheckpointError,
            match=r"could not be written to .*last\.pt \(.*\); that of epoch 1 is intact: make room",
        ):
            loop.train(dataclasses.replace(constant, epochs=2), SETS, tmp_path, progress=False)
        with pytest.raises(cnnzoo.CheckpointError, match=r"could not be written to .* \(.*\); there is none yet"):
            loop.train(constant, SETS, tmp_path / "new", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    run = loop.train(dataclasses.replace(constant, epochs=2), SETS, tmp_path, progress=False)
    assert len(run.epochs) == 2


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="limits of file sizes are Unix")
def test_full_disk_keeps_the_last_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(cnnzoo.create("lenet5", seed=0), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(cnnzoo.CheckpointError, match=r"model\.safetensors could not be written: .*; make room"):
            write_weights(cnnzoo.create("lenet5", seed=1), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_of_another_run(tmp_path: Path) -> None:
    loop.train(dataclasses.replace(TINY, epochs=1), SETS, tmp_path, progress=False)
    with pytest.raises(
        cnnzoo.CheckpointError, match=r"last\.pt is of another run \(seed 0 there, 1 here\); choose another --out"
    ):
        loop.train(TINY, SETS, tmp_path, seed=1, progress=False)
    other = dataclasses.replace(TINY, optimizer={"name": "adam", "lr": 0.1})
    with pytest.raises(cnnzoo.CheckpointError, match=r"of another run \(optimizer .*'sgd'.* there, .*'adam'.* here\)"):
        loop.train(other, SETS, tmp_path, progress=False)
    network = dataclasses.replace(TINY, network="tutorial_lenet5_sigmoid")
    with pytest.raises(cnnzoo.CheckpointError, match=r"\(network lenet5 there, tutorial_lenet5_sigmoid here\)"):
        loop.train(network, SETS, tmp_path, progress=False)
    (tmp_path / "last.pt").write_bytes(b"nonsense")
    with pytest.raises(cnnzoo.CheckpointError, match=r"is not the state of a run .*; delete it to start afresh"):
        loop.train(TINY, SETS, tmp_path, progress=False)
    torch.save({"identity": {}, "epochs": [{"epoch": 1}]}, tmp_path / "last.pt")
    with pytest.raises(cnnzoo.CheckpointError, match=r"another version of cnnzoo wrote it\); delete it"):
        loop.train(TINY, SETS, tmp_path, progress=False)


def test_seed_decides(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=1)
    a, b, c = (
        loop.train(recipe, SETS, tmp_path / str(i), seed=seed, progress=False) for i, seed in enumerate((0, 0, 1))
    )
    assert losses(a.epochs[0]) == losses(b.epochs[0])
    assert losses(a.epochs[0]) != losses(c.epochs[0])


def test_how_it_runs_does_not_change_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(Objective, "compile", lambda self: compiled.append(self))
    plain = loop.train(TINY, SETS, tmp_path / "plain", progress=False)
    stored = dataclasses.replace(TINY, channels_last=True, compile=True)
    other = loop.train(stored, SETS, tmp_path / "stored", progress=False)
    assert compiled
    assert other.model.c3.weight.is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(plain.epochs, other.epochs, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-4)


def test_half_precision_learns_as_well(tmp_path: Path) -> None:
    run = loop.train(dataclasses.replace(LONG, precision="bfloat16"), SETS, tmp_path, progress=False)
    assert run.epochs[-1].test_accuracy > 0.95
    assert run.model.c1.weight.dtype == torch.float32


@pytest.mark.slow
def test_compiled_objective_computes_the_same() -> None:
    network = cnnzoo.create("lenet5", seed=0)
    inputs, labels = torch.randn(4, 1, 28, 28), torch.arange(4)
    plain = Objective(network, nn.CrossEntropyLoss())
    compiled = Objective(network, nn.CrossEntropyLoss())
    compiled.compile()
    torch.testing.assert_close(compiled(inputs, labels), plain(inputs, labels))


def test_progress_shows_every_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("cnnzoo.support.progress.LINE", 0.0)
    loop.train(TINY, SETS, tmp_path)
    assert "epoch   4: loss" in capsys.readouterr().out


def test_classes_follow_from_the_data(tmp_path: Path) -> None:
    seven = ImageSet(SETS["train"].images[:70], torch.arange(70) % 7, tuple("abcdefg"))
    run = loop.train(dataclasses.replace(TINY, epochs=1), {"train": seven, "test": seven}, tmp_path, progress=False)
    assert run.model.num_classes == 7
    assert cnnzoo.load_pretrained(tmp_path).checkpoint.classes == tuple("abcdefg")


CAPTCHA = load_recipe("captcha_cnn_small", epochs=1, batch_size=4, data={"name": "captchas"})


@pytest.mark.parametrize(
    ("recipe", "sets", "message"),
    [
        (dataclasses.replace(TINY, batch_size=500), SETS, "120 images are fewer than a batch of 500; lower batch_size"),
        (dataclasses.replace(TINY, options={"num_classes": 3}), SETS, r"LeNet5 gives 3 scores; the images show one of 10"),
        (
            dataclasses.replace(CAPTCHA, options={"length": 5}),
            {"train": tiny.captchas(8), "test": tiny.captchas(8)},
            r"CaptchaCNN reads 5 characters \(options\.length\), and the images show 4; leave out",
        ),
        (dataclasses.replace(TINY, options={"depth": 3}), SETS, r"recipe tiny: lenet5: unknown option 'depth'"),
        (
            dataclasses.replace(TINY, loss={"name": "cross_entropy", "aux": 0.3}),
            SETS,
            r"loss\.aux=0\.3 weighs auxiliary classifiers, which this LeNet5 does not have; state options\.aux=true",
        ),
        (dataclasses.replace(TINY, crop={"name": "random_resized"}), SETS, r"random_resized is for images in files"),
        (
            dataclasses.replace(TINY, preprocessing=Preprocessing(channels=3, size=28)),
            {"train": tiny.bars(20, channels=3), "test": tiny.bars(20, channels=3)},
            r"takes 1 input channel\(s\), got 3",
        ),
    ],
)  # fmt: skip
def test_images_that_do_not_fit(tmp_path: Path, recipe: Recipe, sets: dict, message: str) -> None:
    with pytest.raises(cnnzoo.CnnzooError, match=message):
        loop.train(recipe, sets, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "train: unknown device 'gpu'; expected cpu, cuda"),
        ("tpu:0", "train: unknown device 'tpu:0'; expected cpu, cuda"),
        ("cuda", "train: there is no cuda; GPUs that torch finds here: 0; choose cpu$"),
        ("meta", "train: got device='meta'; recipes run on cpu and cuda"),
    ],
)
def test_devices_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(cnnzoo.OptionError, match=message):
        loop.train(TINY, SETS, tmp_path, device=device, progress=False)


def test_cross_entropy_of_several_positions_is_their_mean() -> None:
    scores, labels = torch.randn(5, 12), torch.randint(3, (5, 4))
    each = [nn.functional.cross_entropy(scores[:, 3 * i : 3 * i + 3], labels[:, i]) for i in range(4)]
    torch.testing.assert_close(CrossEntropy()(scores, labels), torch.stack(each).mean())
    torch.testing.assert_close(CrossEntropy()(scores, labels[:, 0]), nn.functional.cross_entropy(scores, labels[:, 0]))


def test_multilabel_loss_is_torchs_on_the_networks_own_targets() -> None:
    reader = cnnzoo.captcha_cnn_small()
    texts = ["0123", "9876"]
    scores = torch.randn(2, 40)
    labels = torch.tensor([[int(digit) for digit in text] for text in texts])
    expected = nn.functional.multilabel_soft_margin_loss(scores, reader.encode(texts))
    torch.testing.assert_close(MultiLabelSoftMargin()(scores, labels), expected)


def test_captcha_is_right_where_all_characters_are() -> None:
    reader = cnnzoo.captcha_cnn_small()
    texts = ["0123", "9876", "5555"]
    labels = torch.tensor([[0, 1, 2, 3], [9, 8, 7, 0], [5, 5, 5, 5]])
    scores = reader.encode(texts)
    assert right(scores, labels).tolist() == [True, False, True]
    accuracy = reader.accuracy(scores, ["0123", "9870", "5555"])
    fixed = nn.Sequential()
    fixed.forward = lambda inputs: scores
    captchas = ImageSet(torch.zeros(3, 3, 100, 180, dtype=torch.uint8), labels, tuple("0123456789"))
    measures = evaluate(fixed, captchas, CAPTCHA.preprocessing)
    assert measures.accuracy == pytest.approx(accuracy.captcha)
    assert measures.characters == pytest.approx(accuracy.character)
    assert measures.top5 is None


def test_auxiliary_losses_count_a_third() -> None:
    network = cnnzoo.create("googlenet", aux=True, num_classes=3, seed=0).eval()
    inputs, labels = torch.randn(2, 3, 224, 224), torch.tensor([0, 2])
    with torch.no_grad():
        loss, hits = Objective(network, CrossEntropy(), aux_weight=0.3)(inputs, labels)
        own, *others = (nn.functional.cross_entropy(scores, labels) for scores in network.forward_with_aux(inputs))
        torch.testing.assert_close(loss, own + 0.3 * sum(others))
        assert hits == (network(inputs).argmax(1) == labels).sum()


def test_top5_of_a_hundred_classes() -> None:
    labels = torch.arange(20)
    scores = torch.zeros(20, 100)
    scores[:, 50:54] = 1  # four that are ahead of the right one everywhere
    scores[labels, labels] = 0.5
    scores[:5] = -scores[:5]
    network = nn.Sequential()
    network.forward = lambda inputs: scores
    hundred = ImageSet(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), labels, tuple(map(str, range(100))))
    found = evaluate(network, hundred, Preprocessing(channels=1, size=8, mean=0.0, std=1.0))
    assert (found.accuracy, found.top5) == (0.0, 0.75)


def test_ten_crops_are_averaged(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    from cnnzoo.data.image_files import open_image

    images = tiny.files(tmp_path)["test"]
    prepared = Preprocessing(size=28, resize=32, channels=1, mean=0.2, std=0.5)
    network = cnnzoo.create("lenet5", num_classes=2, seed=0).eval()
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    found = evaluate(network, images, prepared, views="ten", batch_size=2, workers=0)
    grey = [v2.Resize(32)(v2.Grayscale()(open_image(path))) for path in images.paths]
    crops = [torch.stack([v2.functional.pil_to_tensor(one) for one in v2.TenCrop(28)(image)]) for image in grey]
    expected = (torch.cat(crops) / 255 - 0.2) / 0.5
    torch.testing.assert_close(torch.cat(seen), expected)
    shares = network(expected).softmax(1).unflatten(0, (2, 10)).mean(1)
    labels = torch.tensor(images.labels)
    assert found.accuracy == (shares.argmax(1) == labels).float().mean()
    assert found.loss == pytest.approx(nn.functional.nll_loss(shares.log(), labels).item(), rel=1e-5)


def test_trains_on_files(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        TINY,
        preprocessing=Preprocessing(channels=1, size=28, resize=32, mean=0.3, std=0.3),
        crop={"name": "random_resized"},
        batch_size=4,
        epochs=6,
        schedule={"name": "constant"},
    )
    run = loop.train(recipe, tiny.files(tmp_path / "data"), tmp_path / "run", progress=False, workers=0)
    assert run.epochs[-1].train_loss < run.epochs[0].train_loss
    assert run.model.num_classes == 2
    assert cnnzoo.load_pretrained(tmp_path / "run").checkpoint.classes == ("green", "red")


@pytest.mark.cuda
def test_trains_on_cuda(tmp_path: Path) -> None:
    run = loop.train(dataclasses.replace(LONG, channels_last=True), SETS, tmp_path, device="cuda", progress=False)
    assert run.epochs[-1].test_accuracy > 0.95
    assert next(run.model.parameters()).is_cuda
    assert os.path.exists(tmp_path / "model.safetensors")


def test_by_name_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line does: the recipe by name, the images from a folder, the results under `runs/`."""
    write_idx_folder(tmp_path, repeat=8)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.toml").write_text('like = "lenet5_fashion"\nsteps = 2\nbatch_size = 16\n')
    run = cnnzoo.train("short.toml", tmp_path, device="cpu", progress=False, workers=0, seed=3)
    assert run.folder == Path("runs") / "short-seed3"
    assert run.epochs[-1].step == 2
    test = load_recipe("lenet5_fashion").load_data(tmp_path)["test"]
    assert cnnzoo.evaluate(str(run.folder), test).accuracy == run.epochs[-1].test_accuracy
    with pytest.raises(cnnzoo.UnknownNameError, match=r"^train: unknown recipe 'lenet5_mnst': did you mean"):
        cnnzoo.train("lenet5_mnst", tmp_path)


def test_images_of_nobody_s_weights() -> None:
    model, test = cnnzoo.create("lenet5"), tiny.bars(4)
    with pytest.raises(cnnzoo.OptionError, match=r"^evaluate: nothing says how this LeNet5 wants its images; pass pre"):
        evaluate(model, test)
    assert evaluate(model, test, TINY.preprocessing).loss > 0
