"""Outputs of layers by name, against hooks that copy what every layer returned, on networks of three libraries."""

import copy
import math
import pickle
import threading
from collections import Counter, OrderedDict

import pytest
import timm
import torch
import torchvision
from conftest import Variant
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import cnnzoo
from cnnzoo import CNN, AuxiliaryCNN, Extractor, OptionError, ShapeError, UnknownNameError, extract, features


def returned(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What each layer returned, copied when it did, by every name of the layer; of several calls the last."""
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda module, args, output: seen.update({name: output.clone()} if isinstance(output, Tensor) else {})

    layers = [(name, layer) for name, layer in model.named_modules(remove_duplicate=False) if name]
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return seen


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit by bit, and in the same order."""
    assert list(found) == list(expected)
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=0, atol=0, equal_nan=True), name


def assert_as_hooks_see(model: nn.Module, images: Tensor, names: list[str] | None = None) -> Extractor:
    """In both modes; `names` are all that run by default."""
    part = None
    for training in (False, True):
        model.train(training)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        torch.manual_seed(0)
        expected = returned(model, images)
        with torch.no_grad():
            for name, value in model.state_dict().items():  # running statistics
                value.copy_(before[name])
        names = names or list(expected)
        part = part or extract(model, *names)
        part.train(training)
        torch.manual_seed(0)
        with torch.no_grad():
            assert_same(part(images), {name: expected[name] for name in names})
    assert part is not None
    return part


def ran(model: nn.Module, call) -> list[str]:
    """The leaves of a network that a call runs, in order."""
    names: list[str] = []
    leaves = [(name, layer) for name, layer in model.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_pre_hook(lambda *_, name=name: names.append(name)) for name, layer in leaves]
    with torch.no_grad():
        call()
    for hook in hooks:
        hook.remove()
    return names


class Operations(TorchDispatchMode):
    """Counts what torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def operations(call) -> Counter[str]:
    with torch.no_grad(), Operations() as counting:
        call()
    return counting.counts


@pytest.fixture
def resnet() -> CNN:
    """Top-level conv, bn, relu, layer1 to layer3 of two blocks each, avg_pool, flat, fc."""
    return cnnzoo.tutorial_cifar_resnet()


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# The registry


def test_every_network_stops_where_it_is_asked_to(variant: Variant) -> None:
    model = variant.build(device="meta")
    whole = cnnzoo.infer_shapes(model, model.input_shape)
    part = extract(model, "*")
    assert [name for name, _ in part.named_children()] == list(model.chain())
    assert set(part.state_dict()) == set(model.state_dict())
    half = list(model.chain())[len(model.chain()) // 2]
    last = max(i for i, layer in enumerate(whole) if layer.name == half or layer.name.startswith(f"{half}."))
    assert cnnzoo.infer_shapes(extract(model, half), model.input_shape) == whole[: last + 1]
    seen = features(model)  # what the last layer sees
    assert set(seen.state_dict()) == {name for name in model.state_dict() if name.rpartition(".")[0] != whole[-1].name}
    assert seen.num_features == math.prod(whole[-1].input_shape)


@pytest.mark.thorough
def test_outputs_are_those_of_a_loop_over_the_chain(variant: Variant) -> None:
    model = variant.build(seed=0).eval()
    images = variant.images(model, 1)
    names = list(model.chain())[:: max(1, len(model.chain()) // 6)]
    expected, out = {}, images
    with torch.no_grad():
        for name, layer in model.chain().items():
            out = layer(out)
            if name in names:
                expected[name] = out.clone()
        assert_same(extract(model, *names)(images), expected)


# Every layer, nested ones too


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tutorial_cifar_resnet", {}),
        ("cifar_resnet20", {}),
        ("preresnet18", {"classic": True}),
        ("lenet5", {"classic": True}),
        ("tutorial_lenet5_linear", {}),
        ("tutorial_cifar_lenet", {}),
    ],
)
def test_every_layer_of_ours(name: str, options: dict) -> None:
    model = cnnzoo.create(name, seed=0, **options)
    assert_as_hooks_see(model, torch.randn(2, *model.input_shape)[..., :64, :64])


@pytest.mark.parametrize("classic", [False, True])
def test_layers_inside_of_inception_blocks(classic: bool) -> None:
    model = cnnzoo.googlenet(classic=classic, aux=True)
    names = ["conv1.conv", "conv1", "inception_3a.branch_pool.1.conv", "inception_3b.branch_5x5", "inception_3b"]
    part = assert_as_hooks_see(model, torch.randn(2, 3, 64, 64), names)
    assert "aux" not in dict(part.named_children())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("squeezenet1_1", {}),
        ("mobilenet_v3_small", {}),  # in-place activations behind everything
        ("googlenet", {"aux_logits": False, "init_weights": False}),  # relu(x, inplace=True)
        ("vit_b_32", {"image_size": 64}),  # parameters of the network itself
    ],
)
def test_every_layer_of_torchvision_s(name: str, options: dict) -> None:
    model = torchvision.models.get_model(name, weights=None, **options)
    if name == "vit_b_32":
        model.encoder.layers = model.encoder.layers[:2]
    assert_as_hooks_see(model, torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18", "convnext_atto", "mobilenetv3_small_050"])
def test_every_layer_of_timm_s(name: str) -> None:
    assert_as_hooks_see(timm.create_model(name, pretrained=False), torch.randn(2, 3, 64, 64))


def test_a_forward_that_differs_between_modes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.noise, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout(self.conv(x), 0.5, self.training)
            if self.training:
                x = self.noise(x)
            return self.last(x)

    model = Net()
    part = assert_as_hooks_see(model, IMAGES, ["conv", "last"])
    assert ran(part.train(), lambda: part(IMAGES)) == ["conv", "noise", "last"]
    assert ran(part.eval(), lambda: part(IMAGES)) == ["conv", "last"]
    with pytest.raises(
        OptionError, match=r"^extract: the forward of Net does not call 'noise' in both modes, so there"
    ):
        extract(model, "noise")


def test_what_a_forward_uses_itself(resnet) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Module()
            self.inner.register_buffer("mean", torch.rand(3, 1, 1), persistent=False)
            self.register_buffer("deviation", torch.rand(3, 1, 1), persistent=False)
            self.scale = nn.Parameter(torch.rand(3, 1, 1))
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor, flip: bool = False, other: Tensor | None = None) -> Tensor:
            if flip or other is not None:
                raise AssertionError
            x = (x - self.inner.mean) / self.deviation * self.scale
            return self.conv(x * torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1))

    model = Net()
    part = assert_as_hooks_see(model, IMAGES)
    assert list(part.state_dict()) == list(model.state_dict())
    assert vars(model).keys() == vars(Net()).keys()
    model.to(torch.float64)
    assert part.inner.mean is model.inner.mean
    assert part.deviation is model.deviation
    assert part(IMAGES.double())["conv"].dtype == torch.float64


# Layers that work in place


def test_an_output_is_kept_from_the_next_layer() -> None:
    model = cnnzoo.convnet()
    part = extract(model, "conv1_1", "relu1_1")
    found = part(IMAGES)
    assert torch.equal(found["conv1_1"], model.conv1_1(IMAGES))
    assert (found["conv1_1"] < 0).any()
    assert torch.equal(found["relu1_1"], found["conv1_1"].relu())
    assert not part.relu1_1.inplace
    assert model.relu1_1.inplace


def test_nothing_is_copied_where_nothing_overwrites(resnet) -> None:
    chain = cnnzoo.convnet()
    part = extract(chain, "relu1_1", "conv2_1")
    assert part.relu1_1 is chain.relu1_1
    assert operations(lambda: part(IMAGES)) == {"convolution": 2, "relu_": 1, "max_pool2d_with_indices": 1}
    kept = extract(chain, "conv1_1", "conv2_1")
    assert operations(lambda: kept(IMAGES)) == {"convolution": 2, "relu": 1, "max_pool2d_with_indices": 1}
    resnet.eval()
    whole = operations(lambda: resnet(IMAGES))
    block = extract(resnet, "layer1.0.relu", "layer1.0", "layer1.1.conv1", "fc")
    assert operations(lambda: block(IMAGES)) == whole


def test_one_copy_where_a_sum_overwrites(resnet) -> None:
    resnet.eval()
    part = extract(resnet, "layer1.0.bn2", "fc")  # out += x
    more = operations(lambda: part(IMAGES)) - operations(lambda: resnet(IMAGES))
    assert more == {"clone": 1}


class PlusOne(nn.Module):
    """Changes its input."""

    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return x * 2


class Discarding(nn.Module):
    """Calls a layer for what it does to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.relu(x)
        return x * 2


class Passing(nn.Module):
    """Functions that give back what they got, or a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.relu(F.dropout(x.type_as(x), 0.5, self.training).reshape(-1, 4, 30, 30))


class Untraceable(nn.Module):
    """Branches on values, and changes its input."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x) if x.sum() < 1e9 else x


class Arithmetic(nn.Module):
    """The other augmented assignments, on tensors and on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = doubled = x.shape[2]
        doubled *= 2
        out = self.conv(x)
        out *= 3
        out -= x
        out /= doubled
        F.relu(out, inplace=True)
        return self.last(out.view(-1, 4, size, size).sigmoid_())


@pytest.mark.parametrize(
    "behind",
    [
        nn.Dropout(0.5, inplace=True),
        nn.RReLU(inplace=True),
        nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Flatten(2), nn.ELU(inplace=True), nn.Unflatten(2, (30, 30))),
        nn.Sequential(nn.Sequential(), nn.SiLU(inplace=True)),
        PlusOne(),
        nn.Sequential(PlusOne(), PlusOne()),
        Discarding(),
        Passing(),
        Arithmetic(),
        Untraceable(),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("chain", [True, False], ids=["chain", "traced"])
def test_whatever_overwrites(behind: nn.Module, chain: bool) -> None:
    layers = {"conv": nn.Conv2d(3, 4, 3), "behind": behind, "last": nn.Conv2d(4, 4, 1)}
    model = CNN(layers) if chain else nn.Sequential(OrderedDict(layers))
    assert_as_hooks_see(model, IMAGES, ["conv", "behind", "last"])
    assert_as_hooks_see(model, IMAGES, ["conv", "last"])
    if isinstance(behind, Untraceable):
        return
    inside = [name for name, _ in behind.named_modules(prefix="behind")]
    assert_as_hooks_see(model, IMAGES, ["conv", *inside, "last"])


def test_the_mode_of_a_random_layer_stays_the_network_s() -> None:
    model = CNN({"conv": nn.Conv2d(3, 4, 3), "drop": nn.Dropout(0.5, inplace=True)})
    part = extract(model, "conv", "drop")
    model.eval()
    found = part(IMAGES)
    assert torch.equal(found["conv"], found["drop"])


# What runs, and in which order


def test_nothing_behind_the_last_layer_runs(resnet) -> None:
    part = extract(resnet, "layer1.0.conv2", "bn")
    assert ran(resnet, lambda: part(IMAGES)) == ran(resnet, lambda: resnet(IMAGES))[:7]
    names = {name.partition(".")[0] for name in part.state_dict()}
    assert names == {"conv", "bn", "layer1"}
    assert not [name for name, _ in part.named_modules() if "layer1.1" in name or "bn2" in name]


def test_branches_that_lead_nowhere_do_not_run() -> None:
    model = cnnzoo.googlenet(num_classes=0)
    part = extract(model, "inception_3a.branch_5x5")
    assert not [name for name in ran(model, lambda: part(torch.zeros(1, 3, 64, 64))) if "1x1" in name or "3x3" in name]


def test_outputs_come_in_the_order_asked_for(resnet) -> None:
    model = cnnzoo.create("vgg11", device="meta")
    images = torch.zeros(1, 3, 224, 224, device="meta")
    assert list(extract(model, "fc6", "conv*_1", "relu[12]_?", "conv1_1", "fc?")(images)) == [
        *("fc6", "conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "relu1_1", "relu2_1", "fc7", "fc8"),
    ]
    assert list(extract(resnet, "layer2.*.conv?", "layer?", "conv*")(IMAGES)) == [
        *(f"layer2.{block}.conv{i}" for block in (0, 1) for i in (1, 2)),
        *("layer1", "layer2", "layer3", "conv"),
    ]


def test_a_pattern_follows_the_run_and_not_the_registration() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.conv3 = nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv1(self.conv2(x))

    assert list(extract(Backwards(), "conv*")(IMAGES)) == ["conv2", "conv1"]


def test_of_several_calls_the_last_counts(resnet) -> None:
    found = extract(resnet.eval(), "layer1.0.relu", "layer1.0")(IMAGES)
    assert torch.equal(found["layer1.0.relu"], found["layer1.0"])


def test_a_layer_with_two_names() -> None:
    relu = nn.ReLU(inplace=True)
    layers = {"conv1": nn.Conv2d(3, 4, 3), "relu1": relu, "conv2": nn.Conv2d(4, 4, 3), "relu2": relu}
    chain = CNN(layers)
    first, last = (extract(chain, name)(IMAGES)[name] for name in ("relu1", "relu2"))
    assert (first.shape[-1], last.shape[-1]) == (30, 28)
    traced = nn.Sequential(OrderedDict(layers))
    assert_as_hooks_see(traced, IMAGES)


# A module like any other


@pytest.fixture(params=["chain", "traced"])
def part(request, resnet) -> Extractor:
    resnet.eval()
    return extract(resnet, *{"chain": ("bn", "layer?"), "traced": ("bn", "layer1.1.conv1", "layer?")}[request.param])


def test_shares_the_parameters_and_leaves_the_network_alone(resnet) -> None:
    before = copy.deepcopy(resnet)
    modules = dict(resnet.named_modules())
    part = extract(resnet, "bn", "layer1.0.bn2", "layer3")
    assert dict(resnet.named_modules()) == modules
    assert [vars(module).keys() for module in modules.values()] == [vars(m).keys() for m in before.modules()]
    assert all(resnet.get_parameter(name) is parameter for name, parameter in part.named_parameters())
    assert all(resnet.get_buffer(name) is buffer for name, buffer in part.named_buffers())
    assert list(part.state_dict()) == [name for name in resnet.state_dict() if not name.startswith("fc")]
    for training in (True, False):
        assert all(m.training == training for m in extract(resnet.train(training), "layer1.0.bn2").modules())


def test_pickles_and_copies(part) -> None:
    expected = part(IMAGES)
    for other in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        assert_same(other(IMAGES), expected)
        assert other.state_dict().keys() == part.state_dict().keys()
        mine, theirs = set(part.parameters()), set(other.parameters())
        assert not mine & theirs
        other.train()(IMAGES)
        assert not torch.equal(other.bn.running_mean, part.bn.running_mean)


def test_pickles_a_function_that_has_no_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.max_pool2d(self.conv(x), 2))

    part = extract(Net(), "conv", "last")
    assert_same(pickle.loads(pickle.dumps(part))(IMAGES), part(IMAGES))


def test_gradients(resnet) -> None:
    part = extract(resnet.eval(), "bn", "layer1.0.bn2", "layer2")
    sum(value.square().sum() for value in part(IMAGES).values()).backward()
    found = {name: parameter.grad for name, parameter in resnet.named_parameters() if parameter.grad is not None}
    assert found.keys() == dict(part.named_parameters()).keys()
    resnet.zero_grad()
    first = resnet.bn(resnet.conv(IMAGES))
    out = first.relu()
    block = resnet.layer1[0]
    inside = block.bn2(block.conv2(block.bn1(block.conv1(out)).relu()))
    last = resnet.layer2(resnet.layer1[1]((out + inside).relu()))
    sum(value.square().sum() for value in (first, inside, last)).backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, resnet.get_parameter(name).grad)


@pytest.fixture
def nested(resnet) -> Extractor:
    return extract(resnet.eval(), "bn", "layer1.1.conv1", "layer1.1.bn2", "layer?")


def test_compiles_as_one_graph(nested) -> None:
    compiled = torch.compile(nested, fullgraph=True, backend="eager")
    with torch.no_grad():
        for training in (False, True):
            nested.train(training)
            state = copy.deepcopy(nested.state_dict())
            expected = nested(IMAGES)
            nested.load_state_dict(state)
            assert_same(compiled(IMAGES), expected)
    torch.compiler.reset()


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_exports_with_a_dynamic_batch(nested, strict: bool) -> None:
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(nested, (IMAGES,), dynamic_shapes=shapes, strict=strict)
    more = torch.cat([IMAGES, IMAGES.flip(0), IMAGES])
    found, expected = program.module()(more), nested(more)
    assert list(found) == list(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])
    assert program.state_dict.keys() == nested.state_dict().keys()


def test_an_extractor_of_an_extractor(part) -> None:
    expected = part(IMAGES)
    assert_same(extract(part, "layer2", "bn")(IMAGES), {name: expected[name] for name in ("layer2", "bn")})


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_on_cuda(resnet, dtype: torch.dtype) -> None:
    names, images = ("conv", "layer1.0.bn2", "layer1.0.relu", "fc"), IMAGES.cuda()
    part = extract(resnet.cuda().eval(), *names)
    with torch.no_grad(), torch.autocast("cuda", dtype, enabled=dtype == torch.float16):
        found, expected = part(images), returned(resnet, images)
    for name in names:
        torch.testing.assert_close(found[name], expected[name])


def test_other_threads_run_meanwhile() -> None:
    model = cnnzoo.cifar_resnet20().eval()
    expected, stop, wrong = model(IMAGES), threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                assert torch.equal(model(IMAGES), expected)
            except Exception as error:
                wrong.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    names = [f"stage{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)]
    others = [threading.Thread(target=lambda: [extract(model, *names) for _ in range(5)]) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong
    assert list(extract(model, *names)(IMAGES)) == names


def test_a_size_that_does_not_fit_is_explained() -> None:
    part = extract(cnnzoo.create("alexnet", device="meta"), "pool5", "fc6")
    with pytest.raises(ShapeError, match=r"^Extractor: input 3x20x20: layer pool2 .MaxPool2d. .*; the smallest input"):
        part(torch.zeros(1, 3, 20, 20, device="meta"))
    with pytest.raises(RuntimeError, match="should be the same"):
        extract(cnnzoo.lenet5(), "c1")(torch.zeros(1, 1, 28, 28, dtype=torch.int32))


# Features


def test_features_are_those_of_a_network_without_classes() -> None:
    for model in (cnnzoo.lenet5(), cnnzoo.lenet5(classic=True), cnnzoo.tutorial_lenet5_linear()):
        images = torch.randn(2, *model.input_shape)
        expected = features(model)(images)
        model.reset_classifier(0)
        assert torch.equal(model(images), expected)
        assert torch.equal(features(model)(images), expected)
        assert features(model).num_features == expected.shape[1]


def test_features_of_layers_are_averaged_and_joined(resnet) -> None:
    resnet.eval()
    part = features(resnet, "layer3.1.conv2", "flat", "layer1")
    found = extract(resnet, "layer3.1.conv2", "flat", "layer1")(IMAGES)
    expected = [found["layer3.1.conv2"].mean((2, 3)), found["flat"], found["layer1"].mean((2, 3))]
    assert torch.equal(part(IMAGES), torch.cat(expected, 1))
    assert part.num_features == 64 + 64 + 16
    assert part.state_dict().keys() == extract(resnet, "layer?").state_dict().keys()
    assert torch.equal(pickle.loads(pickle.dumps(part))(IMAGES), part(IMAGES))


def test_features_of_other_libraries(resnet) -> None:
    theirs = torchvision.models.resnet18().eval()
    part = features(theirs, input_shape=(3, 64, 64))
    assert part.num_features == theirs.fc.in_features == 512
    with torch.no_grad():
        assert torch.equal(theirs.fc(part(IMAGES)), theirs(IMAGES))
    tokens = features(torch.nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.Flatten(2)), "1", input_shape=(3, 32, 32))
    assert (tokens.num_features, tuple(tokens(IMAGES).shape)) == (16, (2, 16))


# Errors


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(x + y)


@pytest.mark.parametrize(
    ("model", "call", "error", "message"),
    [
        (
            "vgg11",
            lambda model: extract(model, "conv4_3"),
            UnknownNameError,
            r"^extract: unknown layer 'conv4_3': did you mean 'conv4_2' or 'conv4_1'",
        ),
        (
            "vgg11",
            lambda model: extract(model, "conv9_*"),
            UnknownNameError,
            r"^extract: unknown pattern 'conv9_\*': did you mean .* A pattern matches level by level, from dot to dot; \*\* stands for any number of levels\.$",
        ),
        (
            "lenet5",
            lambda model: extract(model, "c1.*"),
            UnknownNameError,
            r"^extract: unknown pattern 'c1\.\*': did you",
        ),
        (
            "lenet5",
            lambda model: features(model, "zzz"),
            UnknownNameError,
            "^features: unknown layer 'zzz': known: c1, tanh1, s2, .*, output.$",
        ),
        ("lenet5", lambda model: extract(model), OptionError, "^extract: no layer is named; `list"),
        (
            "lenet5",
            lambda model: extract(model, ["c1", "c3"]),
            OptionError,
            r'^extract: got \[\'c1\', \'c3\'\]; layers are strings, one for each: "conv1", "conv2"$',
        ),
    ],
)
def test_names_that_do_not_exist(model: str, call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(cnnzoo.create(model, device="meta"))


def test_layers_that_do_not_run() -> None:
    model = cnnzoo.create("googlenet", aux=True, device="meta")
    assert isinstance(model, AuxiliaryCNN)
    for name in ("aux", "aux.inception_4a.fc1", "aux.*"):
        message = f"^extract: the forward of GoogLeNet does not call '{name}', so there is no output; name a layer"
        with pytest.raises(OptionError, match=message.replace("*", r"\*")):
            extract(model, name)


def test_what_cannot_be_traced() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Untraceable())
    with pytest.raises(
        OptionError,
        match=r"^extract: cannot trace the forward of 1 \(Untraceable\) to the layers in it: symbolically traced .* "
        r"Name layers outside of it, or take the outputs of those inside with `register_forward_hook`$",
    ):
        extract(model, "1.relu")
    assert list(extract(model, "1", "0")(IMAGES)) == ["1", "0"]
    with pytest.raises(
        OptionError, match=r"^extract: the forward of TwoInputs takes 2 inputs; only networks whose one"
    ):
        extract(TwoInputs(), "conv")


def test_features_that_cannot_be_told() -> None:
    theirs = torchvision.models.squeezenet1_1()
    with pytest.raises(OptionError, match=r"^features: SqueezeNet does not say .*; pass input_shape="):
        features(theirs)
    with pytest.raises(
        OptionError, match=r"^features: SqueezeNet has no linear layer that classifies; name the layers$"
    ):
        features(theirs, input_shape=(3, 64, 64))
