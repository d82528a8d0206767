"""Receptive fields against gradients, and against the sizes that publications print.

With positive weights a pixel reaches a unit exactly if the unit's gradient at the pixel is not zero. Maximum poolings
are tested as average poolings, through which every pixel of the window has a gradient.
"""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import cnnzoo
from cnnzoo import OptionError, ReceptiveField, UnknownNameError, infer_shapes, receptive_field


class Branches(nn.Module):
    """Parallel layers whose outputs are joined, and the input with them where `shortcut` is set."""

    def __init__(self, *branches, shortcut=False):
        super().__init__()
        self.branches, self.shortcut = nn.ModuleList(branches), shortcut

    def forward(self, x):
        outputs = [branch(x) for branch in self.branches]
        return x + sum(outputs) if self.shortcut else torch.cat(outputs, 1)


class Calls(nn.Module):
    """A layer that is one function of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def conv(*args, **kwargs):
    return nn.Conv2d(*args, bias=False, **kwargs)


def seen(model, height, width):
    """Which pixels the unit in the middle of the last map sees, and where in the map that unit is."""
    model = model.double()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    picture = torch.ones(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    out = model(picture)
    unit = [units // 2 for units in out.shape[2:]]
    out[(0, slice(None), *unit)].sum().backward()
    return picture.grad[0, 0] != 0, unit


def bounds(pixels):
    """First and last pixel along each axis."""
    places = pixels.nonzero()
    return list(zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))


def predicted_bounds(field, unit):
    starts = [o + i * j for o, i, j in zip(field.offset, unit, field.stride, strict=True)]
    return [(start, start + size - 1) for start, size in zip(starts, field.size, strict=True)]


def assert_sees_its_window(model, *, contiguous):
    """The middle unit sees the predicted window: from its first to its last pixel, and all between if contiguous."""
    field = receptive_field(model, input_shape=(1, 400, 400))
    picture = [size + 2 * abs(offset) + 4 * stride for size, stride, offset in zip(*field[:3], strict=True)]
    pixels, unit = seen(model, *picture)
    assert bounds(pixels) == predicted_bounds(field, unit)
    assert pixels.sum().item() == field.size[0] * field.size[1] or not contiguous


@st.composite
def chains(draw):
    """Convolutions and average poolings in a row, with windows and steps of their own along each axis."""

    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    layers, contiguous = [], True
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride = pair(1, 4), pair(1, 3)
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        dilation = pair(1, 2) if draw(st.booleans()) else (1, 1)
        if dilation == (1, 1) and draw(st.booleans()):
            layers.append(nn.AvgPool2d(kernel, stride, padding))
        else:
            layers.append(conv(1, 1, kernel, stride, padding, dilation))
        contiguous &= dilation == (1, 1) and all(s <= k for s, k in zip(stride, kernel, strict=True))
    return nn.Sequential(*layers), contiguous


@settings(max_examples=150, deadline=None)
@given(chains())
def test_random_chains(case):
    model, contiguous = case
    assert_sees_its_window(model, contiguous=contiguous)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(
            conv(1, 2, 3, stride=2),
            Branches(conv(2, 1, 1), conv(2, 1, 3, padding=1), conv(2, 1, 5, padding=2), nn.AvgPool2d(3, 1, 1)),
            conv(5, 1, 3, stride=2, padding=1),
            nn.AvgPool2d(2),
        ),
        nn.Sequential(
            Branches(
                nn.Sequential(conv(1, 1, 3, stride=2, padding=1), conv(1, 1, 3, padding=1)), conv(1, 1, 1, stride=2)
            ),
            Branches(nn.Sequential(conv(2, 2, 3, padding=1), conv(2, 2, 3, padding=1)), shortcut=True),
        ),
        Branches(nn.Sequential(conv(1, 1, (1, 7), padding=(0, 3)), conv(1, 1, (7, 1), padding=(3, 0)))),
        Branches(conv(1, 1, 4), nn.ZeroPad2d((-1, -2, -3, 0))),
        nn.Sequential(conv(1, 1, 4, padding="same"), conv(1, 1, (2, 3), padding="same")),
        nn.Sequential(nn.ZeroPad2d((3, 0, 1, 2)), conv(1, 1, 4, stride=2)),
        nn.Sequential(conv(1, 1, 5, padding=2, padding_mode="replicate"), conv(1, 1, 3)),
    ],
)
def test_blocks(model):
    assert_sees_its_window(model, contiguous=True)


def test_window_of_branches_is_the_smallest_around_theirs():
    cross = Branches(conv(1, 1, (1, 3), padding=(0, 1)), conv(1, 1, (5, 1), padding=(2, 0)))
    assert receptive_field(cross, input_shape=(1, 9, 9)) == ReceptiveField((5, 3), (1, 1), (-2, -1))
    assert_sees_its_window(cross, contiguous=False)


@pytest.mark.parametrize(
    ("model", "height", "width"),
    [
        (nn.AdaptiveAvgPool2d((2, 3)), 8, 12),
        (nn.AdaptiveAvgPool2d((1, 6)), 6, 6),
        (nn.AdaptiveAvgPool2d((None, 7)), 5, 7),
        (nn.Sequential(conv(1, 1, 3), nn.AdaptiveAvgPool2d(3)), 11, 14),
        (nn.Sequential(conv(1, 1, 3), nn.Flatten(), nn.Linear(12, 2, bias=False), nn.Unflatten(1, (2, 1, 1))), 5, 6),
        (nn.Sequential(conv(1, 1, 3), nn.AdaptiveAvgPool2d(1), conv(1, 2, 1)), 5, 6),
    ],
)
def test_layers_that_adapt_to_their_input(model, height, width):
    field = infer_shapes(model, (1, height, width))[-1].receptive_field
    pixels, unit = seen(model, height, width)
    assert bounds(pixels) == predicted_bounds(field, unit)


@pytest.mark.parametrize(("size", "units"), [(7, 4), (5, 3), (4, 7)])
def test_adaptive_pooling_of_unequal_windows(size, units):
    model = nn.AdaptiveAvgPool2d(units)
    pixels, _ = seen(model, size, size)
    first, last = bounds(pixels)[0]
    assert last - first + 1 <= receptive_field(model, input_shape=(1, size, size)).size[0]


@pytest.mark.parametrize("mix", [lambda x: x.cumsum(2).cumsum(3), lambda x: x * x.mean((2, 3), keepdim=True)])
def test_mixing_everything_sees_everything(mix):
    field = receptive_field(Calls(mix), input_shape=(1, 6, 8))
    assert field == ReceptiveField((6, 8), (0, 0), (0, 0))
    assert field.whole
    assert str(field) == "6x8 (whole)"


@pytest.mark.parametrize(
    "move", [lambda x: x.chunk(2, 1)[1], lambda x: x[:, 2:], lambda x: x.view(len(x), 2, -1, *x.shape[2:])[:, 0]]
)
def test_choosing_channels_leaves_the_window(move):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Calls(move))
    assert receptive_field(model, input_shape=(1, 9, 9)).size == (3, 3)


def test_gate_of_one_value_for_each_channel():
    gate = Calls(lambda x: x * nn.functional.adaptive_avg_pool2d(x, 1))
    model = nn.Sequential(gate, conv(1, 1, 3), conv(1, 1, 3))
    assert receptive_field(model, input_shape=(1, 6, 8)) == ReceptiveField((6, 8), (0, 0), (0, 0))


def test_stacked_branches():
    branches = Branches(conv(1, 1, 1), conv(1, 1, 5, padding=2))
    assert receptive_field(branches, input_shape=(1, 6, 8)).size == (5, 5)
    stacked = Calls(lambda x: torch.stack([branch(x) for branch in branches.branches], 2).flatten(1, 2))
    assert receptive_field(stacked, input_shape=(1, 6, 8)).size == (5, 5)


# Published sizes


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride"),
    [
        ("alexnet", "features.12", 195, 32),
        ("vgg16", "features.4", 6, 2),
        ("vgg16", "features.30", 212, 32),
        ("inception_v3", "Mixed_7c", 1311, 32),
        ("resnet50", "conv1", 7, 2),
        ("resnet50", "maxpool", 11, 4),
        ("resnet50", "layer1", 35, 4),
        ("resnet50", "layer2", 91, 8),
        ("resnet50", "layer3", 267, 16),
        ("resnet50", "layer4", 427, 32),  # with the stride in the 3x3; 483 in the paper's first 1x1
        ("resnet50", "layer4.2.conv3", 427, 32),
    ],
)
def test_published_sizes(name, layer, size, stride):
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options).eval()
    field = receptive_field(model, layer, input_shape=(3, 299, 299))
    assert (field.size, field.stride) == ((size, size), (stride, stride))


def test_resnet50_as_published():
    with torch.device("meta"):
        model = torchvision.models.resnet50().eval()
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert receptive_field(model, "layer4", input_shape=(3, 224, 224)).size == (483, 483)


@pytest.mark.parametrize(("layer", "size"), [("c1", 5), ("s2", 6), ("c3", 14), ("s4", 16), ("c5", 32), ("f6", 32)])
def test_lenet5(layer, size):
    assert receptive_field(cnnzoo.lenet5(classic=True), layer).size == (size, size)


def test_default_is_the_last_layer_with_a_map():
    model = cnnzoo.lenet5(classic=True)
    assert receptive_field(model) == receptive_field(model, "tanh4") == ReceptiveField((16, 16), (4, 4), (0, 0))
    assert receptive_field(model[:10], input_shape=(1, 40, 40)) == receptive_field(model, "tanh5")
    assert receptive_field(nn.Linear(3, 2), input_shape=(3,)) == ReceptiveField((3,), (0,), (0,))


def test_unknown_layer():
    model = cnnzoo.lenet5()
    with pytest.raises(UnknownNameError, match=r"^receptive_field: unknown layer 'tanh': did you mean 'tanh\d' or"):
        receptive_field(model, "tanh")


def test_layer_that_does_not_run():
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    model[0].spare = nn.ReLU()
    with pytest.raises(UnknownNameError, match=r"unknown layer '0\.spare': known: 0\."):
        receptive_field(model, "0.spare", input_shape=(1, 5, 5))


def test_input_shape_unknown():
    with pytest.raises(
        OptionError, match=r"^receptive_field: Sequential does not say what it takes; pass input_shape="
    ):
        receptive_field(nn.Sequential(nn.ReLU()))


def test_axes_are_followed_where_they_move():
    model = nn.Sequential(
        conv(1, 3, (3, 2)),
        Calls(lambda x: x.permute(0, 2, 3, 1)),
        nn.LayerNorm(3),
        Calls(lambda x: x.movedim(3, 1)),
        conv(3, 1, (3, 1)),
    )
    assert [layer.receptive_field.size for layer in infer_shapes(model, (1, 9, 9))] == [(3, 2)] * 4 + [(5, 2)]
