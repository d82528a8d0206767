"""Layers and parameters by name, freezing, truncation, groups: on chains with blocks, and on networks from elsewhere."""

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from conftest import Variant
from torch import nn

import cnnzoo
from cnnzoo import (
    CNN,
    OptionError,
    UnknownNameError,
    freeze,
    layers,
    parameter_groups,
    parameters,
    truncate,
    unfreeze,
)
from cnnzoo.nn import BasicBlock


@pytest.fixture
def resnet():
    """Top-level conv, bn, relu, layer1 to layer3 of two blocks each, avg_pool, flat, fc."""
    return cnnzoo.tutorial_cifar_resnet()


# Layers and parameters


def test_layers_are_leaves_in_order(resnet):
    leaves = [(name, module) for name, module in resnet.named_modules() if not list(module.children())]
    assert list(layers(resnet).items()) == leaves
    assert [name for name, _ in leaves[:5]] == ["conv", "bn", "relu", "layer1.0.conv1", "layer1.0.bn1"]


@pytest.mark.parametrize(
    ("kind", "pattern", "names"),
    [
        (nn.Linear, "*", ["fc"]),
        ((nn.AvgPool2d, nn.Flatten), "*", ["avg_pool", "flat"]),
        (BasicBlock, "**", [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)]),
        (nn.Module, "layer2.0", ["layer2.0"]),
        ("BLOCK", "layer2.*", ["layer2.0", "layer2.1"]),
        ("BLOCK", "layer2*", []),
        ("conv", "layer1.**", [f"layer1.{block}.conv{i}" for block in (0, 1) for i in (1, 2)]),
        ("conv", "conv", ["conv"]),
        (None, "**.downsample.*", [f"layer{stage}.0.downsample.{i}" for stage in (2, 3) for i in (0, 1)]),
        (None, "layer[12].1.bn?", [f"layer{stage}.1.bn{i}" for stage in (1, 2) for i in (1, 2)]),
        (None, "FC", []),
        ("transposed", "*", []),
    ],
)
def test_layers_by_kind_and_pattern(resnet, kind, pattern, names):
    found = layers(resnet, kind, pattern)
    assert list(found) == names
    assert all(found[name] is resnet.get_submodule(name) for name in names)


def test_text_finds_the_connection_table_too():
    assert list(layers(cnnzoo.lenet5(classic=True), "conv")) == ["c1", "c3", "c5"]
    assert list(layers(cnnzoo.lenet5(classic=True), nn.Conv2d)) == ["c1", "c5"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("fc.*", ["fc.weight", "fc.bias"]),
        ("conv.weight", ["conv.weight"]),
        ("layer1.0.bn*.bias", ["layer1.0.bn1.bias", "layer1.0.bn2.bias"]),
        ("Conv*", []),
    ],
)
def test_parameters_by_pattern(resnet, pattern, names):
    found = parameters(resnet, pattern)
    assert list(found) == names
    assert all(found[name] is resnet.get_parameter(name) for name in names)


def test_parameters_are_all_of_them_in_order(resnet):
    assert list(parameters(resnet).items()) == list(resnet.named_parameters())


# Freezing


def frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def under(model, *prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


FROZEN = [
    ("conv", ["conv."]),
    ("relu", ["conv.", "bn."]),
    ("layer1", ["conv.", "bn.", "layer1."]),
    ("layer1.0.conv1", ["conv.", "bn.", "layer1.0.conv1."]),
    ("layer2.0.bn2", ["conv.", "bn.", "layer1.", "layer2.0.conv", "layer2.0.bn"]),
    ("layer2.0.downsample.0", ["conv.", "bn.", "layer1.", "layer2.0.conv", "layer2.0.bn", "layer2.0.downsample.0."]),
    ("layer2.0", ["conv.", "bn.", "layer1.", "layer2.0."]),
    ("flat", ["conv.", "bn.", "layer"]),
    ("fc", [""]),
    (None, [""]),
]


@pytest.mark.parametrize(("until", "prefixes"), FROZEN)
def test_freeze(resnet, until, prefixes):
    assert freeze(resnet, until) is resnet
    assert frozen(resnet) == under(resnet, *prefixes)


@pytest.mark.parametrize(("until", "prefixes"), FROZEN)
def test_unfreeze_gives_back_the_same(resnet, until, prefixes):
    freeze(resnet)
    assert unfreeze(resnet, until=until) is resnet
    assert frozen(resnet) == under(resnet, "") - under(resnet, *prefixes)


def test_freezing_less_leaves_the_rest_as_it_was(resnet):
    freeze(resnet, until="layer2")
    freeze(resnet, until="conv")
    assert frozen(resnet) == under(resnet, "conv.", "bn.", "layer1.", "layer2.")


def test_freeze_another_librarys_network():
    with torch.device("meta"):
        model = torchvision.models.vgg11()
    freeze(model, until="features.3")
    assert frozen(model) == {"features.0.weight", "features.0.bias", "features.3.weight", "features.3.bias"}


def test_freeze_includes_what_a_container_itself_holds():
    model = nn.Sequential(nn.Linear(2, 2), nn.Module(), nn.Linear(2, 2))
    model.register_parameter("token", nn.Parameter(torch.zeros(2)))
    model[1].register_parameter("scale", nn.Parameter(torch.zeros(2)))
    freeze(model, until="0")
    assert frozen(model) == {"token", "0.weight", "0.bias"}
    freeze(model, until="1")
    assert frozen(model) == {"token", "0.weight", "0.bias", "1.scale"}


def test_frozen_layers_do_not_train(resnet):
    freeze(resnet, until="layer3.0.conv1")
    resnet(torch.zeros(1, 3, 32, 32)).sum().backward()
    trained = {name for name, parameter in resnet.named_parameters() if parameter.grad is not None}
    assert trained == under(resnet, "layer3.0.bn", "layer3.0.conv2", "layer3.0.downsample", "layer3.1", "fc")


IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(
    params=[
        (cnnzoo.tutorial_cifar_resnet, "layer1.0", ("bn", "layer1.0")),
        (torchvision.models.resnet18, "layer1.0", ("bn1", "layer1.0")),
        (lambda: timm.create_model("mobilenetv3_small_050", pretrained=False), "blocks.0", ("bn1", "blocks.0")),
    ],
    ids=["ours", "torchvision", "timm"],
)
def normalised(request):
    """A network, a layer to freeze it until, and where there are norms until then."""
    build, until, prefixes = request.param
    return build(), until, prefixes


def norms(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}


def followed(model):
    """The norms whose running statistics a step of training changes."""
    before = {name: norm.running_mean.clone() for name, norm in norms(model).items()}
    with torch.no_grad():
        model.train()(IMAGES)
    return {name for name, norm in norms(model).items() if not torch.equal(norm.running_mean, before[name])}


def test_frozen_statistics_stay_whatever_the_mode(normalised):
    model, until, prefixes = normalised
    names, state = set(norms(model)), list(model.state_dict())
    still = {name for name in names if name.startswith(prefixes)}
    kinds = [type(module) for module in model.modules()]
    assert still
    assert still < names
    assert freeze(model, until, norms=True) is model
    for _ in range(2):
        assert followed(model) == names - still
        model.eval()
    assert [type(module) for module in model.modules()] == kinds
    assert list(model.state_dict()) == state
    assert all(norm.training == (name not in still) for name, norm in norms(model.train()).items())
    assert all(norm.train() is norm and not norm.training for name, norm in norms(model).items() if name in still)


def test_frozen_statistics_are_what_it_normalises_by(resnet):
    freeze(resnet, "bn", norms=True)
    resnet.bn.running_mean.fill_(0.5)
    with torch.no_grad():
        expected = (resnet.conv(IMAGES) - 0.5) / (1 + resnet.bn.eps) ** 0.5
        torch.testing.assert_close(resnet.train().bn(resnet.conv(IMAGES)), expected)


def test_unfreeze_gives_statistics_back(normalised):
    model, until, _ = normalised
    freeze(model, until, norms=True)
    unfreeze(model.train(), until)
    assert all(norm.training for norm in norms(model).values())
    assert followed(model) == set(norms(model))
    freeze(model, norms=True)
    unfreeze(model.eval())
    assert not any(module.training for module in model.modules())
    assert followed(model) == set(norms(model))


def test_freezing_keeps_statistics_only_when_asked(resnet):
    freeze(resnet)
    assert followed(resnet) == set(norms(resnet))
    freeze(resnet, "bn", norms=True)
    freeze(resnet)
    assert followed(resnet) == set(norms(resnet)) - {"bn"}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies_stay_frozen_and_thaw_alone(resnet, copied):
    freeze(resnet, "layer1", norms=True)
    other = copied(resnet)
    assert frozen(other) == frozen(resnet)
    assert followed(other) == {name for name in norms(other) if name.startswith(("layer2", "layer3"))}
    assert other.bn.train() is other.bn
    other.load_state_dict(resnet.state_dict())
    assert not other.train().bn.training
    unfreeze(other)
    assert followed(other) == set(norms(other))
    assert "bn" not in followed(resnet)


def test_frozen_statistics_compile(resnet):
    compiled = torch.compile(freeze(resnet, "layer1", norms=True).train(), fullgraph=True, backend="eager")
    before = resnet.bn.running_mean.clone(), resnet.layer2[0].bn1.running_mean.clone()
    compiled(IMAGES)
    assert torch.equal(resnet.bn.running_mean, before[0])
    assert not torch.equal(resnet.layer2[0].bn1.running_mean, before[1])
    torch.compiler.reset()


# Groups


def test_every_trainable_parameter_is_in_one_group(variant: Variant):
    model = variant.build(device="meta", **({"aux": True} if "aux" in cnnzoo.spec(variant.name).parameters else {}))
    freeze(model, next(iter(model.chain())))
    groups = parameter_groups(model, 0.1, decay=0.9, weight_decay=1e-4)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) == {parameter for parameter in model.parameters() if parameter.requires_grad}
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates)
    assert rates[-1] == 0.1
    assert all((group["weight_decay"] > 0) == all(p.ndim > 1 for p in group["params"]) for group in groups)
    torch.optim.SGD(groups)
    assert len(parameter_groups(model, 0.1)) == 1


def rates(model, **options):
    return {group["name"]: group["lr"] for group in parameter_groups(model, 1.0, **options)}


def test_layers_of_a_chain_train_slower_the_earlier_they_are():
    model = cnnzoo.create("vgg11_bn", device="meta")
    convolutions = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2"]
    expected = {name: 0.5 ** (10 - i) for i, name in enumerate([*convolutions, "fc6", "fc7", "fc8"])}
    assert rates(model, decay=0.5) == expected
    group = parameter_groups(model, 1.0, decay=0.5)[0]
    assert group["params"] == [*model.conv1_1.parameters(), *model.bn1_1.parameters()]


def test_a_block_is_one_layer_and_a_stage_is_not(resnet):
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)]
    assert list(rates(resnet, decay=0.9)) == ["conv", *blocks, "fc"]
    with torch.device("meta"):
        theirs = torchvision.models.resnet18()
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    expected = {name: 0.5 ** (9 - i) for i, name in enumerate(["conv1", *blocks, "fc"])}
    assert rates(theirs, decay=0.5) == expected


def test_weight_decay_is_for_weights():
    model = cnnzoo.lenet5(classic=True)
    groups = {group["name"]: group for group in parameter_groups(model, 0.1, weight_decay=0.01)}
    weights, rest = groups["c1 to f6"], groups["c1 to f6, no weight decay"]
    assert (weights["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)
    assert set(weights["params"]) == {model.c1.weight, model.c3.weight, model.c5.weight, model.f6.weight}
    assert model.s2.weight in set(rest["params"])


def test_what_the_network_itself_holds_comes_first():
    with torch.device("meta"):
        theirs = torchvision.models.vit_b_32()
    groups = parameter_groups(theirs, 1.0, decay=0.5)
    assert groups[0]["name"] == "VisionTransformer"
    assert groups[0]["params"] == [theirs.class_token]


def test_shared_and_frozen_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    assert [len(group["params"]) for group in parameter_groups(model, 0.1, decay=0.5)] == [2, 2, 1]
    assert rates(freeze(model, until="0"), decay=0.5) == {"1": 0.5, "2": 1.0}


@pytest.mark.parametrize("decay", [0, -0.5, 1.5])
def test_decay_out_of_range(resnet, decay):
    with pytest.raises(OptionError, match=rf"^parameter_groups: got decay={decay}; it is above 0 and at most 1"):
        parameter_groups(resnet, 0.1, decay=decay)


def test_nothing_to_train(resnet):
    with pytest.raises(
        OptionError, match=r"^parameter_groups: all parameters are frozen, there is nothing to train; see"
    ):
        parameter_groups(freeze(resnet), 0.1)


# Truncation


def activations(model, image):
    """The output of every layer of a chain as it was when the layer returned it, by name, in order."""
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda module, args, output, name=name: seen.update({name: output.clone()}))
        for name, layer in model.named_children()
    ]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("after", ["conv", "bn", "layer1", "layer3", "fc"])
def test_truncated_chain_computes_the_same_and_stops(resnet, after):
    resnet.eval()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = activations(resnet, image)
    part = truncate(resnet, until=after)
    assert type(part) is CNN
    assert list(part._modules) == list(whole)[: list(whole).index(after) + 1]
    with torch.no_grad():
        torch.testing.assert_close(part(image), whole[after], rtol=0, atol=0)


def test_truncated_chain_shares_its_weights(resnet):
    part = truncate(resnet, until="layer1")
    assert all(parameter is resnet.get_parameter(name) for name, parameter in part.named_parameters())
    assert {name for name, _ in part.named_parameters()} == under(resnet, "conv.", "bn.", "layer1.")
    assert list(resnet._modules)[-1] == "fc"  # the chain itself keeps all of its layers


def test_truncated_chain_keeps_its_input_shape_and_mode(resnet):
    part = truncate(resnet.eval(), until="layer2")
    assert part.input_shape == (3, 32, 32)
    assert cnnzoo.summary(part).layers[-1].output_shape == (32, 16, 16)
    assert not any(module.training for module in part.children())


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model: freeze(model, until="layer2.0.conv3"),
            r"^freeze: unknown layer 'layer2\.0\.conv3': did you mean ",
        ),
        (lambda model: unfreeze(model, until="fc1"), r"^unfreeze: unknown layer 'fc1': did you mean 'fc'\?$"),
        (
            lambda model: freeze(model, until="zzz"),
            r"^freeze: unknown layer 'zzz': there are \d+, none of them similar\.$",
        ),
        (lambda model: freeze(model, until=""), r"^freeze: unknown layer '': there are \d+, none of them similar\.$"),
        (
            lambda model: truncate(model, until="Layer4"),
            r"^truncate: unknown layer 'Layer4': did you mean 'layer3' or ",
        ),
        (
            lambda model: truncate(model, until="layer1.0"),
            r"^truncate: unknown layer 'layer1\.0': did you mean 'layer1'.*\? It is inside of a layer: "
            r"`cnnzoo\.extract\(model, 'layer1\.0'\)` stops there\.$",
        ),
        (
            lambda model: truncate(model, until="zzz"),
            r"^truncate: unknown layer 'zzz': known: conv, bn, relu, layer1, layer2, layer3, avg_pool, flat, fc\.$",
        ),
    ],
)
def test_unknown_layer(resnet, call, message):
    with pytest.raises(UnknownNameError, match=message):
        call(resnet)
    assert frozen(resnet) == set()


def test_truncate_takes_chains():
    with torch.device("meta"):
        theirs = torchvision.models.resnet18()
    with pytest.raises(
        OptionError,
        match=r"^truncate: ResNet is no chain of layers that could be cut; `cnnzoo\.extract\(model, 'layer1'\)` stops",
    ):
        truncate(theirs, until="layer1")
