"""Networks inside what others put around them, and made inside of torch's modes."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint_sequential

import cnnzoo
from cnnzoo import catalogue
from cnnzoo.data.image_files import samples
from cnnzoo.support.patterns import fits


class Task(nn.Module):
    """What a training program puts around a network: it holds the loss, and gives it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net, self.loss = network, nn.CrossEntropyLoss()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.net(images), labels)


class WithHead(nn.Module):
    """A backbone and a head that is trained with it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = network, nn.Linear(1000, 10)


@pytest.fixture
def one_process() -> Iterator[None]:
    """A group of one process, in which networks can be made parallel."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "none": lambda model: model,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "compile": lambda model: torch.compile(model, backend="eager"),
    "AveragedModel": AveragedModel,
    "compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    "DataParallel of compiled": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    "compiled in place": lambda model: model.compile(backend="eager") or model,
}


@pytest.fixture(params=WRAPPERS)
def wrap(request: pytest.FixtureRequest, one_process: None) -> Callable[[nn.Module], nn.Module]:
    return WRAPPERS[request.param]


def rates(model: nn.Module) -> list[float]:
    return sorted({group["lr"] for group in cnnzoo.parameter_groups(model, 1.0, decay=0.5)})


BUILDERS = {"cnnzoo": lambda: cnnzoo.create("resnet18"), "torchvision": torchvision.models.resnet18}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_layers_keep_rates_of_their_own(build: Callable[[], nn.Module], wrap: Callable) -> None:
    expected = [0.5**k for k in reversed(range(10))]
    assert rates(build()) == expected
    assert rates(wrap(build())) == expected
    assert rates(Task(build())) == expected
    assert rates(wrap(Task(build()))) == expected
    assert rates(Task(wrap(build()))) == expected
    assert len(rates(WithHead(build()))) == 11


def test_groups_are_named_by_the_network_s_own_layers(wrap: Callable) -> None:
    names = [group["name"] for group in cnnzoo.parameter_groups(wrap(cnnzoo.create("lenet5")), 1.0, decay=0.5)]
    assert names == ["c1", "c3", "c5", "f6", "output"]


def test_parts_of_a_network_in_a_wrapper(wrap: Callable, tmp_path: Path) -> None:
    model = cnnzoo.create("lenet5", seed=0).eval()
    wrapped, images = wrap(model), torch.randn(2, 1, 28, 28)
    own = cnnzoo.unwrap(wrapped)
    assert isinstance(own, cnnzoo.LeNet5)
    assert torch.equal(cnnzoo.extract(wrapped, "c3")(images)["c3"], cnnzoo.extract(own, "c3")(images)["c3"])
    assert torch.equal(cnnzoo.features(wrapped)(images), cnnzoo.features(own)(images))
    assert list(cnnzoo.truncate(wrapped, until="s2").chain()) == ["c1", "tanh1", "s2"]
    assert list(cnnzoo.layers(wrapped, "conv")) == ["c1", "c3", "c5"]
    assert list(cnnzoo.parameters(wrapped, "c1.*")) == ["c1.weight", "c1.bias"]
    assert cnnzoo.summary(wrapped).rows
    cnnzoo.save_pretrained(wrapped, tmp_path)
    loaded = cnnzoo.load_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in own.state_dict().items())


def test_whoever_takes_a_network_takes_a_wrapped_one(wrap: Callable, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5")
    wrapped, seven = wrap(model), samples("mnist")[7].image
    cnnzoo.write_weights(wrapped, tmp_path / "own.safetensors")
    assert next(iter(cnnzoo.read_weights(tmp_path / "own.safetensors")[0])) == "c1.bias"
    assert cnnzoo.classify(wrapped, [seven])[0][0].label == "7"
    assert cnnzoo.verify(wrapped).name == "lenet5"
    assert cnnzoo.draw(wrapped).title == cnnzoo.draw(model).title
    assert cnnzoo.min_input_size(wrapped) == cnnzoo.min_input_size(model)
    block = wrap(cnnzoo.create("cifar_resnet20", seed=0).eval())
    assert list(cnnzoo.layers(cnnzoo.fold_batchnorm(block), nn.BatchNorm2d)) == []
    assert next(iter(cnnzoo.to_layout(wrap(cnnzoo.create("resnet18")), "torchvision"))) == "conv1.weight"


def test_freezing_what_is_in_a_wrapper(wrap: Callable) -> None:
    wrapped = wrap(cnnzoo.create("lenet5"))
    if isinstance(wrapped, nn.parallel.DistributedDataParallel):
        for change in (cnnzoo.freeze, cnnzoo.unfreeze):
            with pytest.raises(
                cnnzoo.OptionError, match=r"freeze: the network is in Dist.*`model\.module` and wrap it anew"
            ):
                change(wrapped, until="c3")
        return
    assert cnnzoo.freeze(wrapped, until="c3") is wrapped
    own = cnnzoo.unwrap(wrapped)
    assert [name for name, one in own.named_parameters() if not one.requires_grad] == [
        "c1.weight",
        "c1.bias",
        "c3.weight",
        "c3.bias",
    ]
    cnnzoo.unfreeze(wrapped)
    assert all(one.requires_grad for one in own.parameters())


@pytest.mark.parametrize(
    "call",
    [
        cnnzoo.unwrap,
        lambda model: cnnzoo.parameter_groups(model, 0.1, decay=0.5),
        lambda model: cnnzoo.extract(model, "c1"),
        lambda model: cnnzoo.features(model),
        lambda model: cnnzoo.freeze(model, until="c1"),
        lambda model: cnnzoo.truncate(model, until="c1"),
        lambda model: cnnzoo.save_pretrained(model, "nowhere"),
    ],
)
def test_flat_pieces_are_refused(call: Callable, one_process: None) -> None:
    """Weight decay would be lost on flat weights, without a word."""

    class FullyShardedDataParallel(nn.Module):
        pass

    FullyShardedDataParallel.__module__ = "torch.distributed.fsdp.fully_sharded_data_parallel"
    with pytest.raises(cnnzoo.OptionError, match=r"before it is wrapped, or shard it by torch\.distributed\.fsdp"):
        call(FullyShardedDataParallel())


@pytest.mark.filterwarnings("ignore")
def test_what_torch_shards(one_process: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    with pytest.raises(cnnzoo.OptionError, match="flat pieces"):
        cnnzoo.parameter_groups(FullyShardedDataParallel(cnnzoo.lenet5(), device_id=torch.device("cpu")), 0.1)
    model = cnnzoo.create("resnet18")
    mesh = init_device_mesh("cpu", (1,))
    for stage in (model.conv2_x, model.conv5_x):
        fully_shard(stage, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert cnnzoo.unwrap(model) is model
    assert rates(model) == [0.5**k for k in reversed(range(10))]
    assert list(cnnzoo.layers(model, "conv", "conv2_x.0.*")) == ["conv2_x.0.conv1", "conv2_x.0.conv2"]


# Auxiliary classifiers


def test_auxiliary_scores_are_what_the_network_gives() -> None:
    model = cnnzoo.googlenet(aux=True, num_classes=3).eval()
    images = torch.randn(1, 3, 224, 224)
    module = cnnzoo.AuxiliaryScores(model)
    for own, scores in zip(model.forward_with_aux(images), module(images), strict=True):
        assert torch.equal(own, scores)
    assert {*module.parameters()} == {*model.parameters()}
    with pytest.raises(cnnzoo.OptionError, match="this GoogLeNet has no auxiliary classifiers; build it with aux=True"):
        cnnzoo.AuxiliaryScores(cnnzoo.googlenet())


TWO_PROCESSES = """
import torch, cnnzoo
from torch.nn.parallel import DistributedDataParallel as DDP
torch.distributed.init_process_group("gloo")
torch.manual_seed(torch.distributed.get_rank())
model = cnnzoo.create("googlenet", aux=True, num_classes=3, seed=0)
cnnzoo.freeze(model, until="inception_4d")
ddp = DDP(cnnzoo.AuxiliaryScores(model.eval()))
sum(scores.square().sum() for scores in ddp(torch.randn(1, 3, 224, 224))).backward()
gradients = [one.grad for one in model.parameters() if one.requires_grad]
assert all(one is not None for one in gradients)
mine = torch.cat([one.flatten() for one in gradients])
others = [torch.empty_like(mine) for _ in range(2)]
torch.distributed.all_gather(others, mine)
assert mine.abs().sum() > 0
assert torch.equal(*others)
torch.distributed.destroy_process_group()
"""


def test_gradients_of_auxiliary_classifiers_are_those_of_all_processes(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, str(tmp_path / "run.py")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("aux", [False, True])
@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "lenet5"])
def test_checkpoint_sequential(name: str, aux: bool) -> None:
    if name == "lenet5" and aux:
        pytest.skip("has no auxiliary classifiers")
    model = cnnzoo.create(name, num_classes=3, **({"aux": True} if aux else {})).eval()
    images = torch.randn(1, *(1, 28, 28) if name == "lenet5" else (3, 139, 139))
    torch.testing.assert_close(checkpoint_sequential(model, 3, images, use_reentrant=False), model(images))
    if not aux:
        assert list(model.children())[-1] is model.get_submodule(model.head[0])
        assert nn.Sequential(*list(model.children())[:-1])(images).shape[1] > 3


# On the meta device, and in the modes of torch


def with_buffers() -> list[tuple[str, dict]]:
    """Of each family the smallest network that owns buffers, and the smallest with `classic=True`."""
    found: dict[tuple[str, bool], tuple[int, str]] = {}
    for one in catalogue.matching(catalogue.entries().values()):
        for classic in (False, True) if one.has_classic else (False,):
            model = cnnzoo.create(one.name, device="meta", **({"classic": True} if classic else {}))
            if list(model.buffers()):
                place, this = (one.family, classic), (one.params, one.name)
                found[place] = min(found.get(place, this), this)
    return [(name, {"classic": True} if classic else {}) for (_, classic), (_, name) in found.items()]


@pytest.mark.parametrize(("name", "options"), with_buffers(), ids=str)
def test_a_network_from_the_meta_device_computes(name: str, options: dict) -> None:
    smallest = cnnzoo.min_input_size(name, **options)
    sides = (smallest, smallest) if isinstance(smallest, int) else smallest
    real = cnnzoo.create(name, seed=0, **options).eval()
    values, images = real.state_dict(), torch.randn(1, real.input_shape[0], *sides)
    assigned, emptied, started = (cnnzoo.create(name, device="meta", **options).eval() for _ in range(3))
    assigned.load_state_dict(values, assign=True)
    emptied.to_empty(device="cpu").load_state_dict(values)
    cnnzoo.initialize(started.to_empty(device="cpu"))
    with torch.inference_mode():
        assert started(images).isfinite().all()
        for model in (assigned, emptied):
            assert not any(one.is_meta for one in model.buffers())
            assert torch.equal(model(images), real(images))


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Asking(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@contextmanager
def in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministically() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Callable[[], AbstractContextManager]] = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "default device": lambda: torch.device("cpu"),
    "meta": lambda: torch.device("meta"),
    "default dtype": in_double_precision,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministically,
    "fake": FakeTensorMode,
    "dispatch": Watching,
    "function": Asking,
    "anomaly": lambda: torch.autograd.detect_anomaly(check_nan=False),
    "saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x),
}
MADE: dict[str, Callable[[], nn.Module]] = {
    "create": lambda: cnnzoo.create("resnet18", num_classes=2),
    "create with a seed": lambda: cnnzoo.create("resnet18", num_classes=2, seed=1),
    "constructor": lambda: cnnzoo.lenet5(classic=True),
    "initialize": lambda: cnnzoo.initialize(nn.Sequential(nn.Conv2d(3, 64, 7), nn.Linear(700, 700)), "he2015"),
    "initialize with a generator": lambda: cnnzoo.initialize(
        nn.Sequential(nn.Conv2d(3, 64, 7), nn.Linear(700, 700)), "truncated_normal", generator=torch.Generator()
    ),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
@pytest.mark.parametrize("mode", MODES)
def test_networks_are_made_in_every_mode(make: Callable[[], nn.Module], mode: str) -> None:
    if mode == "meta" and make is MADE["initialize with a generator"]:
        pytest.skip("a generator of the CPU draws nothing for another device")
    with MODES[mode]():
        model = make()
    sort = type(next(model.parameters()).data)
    if mode == "fake":
        assert sort.__name__ == "FakeTensor"
        return
    assert {one.device.type for one in model.parameters()} == {"meta" if mode == "meta" else "cpu"}
    assert {one.dtype for one in model.parameters()} == {torch.float64 if mode == "default dtype" else torch.float32}
    assert all(one.is_inference() == (mode == "inference") for one in model.parameters())
    if mode not in ("meta", "default dtype"):
        with torch.inference_mode(mode == "inference"):
            assert all(one.detach().amax() > one.detach().amin() for one in model.parameters() if one.ndim > 1)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("fake", "meta", "default dtype")])
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_mode_changes_no_number(mode: str) -> None:
    expected = cnnzoo.create("lenet5", classic=True, seed=3).state_dict()
    with MODES[mode]():
        found = cnnzoo.create("lenet5", classic=True, seed=3).state_dict()
    assert all(torch.equal(expected[name], value) for name, value in found.items())


def test_weights_have_values() -> None:
    with FakeTensorMode():
        assert cnnzoo.verify("lenet5", classic=True).ok
        with pytest.raises(
            cnnzoo.OptionError, match=r"load_pretrained: weights are values.*build the network by create"
        ):
            cnnzoo.load_pretrained("lenet5")


# One pattern language


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("conv1", "conv1", True),
        ("conv1", "conv?", True),
        ("conv2_x.0.conv1", "conv2_x.*", False),
        ("conv2_x.0.conv1", "conv2_x.*.conv1", True),
        ("conv2_x.0.conv1", "conv2_x.**", True),
        ("conv2_x.0.conv1", "**.conv1", True),
        ("conv1", "**.conv1", True),
        ("conv1", "**", True),
        ("conv2_x.0.conv1", "**", True),
        ("conv2_x.0.conv1", "*", False),
        ("conv2_x.0.conv1", "**.0.**", True),
        ("conv2_x", "conv2_x.**", True),
        ("conv2_x.0.conv1", "**.[12].*", False),
        ("Conv1", "conv1", False),
    ],
)
def test_patterns(name: str, pattern: str, expected: bool) -> None:
    assert fits(name, pattern) is expected


@pytest.mark.parametrize(
    "pattern", ["conv1", "conv?_x", "conv4_x.*.conv2", "conv3_x.**.bn1", "**.conv1", "c*.1.conv[12]"]
)
def test_all_who_take_patterns_mean_the_same(pattern: str) -> None:
    model = cnnzoo.create("resnet18")
    expected = list(cnnzoo.layers(model, nn.Module, pattern))
    assert list(cnnzoo.extract(model, pattern)(torch.randn(1, 3, 64, 64))) == expected
    kept = cnnzoo.parameters(model, f"{pattern}.weight")
    assert list(kept) == [f"{name}.weight" for name in expected if hasattr(model.get_submodule(name), "weight")]
    cnnzoo.freeze(model, until=pattern)
    one_by_one = cnnzoo.freeze(cnnzoo.create("resnet18"), until=expected[-1])
    trained = [[name for name, one in own.named_parameters() if one.requires_grad] for own in (model, one_by_one)]
    assert trained[0] == trained[1]


def test_truncate_and_freeze_speak_of_the_same_layers() -> None:
    model = cnnzoo.create("vgg11", device="meta")
    part = cnnzoo.truncate(model, until="conv4_?")
    assert list(part.chain())[-1] == "conv4_2"
    cnnzoo.freeze(model, until="conv4_?")
    assert {one for one in model.parameters() if not one.requires_grad} == {*part.parameters()}


def test_a_name_is_enough_to_ask_for_layers_and_parameters() -> None:
    assert list(cnnzoo.layers("lenet5", "conv", classic=True)) == ["c1", "c3", "c5"]
    assert "ConnectionTableConv2d" in type(cnnzoo.layers("lenet5", "conv", classic=True)["c3"]).__name__
    assert list(cnnzoo.parameters("resnet18", "fc.*", num_classes=3)) == ["fc.weight", "fc.bias"]
    assert cnnzoo.parameters("resnet18", "fc.weight", num_classes=3)["fc.weight"].shape == (3, 512)
    with pytest.raises(cnnzoo.UnknownNameError, match="layers: unknown network 'resnet81': did you mean 'resnet18'"):
        cnnzoo.layers("resnet81")
    with pytest.raises(cnnzoo.OptionError, match="parameters: got num_classes= with a network that is built already"):
        cnnzoo.parameters(cnnzoo.lenet5(), num_classes=3)
