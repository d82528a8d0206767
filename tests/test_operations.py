"""Single operations over random arguments: what the probe says, and what torch does."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cnnzoo import ShapeError, infer_shapes
from cnnzoo.shapes.trace import trace

quick = settings(max_examples=60, deadline=None)


class Calls(nn.Module):
    """A network that is one function of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def assert_like_torch(function, *shapes):
    """The same shape and type as torch's result, or a `ShapeError` where torch refuses."""
    images = [torch.ones(1, *shape) for shape in shapes]
    try:
        expected = function(*images)
    except (RuntimeError, ValueError, IndexError):
        with pytest.raises(ShapeError):
            infer_shapes(Calls(function), *shapes)
        return
    shape = tuple(expected.shape[1:])
    if math.prod(expected.shape) == 0:  # what is empty, the probe may refuse
        return
    (layer,) = infer_shapes(Calls(function), *shapes)
    assert layer.output_shape == shape


maps = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))


@quick
@given(maps, st.data())
def test_interpolate(shape, data):
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic", "area"]))
    corners = data.draw(st.booleans()) if mode in ("bilinear", "bicubic") else None
    antialias = data.draw(st.booleans()) if mode in ("bilinear", "bicubic") else False
    options = {"mode": mode, "align_corners": corners, "antialias": antialias}
    if data.draw(st.booleans()):
        options["size"] = data.draw(st.one_of(st.integers(1, 12), st.tuples(st.integers(1, 12), st.integers(1, 12))))
    else:
        options["scale_factor"] = data.draw(st.sampled_from([0.5, 1.5, 2, 3, 1.7, (2.0, 0.4)]))
        options["recompute_scale_factor"] = data.draw(st.sampled_from([None, True])) if mode != "area" else None
    assert_like_torch(lambda x: F.interpolate(x, **options), shape)


@quick
@given(maps, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2))
def test_unfold_and_fold(shape, kernel, dilation, padding, stride):
    window = {"kernel_size": kernel, "dilation": dilation, "padding": padding, "stride": stride}
    assert_like_torch(lambda x: F.unfold(x, **window), shape)
    assert_like_torch(lambda x: F.fold(F.unfold(x, **window), x.shape[2:], **window), shape)


@quick
@given(
    maps,
    st.lists(st.integers(-2, 4), min_size=4, max_size=4),
    st.sampled_from(["constant", "reflect", "replicate", "circular"]),
)
def test_pad(shape, amounts, mode):
    if mode != "constant":
        amounts = [max(n, 0) for n in amounts]
    assert_like_torch(lambda x: F.pad(x, amounts, mode=mode), shape)


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_pixel_shuffle_and_unshuffle(channels, factor, height, width):
    assert_like_torch(lambda x: F.pixel_shuffle(x, factor), (channels * factor**2, height, width))
    assert_like_torch(lambda x: F.pixel_unshuffle(x, factor), (channels, height, width))


@quick
@given(
    maps,
    st.sets(st.integers(0, 3), max_size=4),
    st.booleans(),
    st.sampled_from(["mean", "sum", "amax", "amin", "std", "var", "logsumexp"]),
)
def test_reductions(shape, dims, keepdim, name):
    def function(x):
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of one number torch has no deviation
            out = getattr(torch, name)(x, dim=tuple(dims) or tuple(range(4)), keepdim=keepdim)
        return out if out.ndim > 1 else out.reshape(1, -1)

    if 0 not in dims or keepdim:
        assert_like_torch(function, shape)


@quick
@given(maps, st.permutations([1, 2, 3]), st.data())
def test_moves(shape, order, data):
    def function(x):
        x = x.permute(0, *order)
        x = x.flatten(start, end).unsqueeze(axis).roll(shift, 1)
        return x.flip(1).expand(2, *x.shape[1:]).transpose(0, 1).movedim(1, 0)

    start = data.draw(st.integers(1, 2))
    end = data.draw(st.integers(start, 3))
    axis, shift = data.draw(st.integers(1, 2)), data.draw(st.integers(-3, 3))
    assert_like_torch(function, shape)


entries = st.one_of(
    st.integers(-3, 3),
    st.none(),
    st.just(Ellipsis),
    st.builds(slice, *[st.one_of(st.none(), st.integers(-4, 4))] * 2, st.sampled_from([None, 1, 2])),
)


@quick
@given(maps, st.lists(entries, max_size=4))
def test_indexing(shape, index):
    if sum(entry is Ellipsis for entry in index) < 2:
        assert_like_torch(lambda x: x[(slice(None), *index)], shape)


@quick
@given(maps, st.data())
def test_indexing_by_tensors(shape, data):
    rows = data.draw(st.lists(st.integers(0, shape[1] - 1), min_size=1, max_size=4))
    grid = torch.tensor([rows, rows])
    assert_like_torch(lambda x: x[:, :, torch.tensor(rows)], shape)
    assert_like_torch(lambda x: x[:, :, grid], shape)
    assert_like_torch(lambda x: x.index_select(2, torch.tensor(rows)), shape)
    assert_like_torch(lambda x: x[:, torch.arange(shape[0]) % 2 == 0], shape)


@quick
@given(maps, st.integers(1, 4), st.integers(1, 3))
def test_splits(shape, count, dim):
    assert_like_torch(lambda x: x.chunk(count, dim)[-1], shape)
    assert_like_torch(lambda x: x.tensor_split(count, dim)[-1], shape)
    assert_like_torch(lambda x: x.split(count, dim)[-1], shape)
    assert_like_torch(lambda x: torch.cat([x, x], dim).repeat(1, count, 1, 1).repeat_interleave(count, dim), shape)
    assert_like_torch(lambda x: torch.stack(x.unbind(dim), dim), shape)
    assert_like_torch(lambda x: x.unfold(dim, count, 2), shape)


@quick
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_matrix_products(left, right, shared):
    assert_like_torch(lambda x, y: x @ y, (*left, shared), (shared, *right[:1]))
    assert_like_torch(lambda x: x @ torch.ones(shared, 2), (*left, shared))
    assert_like_torch(lambda x: torch.einsum("...k,kj->...j", x, torch.ones(shared, 2)), (*left, shared))
    assert_like_torch(lambda x, y: torch.einsum("nik,nkj->nji", x, y), (left[0], shared), (shared, right[0]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.glu(x, 1),
        lambda x: F.softshrink(x) + F.tanhshrink(x) * torch.randn_like(x).sign(),
        lambda x: x * x.numel() / x.stride(0),
        lambda x: x.movedim(1, -1).clamp(min=0).movedim(-1, 1),
        lambda x: torch.where(x > 0, x, 0.0).masked_fill(x < 1, 2),
        lambda x: x.topk(2, 1).values + x.sort(1)[0][:, :2] + x.cumsum(1)[:, 1:3],
        lambda x: x.max(1, keepdim=True)[0] + x.argmax(1, keepdim=True),
        lambda x: torch.var_mean(x, dim=(2, 3), keepdim=True)[0],
        lambda x: F.lp_pool2d(x, 2, 2) + F.avg_pool2d(x, 2),
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        lambda x: F.grid_sample(x, torch.zeros(1, 3, 5, 2), align_corners=False),
        lambda x: F.normalize(x).norm(dim=1, keepdim=True),
        lambda x: x.unflatten(1, (2, -1)).flatten(1, 2).view(x.shape[0], -1).view_as(x),
        lambda x: torch.zeros_like(x).copy_(x) + x.new_ones(x.shape).add_(1).mul_(x),
        lambda x: F.channel_shuffle(x, 2) + F.dropout2d(x) + x.to(torch.float64).float(),
        lambda x: torch.vmap(lambda one: one * 2 + one.sum())(x),
        lambda x: x.diff(dim=3).tril() + torch.tensordot(x, torch.ones(4), dims=([1], [0])).unsqueeze(1)[..., 1:],
    ],
)
@pytest.mark.filterwarnings("error")
def test_operations_that_need_no_warning(function):
    assert_like_torch(function, (4, 6, 6))


def test_writing_into_a_part():
    def function(x):
        out = x.new_zeros(x.shape[0], 8, *x.shape[2:])
        out[:, :4] = x
        out[:, 4:, 0] = 1
        return out

    (layer,) = infer_shapes(Calls(function), (4, 6, 6))
    assert (layer.output_shape, layer.receptive_field.size) == ((8, 6, 6), (1, 1))


def test_it_passes_for_a_tensor():
    seen = []

    def function(x):
        seen.append((isinstance(x, torch.Tensor), torch.is_tensor(x), x.device.type, x.dtype, f"{x}"))
        return x

    trace(Calls(function), (3, 8, 8))
    assert seen == [(True, True, "cpu", torch.float32, "ShapeProbe((1, 3, 8, 8))")]


def test_transforms_in_a_network():
    from torchvision.transforms import v2

    model = nn.Sequential(v2.Resize((16, 16)), v2.Normalize([0.5] * 3, [0.5] * 3), nn.Conv2d(3, 4, 3))
    assert [layer.output_shape for layer in infer_shapes(model, (3, 32, 32))] == [(3, 16, 16)] * 2 + [(4, 14, 14)]
