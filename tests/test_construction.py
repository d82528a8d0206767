"""Construction: what a constructor brings stays, what it makes is initialised once, in every context and process."""

import copy
import multiprocessing
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import cnnzoo
from cnnzoo import registry
from cnnzoo.initialization import InitializationWarning
from cnnzoo.nn.layers import BatchNorm2d, Conv2d, Linear
from cnnzoo.registry import Paper, register

PAPER = Paper("lenet")


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that the test may add to."""
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))


def registered(function):
    return register(PAPER, input_shape=(1, 28, 28))(function)


def real(model: nn.Module) -> bool:
    return not any(tensor.is_meta for tensor in model.state_dict(keep_vars=True).values())


# Networks inside of networks


@pytest.mark.parametrize("own", ["create", "load_pretrained", "build"])
@pytest.mark.parametrize("outer", [{}, {"device": "cpu"}, {"seed": 3}, {"dtype": torch.float64}, {"init": False}])
def test_a_body_from_elsewhere_keeps_its_weights(scratch: None, own: str, outer: dict) -> None:
    bodies: list[dict[str, Tensor]] = []

    @registered
    def on_a_body(*, num_classes: int = 5) -> nn.Module:
        """A network on a body."""
        if own == "create":
            body = cnnzoo.create("lenet5", num_classes=0, device="cpu")
        elif own == "load_pretrained":
            body = cnnzoo.load_pretrained("lenet5", num_classes=0)
        else:
            body = cnnzoo.create("lenet5", num_classes=0, seed=1)
        bodies.append(copy.deepcopy(body.state_dict()))
        return cnnzoo.CNN({"body": body, "fc": nn.Linear(84, num_classes)}, init="constant")

    model = cnnzoo.create("on_a_body", **outer)
    assert real(model)
    for name, tensor in model.body.state_dict().items():
        torch.testing.assert_close(tensor, bodies[0][name].to(tensor.dtype), rtol=0, atol=0)
    if outer.get("init", True):
        assert model.fc.weight.eq(torch.full_like(model.fc.weight, 0.1)).all()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    if own == "load_pretrained" and not outer:
        trained = cnnzoo.load_pretrained("lenet5", num_classes=0)
        assert torch.equal(model.body.c1.weight, trained.c1.weight)


def test_a_body_without_weights_starts_by_its_own_scheme(scratch: None) -> None:
    @registered
    def sandwich() -> nn.Module:
        """A plain module around two networks."""
        return nn.Sequential(
            cnnzoo.CNN({"fc": nn.Linear(4, 4)}, init="zeros"), cnnzoo.CNN({"fc": nn.Linear(4, 4)}, init="constant")
        )

    model = cnnzoo.create("sandwich")
    assert model[0].fc.weight.eq(0).all()
    assert model[1].fc.weight.eq(0.1).all()
    again = cnnzoo.initialize(copy.deepcopy(model))
    assert torch.equal(again[0].fc.weight, model[0].fc.weight)
    assert torch.equal(again[1].fc.weight, model[1].fc.weight)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("device", [None, "cpu", "meta"])
def test_nested_in_any_depth(scratch: None, depth: int, device: str | None) -> None:
    @registered
    def level0() -> nn.Module:
        """The innermost."""
        return cnnzoo.load_pretrained("lenet5")

    def around(inner: str, name: str) -> None:
        def build() -> nn.Module:
            """A network around another."""
            return nn.Sequential(cnnzoo.create(inner), nn.Linear(10, 10))

        build.__name__ = name
        registered(build)

    names = [f"level{level}" for level in range(depth + 1)]
    for inner, name in pairwise(names):
        around(inner, name)
    model = cnnzoo.create(names[-1], device=device)
    assert real(model) == (device != "meta")
    inner = model
    for _ in range(depth):
        inner = inner[0]
    if device != "meta":
        assert torch.equal(inner.c1.weight, cnnzoo.load_pretrained("lenet5").c1.weight)
        assert all(p.isfinite().all() and p.abs().max() <= 1 for layer in (model[1],) for p in layer.parameters())


def test_on_the_meta_device_nothing_is_allocated_by_parts(scratch: None) -> None:
    @registered
    def around() -> nn.Module:
        """A network around another."""
        return nn.Sequential(cnnzoo.create("vgg16"), cnnzoo.vgg11())

    model = cnnzoo.create("around", device="meta")
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_a_seed_reaches_the_parts(scratch: None) -> None:
    @registered
    def parts() -> nn.Module:
        """Everything that draws."""
        model = nn.Module()
        model.body = cnnzoo.create("lenet5", device="cpu")
        model.mine = cnnzoo.lenet5()
        model.plain = nn.Linear(3, 3)
        model.embedding = nn.Embedding(3, 3)
        model.given = nn.Parameter(torch.randn(3))
        model.placed = nn.Parameter(torch.rand(3, device="cpu"))
        return model

    before = torch.get_rng_state()
    one, two, other = (cnnzoo.create("parts", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    weights = [name for name, tensor in one.items() if tensor.ne(0).any()]
    assert len(weights) >= 12
    assert [name for name in weights if torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("workers", [2, 8])
def test_from_several_threads_at_once(scratch: None, workers: int) -> None:
    @registered
    def in_threads() -> nn.Module:
        """A network on a body."""
        return nn.Sequential(cnnzoo.load_pretrained("lenet5"), nn.Linear(10, 3))

    plain = nn.Linear.reset_parameters, nn.Conv2d.reset_parameters, nn.BatchNorm2d.reset_parameters
    loaded = cnnzoo.load_pretrained("lenet5").c1.weight

    def work(number: int) -> None:
        model = cnnzoo.create("in_threads")
        assert real(model)
        assert torch.equal(model[0].c1.weight, loaded)
        assert 0 < model[1].weight.abs().max() <= 10**-0.5
        torchs = nn.Linear(64, 64)  # whoever builds layers by torch gets them as torch makes them
        assert 0.1 < torchs.weight.abs().max() <= 1 / 8
        assert torch.equal(cnnzoo.create("convnet", seed=7).fc1.weight, expected)

    expected = cnnzoo.create("convnet", seed=7).fc1.weight
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(work, range(40)))
    assert plain == (nn.Linear.reset_parameters, nn.Conv2d.reset_parameters, nn.BatchNorm2d.reset_parameters)


def test_a_thread_that_a_constructor_starts(scratch: None) -> None:
    @registered
    def threaded() -> nn.Module:
        """Layers from another thread."""
        made: list[nn.Module] = []
        thread = threading.Thread(target=lambda: made.append(nn.Linear(64, 64)))
        thread.start()
        thread.join()
        return nn.Sequential(*made, nn.Linear(64, 64))

    model = cnnzoo.create("threaded")
    assert all(0.1 < layer.weight.abs().max() <= 1 / 8 for layer in model)


def test_an_error_in_a_constructor_leaves_nothing_behind(scratch: None) -> None:
    @registered
    def broken() -> nn.Module:
        """A constructor that fails."""
        nn.Linear(3, 3)
        raise RuntimeError("broken on purpose")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken on purpose"):
            cnnzoo.create("broken")
    assert not nn.Linear(3, 3).weight.is_meta
    assert real(cnnzoo.lenet5())


# What a constructor does itself


def test_values_that_a_constructor_gives_are_kept(scratch: None) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.full((3,), 1e-6))
            self.token = nn.Parameter(torch.empty(2, 3).normal_(std=0.02))
            self.drawn = nn.Parameter(torch.randn(50))
            self.rows = nn.Parameter(torch.empty(4, 4))
            nn.init.eye_(self.rows)
            self.lines = nn.Parameter(torch.empty(3, 4))
            nn.init.trunc_normal_(self.lines, std=0.5)
            with torch.no_grad():
                self.lines[1].fill_(7)
                self.lines[2, 1:3] = 8
            mask = torch.empty(3, 3)
            mask.fill_(float("-inf"))
            mask.triu_(1)
            self.register_buffer("mask", mask, persistent=False)
            self.register_buffer("steps", torch.arange(3))
            self.fc = nn.Linear(3, 3)
            nn.init.constant_(self.fc.weight, 0.25)
            self.norm = nn.BatchNorm1d(3)
            nn.init.zeros_(self.norm.weight)
            self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
            self.like = nn.Parameter(torch.ones_like(self.fc.bias))
            self.square = nn.Parameter(torch.empty(4, 4))
            nn.init.orthogonal_(self.square)
            self.twin = copy.deepcopy(self.fc)
            self.scaled = nn.Parameter(self.fc.weight.detach() * 2)
            self.there = torch.zeros(1, device=self.fc.weight.device)

    @registered
    def scaled() -> nn.Module:
        """Parameters of one's own."""
        return Scaled()

    for device in (None, "cpu"):
        model = cnnzoo.create("scaled", device=device)
        assert model.gamma.eq(1e-6).all()
        assert 0 < model.token.abs().max() < 0.2
        assert model.drawn.std() > 0.5
        assert torch.equal(model.rows, torch.eye(4))
        assert 0 < model.lines[0].abs().max() <= 1 + 1.0
        assert model.lines[1].eq(7).all()
        assert model.lines[2, 1:3].eq(8).all()
        assert torch.equal(model.mask, torch.full((3, 3), float("-inf")).triu_(1))
        assert model.steps.tolist() == [0, 1, 2]
        assert model.fc.weight.eq(0.25).all()
        assert model.norm.weight.eq(0).all()
        assert model.norm.running_var.eq(1).all()
        assert model.rates == [0, 0.5, 1]
        assert model.like.eq(1).all()
        torch.testing.assert_close(model.square @ model.square.T, torch.eye(4))
        assert model.twin.weight.eq(0.25).all()
        assert model.twin.weight is not model.fc.weight
        assert model.scaled.eq(0.5).all()
        assert model.there.item() == 0
    unfilled = cnnzoo.create("scaled", init=False)
    assert torch.equal(unfilled.mask, model.mask)  # a buffer that no file holds
    assert unfilled.norm.running_var.eq(1).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.resnet18(),
        lambda: torchvision.models.vit_b_32(),
        lambda: torchvision.models.convnext_tiny(),
        lambda: torchvision.models.swin_t(),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False),
        lambda: nn.Sequential(nn.LSTM(4, 4), nn.Embedding(3, 4, padding_idx=1), nn.Bilinear(2, 3, 4), nn.PReLU()),
        lambda: nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3)),
    ],
)
def test_networks_of_other_libraries_start_as_they_would_by_themselves(scratch: None, build) -> None:
    @registered
    def foreign() -> nn.Module:
        """A network of another library."""
        return build()

    torch.manual_seed(0)
    expected = build().state_dict(keep_vars=True)
    found = cnnzoo.create("foreign", seed=0).state_dict(keep_vars=True)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if torch.nn.parameter.is_lazy(tensor):
            assert torch.nn.parameter.is_lazy(expected[name])
            continue
        reference = expected[name]
        assert (tensor.shape, tensor.dtype, tensor.device) == (reference.shape, reference.dtype, reference.device)
        if tensor.is_floating_point() and tensor.numel() > 2000:
            assert tensor.std().item() == pytest.approx(reference.std().item(), rel=0.2, abs=1e-6), name
            assert tensor.mean().item() == pytest.approx(reference.mean().item(), abs=0.05), name
        elif reference.unique().numel() == 1:
            assert torch.equal(tensor, reference), name
        else:
            assert tensor.isfinite().all(), name


def test_a_parameter_that_nothing_fills_is_named(scratch: None) -> None:
    @registered
    def unfilled() -> nn.Module:
        """A parameter that nobody fills."""
        model = nn.Sequential(nn.Linear(2, 2))
        model[0].gate = nn.Parameter(torch.empty(3))
        model.scale = nn.Parameter(torch.empty(4))
        return model

    with pytest.warns(
        InitializationWarning, match=r"^Sequential: nothing says how to initialise 0\.gate, scale;"
    ) as met:
        cnnzoo.create("unfilled")
    assert len(met) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cnnzoo.create("unfilled", init=False)
        cnnzoo.create("unfilled", device="meta")


@pytest.mark.parametrize("layer", [lambda: Conv2d(3, 4, 3), lambda: Linear(3, 4), lambda: BatchNorm2d(3)])
def test_our_makers_make_torchs_own_layers(layer) -> None:
    made = layer()
    assert type(made).__module__.startswith("torch.nn")
    assert all(parameter.isfinite().all() and parameter.abs().max() <= 1 for parameter in made.parameters())
    outlined = cnnzoo.lenet5()
    assert {type(module) for module in outlined.modules() if module is not outlined} <= {
        *(nn.Conv2d, nn.Linear, nn.Tanh, nn.AvgPool2d, nn.Flatten)
    }


# The meta device


def buffers_that_no_file_holds(model: nn.Module) -> set[str]:
    return dict(model.named_buffers()).keys() - model.state_dict().keys()


VARIANTS = [
    ("lenet5", {"classic": True}),
    ("lenet5", {}),
    ("alexnet", {"classic": True}),
    ("tutorial_cifar_resnet", {}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("way", ["create", "default device", "moved"])
@pytest.mark.parametrize("load", ["assign", "to_empty"])
def test_weights_come_to_a_network_on_the_meta_device(name: str, options: dict, way: str, load: str) -> None:
    whole = cnnzoo.create(name, **options, seed=1).eval()
    if way == "create":
        model = cnnzoo.create(name, **options, device="meta")
    elif way == "moved":
        model = copy.deepcopy(whole).to("meta")
    else:
        with torch.device("meta"):
            model = cnnzoo.create(name, **options)
    if load == "assign":
        model.load_state_dict(whole.state_dict(), assign=True)
    else:
        model.to_empty(device="cpu")
        model.load_state_dict(whole.state_dict())
    images = torch.rand(2, *whole.input_shape)
    assert torch.equal(model.eval()(images), whole(images))


def test_every_network_either_has_no_such_buffers_or_makes_them_anew() -> None:
    """The buffers that no file holds are the danger: `to_empty` leaves them without values."""
    found = set()
    for name in cnnzoo.list_models(kind=None):
        for options in [{}, {"classic": True}] if cnnzoo.spec(name).has_classic else [{}]:
            model = cnnzoo.create(name, device="meta", **options)
            if hidden := buffers_that_no_file_holds(model):
                found.add(name)
                whole = cnnzoo.create(name, **options)
                model.to_empty(device="cpu")
                for buffer in hidden:
                    assert torch.equal(model.get_buffer(buffer), whole.get_buffer(buffer))
    assert found == {"lenet5"}


def test_initialising_brings_back_what_to_empty_lost() -> None:
    model = cnnzoo.create("lenet5", classic=True, device="meta").to_empty(device="cpu")
    cnnzoo.initialize(model)
    assert torch.equal(model.output.codes, cnnzoo.lenet5(classic=True).output.codes)
    assert model(torch.zeros(1, 1, 32, 32)).isfinite().all()


# Contexts: what torchvision's constructors work in


class Passing(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Seeing(TorchDispatchMode):
    drawn = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "uniform_" in str(func) or "normal_" in str(func):
            self.drawn += args[0].numel()
        return func(*args, **(kwargs or {}))


def deterministic() -> ExitStack:
    stack = ExitStack()
    torch.use_deterministic_algorithms(True)
    stack.callback(torch.use_deterministic_algorithms, False)
    return stack


CONTEXTS = {
    "none": nullcontext,
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "grad disabled": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("cpu"),
    "function mode": Passing,
    "dispatch mode": Seeing,
    "deterministic": deterministic,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.fixture(autouse=True)
def grad_enabled():
    yield
    torch.set_grad_enabled(True)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", ["lenet5", "tutorial_cifar_resnet", "googlenet"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_changes_no_weights(name: str, context: str) -> None:
    expected = cnnzoo.create(name, seed=1)
    with CONTEXTS[context]():
        model = cnnzoo.create(name, seed=1)
        torchs = nn.Linear(2, 2)
        again = cnnzoo.initialize(copy.deepcopy(model), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert all(p.detach().isfinite().all() for p in again.parameters())
    for parameter in model.parameters():
        assert parameter.requires_grad == torchs.weight.requires_grad
        assert parameter.is_inference() == torchs.weight.is_inference()
        assert parameter.is_leaf


@pytest.mark.parametrize("scheme", cnnzoo.initialization.SCHEMES)
@pytest.mark.parametrize("context", [name for name in CONTEXTS if name != "anomaly"])
def test_every_scheme_in_every_context(scheme: str, context: str) -> None:
    with CONTEXTS[context]():
        model = cnnzoo.initialize(cnnzoo.create("lenet5", classic=True, init=False), scheme)
    assert all(p.detach().isfinite().all() for p in model.parameters())


def test_a_mode_that_sees_operations_sees_every_number() -> None:
    with Seeing() as seeing:
        model = cnnzoo.create("googlenet", seed=1)
    drawn = sum(
        p.numel() for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)) for p in [layer.weight]
    )
    assert seeing.drawn == drawn


@pytest.mark.parametrize("name", ["lenet5", "googlenet"])
@pytest.mark.parametrize(
    "placement", [{}, {"device": "cpu"}, {"seed": 1}, {"dtype": torch.float16}, {"device": "meta"}]
)
def test_in_fake_tensor_mode(name: str, placement: dict) -> None:
    with FakeTensorMode():
        model = cnnzoo.create(name, **placement)
        assert all(isinstance(p, FakeTensor) for p in model.parameters())
        cnnzoo.initialize(model, generator=torch.Generator().manual_seed(1))
        cnnzoo.initialize(nn.Sequential(nn.Embedding(3, 3), nn.LSTM(3, 3)), generator=torch.Generator().manual_seed(1))
        assert cnnzoo.create("lenet5", classic=True)(torch.empty(2, 1, 32, 32)).shape == (2, 10)
    assert real(cnnzoo.create(name))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        model = cnnzoo.create("tutorial_cifar_resnet")
        classic = cnnzoo.lenet5(classic=True)
    finally:
        torch.set_default_dtype(torch.float32)
    tensors = [*model.state_dict().values(), *classic.state_dict().values()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {dtype}


# Processes


def constructing(stop: threading.Event) -> list[threading.Thread]:
    def work() -> None:
        while not stop.is_set():
            cnnzoo.create("lenet5")
            cnnzoo.create("basic_block", device="meta")
            cnnzoo.load_pretrained("lenet5")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    return threads


def child() -> None:
    torch.set_num_threads(1)
    model = cnnzoo.create("lenet5")
    assert real(model)
    assert 0 < nn.Linear(4, 4).weight.abs().max() <= 0.5
    assert nn.Linear.reset_parameters.__qualname__ == "Linear.reset_parameters"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_while_other_threads_construct() -> None:
    cnnzoo.lenet5()
    stop = threading.Event()
    threads = constructing(stop)
    try:
        for number in range(20):
            process = os.fork()
            if process == 0:
                status = 1
                try:
                    child()
                    status = 0
                finally:
                    os._exit(status)
            limit = time.monotonic() + 60
            while True:
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    break
                if time.monotonic() > limit:
                    os.kill(process, 9)
                    os.waitpid(process, 0)
                    pytest.fail(f"child {number} hangs")
                time.sleep(0.01)
            assert status == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Constructing(torch.utils.data.Dataset):
    """A data set that makes networks where it is read."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return cnnzoo.create("lenet5", seed=index).c1.weight.detach()


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_data_loader_construct(method: str) -> None:
    stop = threading.Event()
    threads = constructing(stop)
    try:
        loader = torch.utils.data.DataLoader(
            Constructing(), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=120
        )
        got = torch.cat(list(loader))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for index, weight in enumerate(got):
        assert torch.equal(weight, cnnzoo.create("lenet5", seed=index).c1.weight)
