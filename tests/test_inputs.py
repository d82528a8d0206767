"""What people pass in, and what they are told: several inputs, examples, sizes that do not work, compiled networks."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import cnnzoo
from cnnzoo import OptionError, ShapeError, infer_shapes, min_input_size, summary


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 + 5, 2)

    def forward(self, image, tokens):
        return self.head(torch.cat([self.body(image).mean((2, 3)), tokens], 1))


class Calls(nn.Module):
    """A network that is one function of its inputs and its layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs):
        return self.function(*inputs, *self.layers)


def outputs(*args, **kwargs):
    return [layer.output_shape for layer in infer_shapes(*args, **kwargs)]


def test_several_inputs():
    expected = [(4, 6, 6), (2,)]
    assert outputs(Siamese(), (3, 8, 8), (5,)) == expected
    assert outputs(Siamese(), input_shapes={"image": (3, 8, 8), "tokens": (5,)}) == expected
    assert outputs(Siamese(), (3, 8, 8), input_shapes={"tokens": (5,)}) == expected
    assert outputs(Siamese(), torch.zeros(7, 3, 8, 8), torch.zeros(7, 5)) == expected
    assert summary(Siamese(), (3, 8, 8), (5,)).heading == "Siamese on 3x8x8 and 5"


def test_two_images_share_their_coordinates():
    model = Calls(lambda x, y, conv: conv(x) - conv(y), nn.Conv2d(3, 4, 3))
    fields = [layer.receptive_field.size for layer in infer_shapes(model, (3, 8, 8), (3, 8, 8))]
    assert fields == [(3, 3), (3, 3)]


@pytest.mark.parametrize("kind", [dict, list])
def test_inputs_in_a_dict_or_list(kind):
    model = Calls(lambda x, conv: conv(x["image"] if kind is dict else x[0]), nn.Conv2d(3, 4, 3))
    assert outputs(model, {"image": (3, 8, 8)} if kind is dict else [(3, 8, 8)]) == [(4, 6, 6)]


def test_a_number_is_a_square():
    assert outputs(nn.Conv2d(3, 4, 3), 9) == [(4, 7, 7)]
    assert outputs(nn.Conv1d(3, 4, 3), 9) == [(4, 7)]
    assert outputs(nn.Linear(9, 2), 9) == [(2,)]


def test_integers_for_an_embedding():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    assert (
        outputs(model, (5,), dtype=torch.long)
        == outputs(model, torch.zeros(1, 5, dtype=torch.long))
        == [(5, 4), (5, 2)]
    )
    seen = []
    infer_shapes(Calls(lambda x: seen.append(x.dtype) or x), (5,), dtype=torch.float64)
    assert seen == [torch.float64]


def test_what_is_no_input():
    with pytest.raises(OptionError, match=r"^infer_shapes: got 'large' for an input; give its shape without the batch"):
        infer_shapes(nn.Conv2d(3, 4, 3), "large")
    message = r"^infer_shapes: Siamese\.forward takes \(image, tokens\), got 1 by place: missing a required argument: 'tokens'; give one"
    with pytest.raises(OptionError, match=message):
        infer_shapes(Siamese(), (3, 8, 8))
    with pytest.raises(
        OptionError, match=r"got 1 by place and words by name: .*got an unexpected keyword argument 'words'|mis"
    ):
        infer_shapes(Siamese(), (3, 8, 8), input_shapes={"words": (5,)})


def test_a_batch_included_by_habit():
    with pytest.raises(ShapeError, match=r"got \(1, 1, 3, 9, 9\); shapes are without the batch: pass \(3, 9, 9\)\.$"):
        infer_shapes(nn.Conv2d(3, 4, 3), (1, 3, 9, 9))


def test_channels_last():
    with pytest.raises(
        ShapeError,
        match=r"channels seem to be last, but images are \(N, C, H, W\): permute\(0, 3, 1, 2\) makes it 3x9x8",
    ):
        infer_shapes(nn.Conv2d(3, 4, 3), (9, 8, 3))
    model = Calls(lambda x, conv: conv(x.permute(0, 3, 1, 2)), nn.Conv2d(3, 4, (3, 2)))
    (layer,) = infer_shapes(model, (9, 8, 3))
    assert (layer.output_shape, layer.receptive_field.size) == ((4, 7, 7), (3, 2))


# Sizes that do not work


class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc1(x.view(-1, 16 * 5 * 5))


def test_view_of_the_wrong_size():
    with pytest.raises(ShapeError) as caught:
        infer_shapes(Tutorial(), (3, 36, 36))
    assert str(caught.value) == (
        "infer_shapes: input 3x36x36: Tutorial cannot view 16x6x6, which is 576 numbers, as (-1, 400), of which layer "
        "fc1 (Linear) takes 400. The way there: conv1 floor((36 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 -> 32, "
        "pool floor((32 + 2*0 - 1*(2 - 1) - 1) / 2) + 1 -> 16, conv2 floor((16 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 -> 12, "
        "pool floor((12 + 2*0 - 1*(2 - 1) - 1) / 2) + 1 -> 6. The smallest input that works is 32x32, the largest 35x35."
    )


def test_view_that_makes_one_image_several():
    assert Tutorial()(torch.zeros(1, 3, 52, 52)).shape == (4, 120)  # torch lets it pass
    with pytest.raises(
        ShapeError, match=r"takes 400 features, got 1600 \(16x10x10\) as 4 rows of 400: one image became sev"
    ):
        infer_shapes(Tutorial(), (3, 52, 52))
    rows = Calls(
        lambda x, layer: layer(x.permute(0, 2, 3, 1).reshape(-1, 4)), nn.Linear(4, 2)
    )  # pixels as rows are fine
    assert outputs(rows, (4, 5, 5)) == [(2,)]


def test_the_networks_own_size_is_named_first():
    model = cnnzoo.create("captcha_cnn", image_size=(50, 200), device="meta")
    with pytest.raises(ShapeError, match=r"This network takes 3x50x200\.$"):
        infer_shapes(model, (3, 100, 180))
    with pytest.raises(
        ShapeError, match=r"This network is made for 3x224x224; the smallest input that works is 32x32\.$"
    ):
        infer_shapes("vgg16", (3, 8, 8))


def test_a_network_that_checks_its_own_input():
    with torch.device("meta"):
        model = torchvision.models.vit_b_32().eval()
    assert min_input_size(model) == 224
    with pytest.raises(
        ShapeError, match=r"VisionTransformer refuses its input: Wrong image height! .* works is 224x224\.$"
    ):
        infer_shapes(model, (3, 200, 200))


def test_signals_and_volumes():
    assert min_input_size(nn.Sequential(nn.Conv1d(1, 2, 5), nn.MaxPool1d(4))) == 8
    assert min_input_size(nn.Sequential(nn.Conv3d(1, 2, 5), nn.MaxPool3d(4))) == 8
    with pytest.raises(
        ShapeError, match=r"^infer_shapes: input 1x4: Conv1d got 1x4, .* The smallest input that works is 5\.$"
    ):
        infer_shapes(nn.Conv1d(1, 2, 5), (1, 4))
    with pytest.raises(ShapeError, match=r"The smallest input that works is 5x5x5\.$"):
        infer_shapes(nn.Conv3d(1, 2, 5), (1, 6, 6, 4))


def test_too_lenient_no_more():
    with pytest.raises(ShapeError, match=r"wraps 4 pixels of 1x3x3 around: more than there are\. .* works is 4x4\.$"):
        infer_shapes(nn.Conv2d(1, 1, 9, padding=4, padding_mode="circular"), (1, 3, 3))
    with pytest.raises(
        ShapeError, match=r"InstanceNorm2d normalises over the map, got 3x1x1: one unit for each channel\."
    ):
        infer_shapes(nn.InstanceNorm2d(3), (3, 1, 1))


def test_the_error_says_where_in_ones_own_module():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3)

        def forward(self, x):
            return self.first(x) + self.second(x)

    model = nn.Sequential()
    model.add_module("stage", nn.Sequential(Block()))
    with pytest.raises(ShapeError, match=r"layer stage\.0 \(Block\) cannot combine 4x6x6 with 5x6x6\.$") as caught:
        infer_shapes(model, (3, 8, 8))
    assert caught.value.layer == "stage.0"


def test_the_line_that_asks_for_values_is_named():
    class Host(nn.Module):
        def forward(self, x):
            y = x * 2
            return y.detach().cpu().numpy()

    with pytest.raises(
        OptionError, match=r"at test_inputs\.py:\d+ \(`return y\.detach\(\)\.cpu\(\)\.numpy\(\)`\); shapes"
    ):
        infer_shapes(Host(), (3, 8, 8))


def test_values_after_the_last_layer_do_not_matter():
    model = Calls(lambda x, conv: conv(x).argmax().item(), nn.Conv2d(3, 4, 3))
    with pytest.warns(
        cnnzoo.ProbeWarning, match=r"after its last layer the model asks for values at test_inputs\.py:\d+ "
    ):
        table = summary(model, (3, 8, 8))
    assert (table.layers[0].output_shape, table.params, table.macs) == ((4, 6, 6), 112, 4 * 27 * 36)
    before = Calls(lambda x, first, last: last(first(x) * x.mean().item()), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with pytest.raises(OptionError, match="the model asks for the values of a tensor at"):
        summary(before, (3, 8, 8))


# Compiled networks


def test_compiled_networks_are_unwrapped():
    expected = [(4, 6, 6)]
    assert outputs(torch.compile(nn.Conv2d(3, 4, 3)), (3, 8, 8)) == expected
    assert outputs(nn.Sequential(torch.compile(nn.Conv2d(3, 4, 3))), (3, 8, 8)) == expected
    in_place = nn.Conv2d(3, 4, 3)
    in_place.compile()
    assert outputs(in_place, (3, 8, 8)) == expected


@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated")
def test_scripted_networks_are_refused_in_words():
    inner = torch.jit.script(nn.Conv2d(3, 4, 3))
    with pytest.raises(
        OptionError, match=r"it is a module of TorchScript, whose code is not Python; pass the module that"
    ):
        infer_shapes(inner, (3, 8, 8))
    with pytest.raises(OptionError, match=r"^summary: Sequential: its layer 0 is a module of TorchScript"):
        summary(nn.Sequential(inner), (3, 8, 8))
