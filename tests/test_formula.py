"""`output_size` against the layers of torch that it describes, and against printed sizes."""

import re
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from cnnzoo import OptionError, ShapeError, output_size

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
EMPTY = re.compile(r"Kernel size can't be greater than actual input size|Output size is too small")

thorough = settings(max_examples=200, deadline=None)


def one_for_all_or_each(draw, values, axes):
    """A number that serves every axis, or a tuple with its own number for each."""
    return draw(st.one_of(values, st.tuples(*[values] * axes)))


@st.composite
def convolutions(draw, axes, padding=None):
    """A size and the arguments of a convolution, empty outputs among them."""
    return draw(st.tuples(*[st.integers(1, 12)] * axes)), {
        "kernel_size": one_for_all_or_each(draw, st.integers(1, 5), axes),
        "stride": 1 if padding == "same" else one_for_all_or_each(draw, st.integers(1, 4), axes),
        "padding": one_for_all_or_each(draw, st.integers(0, 3), axes) if padding is None else padding,
        "dilation": one_for_all_or_each(draw, st.integers(1, 3), axes),
    }


@st.composite
def poolings(draw):
    """A size and the arguments of a pooling of two axes, padded by no more than half its window."""
    kernel = draw(st.tuples(*[st.integers(1, 5)] * 2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return draw(st.tuples(*[st.integers(1, 12)] * 2)), {
        "kernel_size": kernel[0] if kernel[0] == kernel[1] else kernel,
        "stride": one_for_all_or_each(draw, st.integers(1, 5), 2),
        "padding": padding[0] if padding[0] == padding[1] else padding,
        "ceil_mode": draw(st.booleans()),
    }


def torchs_size(layer, size):
    """The size of what a layer returns, or None where torch says that it would be empty."""
    try:
        return tuple(layer(torch.zeros(1, 1, *size)).shape[2:])
    except RuntimeError as error:
        if EMPTY.search(str(error)):
            return None
        raise


def our_size(size, options):
    """What `output_size` returns, or None where it says that the output would be empty."""
    try:
        return output_size(size, options["kernel_size"], **{k: v for k, v in options.items() if k != "kernel_size"})
    except ShapeError:
        return None


def assert_like(layer, size, options):
    assert our_size(size, options) == torchs_size(layer(**options), size)


def convolution(axes):
    return partial(CONVOLUTIONS[axes], 1, 1)


@pytest.mark.parametrize("axes", [1, 2, 3])
@thorough
@given(data=st.data())
def test_convolution(axes, data):
    assert_like(convolution(axes), *data.draw(convolutions(axes)))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@thorough
@given(data=st.data())
def test_padding_by_word(axes, padding, data):
    assert_like(convolution(axes), *data.draw(convolutions(axes, padding)))


@thorough
@given(poolings(), st.integers(1, 3))
@example(((3, 3), {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True}), 1)  # the last window is dropped
@example(((1, 1), {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": True}), 1)  # more window than image
@example(((1, 1), {"kernel_size": 4, "stride": 2, "padding": 0, "ceil_mode": True}), 1)  # empty all the same
def test_max_pooling(case, dilation):
    size, options = case
    assert_like(nn.MaxPool2d, size, options | {"dilation": dilation})


@thorough
@given(poolings())
def test_average_pooling(case):
    assert_like(nn.AvgPool2d, *case)


@thorough
@given(convolutions(1))
def test_a_number_is_one_axis(case):
    (size,), options = case
    options = {name: value[0] if isinstance(value, tuple) else value for name, value in options.items()}
    expected = our_size((size,), options)
    assert our_size(size, options) == (None if expected is None else expected[0])


@pytest.mark.parametrize(
    ("layer", "size", "kernel_size", "options", "expected"),
    [
        ("LeNet-5 C1", 32, 5, {}, 28),
        ("LeNet-5 S2", 28, 2, {"stride": 2}, 14),
        ("AlexNet conv1, 2012", 227, 11, {"stride": 4}, 55),
        ("AlexNet conv1, 2014", 224, 11, {"stride": 4, "padding": 2}, 55),
        ("AlexNet pool1", 55, 3, {"stride": 2}, 27),
        ("AlexNet pool2", 27, 3, {"stride": 2}, 13),
        ("AlexNet pool5", 13, 3, {"stride": 2}, 6),
        ("VGG conv", 224, 3, {"padding": 1}, 224),
        ("VGG pool5", 14, 2, {"stride": 2}, 7),
        ("GoogLeNet conv1", 224, 7, {"stride": 2, "padding": 3}, 112),
        ("GoogLeNet pool1", 112, 3, {"stride": 2, "ceil_mode": True}, 56),
        ("GoogLeNet pool1 without ceil mode", 112, 3, {"stride": 2}, 55),
        ("GoogLeNet pool4", 14, 3, {"stride": 2, "ceil_mode": True}, 7),
        ("ResNet pool1", 112, 3, {"stride": 2, "padding": 1}, 56),
        ("Inception-v3 conv0", 299, 3, {"stride": 2}, 149),
        ("Inception-v3 7x1", (17, 17), (7, 1), {"padding": (3, 0)}, (17, 17)),
        ("DeepLab's dilated 3x3", 28, 3, {"padding": 12, "dilation": 12}, 28),
        ("CAPTCHA pool1", (100, 180), 2, {"stride": 2}, (50, 90)),
        ("axes of their own", (9, 9, 9), (1, 2, 3), {"stride": (1, 2, 3), "padding": (0, 1, 1)}, (9, 5, 3)),
    ],
)
def test_printed_sizes(layer, size, kernel_size, options, expected):
    assert output_size(size, kernel_size, **options) == expected, layer


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        ({"size": 4, "kernel_size": 5}, "floor((4 + 2*0 - 1*(5 - 1) - 1) / 1) + 1 = 0"),
        ({"size": (9, 2), "kernel_size": 3, "stride": 2}, "floor((2 + 2*0 - 1*(3 - 1) - 1) / 2) + 1 = 0"),
        ({"size": 1, "kernel_size": 4, "padding": 1, "dilation": 3}, "floor((1 + 2*1 - 3*(4 - 1) - 1) / 1) + 1 = -6"),
        ({"size": 1, "kernel_size": 5, "stride": 2, "ceil_mode": True}, "ceil((1 + 2*0 - 1*(5 - 1) - 1) / 2) + 1 = -1"),
    ],
)
def test_empty_output_shows_the_formula(arguments, formula):
    with pytest.raises(ShapeError, match=re.escape(f"output_size: {formula}: the output is empty")) as caught:
        output_size(**arguments)
    assert caught.value.excess == -1


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"kernel_size": 0}, "kernel 0, stride 1, padding 0, dilation 1"),
        ({"kernel_size": 3, "stride": 0}, "kernel 3, stride 0, padding 0, dilation 1"),
        ({"kernel_size": 3, "padding": -1}, "kernel 3, stride 1, padding -1, dilation 1"),
        ({"kernel_size": 3, "dilation": 0}, "kernel 3, stride 1, padding 0, dilation 0"),
        ({"kernel_size": 3, "padding": "full"}, "kernel 3, stride 1, padding full, dilation 1"),
        ({"kernel_size": (3, -2)}, "kernel -2, stride 1, padding 0, dilation 1"),
    ],
)
def test_arguments_out_of_range(options, received):
    message = f"output_size: got {received}; kernel, stride and dilation are at least 1, padding is at least 0 or"
    with pytest.raises(OptionError, match=re.escape(message)):
        output_size((8, 8), **options)


def test_same_padding_takes_no_stride():
    with pytest.raises(OptionError, match="padding='same' goes with stride 1 only, as in torch; got stride 2"):
        output_size(8, 3, padding="same", stride=2)


@pytest.mark.parametrize(
    ("size", "options", "received"),
    [
        ((8, 8), {"kernel_size": (3, 3, 3)}, r"got \(3, 3, 3\) for a size with 2 axes"),
        ((8, 8, 8), {"kernel_size": 3, "stride": (2, 2)}, r"got \(2, 2\) for a size with 3 axes"),
        (8, {"kernel_size": 3, "padding": (1, 1)}, r"got \(1, 1\) for a size with 1 axes"),
        ((8, 8), {"kernel_size": 3, "dilation": (1,)}, r"got \(1,\) for a size with 2 axes"),
    ],
)
def test_number_of_axes(size, options, received):
    with pytest.raises(OptionError, match=f"output_size: {received}; give one number, or one for each axis"):
        output_size(size, **options)


TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@pytest.mark.parametrize("axes", [1, 2, 3])
@thorough
@given(data=st.data())
def test_transposed_convolution(axes, data):
    size, options = data.draw(convolutions(axes))
    each = [v if isinstance(v, tuple) else (v,) * axes for v in (options["stride"], options["dilation"])]
    limits = [max(s, d) - 1 for s, d in zip(*each, strict=True)]
    more = tuple(data.draw(st.integers(0, limit)) for limit in limits)
    layer = TRANSPOSED[axes](1, 1, **options, output_padding=more, device="meta")
    try:
        expected = tuple(layer(torch.zeros(1, 1, *size, device="meta")).shape[2:])
    except RuntimeError:
        expected = (0,)
    # torch lets some empty outputs pass and not others, whichever of its kernels it takes
    assert our_size(size, options | {"output_padding": more, "transposed": True}) == (
        expected if min(expected) else None
    )


def test_transposed_takes_lists_and_refuses_what_torch_refuses():
    assert output_size([7, 7], [3, 4], stride=2, padding=1, transposed=True) == (13, 14)
    with pytest.raises(OptionError, match=r"output_padding=1 belongs to transposed=True$"):
        output_size(7, 3, output_padding=1)
    with pytest.raises(
        OptionError, match=r"output_padding 2; .* output_padding is less than the larger of stride and d"
    ):
        output_size(7, 3, stride=2, output_padding=2, transposed=True)
    with pytest.raises(OptionError, match=r"got padding='same' with transposed=True, which takes numbers only$"):
        output_size(7, 3, padding="same", transposed=True)
    with pytest.raises(
        ShapeError, match=re.escape("output_size: (1 - 1)*1 - 2*2 + 1*(3 - 1) + 0 + 1 = -1: the output is")
    ):
        output_size(1, 3, padding=2, transposed=True)
