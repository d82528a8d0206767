"""Layers and parameters by name, freezing, truncation: on a chain with blocks, and on networks from elsewhere."""

import pytest
import torch
import torchvision
from torch import nn

import cnnzoo
from cnnzoo import CNN, UnknownNameError, freeze, layers, parameters, truncate, unfreeze
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
        (BasicBlock, "*", [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)]),
        (nn.Module, "layer2.0", ["layer2.0"]),
        ("BLOCK", "layer2*", ["layer2.0", "layer2.1"]),
        ("conv", "layer1.*", [f"layer1.{block}.conv{i}" for block in (0, 1) for i in (1, 2)]),
        ("conv", "conv", ["conv"]),
        (None, "*.downsample.*", [f"layer{stage}.0.downsample.{i}" for stage in (2, 3) for i in (0, 1)]),
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


# Truncation


def activations(model, picture):
    """The output of every layer of a chain as it was when the layer returned it, by name, in order."""
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda module, args, output, name=name: seen.update({name: output.clone()}))
        for name, layer in model.named_children()
    ]
    with torch.no_grad():
        model(picture)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("after", ["conv", "bn", "layer1", "layer3", "fc"])
def test_truncated_chain_computes_the_same_and_stops(resnet, after):
    resnet.eval()
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = activations(resnet, picture)
    part = truncate(resnet, after=after)
    assert type(part) is CNN
    assert list(part._modules) == list(whole)[: list(whole).index(after) + 1]
    with torch.no_grad():
        torch.testing.assert_close(part(picture), whole[after], rtol=0, atol=0)


def test_truncated_chain_shares_its_weights(resnet):
    part = truncate(resnet, after="layer1")
    assert all(parameter is resnet.get_parameter(name) for name, parameter in part.named_parameters())
    assert {name for name, _ in part.named_parameters()} == under(resnet, "conv.", "bn.", "layer1.")
    assert list(resnet._modules)[-1] == "fc"  # the chain itself keeps all of its layers


def test_truncated_chain_keeps_its_input_shape_and_mode(resnet):
    part = truncate(resnet.eval(), after="layer2")
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
            lambda model: truncate(model, after="Layer4"),
            r"^truncate: unknown layer 'Layer4': did you mean 'layer3' or ",
        ),
        (
            lambda model: truncate(model, after="layer1.0"),
            r"^truncate: unknown layer 'layer1\.0': did you mean 'layer1'",
        ),
        (
            lambda model: truncate(model, after="zzz"),
            r"^truncate: unknown layer 'zzz': known: conv, bn, relu, layer1, layer2, layer3, avg_pool, flat, fc\.$",
        ),
    ],
)
def test_unknown_layer(resnet, call, message):
    with pytest.raises(UnknownNameError, match=message):
        call(resnet)
    assert frozen(resnet) == set()
