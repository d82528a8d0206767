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
    image = torch.ones(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    out = model(image)
    unit = [units // 2 for units in out.shape[2:]]
    out[(0, slice(None), *unit)].sum().backward()
    return image.grad[0, 0] != 0, unit


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
    image = [size + 2 * abs(offset) + 4 * stride for size, stride, offset in zip(*field[:3], strict=True)]
    pixels, unit = seen(model, *image)
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


# Upsampling, rearranging, and what else does not slide


def extents(model, size):
    """First and last pixel that each unit of the last map sees, along each axis, by gradients."""
    model = model.double()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    image = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    out = model(image)
    rows, columns = out.shape[2:]
    found = []
    for axis, units in enumerate((rows, columns)):
        seen = []
        for unit in range(units):
            place = (unit, columns // 2) if axis == 0 else (rows // 2, unit)
            (gradient,) = torch.autograd.grad(out[(0, slice(None), *place)].sum(), image, retain_graph=True)
            pixels = (gradient[0, 0] != 0).nonzero()[:, axis]
            seen.append((pixels.min().item(), pixels.max().item()) if len(pixels) else None)
        found.append(seen)
    return found


def assert_as_by_gradients(model, size):
    """The size of the largest window that is not cut off by the image's edge, and how it moves."""
    field = receptive_field(model, input_shape=(1, size, size))
    assert field.exact
    for axis, seen in enumerate(extents(model, size)):
        inside = [one is not None and one[0] > 0 and one[1] < size - 1 for one in seen]
        within = range(inside.index(True), len(inside) - inside[::-1].index(True)) if any(inside) else range(0)
        sizes = [seen[unit][1] - seen[unit][0] + 1 for unit in within if seen[unit] is not None]
        if len(sizes) >= 16:  # all phases are among them
            assert max(sizes) == field.size[axis]
        else:
            assert max(sizes, default=0) <= field.size[axis]


@st.composite
def resampling_chains(draw):
    """Layers that make maps larger and smaller, in any order."""
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        kind = draw(st.sampled_from(["conv", "transposed", "nearest", "bilinear", "aligned", "shuffle", "flip", "lp"]))
        if kind == "conv":
            layers.append(conv(1, 1, kernel, stride, draw(st.integers(0, kernel // 2))))
        elif kind == "transposed":
            padding = draw(st.integers(0, kernel // 2))
            layers.append(nn.ConvTranspose2d(1, 1, kernel, stride, padding, output_padding=stride - 1, bias=False))
        elif kind == "shuffle":
            layers.extend(
                [conv(1, stride**2, kernel), nn.PixelShuffle(stride), nn.PixelUnshuffle(stride), conv(stride**2, 1, 1)]
            )
        elif kind == "flip":
            layers.append(Calls(lambda x: x.flip(2)))
        elif kind == "lp":
            layers.append(nn.LPPool2d(2, kernel, stride))
        else:
            factor = draw(st.sampled_from([2, 3, 1.5]))
            options = (
                {"mode": "nearest"} if kind == "nearest" else {"mode": "bilinear", "align_corners": kind == "aligned"}
            )
            layers.append(nn.Upsample(scale_factor=factor, **options))
    return nn.Sequential(*layers)


@settings(max_examples=80, deadline=None)
@given(resampling_chains())
def test_random_chains_that_resample(model):
    if max(model(torch.ones(1, 1, 48, 48)).shape) <= 200:
        assert_as_by_gradients(model, 48)


class SmallUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.inside = conv(1, 1, 2, stride=2), conv(1, 1, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(1, 1, 2, stride=2, bias=False), conv(2, 1, 1)

    def forward(self, x):
        return self.out(torch.cat([x, self.up(self.inside(self.down(x)))], 1))


class Columns(nn.Module):
    """A convolution by im2col."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 9))

    def forward(self, x):
        columns = nn.functional.unfold(x, 3, padding=1)
        return torch.einsum("oc,ncl->nol", self.weight, columns).view(len(x), 2, *x.shape[2:])


def tokens_and_back(x):
    n, c, h, w = x.shape
    return x.flatten(2).transpose(1, 2).reshape(n, h, w, c).permute(0, 3, 1, 2)


def windows_and_back(x):
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
    parts = parts.view(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4)
    return parts.reshape(n, c, h, w)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (nn.Sequential(conv(1, 1, 3, 2, 1), nn.ConvTranspose2d(1, 1, 2, 2, bias=False)), 3),
        (nn.Sequential(conv(1, 1, 3, 2, 1), nn.Upsample(scale_factor=2), conv(1, 1, 3, 1, 1)), 5),
        (nn.Sequential(conv(1, 4, 5, 1, 2), nn.PixelShuffle(2)), 5),
        (nn.Sequential(conv(1, 4, 7, 1, 3), Calls(lambda x: x.mean(1, keepdim=True))), 7),
        (SmallUNet(), 6),
        (Columns(), 3),
        (nn.Sequential(conv(1, 2, 3, padding=1), Calls(tokens_and_back), conv(2, 1, 3)), 5),
        (nn.Sequential(conv(1, 2, 3, padding=1), Calls(windows_and_back), conv(2, 1, 3)), 5),
        (nn.Sequential(conv(1, 1, 3), Calls(lambda x: x.flip(2, 3)), conv(1, 1, 3, 2)), 5),
        (nn.Sequential(Calls(lambda x: x[:, :, ::2, 1::2]), conv(1, 1, 3)), 5),
        (nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2)), 3),
        (Calls(lambda x: x.unfold(2, 3, 1).mean(-1).unfold(3, 3, 1).mean(-1)), 3),
        (Calls(lambda x: torch.cat([x[:, :, :, :8], x[:, :, :, 8:]], 3)), 1),
        (
            nn.Sequential(
                nn.AvgPool2d(2), Calls(lambda x: nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
            ),
            2,
        ),
    ],
)
@pytest.mark.parametrize("image", [48, 64])
def test_the_window_does_not_grow_with_the_image(model, size, image):
    field = receptive_field(model, input_shape=(1, image, image))
    assert (field.size, field.whole, field.exact) == ((size, size), False, True)
    assert_as_by_gradients(model, image)


def test_rolling_moves_the_window_as_on_a_ring():
    model = nn.Sequential(conv(1, 1, 7, padding=3), Calls(lambda x: x.roll(5, 2)), conv(1, 1, 3))
    assert receptive_field(model, input_shape=(1, 32, 32)) == ReceptiveField((9, 9), (1, 1), (-8, -3))


def test_stride_of_a_map_that_was_doubled():
    doubled = nn.Sequential(conv(1, 1, 3), nn.Upsample(scale_factor=2))
    assert receptive_field(doubled, input_shape=(1, 8, 8)) == ReceptiveField((3, 3), (0.5, 0.5), (0, 0))


def test_the_row_says_what_the_whole_image_is():
    attention = nn.MultiheadAttention(2, 1, batch_first=True)
    model = nn.Sequential(conv(1, 2, 3), Calls(lambda x: attention(*[x.flatten(2).mT] * 3)[0]), nn.Linear(2, 2))
    assert [str(layer.receptive_field) for layer in infer_shapes(model, (1, 8, 8))] == [
        "3x3",
        "8x8 (whole)",
        "8x8 (whole)",
    ]
    assert str(infer_shapes(nn.GroupNorm(1, 2), (2, 8, 8))[0].receptive_field) == "8x8 (whole)"


def test_what_does_not_come_from_the_image_sees_nothing():
    model = Calls(lambda x: x.mean() + layer(torch.zeros(1, 4)))
    model.layer = layer = nn.Linear(4, 4)
    (found,) = infer_shapes(model, (1, 8, 8))
    assert (found.macs, str(found.receptive_field)) == (16, "none")


def test_a_field_that_is_not_known_is_a_bound():
    model = nn.Sequential(
        conv(1, 1, 3), Calls(lambda x: nn.functional.grid_sample(x, x.new_zeros(1, 4, 4, 2), align_corners=False))
    )
    assert str(receptive_field(model, "1", input_shape=(1, 8, 8))) == "at most 8x8 (whole)"


def test_a_tensor_of_the_models_own_that_is_written_to_is_a_warning():
    def forward(x):
        out = torch.zeros(x.shape)
        out[:, :, 1:] = x[:, :, 1:]
        return out

    with pytest.warns(
        cnnzoo.ProbeWarning, match="a tensor that the model made by itself is written to; receptive fields"
    ):
        infer_shapes(Calls(forward), (1, 8, 8))
