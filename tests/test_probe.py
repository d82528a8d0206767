"""Inferred shapes against what forward hooks see when torch runs the network itself, on the meta device or the CPU."""

import copy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import cnnzoo
from cnnzoo import OptionError, ProbeWarning, ShapeError, infer_shapes, min_input_size
from cnnzoo.shapes import probe
from cnnzoo.shapes.trace import trace

TORCHVISION = {
    "alexnet": (224, 193),
    "vgg11_bn": (224, 65),
    "vgg16": (224, 193),
    "resnet18": (224, 33),
    "resnet50": (224, 193),
    "resnet152": (224, 193),
    "googlenet": (224, 193),
    "inception_v3": (299, 224),
    "densenet121": (224, 193),
    "squeezenet1_0": (224, 193),
    "mobilenet_v2": (224, 193),
    "mobilenet_v3_small": (224, 193),
    "shufflenet_v2_x1_0": (224, 193),
    "mnasnet0_5": (224, 193),
    "efficientnet_b0": (224, 193),
    "efficientnet_v2_s": (224, 193),
    "regnet_y_400mf": (224, 193),
    "resnext50_32x4d": (224, 193),
    "convnext_tiny": (224, 193),
    "vit_b_16": (224,),
    "swin_t": (224, 193),
    "maxvit_t": (224,),
    "fcn_resnet50": (224, 193),
    "deeplabv3_resnet50": (224, 193),
}
TIMM = {
    "resnet26d": 224,
    "inception_v4": 299,
    "densenet121": 224,
    "dla34": 224,
    "res2net50_26w_4s": 224,
    "hrnet_w18_small": 224,
    "convnext_atto": 224,
    "efficientnet_b1": 240,
    "vit_tiny_patch16_224": 224,
    "coat_tiny": 224,
}
quick = settings(max_examples=100, deadline=None)


class Calls(nn.Module):
    """A network that is one function of its input and its layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)
        if not layers:
            del self.layers

    def forward(self, x):
        return self.function(x, *getattr(self, "layers", ()))


def first_tensor(value):
    if isinstance(value, torch.Tensor):
        return value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((found for found in map(first_tensor, inside) if found is not None), None)


def recorded(model, *images):
    """What `infer_shapes` should say, from hooks on a model that runs: on leaves, and what has parameters itself."""
    seen, ran = [], set()
    names = {module: name for name, module in model.named_modules()}

    def leave(module, args, output):
        if module in names:
            shapes = tuple(first_tensor(args).shape[1:]), tuple(first_tensor(output).shape[1:])
            seen.append((module, *shapes, module not in ran))
            ran.add(module)

    def own(module):
        """Numbers in the parameters of a module, and of those in it that it uses without running them."""
        inside = sum(own(child) for child in module.children() if child not in ran)
        return inside + sum(p.numel() for p in module.parameters(recurse=False))

    hooks = [module.register_forward_hook(leave) for module in names if not module._modules or module._parameters]
    try:
        with torch.no_grad():
            model(*images)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (names[module], type(module).__name__, *shapes, own(module) if first else 0) for module, *shapes, first in seen
    ]


def inferred(model, *shapes):
    """The same from `infer_shapes`, which also lists containers that multiply results with results."""
    modules = dict(model.named_modules())
    listed = [layer for layer in infer_shapes(model, *shapes) if layer.ran]
    listed = [layer for layer in listed if not modules[layer.name]._modules or modules[layer.name]._parameters]
    return [(layer.name, layer.kind, layer.input_shape, layer.output_shape, layer.params) for layer in listed]


def assert_as_recorded(model, shape, device="meta"):
    expected = recorded(model, torch.zeros(2, *shape, device=device))
    assert expected
    assert inferred(model, shape) == expected
    params = sum(layer.params for layer in infer_shapes(model, shape))
    assert params == sum(parameter.numel() for parameter in model.parameters())


@cache
def torchvision_network(name):
    """A network of torchvision on the meta device, in evaluation mode."""
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith(("fcn", "deeplab")):
        options = {"weights_backbone": None}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # its widths are computed with tensors
        model = torchvision.models.get_model(name, weights=None, **options)
    return model.to("meta").eval()


# Whole networks


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in TORCHVISION.items() for size in sizes])
def test_torchvision(name, size):
    assert_as_recorded(torchvision_network(name), (3, size, size))


@pytest.mark.parametrize(("name", "size"), TIMM.items())
def test_timm(name, size):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False).eval()
    assert_as_recorded(model, (3, size, size))


@pytest.mark.parametrize("training", [False, True])
def test_registry(variant, training):
    model = variant.build(device="meta").to("meta").train(training)
    assert_as_recorded(model, model.input_shape)
    params = sum(layer.params for layer in infer_shapes(model, model.input_shape))
    assert params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "size", "params", "macs"),
    [
        ("alexnet", 224, 61_100_840, 714_188_480),
        ("vgg16", 224, 138_357_544, 15_470_264_320),
        ("resnet18", 224, 11_689_512, 1_814_073_344),
        ("resnet50", 224, 25_557_032, 4_089_184_256),
        ("densenet121", 224, 7_978_856, 2_834_161_664),
        ("googlenet", 224, 6_624_904, 1_498_376_192),
        ("inception_v3", 299, 23_834_568, 5_713_216_096),
    ],
)
def test_published_totals(name, size, params, macs):
    layers = infer_shapes(torchvision_network(name), (3, size, size))
    assert sum(layer.params for layer in layers) == params
    assert sum(layer.macs for layer in layers) == macs


# Single operations


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv1d(3, 4, 5, 2, padding=1), nn.BatchNorm1d(4), nn.MaxPool1d(3), nn.Flatten()), (3, 40)),
        (nn.Sequential(nn.Conv3d(3, 4, (1, 2, 3)), nn.BatchNorm3d(4), nn.AvgPool3d(2), nn.Flatten()), (3, 6, 7, 8)),
        (nn.Sequential(nn.AdaptiveAvgPool1d(3), nn.Flatten()), (3, 7)),
        (nn.Sequential(nn.AdaptiveMaxPool2d((None, 3)), nn.AdaptiveAvgPool2d((2, None))), (3, 7, 8)),
        (nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.AdaptiveMaxPool3d((1, None, 2))), (3, 7, 8, 9)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 9)),
        (nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), dilation=(2, 1)), (4, 9, 5)),
        (nn.ConvTranspose3d(4, 2, 3, padding=(0, 1, 1)), (4, 3, 4, 5)),
        (Calls(lambda x, up: up(x, output_size=(17, 18)), nn.ConvTranspose2d(3, 3, 3, stride=2)), (3, 8, 8)),
        (nn.Conv2d(3, 4, 5, padding=2, padding_mode="reflect"), (3, 9, 8)),
        (nn.Conv2d(3, 4, (3, 5), padding="same", dilation=2), (3, 9, 8)),
        (
            nn.Sequential(nn.ZeroPad2d((1, 2, 3, 4)), nn.ReflectionPad2d(1), nn.ReplicationPad2d((0, 1, 0, -1))),
            (3, 5, 6),
        ),
        (nn.Sequential(nn.GroupNorm(3, 6), nn.InstanceNorm2d(6), nn.LocalResponseNorm(5), nn.PReLU(6)), (6, 5, 5)),
        (nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4), nn.GELU(), nn.Softmax(-1)), (5, 8)),
        (nn.Sequential(nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.PixelUnshuffle(4)), (8, 6, 6)),
        (nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Flatten(2)), (8, 6, 6)),
        (nn.Sequential(nn.ReLU6(True), nn.SiLU(True), nn.Hardswish(), nn.Mish(), nn.Softplus(), nn.ELU()), (3, 4, 4)),
        (nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.Identity()), (3, 4, 4)),
        (Calls(lambda x: 1 - x + x * 2 / (x**2 + 1) - -x), (3, 4, 4)),
        (Calls(lambda x: torch.add(x, x.mean((2, 3), keepdim=True)).mul_(2).sqrt()), (3, 4, 4)),
        (Calls(lambda x: torch.cat([x, x.detach()], -1).view(x.size(0), -1)), (3, 4, 4)),
        (Calls(lambda x: torch.stack(x.chunk(2, 1), 1).transpose(1, 2).reshape(len(x), -1, *x.shape[-2:])), (4, 4, 4)),
        (Calls(lambda x: sum(x.split(1, 1)) + F.interpolate(x[:, :1, ::2, 1:], x.shape[2:])), (3, 4, 4)),
        (Calls(lambda x: x.permute(0, 2, 3, 1) @ x.new_ones(3, 7)), (3, 4, 4)),
        (Calls(lambda x: next(row.flatten() for row in x.squeeze(1))), (1, 4, 4)),
        (Calls(lambda x: x.max(1).values.unsqueeze(1).expand(-1, 3, -1, -1) + torch.ones(4, 1)), (3, 4, 4)),
        (
            Calls(lambda x, norm: norm.weight.view(1, 3, 1, 1) * norm(x) - norm.bias[:, None, None], nn.BatchNorm2d(3)),
            (3, 4, 4),
        ),
    ],
)
def test_operations(model, shape):
    assert_as_recorded(model.eval(), shape, device="cpu")
    outermost = trace(model, shape)[-1]
    assert outermost.output_shape == tuple(model(torch.zeros(1, *shape)).shape[1:])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat(tensors=[x, x], dim=1),
        lambda x: F.relu(input=x),
        lambda x: torch.add(x, other=x),
        lambda x: torch.mul(input=x, other=2),
        lambda x: torch.flatten(input=x, start_dim=1),
        lambda x: x.shape.numel() * x,
        lambda x: 2**x // 3,
    ],
)
def test_operations_under_torchs_own_names(function):
    assert_as_recorded(Calls(function), (4, 6, 6), device="cpu")


def test_layer_called_by_keyword():
    model = Calls(lambda x, first, second: second(input=first(x)), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    assert [layer.name for layer in infer_shapes(model, (3, 8, 8))] == ["layers.0", "layers.1"]


def test_layer_made_on_the_way_is_not_the_models():
    model = Calls(lambda x, conv: nn.Softmax(1)(conv(x)), nn.Conv2d(3, 4, 3))
    assert_as_recorded(model, (3, 8, 8), device="cpu")


def test_keyword_arguments_reach_the_layer():
    class Scaled(nn.Module):
        def forward(self, x, *, repeat=1):
            return torch.cat([x] * repeat, 1)

    (layer,) = infer_shapes(Calls(lambda x, scaled: scaled(x, repeat=3), Scaled()), (2, 5, 5))
    assert layer.output_shape == (6, 5, 5)


def test_layer_that_returns_a_tuple_shows_its_first():
    class Halves(nn.Module):
        def forward(self, x):
            return x.chunk(2, 1)[1], x

    model = Calls(lambda x, halves, conv: conv(halves(x)[0]), Halves(), nn.Conv2d(2, 3, 3))
    assert_as_recorded(model, (4, 7, 7), device="cpu")


def test_layer_used_twice_counts_its_parameters_once():
    model = Calls(lambda x, conv: conv(conv(x)), nn.Conv2d(3, 3, 3))
    first, second = infer_shapes(model, (3, 9, 9))
    assert (first.name, first.output_shape, first.params, first.macs) == ("layers.0", (3, 7, 7), 84, 81 * 49)
    assert (second.name, second.output_shape, second.params, second.macs) == ("layers.0", (3, 5, 5), 0, 81 * 25)


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(4, 6, (3, 2), padding=1, groups=2), (4, 5, 5), 6 * 2 * 3 * 2 * 5 * 6),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5), 4 * 3 * 9 * 25),
        (nn.Linear(8, 3), (5, 8), 5 * 24),
        (nn.BatchNorm2d(4), (4, 5, 5), 0),
        (nn.MaxPool2d(2), (4, 6, 6), 0),
    ],
)
def test_multiply_accumulates(layer, shape, macs):
    assert [call.macs for call in infer_shapes(layer, shape)] == [macs]


def test_connections_that_exist_are_the_multiply_accumulates():
    c3 = {layer.name: layer for layer in infer_shapes(cnnzoo.lenet5(classic=True), (1, 32, 32))}["c3"]
    assert (c3.params, c3.macs) == (1516, 60 * 25 * 10 * 10)


def spectra():
    return nn.Sequential(nn.Conv2d(3, 4, 3), Calls(lambda x: torch.fft.rfft(x).real), nn.Conv2d(4, 4, 3))


def test_operation_without_a_rule_warns_once_for_each_network():
    models = [spectra(), spectra()]
    for model in models:
        with pytest.warns(
            ProbeWarning, match=r"no rule for torch\.fft\.rfft; torch says its shape, its mult"
        ) as caught:
            layers = infer_shapes(model, (3, 9, 9))
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert (layers[-1].output_shape, layers[-1].receptive_field.exact) == ((4, 5, 2), False)
        assert str(layers[-1].receptive_field).startswith("at most 9x9")
        assert infer_shapes(model, (3, 9, 9)) == layers


def test_the_warning_names_the_remedy_and_the_remedy_works(monkeypatch):
    monkeypatch.setattr(probe, "RULES", dict(probe.RULES))
    with pytest.warns(ProbeWarning, match=r"Teach it the operation with @cnnzoo\.shapes\.rule\(torch\.fft\.rfft\)\."):
        infer_shapes(spectra(), (3, 9, 9))

    @cnnzoo.shapes.rule(torch.fft.rfft)
    def rfft(x):
        x.trace.macs += 7
        return x.like((*x.shape[:3], x.shape[3] // 2 + 1), x.field)

    layers = {layer.name: layer for layer in infer_shapes(spectra(), (3, 9, 9))}
    assert layers["1"].macs == 7
    assert (layers["2"].output_shape, layers["2"].receptive_field.size) == ((4, 5, 2), (5, 5))
    with pytest.raises(OptionError, match=r"^rule: got no operation; name operations: @rule\(torch\.cumsum"):
        cnnzoo.shapes.rule()


# Names and networks


QUESTIONS = {
    "infer_shapes": lambda model, **options: infer_shapes(model, **options),
    "summary": lambda model, **options: cnnzoo.summary(model, **options),
    "receptive_field": lambda model, **options: cnnzoo.receptive_field(model, **options),
    "min_input_size": lambda model, **options: min_input_size(model, **options),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_registered_name_is_as_good_as_the_network(question):
    ask = QUESTIONS[question]
    assert ask("lenet5", classic=True) == ask(cnnzoo.lenet5(classic=True)) != ask("lenet5")
    assert ask("vgg11", in_channels=1) == ask(cnnzoo.create("vgg11", in_channels=1, device="meta"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_neither_a_name_nor_a_network(question):
    ask = QUESTIONS[question]
    with pytest.raises(cnnzoo.UnknownNameError, match=rf"^{question}: unknown network 'lenet6': did you mean 'lenet5'"):
        ask("lenet6")
    with pytest.raises(OptionError, match=rf"^{question}: lenet5: unknown option 'clasic': did you mean 'classic'"):
        ask("lenet5", clasic=True)
    with pytest.raises(
        OptionError, match=rf"^{question}: got type where a network \(nn\.Module\) or a registered name"
    ):
        ask(nn.Conv2d)
    with pytest.raises(
        OptionError, match=rf"^{question}: got classic= with a network that is built already; options go"
    ):
        ask(cnnzoo.lenet5(), classic=True)


@pytest.mark.parametrize("name", ["basic_block", "captcha_cnn", "inception_v3"])
def test_input_shape_is_the_networks_own(name):
    spec = cnnzoo.spec(name)
    assert infer_shapes(name) == infer_shapes(cnnzoo.create(spec.name, device="meta"), spec.input_shape)


def test_input_shape_of_timms_networks():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model("efficientnet_b1", pretrained=False).eval()
    assert cnnzoo.summary(model).input_shape == (3, 240, 240)


# What the model keeps


def untouched(model):
    """Everything about a model that a pass must not change."""
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
    )


@pytest.mark.parametrize("training", [False, True])
def test_model_is_not_changed(training):
    model = cnnzoo.tutorial_cifar_resnet().train(training)
    model.conv.weight.requires_grad_(False)
    state, flags, gradients = untouched(model)
    infer_shapes(model, (3, 32, 32))
    min_input_size(model)
    after, flags_after, gradients_after = untouched(model)
    torch.testing.assert_close(after, state, rtol=0, atol=0)
    assert (flags_after, gradients_after) == (flags, gradients)


def test_where_the_model_lives_makes_no_difference():
    model = cnnzoo.tutorial_cifar_resnet()
    meta = copy.deepcopy(model).to("meta")
    assert infer_shapes(meta, (3, 32, 32)) == infer_shapes(model.to(torch.float64), (3, 32, 32))


def test_threads_do_not_see_each_other():
    cases = [(torchvision_network(name), (3, 64, 64)) for name in ("resnet18", "vgg11_bn")]
    expected = [infer_shapes(*case) for case in cases]
    together = threading.Barrier(len(cases))

    def repeatedly(case):
        together.wait()
        return [infer_shapes(*case) for _ in range(30)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(cases)) as pool:
            results = list(pool.map(repeatedly, cases))
    finally:
        sys.setswitchinterval(interval)
    for alone, rounds in zip(expected, results, strict=True):
        assert rounds == [alone] * 30


def test_layers_that_run_in_another_thread_are_not_listed():
    other = nn.Sequential(nn.ReLU())

    def forward(x, conv):
        thread = threading.Thread(target=other, args=(torch.zeros(1),))
        thread.start()
        thread.join()
        return conv(x)

    assert [layer.name for layer in infer_shapes(Calls(forward, nn.Conv2d(3, 4, 3)), (3, 8, 8))] == ["layers.0"]


# Errors


def small(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers)


def joined(join):
    return Calls(join, nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5))


CANNOT = [
    (small(nn.Conv2d(3, 4, 3)), (3, 9, 9), r"layer 1 \(Conv2d\) takes 3 input channel\(s\), got 4 \(4x7x7\)\.$"),
    (small(), (9, 9), r"layer 0 \(Conv2d\) takes 4-dimensional input \(N, C, \.\.\.\), got \(1, 9, 9\)\.$"),
    (nn.ConvTranspose2d(4, 3, 3), (3, 9, 9), r"ConvTranspose2d takes 4 input channel\(s\), got 3 \(3x9x9\)\.$"),
    (small(nn.BatchNorm2d(5)), (3, 9, 9), r"layer 1 \(BatchNorm2d\) normalises 5 channels, got 4 \(4x7x7\)\.$"),
    (nn.MaxPool2d(3, padding=2), (3, 9, 9), r"MaxPool2d pads 2, more than half of its window 3\.$"),
    (
        nn.AvgPool2d((4, 2), padding=(1, 2)),
        (3, 9, 9),
        r"AvgPool2d pads \(1, 2\), more than half of its window \(4, 2\)",
    ),
    (joined(lambda x, a, b: torch.cat([a(x), b(x)], 1)), (3, 9, 9), r"Calls cannot join 4x7x7, 4x5x5 along axis 1\.$"),
    (
        nn.Sequential(nn.Identity(), joined(lambda x, a, b: a(x) + b(x))),
        (3, 9, 9),
        r"layer 1 \(Calls\) cannot combine 4x7x7 with 4x5x5\.$",
    ),
    (
        Calls(lambda x: x.view(len(x), -1, 7)),
        (3, 9, 9),
        r"Calls cannot view 3x9x9, which is 243 numbers, as \(1, -1, 7\)\.$",
    ),
]


@pytest.mark.parametrize(("model", "shape", "message"), CANNOT)
def test_layer_that_cannot_take_its_input(model, shape, message):
    with pytest.raises(ShapeError, match=r"^infer_shapes: input [\dx]+: " + message) as caught:
        infer_shapes(model, shape)
    assert caught.value.excess == 0
    with pytest.raises((RuntimeError, ValueError)):  # torch cannot run it either
        model(torch.zeros(1, *shape))


@pytest.mark.parametrize(
    ("shape", "layer", "formula"),
    [
        ((3, 62, 62), "features.12", r"got 256x2x2, .* floor\(\(2 \+ 2\*0 - 1\*\(3 - 1\) - 1\) / 2\) \+ 1 = 0"),
        ((3, 30, 200), "features.5", r"got 192x2x24, .* floor\(\(2 \+ 2\*0 - 1\*\(3 - 1\) - 1\) / 2\) \+ 1 = 0"),
        ((3, 200, 4), "features.0", r"got 3x200x4, .* floor\(\(4 \+ 2\*2 - 1\*\(11 - 1\) - 1\) / 4\) \+ 1 = 0"),
    ],
)
def test_image_too_small(shape, layer, formula):
    size = "x".join(map(str, shape))
    message = (
        rf"^infer_shapes: input {size}: layer {layer} \(\w+\) {formula}\. The smallest input that works is 63x63\.$"
    )
    with pytest.raises(ShapeError, match=message) as caught:
        infer_shapes(torchvision_network("alexnet"), shape)
    assert (caught.value.layer, caught.value.excess) == (layer, -1)


@pytest.mark.parametrize(
    ("features", "size", "excess", "remedy"),
    [
        (4 * 7 * 7, 12, 1, " The smallest input that works is 9x9, the largest 9x9."),
        (4 * 7 * 7, 8, -1, " The smallest input that works is 9x9."),
        (4 * 50, 12, 1, " 3x12x7 works."),  # no square has 50 units, and 10x5 do
    ],
)
def test_linear_layer_behind_another_size(features, size, excess, remedy):
    units = size - 2
    way = f"0 floor(({size} + 2*0 - 1*(3 - 1) - 1) / 1) + 1 -> {units}"
    message = f"layer 2 (Linear) takes {features} features, got {4 * units**2} (4x{units}x{units}). "
    message += f"The way there: {way}.{remedy}"
    with pytest.raises(ShapeError) as caught:
        infer_shapes(small(nn.Flatten(), nn.Linear(features, 2)), (3, size, size))
    assert str(caught.value) == f"infer_shapes: input 3x{size}x{size}: {message}"
    assert (caught.value.layer, caught.value.excess) == ("2", excess)


def test_linear_layer_without_a_map_before_it():
    with pytest.raises(ShapeError, match=r"Linear takes 7 features, got 8\.$"):
        infer_shapes(nn.Linear(7, 2), (8,))


@pytest.mark.parametrize(
    ("classic", "shape", "message"),
    [
        (
            False,
            (1, 3, 28, 28),
            "input 3x28x28: layer c1 (Conv2d) takes 1 input channel(s), got 3 (3x28x28). "
            "This network takes 1x28x28; build it with in_channels=3.",
        ),
        (
            False,
            (2, 1, 8, 8),
            "input 1x8x8: layer c3 (Conv2d) got 6x4x4, and its output would be empty: "
            "floor((4 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 = 0. The smallest input that works is 28x28.",
        ),
        (
            False,
            (1, 1, 33, 33),
            "input 1x33x33: layer f6 (Linear) takes 120 features, got 480 (120x2x2). The way there: "
            "s2 floor((33 + 2*0 - 1*(2 - 1) - 1) / 2) + 1 -> 16, c3 floor((16 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 -> 12, "
            "s4 floor((12 + 2*0 - 1*(2 - 1) - 1) / 2) + 1 -> 6, c5 floor((6 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 -> 2. "
            "The smallest input that works is 28x28, the largest 31x31.",
        ),
        (
            True,
            (1, 1, 28, 28),
            "input 1x28x28: layer c5 (Conv2d) got 16x4x4, and its output would be empty: "
            "floor((4 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 = 0. The smallest input that works is 32x32.",
        ),
        (
            False,
            (1, 28, 28),
            "got an input of shape (1, 28, 28); it takes images (N, C, H, W) (a single image is `x.unsqueeze(0)`)",
        ),
        (False, (28, 28), "got an input of shape (28, 28); it takes images (N, C, H, W)"),
        (False, (1, 1, 1, 28, 28), "got an input of shape (1, 1, 1, 28, 28); it takes images (N, C, H, W)"),
    ],
)
def test_chain_explains_a_tensor_that_does_not_fit(classic, shape, message):
    with pytest.raises(ShapeError) as caught:
        cnnzoo.lenet5(classic=classic)(torch.zeros(shape))
    assert str(caught.value) == f"LeNet5: {message}"


def test_chain_that_no_square_fits_says_what_it_takes():
    model = cnnzoo.create("captcha_cnn", device="meta")
    with pytest.raises(ShapeError, match=r"takes 33792 features, got 8192 .* This network takes 3x100x180\.$"):
        model(torch.zeros(1, 3, 64, 64, device="meta"))


def test_error_that_is_no_matter_of_shapes_passes_unchanged():
    model, image = cnnzoo.lenet5(), torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"type .*double.* should be the same") as expected:
        model.c1(image)
    with pytest.raises(RuntimeError) as caught:
        model(image)
    assert type(caught.value) is RuntimeError
    assert str(caught.value) == str(expected.value)


def test_error_leaves_no_hook():
    model = nn.Sequential(Calls(lambda x: x.view(7)))
    with pytest.raises(ShapeError):
        infer_shapes(model, (3, 4, 4))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if x.mean() > 0 else -x,
        lambda x: -x if not x.max() <= 1 else x,
        lambda x: x if (x == 0).all() else -x,
        lambda x: x * x.mean().item(),
        lambda x: x * float(x.mean()),
        lambda x: x[:, : int(x.sum())],
    ],
)
def test_values_decide(function):
    with pytest.raises(
        OptionError, match=r"^infer_shapes: the model asks for the values of a tensor at test_probe\.py:\d+ "
    ):
        infer_shapes(Calls(function), (3, 4, 4))


@pytest.mark.parametrize(
    ("layer", "shape", "message", "excess"),
    [
        (nn.LayerNorm((3, 8, 8)), (3, 9, 9), r"LayerNorm normalises 3x8x8, got 3x9x9\.$", 0),
        (nn.GroupNorm(2, 6), (3, 9, 9), r"GroupNorm normalises 2 groups, got 3 channels \(3x9x9\)\.$", 0),
        (nn.GroupNorm(3, 6), (3, 9, 9), r"GroupNorm normalises 6 channels, got 3 \(3x9x9\)\.$", 0),
        (nn.PReLU(2), (3, 9, 9), r"PReLU .* 2 channels, got 3 \(3x9x9\)\.$", 0),
        (
            nn.ReflectionPad2d(4),
            (3, 4, 9),
            r"reflects 4 pixels of 3x4x9: .* The smallest input that works is 5x5\.$",
            -1,
        ),
        (nn.ZeroPad2d((-5, -5, 0, 0)), (3, 9, 9), r"cuts 10 pixels off 3x9x9: more than there are\.", -1),
        (
            nn.ConvTranspose2d(3, 4, 3, padding=6),
            (3, 9, 9),
            r"got 3x9x9, and its output would be 4x-1x-1: empty\. The smallest input that works is 11x11\.$",
            -1,
        ),
    ],
)
def test_further_layers_that_cannot_take_their_input(layer, shape, message, excess):
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, *shape))
    with pytest.raises(ShapeError, match=message) as caught:
        infer_shapes(layer, shape)
    assert caught.value.excess == excess


# The smallest image


def runs(model, channels, size):
    """Whether torch itself can run the model on a square of this size, where the model is."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        model(torch.zeros(1, channels, size, size, device=device))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 63),
        ("vgg11_bn", 32),
        ("vgg16", 32),
        ("googlenet", 15),
        ("inception_v3", 75),
        ("resnet18", 1),
        ("densenet121", 29),
        ("squeezenet1_0", 21),
    ],
)
def test_smallest_image_of_torchvision(name, size):
    model = torchvision_network(name)
    assert min_input_size(model) == size
    assert runs(model, 3, size)
    assert size == 1 or not runs(model, 3, size - 1)


@pytest.mark.parametrize(("classic", "size"), [(False, 28), (True, 32)])
def test_smallest_image_of_lenet5(classic, size):
    assert min_input_size(cnnzoo.lenet5(classic=classic, in_channels=3)) == size


def test_where_no_square_fits_each_side_has_its_own():
    model = cnnzoo.create("captcha_cnn", device="meta")
    sides = min_input_size(model)
    assert isinstance(sides, tuple)
    height, width = sides
    assert infer_shapes(model, (3, height, width))
    for smaller in ((height - 1, width), (height, width - 1)):
        with pytest.raises(ShapeError):
            infer_shapes(model, (3, *smaller))


def test_no_square_image_is_large_enough():
    with pytest.raises(ShapeError, match=r"^min_input_size: no square image fits Conv2d$"):
        min_input_size(nn.Conv2d(1, 1, 3, dilation=3000))


def test_channels_unknown():
    with pytest.raises(
        OptionError, match=r"^min_input_size: no convolution says how many channels .* pass in_channels="
    ):
        min_input_size(nn.MaxPool2d(3))
    assert min_input_size(nn.MaxPool2d(3), in_channels=2) == 3


def test_smallest_image_where_branches_meet_at_odd_sizes_only():
    layers = nn.Conv2d(3, 3, 3, stride=2), nn.ConvTranspose2d(3, 3, 3, stride=2), nn.MaxPool2d(6)
    model = Calls(lambda x, down, up, pool: pool(torch.cat([x, up(down(x))], 1)), *layers).to("meta")
    assert [size for size in range(1, 12) if runs(model, 3, size)] == [7, 9, 11]
    assert min_input_size(model) == 7


@st.composite
def chains(draw):
    """Convolutions and poolings in a row, to run for real: torch 2.11 lets empty outputs pass on the meta device."""
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel // 2))
        if draw(st.booleans()):
            layers.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation=draw(st.integers(1, 2))))
        else:
            pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
            layers.append(pool(kernel, stride, padding, ceil_mode=draw(st.booleans())))
    return nn.Sequential(*layers)


@quick
@given(chains(), st.integers(1, 30), st.integers(1, 30))
def test_random_chains(model, height, width):
    image = torch.zeros(1, 1, height, width)
    try:
        expected = recorded(model, image)
    except RuntimeError:
        with pytest.raises(ShapeError, match="its output would be empty"):
            infer_shapes(model, (1, height, width))
    else:
        assert inferred(model, (1, height, width)) == expected


@quick
@given(chains())
def test_smallest_image_of_random_chains(model):
    smallest = next(size for size in range(1, 100) if runs(model, 1, size))
    assert min_input_size(model, in_channels=1) == smallest


@quick
@given(chains(), st.integers(0, 9))
def test_smallest_image_of_random_chains_with_a_linear_layer(model, more):
    made_for = more + next(size for size in range(1, 100) if runs(model, 1, size))
    features = model(torch.zeros(1, 1, made_for, made_for)).numel()
    model.extend([nn.Flatten(), nn.Linear(features, 2)])
    smallest = next(size for size in range(1, 110) if runs(model, 1, size))
    assert min_input_size(model, in_channels=1) == smallest
