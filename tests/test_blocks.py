"""What holds for every block of the registry, and what the blocks of the residual and Inception networks compute."""

import copy
import inspect
import pickle
from functools import cache

import pytest
import torch
from conftest import Variant
from torch import Tensor, nn
from torch.nn import functional as F

import cnnzoo
from cnnzoo import OptionError, infer_shapes
from cnnzoo.shapes.trace import trace

BLOCKS = [
    Variant(name, classic)
    for name in cnnzoo.list_models(kind="block")
    for classic in ((False, True) if cnnzoo.spec(name).has_classic else (False,))
]
every_block = pytest.mark.parametrize("block", BLOCKS, ids=str)


@cache
def enough(block: Variant) -> int:
    """A size that has a middle and a border everywhere in the block, and is soon computed."""
    smallest = cnnzoo.min_input_size(block.build(device="meta"), in_channels=cnnzoo.spec(block.name).input_shape[0])
    return min(smallest + 8, cnnzoo.spec(block.name).input_shape[1])


def maps(block: Variant, n: int = 2, dtype: torch.dtype = torch.float32, *, nominal: bool = False) -> Tensor:
    """A batch for a block, `nominal` of the size that it is made for."""
    channels, height, width = cnnzoo.spec(block.name).input_shape
    size = (height, width) if nominal else (enough(block), enough(block))
    return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(0)).to(dtype)


# Every block


@every_block
def test_outputs_have_the_predicted_shapes(block: Variant) -> None:
    model = block.build(seed=0).eval()
    shapes = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, inputs, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    out = model(maps(block, nominal=True))
    assert out.isfinite().all()
    assert len(out) == 2
    predicted = trace(model, cnnzoo.spec(block.name).input_shape)
    assert {layer.name: layer.output_shape for layer in predicted} == shapes
    assert predicted[-1].output_shape == tuple(out.shape[1:])
    leaves = [layer for layer in predicted if not list(model.get_submodule(layer.name).children())]
    assert infer_shapes(model, cnnzoo.spec(block.name).input_shape) == leaves


@every_block
def test_gradients_reach_every_parameter(block: Variant) -> None:
    model = block.build(seed=0).train()
    out = model(maps(block))
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every_block
@pytest.mark.parametrize("training", [False, True])
def test_input_stays_as_it_was(block: Variant, training: bool) -> None:
    """Rectifiers work in place, and other branches see the same input."""
    x = maps(block)
    block.build(seed=0).train(training)(x)
    assert torch.equal(x, maps(block))


@every_block
def test_is_deterministic(block: Variant) -> None:
    model = block.build(seed=0).eval()
    x = maps(block)
    assert torch.equal(model(x), model(x))


@every_block
def test_seed_gives_the_same_weights(block: Variant) -> None:
    one, two, other = (block.build(seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@every_block
def test_state_dict_round_trip(block: Variant) -> None:
    one, two = block.build(seed=0).eval(), block.build(seed=1).eval()
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(maps(block)), two(maps(block)))


@every_block
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(block: Variant, duplicate) -> None:
    model = block.build(seed=0).eval()
    twin = duplicate(model)
    assert torch.equal(twin(maps(block)), model(maps(block)))
    assert twin.config == model.config


@every_block
def test_exports_with_a_dynamic_batch(block: Variant) -> None:
    model = block.build(seed=0).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (maps(block),), dynamic_shapes=({0: batch},))
    more = maps(block, 3)
    assert torch.allclose(program.module()(more), model(more), atol=1e-5)


@every_block
def test_compiles_as_one_graph(block: Variant) -> None:
    model = block.build(seed=0).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(maps(block)), model(maps(block)), atol=1e-5)
    torch.compiler.reset()


@every_block
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(block: Variant, dtype: torch.dtype) -> None:
    model = block.build(dtype=dtype, seed=0).eval()
    assert {p.dtype for p in model.parameters()} == {dtype}
    out = model(maps(block, dtype=dtype))
    assert out.dtype == dtype
    reference = model.double()(maps(block, dtype=dtype).double())
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-9  # bfloat16 keeps 8 bits
    assert (out.double() - reference).norm() <= tolerance * reference.norm()


@every_block
def test_channels_last(block: Variant) -> None:
    model = block.build(seed=0).eval()
    expected = model(maps(block))
    out = model.to(memory_format=torch.channels_last)(maps(block).to(memory_format=torch.channels_last))
    assert torch.allclose(out, expected, rtol=1e-4, atol=1e-4)


@every_block
def test_meta_device_allocates_nothing(block: Variant) -> None:
    model = block.build(device="meta")
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    shape = trace(model, cnnzoo.spec(block.name).input_shape)[-1].output_shape
    assert model(maps(block, nominal=True).to("meta")).shape == (2, *shape)


@every_block
def test_config_says_how_it_was_made(block: Variant) -> None:
    spec = cnnzoo.spec(block.name)
    defaults = {name: parameter.default for name, parameter in spec.parameters.items()}
    config = block.build(device="meta").config
    assert (config.name, config.options) == (block.name, defaults | block.options)
    assert config.classic is block.classic


@every_block
def test_is_public_and_documented(block: Variant) -> None:
    spec = cnnzoo.spec(block.name)
    assert getattr(cnnzoo.models, block.name) is spec.build
    assert block.name not in cnnzoo.list_models()
    assert len(spec.summary) > 20
    text = inspect.getdoc(spec.build) or ""
    for name, parameter in spec.parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert f"\n    {name}: " in text


# Residual blocks


def filled(model: nn.Module) -> nn.Module:
    """In double precision, with batch normalisation that does something."""
    generator = torch.Generator().manual_seed(7)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
    return model


def image(channels: int, height: int = 9, width: int = 8) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def bn(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """Batch normalisation in evaluation, from its formula."""
    scale = layer.weight / torch.sqrt(layer.running_var + 1e-5)
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def zero_channels(x: Tensor, extra: int) -> Tensor:
    """Every second pixel, and maps of zeros behind those that there are."""
    x = x[:, :, ::2, ::2]
    return torch.cat([x, x.new_zeros(len(x), extra, *x.shape[2:])], 1)


def around(model: nn.Module, x: Tensor, stride: int, *, norm: bool) -> Tensor:
    """The shortcut that the block's own weights say, of the options A, B and C."""
    if model.downsample is None:
        return x
    if isinstance(model.downsample, cnnzoo.nn.ZeroPadShortcut):
        return zero_channels(x, model.downsample.extra)
    conv = model.downsample[0] if norm else model.downsample
    out = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], x[:, :, ::stride, ::stride])
    return bn(out, model.downsample[1]) if norm else out


def assert_kind(shortcut: nn.Module | None, kind: type | None) -> None:
    """A projection stands alone, or with its normalisation."""
    assert isinstance(shortcut[0] if isinstance(shortcut, nn.Sequential) else shortcut, kind or type(None))


SHORTCUTS = [
    # option, channels in and out, stride, what stands there: None for the identity
    ("A", 16, 16, 1, None),
    ("A", 16, 32, 2, cnnzoo.nn.ZeroPadShortcut),
    ("B", 16, 16, 1, None),
    ("B", 16, 32, 2, nn.Conv2d),
    ("B", 16, 32, 1, nn.Conv2d),
    ("C", 16, 16, 1, nn.Conv2d),
    ("C", 16, 32, 2, nn.Conv2d),
]
shortcuts = pytest.mark.parametrize(("option", "inputs", "outputs", "stride", "kind"), SHORTCUTS)


@shortcuts
def test_basic_block(option, inputs: int, outputs: int, stride: int, kind: type | None) -> None:
    options = {"in_channels": inputs, "out_channels": outputs, "stride": stride, "shortcut": option}
    block = filled(cnnzoo.create("basic_block", seed=0, **options))
    x = image(inputs)
    out = F.relu(bn(F.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.bn1))
    out = bn(F.conv2d(out, block.conv2.weight, padding=1), block.bn2)
    assert torch.allclose(block(x), F.relu(out + around(block, x, stride, norm=True)))
    assert_kind(block.downsample, kind)


@shortcuts
@pytest.mark.parametrize("classic", [False, True])
def test_bottleneck(option, inputs: int, outputs: int, stride: int, kind: type | None, classic: bool) -> None:
    options = {"in_channels": inputs, "out_channels": outputs, "stride": stride, "shortcut": option}
    block = filled(cnnzoo.create("bottleneck", classic=classic, seed=0, **options))
    x, (first, second) = image(inputs), (stride, 1) if classic else (1, stride)
    out = F.relu(bn(F.conv2d(x, block.conv1.weight, stride=first), block.bn1))
    assert out.shape[1] == outputs // 4
    out = F.relu(bn(F.conv2d(out, block.conv2.weight, stride=second, padding=1), block.bn2))
    out = bn(F.conv2d(out, block.conv3.weight), block.bn3)
    assert torch.allclose(block(x), F.relu(out + around(block, x, stride, norm=True)))
    assert_kind(block.downsample, kind)


@shortcuts
def test_preact_basic_block(option, inputs: int, outputs: int, stride: int, kind: type | None) -> None:
    options = {"in_channels": inputs, "out_channels": outputs, "stride": stride, "shortcut": option}
    block = filled(cnnzoo.create("preact_basic_block", seed=0, **options))
    x = image(inputs)
    before = F.relu(bn(x, block.bn1))
    out = F.conv2d(before, block.conv1.weight, stride=stride, padding=1)
    out = F.conv2d(F.relu(bn(out, block.bn2)), block.conv2.weight, padding=1)
    start = x if block.downsample is None else before
    assert torch.allclose(block(x), out + around(block, start, stride, norm=False))
    assert_kind(block.downsample, kind)


@shortcuts
@pytest.mark.parametrize("classic", [False, True])
def test_preact_bottleneck(option, inputs: int, outputs: int, stride: int, kind: type | None, classic: bool) -> None:
    options = {"in_channels": inputs, "out_channels": outputs, "stride": stride, "shortcut": option}
    block = filled(cnnzoo.create("preact_bottleneck", classic=classic, seed=0, **options))
    x, (first, second) = image(inputs), (stride, 1) if classic else (1, stride)
    before = F.relu(bn(x, block.bn1))
    out = F.conv2d(before, block.conv1.weight, stride=first)
    out = F.conv2d(F.relu(bn(out, block.bn2)), block.conv2.weight, stride=second, padding=1)
    out = F.conv2d(F.relu(bn(out, block.bn3)), block.conv3.weight)
    start = x if block.downsample is None else before
    assert torch.allclose(block(x), out + around(block, start, stride, norm=False))
    assert_kind(block.downsample, kind)


def test_where_the_stride_stands_is_another_function() -> None:
    """With equal weights; nothing in the shapes tells them apart."""
    options = {"in_channels": 16, "out_channels": 32, "stride": 2}
    today, printed = (cnnzoo.create("bottleneck", classic=classic, seed=0, **options) for classic in (False, True))
    printed.load_state_dict(today.state_dict())
    x = image(16).float()
    assert today.eval()(x).shape == printed.eval()(x).shape
    assert not torch.allclose(today(x), printed(x), atol=0.1)


def test_shortcut_a_has_no_parameters() -> None:
    plain = cnnzoo.create("basic_block", in_channels=16, out_channels=32, stride=2, shortcut="A")
    assert sum(p.numel() for p in plain.downsample.parameters()) == 0
    x = image(16, 7, 5).float()
    assert torch.equal(plain.downsample(x)[:, :16], x[:, :, ::2, ::2])
    assert not plain.downsample(x)[:, 16:].any()


def test_shortcut_a_cannot_take_channels_away() -> None:
    with pytest.raises(
        OptionError, match=r'got 32 channels in and 16 out; zeros can only add channels: use shortcut="B"$'
    ):
        cnnzoo.create("basic_block", in_channels=32, out_channels=16, shortcut="A")


def test_unknown_shortcut() -> None:
    with pytest.raises(
        OptionError, match=r"got 'D'; it is 'A' \(zero padding\), 'B' .* or 'C' \(projections everywhere"
    ):
        cnnzoo.create("basic_block", shortcut="D")


@pytest.mark.parametrize("name", ["bottleneck", "preact_bottleneck"])
def test_bottleneck_of_odd_width(name) -> None:
    with pytest.raises(OptionError, match=r"got out_channels=30 for a bottleneck, .*; it is a multiple of 4"):
        cnnzoo.create(name, out_channels=30)


# Inception blocks


def unit(x: Tensor, layer: nn.Module, padding: int | tuple[int, int] = 0) -> Tensor:
    """Convolution, normalisation if there is any, and rectifier."""
    out = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=padding)
    if hasattr(layer, "bn"):
        norm = layer.bn
        out = F.batch_norm(out, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)
    return F.relu(out)


def test_inception_naive() -> None:
    block = cnnzoo.create("inception_naive", seed=0, dtype=torch.float64).eval()
    x = image(192)
    branches = [
        unit(x, block.branch_1x1),
        unit(x, block.branch_3x3, 1),
        unit(x, block.branch_5x5, 2),
        F.max_pool2d(x, 3, 1, 1),
    ]
    assert [branch.shape[1] for branch in branches] == [64, 128, 32, 192]
    assert block(x).shape == (2, 416, 9, 8)
    assert torch.allclose(block(x), torch.cat(branches, 1))


@pytest.mark.parametrize("classic", [False, True])
def test_inception(classic: bool) -> None:
    """Row 3a of the GoogLeNet's Table 1; the "5x5" of the batch-normalised network is 3x3."""
    block = filled(cnnzoo.create("inception", classic=classic, seed=0))
    x = image(192)
    branches = [
        unit(x, block.branch_1x1),
        unit(unit(x, block.branch_3x3[0]), block.branch_3x3[1], 1),
        unit(unit(x, block.branch_5x5[0]), block.branch_5x5[1], 2 if classic else 1),
        unit(F.max_pool2d(x, 3, 1, 1), block.branch_pool[1]),
    ]
    assert [branch.shape[1] for branch in branches] == [64, 128, 32, 32]
    assert block.branch_5x5[1].conv.kernel_size == ((5, 5) if classic else (3, 3))
    assert torch.allclose(block(x), torch.cat(branches, 1))


@pytest.mark.parametrize("activation", [True, False])
def test_inception_resnet_c(activation: bool) -> None:
    block = filled(cnnzoo.create("inception_resnet_c", in_channels=40, activation=activation, scale=0.3, seed=0))
    x = image(40)
    short, long = block.branches.branch_1x1, block.branches.branch_3x3
    joined = torch.cat([unit(x, short), unit(unit(unit(x, long[0]), long[1], (0, 1)), long[2], (1, 0))], 1)
    out = x + 0.3 * F.conv2d(joined, block.expand.weight, block.expand.bias)
    assert torch.allclose(block(x), F.relu(out) if activation else out)
    assert (out < 0).any()
