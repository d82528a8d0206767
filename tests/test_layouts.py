"""The same weights in our network and in torchvision's or timm's: the names translate, and the outputs are equal."""

import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn

import cnnzoo
from cnnzoo.checkpoints.layouts import TABLES, from_layout, to_layout

# What we call otherwise, and how their constructors have to be called to give the network of the published weights.
THEIR_NAMES = {"timm": lambda name: name.replace("preresnet", "resnetv2_")}
TORCHVISION = {"inception_v3": {"transform_input": False, "init_weights": False, "aux_logits": False}}
TORCHVISION["googlenet"] = TORCHVISION["inception_v3"]

PAIRS = [(layout, name) for layout, names in TABLES.items() for name in names]
SMALLEST = {"alexnet", "vgg11", "vgg11_bn", "googlenet", "inception_v3", "resnet18", "resnet50", "preresnet18"}
SMALLEST |= {"preresnet50", "inception_v4", "inception_resnet_v2"}
SIZES = {"alexnet": (224, 96), "vgg": (224, 64), "inception": (299, 139)}


def peer(layout: str, name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision announces how it will initialise one day
        if layout == "torchvision":
            return torchvision.models.get_model(name, weights=None, **TORCHVISION.get(name, {}))
        return timm.create_model(THEIR_NAMES["timm"](name), pretrained=False)


def randomise(model: nn.Module) -> None:
    """Statistics and scales that a swapped or forgotten batch normalisation would show in."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.3, 1, generator=generator)
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)


def sizes(name: str, layout: str) -> tuple[int, ...]:
    if layout == "timm" and name.startswith("vgg"):
        return (224,)  # timm slides its head over larger maps, and takes no smaller ones
    family = next((part for part in SIZES if part in name), None)
    return (224, 97) if family is None else SIZES[family]


def no_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize(
    ("layout", "name"),
    [pytest.param(*pair, marks=() if pair[1] in SMALLEST else pytest.mark.slow) for pair in PAIRS],
    ids=map("-".join, PAIRS),
)
def test_outputs_are_equal(layout: str, name: str) -> None:
    torch.manual_seed(0)
    theirs = no_dropout(peer(layout, name))
    randomise(theirs)
    ours = no_dropout(cnnzoo.create(cnnzoo.spec(name).name, init=False))
    state = theirs.state_dict()
    ours.load_state_dict(from_layout(ours, state, layout))
    back = to_layout(ours, layout)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    for mode in (False, True):
        for size in sizes(name, layout):
            images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) - 0.5
            with torch.no_grad():
                expected, scores = theirs.train(mode)(images), ours.train(mode)(images)
            difference = (scores - expected).norm() / expected.norm()
            assert difference < 1e-5, f"train={mode}, {size}x{size}: {difference:.1e}"
            assert expected.std() > 1e-4 * expected.abs().max()
    for key, value in to_layout(ours, layout).items():  # what training has done to the statistics, too
        assert torch.allclose(value, theirs.state_dict()[key], rtol=1e-4, atol=1e-5), key
