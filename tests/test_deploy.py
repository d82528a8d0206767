"""Folding, merging, exporting, quantising and choosing a backend: what comes out computes the same."""

import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
import torchvision
from click.testing import CliRunner
from conftest import Variant
from torch import nn

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data.image_files import samples
from cnnzoo.deploy import backends, export, timing
from cnnzoo.deploy.backends import BACKENDS, Eager
from cnnzoo.deploy.checking import Reference, deviation, random_images
from cnnzoo.deploy.fold import folded
from cnnzoo.deploy.merge import MergedBranches, merged

NORMS = nn.modules.batchnorm._BatchNorm


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def small_network(**options) -> nn.Module:
    """ResNet for CIFAR-10 with statistics that are not the ones every layer starts with."""
    return randomised(cnnzoo.create("cifar_resnet20", seed=0, **options))


def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, NORMS):
            nn.init.uniform_(module.weight, 0.5, 1.0, generator=generator)
            nn.init.uniform_(module.bias, -0.2, 0.2, generator=generator)
            nn.init.uniform_(module.running_mean, -0.2, 0.2, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    model = cnnzoo.load_pretrained("lenet5")
    prepare = model.checkpoint.transforms()
    return torch.stack([prepare(sample.image) for sample in samples()])


# Every network of the registry


@pytest.mark.thorough
def test_folded_network_computes_the_same(variant: Variant) -> None:
    model = randomised(variant.build(seed=0)).eval()
    images = variant.images(model)
    before = state(model)
    with torch.inference_mode():
        expected = model(images)
        lean = cnnzoo.fold_batchnorm(model, tuple(images.shape[1:]))
        assert deviation(expected, lean(images)) < 1e-5
    assert same(before, model.state_dict())
    assert list(dict(lean.named_modules()).keys()) == list(dict(model.named_modules()).keys())
    assert type(lean) is type(model)


@pytest.mark.thorough
def test_folding_leaves_no_normalisation_behind_a_convolution(variant: Variant) -> None:
    model = variant.build(init=False, device="meta")
    left = norms(folded(model))
    # Those before the convolutions of a pre-activation block stay, and those behind the poolings of CAPTCHA readers.
    stays = "preresnet" in variant.name or variant.name in ("captcha_cnn", "captcha_crnn")
    assert (left > 0) == stays


@pytest.mark.thorough
def test_onnx_file_computes_the_same_for_any_batch(variant: Variant, tmp_path: Path) -> None:
    model = randomised(variant.build(seed=0)).eval()
    images = variant.images(model, 3)
    file = tmp_path / "model.onnx"
    cnnzoo.export_onnx(model, file, input_shape=images.shape[1:])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == ["images", "scores"]
    for batch in (1, 3):
        (scores,) = session.run(None, {"images": images[:batch].numpy()})
        with torch.inference_mode():
            assert deviation(model(images[:batch]), torch.from_numpy(scores)) < 1e-4
    assert sorted(tmp_path.iterdir()) == [file]


@pytest.mark.thorough
def test_merged_network_computes_the_same(variant: Variant) -> None:
    outline = merged(variant.build(init=False, device="meta"))
    joined = sum(isinstance(module, MergedBranches) for module in outline.modules())
    assert (joined > 0) == ("inception" in variant.name or variant.name == "googlenet")
    if not joined:
        return
    model = randomised(variant.build(seed=0)).eval()
    images = variant.images(model)
    together = cnnzoo.merge_branches(model, tuple(images.shape[1:]))
    with torch.inference_mode():
        expected = model(images)
        assert deviation(expected, together(images)) < 1e-5
        assert deviation(expected, merged(folded(model))(images)) < 1e-5
    assert sum(p.numel() for p in together.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.cuda
@pytest.mark.parametrize("backend", ["eager", "cudagraphs"])
def test_optimized_on_cuda(variant: Variant, backend) -> None:
    model = randomised(variant.build(seed=0)).eval().to("cuda")
    images = variant.images(model, 3).to("cuda")
    fast = cnnzoo.optimize(model, images.shape[1:], batch_size=2, backend=backend, progress=False)
    with torch.inference_mode():
        assert deviation(model(images), fast(images)) < 1e-2  # TF32
    assert fast.backend == backend


# Folding


@pytest.mark.parametrize("name", ["resnet18", "inception_v3", "googlenet", "mobilenet_v2", "shufflenet_v2_x1_0"])
def test_folds_networks_of_torchvision(name: str) -> None:
    options = {"aux_logits": False, "transform_input": False} if name in ("inception_v3", "googlenet") else {}
    theirs = (
        torchvision.models.get_model(name, weights=None, init_weights=False, **options)
        if options
        else (torchvision.models.get_model(name, weights=None))
    )
    theirs = randomised(theirs).eval()
    lean = cnnzoo.fold_batchnorm(theirs, (3, 96, 96))
    assert norms(lean) < norms(theirs) / 2


@pytest.mark.parametrize("name", ["resnet18", "inception_v4", "resnetv2_50"])
def test_folds_networks_of_timm(name: str) -> None:
    theirs = randomised(timm.create_model(name, pretrained=False)).eval()
    lean = cnnzoo.fold_batchnorm(theirs, (3, 96, 96))
    assert norms(lean) < norms(theirs)


class Shared(nn.Module):
    """A convolution that is read twice, one normalisation for two convolutions, and one behind a rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv2d(3, 4, 3)
        self.behind = nn.BatchNorm2d(4)
        self.called_twice = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.plain = nn.Conv2d(4, 4, 3)
        self.behind_relu = nn.BatchNorm2d(4)
        self.batch_statistics = nn.BatchNorm2d(4, track_running_stats=False)
        self.up = nn.ConvTranspose2d(4, 6, 2)
        self.up_norm = nn.BatchNorm2d(6, affine=False)
        self.up_in_groups = nn.ConvTranspose2d(6, 6, 2, groups=2)
        self.up_in_groups_norm = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.read_twice(x)
        x = self.behind(x) + x
        x = self.norm(self.called_twice(self.norm(self.called_twice(x))))
        x = self.behind_relu(torch.relu(self.plain(x)))
        return self.up_in_groups_norm(self.up_in_groups(self.up_norm(self.up(x)))).mean((2, 3))


def test_folds_only_what_is_one_behind_the_other() -> None:
    model = randomised_where_possible(Shared())
    lean = cnnzoo.fold_batchnorm(model, (3, 8, 8))
    left = [name for name, module in lean.named_modules() if isinstance(module, NORMS)]
    assert left == ["behind", "norm", "behind_relu", "batch_statistics", "up_in_groups_norm"]


def randomised_where_possible(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, NORMS) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def test_folds_linear_layers() -> None:
    model = cnnzoo.CNN(
        {"flatten": nn.Flatten(), "fc": nn.Linear(12, 5), "bn": nn.BatchNorm1d(5)}, input_shape=(3, 2, 2)
    )
    randomised(model)
    lean = cnnzoo.fold_batchnorm(model)
    assert isinstance(lean.bn, nn.Identity)


def test_model_keeps_its_mode_and_weights() -> None:
    model = small_network().train()
    model.stage1.eval()
    before, modes = state(model), [module.training for module in model.modules()]
    cnnzoo.fold_batchnorm(model)
    cnnzoo.optimize(model, backend="eager", progress=False)
    assert same(before, model.state_dict())
    assert [module.training for module in model.modules()] == modes


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(x)
        return x if x.sum() > 0 else -x


def test_a_forward_that_branches_on_values_is_named() -> None:
    with pytest.raises(cnnzoo.DeployError, match=r"cannot follow the forward of Branching: .*fold the parts of it"):
        cnnzoo.fold_batchnorm(Branching(), (3, 8, 8))


def test_wrong_arithmetic_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(model: nn.Module, images: torch.Tensor) -> nn.Module:
        model = copy.deepcopy(model).eval()
        nn.init.zeros_(model.fc.bias).add_(1)
        return model

    monkeypatch.setattr("cnnzoo.deploy.fold.folded", torch.no_grad()(spoilt))
    with pytest.raises(
        cnnzoo.DeployError, match=r"fold_batchnorm: the scores differ from the original's by .* at most"
    ):
        cnnzoo.fold_batchnorm(small_network())


def test_networks_without_weights_or_finite_scores_are_refused() -> None:
    with pytest.raises(cnnzoo.OptionError, match="optimize: this CifarResNet is on the meta device, where it has no"):
        cnnzoo.optimize(cnnzoo.create("cifar_resnet20", device="meta"))
    broken = small_network()
    nn.init.constant_(broken.fc.weight, float("nan"))
    with pytest.raises(
        cnnzoo.DeployError, match=r"scores of this CifarResNet on random images are not finite.*load its"
    ):
        cnnzoo.fold_batchnorm(broken)
    with pytest.raises(cnnzoo.OptionError, match="fold_batchnorm: Linear does not say what it takes; pass input_shape"):
        cnnzoo.fold_batchnorm(nn.Linear(2, 2))


# Merging


def test_merged_units_keep_their_normalisation_and_order() -> None:
    block = cnnzoo.create("inception", in_channels=16, seed=0)
    joined = merged(randomised(block))
    assert isinstance(joined, MergedBranches)
    images = torch.randn(2, 16, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(joined(images), block.eval()(images))


# Exporting


def test_export_refuses_what_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()
    with pytest.raises(cnnzoo.DeployError, match=r"export_onnx: there is no folder .*nowhere to write m\.onnx into"):
        cnnzoo.export_onnx(model, tmp_path / "nowhere" / "m.onnx")
    monkeypatch.setattr(export, "missing", lambda *packages: ["onnxscript"])
    with pytest.raises(cnnzoo.DeployError, match=r"export_onnx: needs onnxscript; pip install 'cnnzoo\[onnx\]'"):
        cnnzoo.export_onnx(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(model: nn.Module, images: torch.Tensor) -> tuple[nn.Module, str]:
        return randomised(copy.deepcopy(model)).eval().requires_grad_(False), ""

    monkeypatch.setattr(export, "folded_if_possible", spoilt)
    model = cnnzoo.create("cifar_resnet20", seed=0)
    with pytest.raises(cnnzoo.DeployError, match="export_onnx: the scores differ"):
        cnnzoo.export_onnx(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_torch_cannot_export_is_explained() -> None:
    with pytest.raises(cnnzoo.DeployError, match=r"torch cannot export this Branching: .*; torch\.export\.export says"):
        export.onnx_bytes(Branching().eval(), torch.ones(1, 3, 4, 4))


def test_command_line_writes_a_file(tmp_path: Path, images: torch.Tensor) -> None:
    file = tmp_path / "lenet5.onnx"
    done = CliRunner().invoke(main, ["export-onnx", "lenet5", "--out", str(file)], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, f"wrote {file}\n")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), cnnzoo.load_pretrained("lenet5").eval()(images).detach())


# Eight-bit integers


def test_eight_bits_see_the_same_classes(images: torch.Tensor, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5").eval()
    small = cnnzoo.optimize(model, dtype=torch.int8, calibration=images, progress=False)
    assert (small.backend, small.dtype) == ("onnxruntime", torch.int8)
    with torch.inference_mode():
        expected = model(images)
    scores = small(images)
    assert 0 < deviation(expected, scores) < 0.25
    assert torch.equal(scores.argmax(1), expected.argmax(1))

    floats, integers = tmp_path / "floats.onnx", tmp_path / "integers.onnx"
    cnnzoo.export_onnx(model, floats)
    cnnzoo.export_onnx(model, integers, calibration=images)
    assert integers.stat().st_size < floats.stat().st_size / 2
    session = onnxruntime.InferenceSession(integers, providers=["CPUExecutionProvider"])
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), scores)


def test_eight_bits_need_images(images: torch.Tensor) -> None:
    model = cnnzoo.load_pretrained("lenet5")
    with pytest.raises(cnnzoo.OptionError, match=r"got dtype=torch.int8 without calibration images; .* go together"):
        cnnzoo.optimize(model, dtype=torch.int8)
    with pytest.raises(cnnzoo.OptionError, match=r"got dtype=None and calibration images; .* go together"):
        cnnzoo.optimize(model, calibration=images)
    with pytest.raises(cnnzoo.DeployError, match=r"calibration: got \(0, 1, 28, 28\); pass prepared images"):
        cnnzoo.optimize(model, dtype=torch.int8, calibration=images[:0])


# Backends


CPU = [name for name, backend in BACKENDS.items() if "cpu" in backend.devices]


@pytest.mark.parametrize("backend", [one for one in CPU if one != "inductor"])
@pytest.mark.parametrize("batch", [1, 4])
def test_backends_compute_the_same(backend, batch: int) -> None:
    needs(backend)
    model = small_network()
    fast = cnnzoo.optimize(model, batch_size=batch, backend=backend, progress=False)
    assert (fast.backend, fast.batch_size, fast.input_shape) == (backend, batch, (3, 32, 32))
    images = torch.randn(6, 3, 32, 32)
    model.eval()
    with torch.inference_mode():
        expected = model(images)
    for some in (images, images[:4], images[:1]):
        assert deviation(expected[: len(some)], fast(some)) < 1e-4
    again = pickle.loads(pickle.dumps(fast))
    assert torch.equal(again(images), fast(images))
    assert torch.equal(copy.deepcopy(fast)(images), fast(images))


def needs(backend: str) -> None:
    unavailable = BACKENDS[backend].unavailable(torch.device("cpu"), torch.float32)
    if unavailable:
        pytest.skip(unavailable)


@pytest.mark.slow
def test_inductor_computes_the_same() -> None:
    model = small_network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        fast = cnnzoo.optimize(model, batch_size=4, backend="inductor", progress=False)
        images = torch.randn(6, 3, 32, 32)
        model.eval()
        with torch.inference_mode():
            assert deviation(model(images), fast(images)) < 1e-4
        assert torch.equal(pickle.loads(pickle.dumps(fast))(images), fast(images))


SIGNALLED = """
import faulthandler, signal, threading
import torch
from cnnzoo.deploy.backends import OpenVINO

faulthandler.enable()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
images = torch.zeros(1, 3, 8, 8)
held = [OpenVINO(torch.nn.Conv2d(3, 4, 3).eval(), images)]
held[0](images)
other = threading.Thread(target=held.clear)
other.start()
other.join()
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_handled_after_another_thread_let_go_of_openvino() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_halves(backend) -> None:
    needs(backend)
    model = small_network()
    fast = cnnzoo.optimize(model, backend=backend, dtype=torch.bfloat16, progress=False)
    images = torch.randn(2, 3, 32, 32)
    scores = fast(images)
    assert scores.dtype == torch.float32
    model.eval()
    with torch.inference_mode():
        assert deviation(model(images), scores) < 0.1
    assert fast.dtype == torch.bfloat16


def test_auto_times_what_is_installed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.Inductor, "unavailable", lambda *_: "left out of this test")
    fast = cnnzoo.optimize(small_network(), progress=False)
    by_name = {trial.backend: trial for trial in fast.report.trials}
    assert list(by_name) == CPU
    assert by_name["inductor"].note == "left out of this test"
    timed = [trial for trial in fast.report.trials if trial.seconds is not None]
    assert {trial.backend for trial in timed} >= {"eager", "onnxruntime"}
    assert fast.report.chosen is min(timed, key=lambda trial: trial.seconds)
    assert fast.backend == fast.report.chosen.backend
    shown = str(fast.report)
    assert "CifarResNet, 1 x 3x32x32, cpu, float32" in shown
    assert shown.count("chosen") == 1
    assert "<td>chosen</td>" in fast.report._repr_html_()


def test_the_fastest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """With times that are made up, in the order of the candidates: 3, 1 and 2 seconds."""

    class Timed(Eager):
        def __init__(self, name: str, seconds: float) -> None:
            super().__init__(nn.Identity(), images)
            self.name, self.seconds = name, seconds

    monkeypatch.setattr(timing.Contest, "_sample", lambda self, runner, calls: runner.seconds)
    images = torch.ones(1, 1, 1, 1)
    one = timing.Contest(Reference(nn.Identity(), images), images, torch.float32, progress=False)
    for name, seconds in (("slow", 3.0), ("fast", 1.0), ("middling", 2.0)):
        one.enter(timing.Candidate(Timed, lambda name=name, seconds=seconds: Timed(name, seconds)))
    runner, report = one.conclude()
    assert runner.name == "fast"
    assert [trial.seconds for trial in report.trials] == pytest.approx([3.0, 1.0, 2.0])


def test_merging_is_tried_where_it_may_help() -> None:
    model = cnnzoo.CNN({"block": cnnzoo.create("inception", in_channels=16, seed=0)}, input_shape=(16, 8, 8))
    fast = cnnzoo.optimize(model, backend="eager", progress=False)
    assert [trial.merged for trial in fast.report.trials] == [False, True]
    assert "eager, merged" in str(fast.report)


def test_a_backend_that_cannot_run_says_why() -> None:
    model = small_network()
    with pytest.raises(
        cnnzoo.DeployError, match="no backend can run this CifarResNet: cudagraphs: runs on cuda, not on"
    ):
        cnnzoo.optimize(model, backend="cudagraphs")
    with pytest.raises(cnnzoo.DeployError, match="onnxruntime: does not calculate in bfloat16"):
        cnnzoo.optimize(model, backend="onnxruntime", dtype=torch.bfloat16)
    with pytest.raises(
        cnnzoo.UnknownNameError, match="optimize: unknown backend 'onnx_runtime': did you mean 'onnxruntime'"
    ):
        cnnzoo.optimize(model, backend="onnx_runtime")  # pyright: ignore
    with pytest.raises(cnnzoo.OptionError, match="optimize: got batch_size=0; it is 1 or more"):
        cnnzoo.optimize(model, batch_size=0)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "missing", lambda *packages: [p for p in packages if p == "openvino"])
    with pytest.raises(cnnzoo.DeployError, match="openvino: not installed: pip install openvino"):
        cnnzoo.optimize(small_network(), backend="openvino")


def test_a_backend_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self) -> None:
        raise RuntimeError("\n  the compiler is out of order\nand more")

    for backend in ("Inductor", "OpenVINO", "OnnxRuntime"):
        monkeypatch.setattr(getattr(backends, backend), "prepare", fail)
    fast = cnnzoo.optimize(small_network(), progress=False)
    assert fast.backend == "eager"
    notes = {trial.backend: trial.note for trial in fast.report.trials}
    assert notes["inductor"] == "RuntimeError: the compiler is out of order"


# What is returned


def test_optimized_is_for_inference_at_one_size() -> None:
    fast = cnnzoo.optimize(small_network(), backend="eager", progress=False)
    assert fast.eval() is fast
    with pytest.raises(cnnzoo.DeployError, match="Optimized: it can only be evaluated; train the network that"):
        fast.train()
    with pytest.raises(cnnzoo.ShapeError, match=r"got images \(1, 3, 40, 40\); it was made for \(N, \*\(3, 32, 32\)\)"):
        fast(torch.zeros(1, 3, 40, 40))
    assert "backend=eager, input_shape=(3, 32, 32), batch_size=1, dtype=torch.float32" in repr(fast)


def test_random_images_are_always_the_same() -> None:
    model = small_network()
    assert torch.equal(random_images(model, None), random_images(model, None))
    assert random_images(model.double(), (3, 8, 8)).dtype == torch.float64


def test_other_sizes_and_libraries() -> None:
    fast = cnnzoo.optimize(torchvision.models.resnet18(), (3, 64, 64), backend="onnxruntime", progress=False)
    assert fast(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)
