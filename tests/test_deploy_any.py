"""Deployment of any network: what a trace cannot follow, several outputs, weights that are computed, odd poolings."""

import copy
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnxruntime
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import cnnzoo
from cnnzoo.deploy.backends import BACKENDS
from cnnzoo.deploy.checking import deviation
from cnnzoo.deploy.export import UnfoldedWarning, onnx_bytes, onnx_runner
from cnnzoo.deploy.outputs import apart
from cnnzoo.deploy.plain import plain

NORMS = nn.modules.batchnorm._BatchNorm


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def needs(backend: Any) -> None:
    reason = BACKENDS[backend].unavailable(torch.device("cpu"), torch.float32)
    if reason:
        pytest.skip(reason)


def outputs_of_file(path: Path, images: torch.Tensor) -> dict[str, torch.Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {"images": images.numpy()})), strict=True))


def settled(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Its normalisation has seen something."""
    with torch.no_grad():
        model.train()(torch.randn(8, *shape))
    return model.eval()


# What a trace cannot follow


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)


class Asserts(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[2] == x.shape[3] == 12, "squares of twelve"
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


class Loops(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for row in range(x.shape[2] // 4):
            x = x + row
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


class Counts(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn(self.conv(x))
        return self.fc(y.mean((2, 3))) / int(x.shape[-1])


class Chooses(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn(self.conv(x))
        if x.shape[-1] > 8:
            y = torch.relu(y)
        return self.fc(y.mean((2, 3)))


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5
    )


ANY: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "assert": (Asserts, (3, 12, 12)),
    "loop": (Loops, (3, 12, 12)),
    "int of a size": (Counts, (3, 12, 12)),
    "branch on a size": (Chooses, (3, 12, 12)),
    "vision transformer": (vision_transformer, (3, 16, 16)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (10, 16)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(3, 4, 2, 2), (3, 8, 8)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3), (3, 8, 8)),
    "one dimension": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)), (2, 9)),
    "three dimensions": (lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (2, 5, 6, 7)),
}
UNFOLDED = ("assert", "loop", "int of a size", "branch on a size")


@pytest.mark.parametrize("name", ANY)
def test_whatever_torch_exports_is_exported(name: str, tmp_path: Path) -> None:
    build, shape = ANY[name]
    model = settled(build(), shape)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UnfoldedWarning)
        cnnzoo.export_onnx(model, tmp_path / "m.onnx", input_shape=shape)
    said = [str(one.message) for one in warned if one.category is UnfoldedWarning]
    assert len(said) == (name in UNFOLDED)
    assert all("normalisation is not folded: cannot follow the forward of" in one for one in said)
    for batch in (1, 3):
        images = torch.randn(batch, *shape)
        with torch.no_grad():
            assert deviation(model(images), outputs_of_file(tmp_path / "m.onnx", images)["scores"]) < 1e-4


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ANY)
def test_whatever_torch_exports_is_optimized(name: str, backend: Any) -> None:
    needs(backend)
    build, shape = ANY[name]
    model = settled(build(), shape)
    fast = cnnzoo.optimize(model, shape, batch_size=2, backend=backend, progress=False)
    assert ("normalisation is not folded" in fast.report.note) == (name in UNFOLDED)
    assert (fast.report.note in " ".join(str(fast.report).split())) or not fast.report.note
    images = torch.randn(3, *shape)
    with torch.no_grad():
        assert deviation(model(images), fast(images)) < 1e-4


def test_folding_itself_says_what_it_cannot_follow() -> None:
    with pytest.raises(
        cnnzoo.DeployError, match=r"fold_batchnorm: cannot follow the forward of Asserts: .*fold the parts"
    ):
        cnnzoo.fold_batchnorm(Asserts(), (3, 12, 12))
    nothing_to_fold = cnnzoo.fold_batchnorm(vision_transformer(), (3, 16, 16))
    assert isinstance(nothing_to_fold, torchvision.models.VisionTransformer)


# Several outputs


class Heads(NamedTuple):
    age: torch.Tensor
    sex: torch.Tensor


GIVEN: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], Any], list[str]]] = {
    "tuple": (lambda a, b: (a, b), ["output_0", "output_1"]),
    "list": (lambda a, b: [b, a], ["output_0", "output_1"]),
    "dict": (lambda a, b: {"sex": b, "age": a}, ["sex", "age"]),
    "ordered dict": (lambda a, b: OrderedDict(out=a, aux=b), ["out", "aux"]),
    "named tuple": (Heads, ["age", "sex"]),
    "nested": (lambda a, b: {"all": [a, None, {"sex": b}], "n": 3}, ["all.0", "all.2.sex"]),
    "tuple of one": (lambda a, b: (a,), ["output_0"]),
    "same one twice": (lambda a, b: {"one": a, "other": a}, ["one", "other"]),
}


class TwoHeads(Normed):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.other, self.kind = nn.Linear(4, 2), kind

    def forward(self, x: torch.Tensor) -> Any:
        features = self.bn(self.conv(x)).mean((2, 3))
        return GIVEN[self.kind][0](self.fc(features), self.other(features))


@pytest.mark.parametrize("kind", GIVEN)
def test_several_outputs_are_exported_by_name(kind: str, tmp_path: Path) -> None:
    model = settled(TwoHeads(kind), (3, 8, 8))
    cnnzoo.export_onnx(model, tmp_path / "m.onnx", input_shape=(3, 8, 8))
    images = torch.randn(3, 3, 8, 8)
    found = outputs_of_file(tmp_path / "m.onnx", images)
    assert list(found) == GIVEN[kind][1]
    with torch.no_grad():
        assert deviation(apart(model(images)), tuple(found.values())) < 1e-4
    assert all(node.op_type != "BatchNormalization" for node in onnx.load(tmp_path / "m.onnx").graph.node)


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", GIVEN)
def test_several_outputs_are_optimized(kind: str, backend: Any) -> None:
    needs(backend)
    model = settled(TwoHeads(kind), (3, 8, 8))
    fast = cnnzoo.optimize(model, (3, 8, 8), batch_size=2, backend=backend, progress=False)
    for runner in (fast, pickle.loads(pickle.dumps(fast))) if kind != "nested" else (fast,):
        for batch in (1, 2, 5):
            images = torch.randn(batch, 3, 8, 8)
            with torch.no_grad():
                expected, got = model(images), runner(images)
            assert type(got) is type(expected)
            if isinstance(expected, dict):
                assert list(got) == list(expected)
            assert deviation(apart(expected), apart(got)) < 1e-4
            if isinstance(expected, dict) and kind == "nested":
                assert (got["all"][1], got["n"]) == (None, 3)


@pytest.mark.parametrize("kind", GIVEN)
def test_several_outputs_are_folded(kind: str) -> None:
    model = settled(TwoHeads(kind), (3, 8, 8))
    lean = cnnzoo.fold_batchnorm(model, (3, 8, 8))
    assert not any(isinstance(module, NORMS) for module in lean.modules())
    merged = cnnzoo.merge_branches(model, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert deviation(apart(model(images)), apart(lean(images))) < 1e-5
        assert deviation(apart(model(images)), apart(merged(images))) == 0


def test_segmentation_network_of_torchvision(tmp_path: Path) -> None:
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    cnnzoo.export_onnx(model, tmp_path / "m.onnx", input_shape=(3, 64, 64))
    assert list(outputs_of_file(tmp_path / "m.onnx", torch.randn(1, 3, 64, 64))) == ["out"]
    fast = cnnzoo.optimize(model, (3, 64, 64), backend="onnxruntime", progress=False)
    assert list(fast(torch.randn(1, 3, 64, 64))) == ["out"]


def test_layers_of_an_extractor_are_exported_by_name(tmp_path: Path) -> None:
    model = cnnzoo.create("cifar_resnet20", seed=0).eval()
    maps = cnnzoo.extract(model, "conv1", "fc")
    cnnzoo.export_onnx(maps, tmp_path / "m.onnx", input_shape=(3, 32, 32))
    images = torch.randn(2, 3, 32, 32)
    found = outputs_of_file(tmp_path / "m.onnx", images)
    with torch.no_grad():
        expected = maps(images)
    assert list(found) == list(expected) == ["conv1", "fc"]
    assert all(deviation(expected[name], found[name]) < 1e-4 for name in found)


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"scores": x.mean((2, 3)), "loss": x.mean()}


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"none": None}


def test_outputs_that_cannot_be() -> None:
    with pytest.raises(
        cnnzoo.DeployError, match=r"optimize: the network gives dict, which holds no tensors; wrap it in"
    ):
        cnnzoo.optimize(Nothing(), (3, 4, 4), backend="eager", progress=False)
    needs("openvino")
    fast = cnnzoo.optimize(Mean(), (3, 4, 4), batch_size=2, backend="openvino", progress=False)
    assert fast(torch.ones(2, 3, 4, 4))["loss"] == 1
    with pytest.raises(cnnzoo.DeployError, match=r"loss has the shape \(\), without an entry for each image.*'eager'"):
        fast(torch.ones(3, 3, 4, 4))


# A normalisation of steps


@pytest.mark.parametrize("units", [5, 7])
def test_normalisation_over_tokens_is_left_alone(units: int) -> None:
    model = settled(nn.Sequential(nn.Linear(6, units), nn.BatchNorm1d(7)), (7, 6))
    lean = cnnzoo.fold_batchnorm(model, (7, 6))
    assert isinstance(lean[1], nn.BatchNorm1d)
    tokens = torch.randn(3, 7, 6)
    with torch.no_grad():
        assert deviation(model(tokens), lean(tokens)) == 0


def test_normalisation_of_units_is_folded() -> None:
    model = settled(nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7)), (6,))
    lean = cnnzoo.fold_batchnorm(model, (6,))
    assert isinstance(lean[1], nn.Identity)


# Weights that are computed


def chain() -> nn.Sequential:
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 5))


def old_style(norm: Callable[..., nn.Module]) -> Callable[[nn.Sequential], object]:
    def change(model: nn.Sequential) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            norm(model[0])
            norm(model[5])

    return change


def pruned(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_structured(model[5], "weight", 0.4, dim=0)
    prune.random_unstructured(model[5], "bias", 0.5)
    prune.l1_unstructured(model[0], "weight", 0.3)  # a second time


COMPUTED: dict[str, Callable[[nn.Sequential], object]] = {
    "pruned": pruned,
    "globally pruned": lambda model: prune.global_unstructured(
        [(model[0], "weight"), (model[5], "weight")], prune.L1Unstructured, amount=0.5
    ),
    "weight_norm": lambda model: [parametrizations.weight_norm(model[i]) for i in (0, 5)],
    "spectral_norm": lambda model: [parametrizations.spectral_norm(model[i]) for i in (0, 5)],
    "orthogonal": lambda model: parametrizations.orthogonal(model[5]),
    "old weight_norm": old_style(weight_norm),
    "old spectral_norm": old_style(spectral_norm),
    "two at a time": lambda model: (
        parametrizations.spectral_norm(parametrizations.weight_norm(model[0])),
        parametrizations.orthogonal(model[5]),
    ),
}


@pytest.mark.parametrize("around", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_plain_weights_are_parameters_whatever_is_around(around: Callable[[], Any]) -> None:
    model = chain()
    parametrizations.weight_norm(model[0])
    with around():
        copied = plain(model)
    assert isinstance(copied[0].weight, nn.Parameter)
    copied.train()(torch.randn(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_are_made_plain(kind: str, tmp_path: Path) -> None:
    model = chain()
    COMPUTED[kind](model)
    settled(model, (3, 8, 8))
    images, names = torch.randn(3, 3, 8, 8), [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        expected = model(images)
        copied = plain(model)
        assert deviation(expected, copied(images)) < 1e-6
    assert [name for name, _ in copied.named_parameters()] != names
    assert {name for name, _ in copied.named_parameters()} == {name for name, _ in chain().named_parameters()}
    lean = cnnzoo.fold_batchnorm(model, (3, 8, 8))
    assert isinstance(lean[1], nn.Identity)
    cnnzoo.export_onnx(model, tmp_path / "m.onnx", input_shape=(3, 8, 8))
    fast = cnnzoo.optimize(model, (3, 8, 8), backend="eager", progress=False)
    with torch.no_grad():
        assert deviation(expected, outputs_of_file(tmp_path / "m.onnx", images)["scores"]) < 1e-4
        assert deviation(expected, fast(images)) < 1e-5
        assert torch.equal(model(images), expected)  # and the model is as it was
    assert [name for name, _ in model.named_parameters()] == names
    model.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_copies_of_parametrised_networks_do_not_share_a_class() -> None:
    model = chain()
    parametrizations.weight_norm(model[0])
    twin = copy.deepcopy(model)
    plain(model)
    for one in (model, twin):
        assert one[0].weight.shape == (4, 3, 3, 3)


# Average pooling


@settings(deadline=None, max_examples=15)
@given(
    size=st.tuples(st.integers(3, 11), st.integers(3, 11)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    counts=st.booleans(),
)
def test_poolings_are_exported_so_that_both_compute_the_same(size, kernel, stride, padding, counts: bool) -> None:
    assume(all(2 * pad <= side for pad, side in zip(padding, kernel, strict=True)))
    assume(all(side <= n + 2 * pad for pad, side, n in zip(padding, kernel, size, strict=True)))
    model = nn.AvgPool2d(kernel, stride, padding, ceil_mode=True, count_include_pad=counts).eval()
    images = torch.randn(2, 3, *size)
    try:
        expected = model(images)
    except RuntimeError:
        assume(False)
    content = onnx_bytes(model, images)
    assert deviation(expected, onnx_runner(content)(images)) < 1e-5
    assert deviation(expected, in_openvino(content, images)) < 1e-5


def in_openvino(content: bytes, images: torch.Tensor) -> torch.Tensor:
    needs("openvino")
    from cnnzoo.deploy.backends import openvino_core

    model = openvino_core().read_model(content)
    model.reshape(list(images.shape))
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([images.numpy()])[0])


class Functional(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 3, 2, 1, ceil_mode=True) if x.ndim == 4 else F.avg_pool1d(x, 3, 2, 1, ceil_mode=True)


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8)])
def test_poolings_of_functions_too(shape: tuple[int, ...]) -> None:
    needs("openvino")
    fast = cnnzoo.optimize(Functional(), shape, backend="openvino", progress=False)
    images = torch.randn(1, *shape)
    assert deviation(Functional()(images), fast(images)) < 1e-5
