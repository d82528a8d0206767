"""Recipes against the figures their papers print: spread, bounds and structure of weights, biases, and random state.

A sampled mean or variance of n numbers lies within six standard errors of the true one: sqrt(variance / n) for the
mean, variance * sqrt((kurtosis - 1) / n) for the variance, where the kurtosis of a normal is 3 and of a uniform 1.8.
"""

import math
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.init import _calculate_fan_in_and_fan_out
from torch.nn.utils import prune

import cnnzoo
from cnnzoo import OptionError, UnknownNameError, initialize
from cnnzoo.initialization import (
    SCHEMES,
    InitializationWarning,
    constant,
    fans,
    glorot2010,
    he2015,
    krizhevsky2012,
    lecun1998,
    normal,
    orthogonal,
    simonyan2014,
    sparse,
    torch_default,
    zeros,
)
from cnnzoo.nn import ConnectionTableConv2d, Subsample

KURTOSIS = {"normal": 3.0, "uniform": 1.8}
WIDE = [
    partial(nn.Linear, 500, 300),
    partial(nn.Conv2d, 64, 200, 3),
    partial(nn.Conv2d, 64, 480, 5, groups=4),
    partial(nn.ConvTranspose2d, 96, 200, 3),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(model, value=math.nan):
    """The same model with every number overwritten."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(value)
    return model


def assert_distributed(sample, distribution, variance):
    """Mean 0 and this variance within six standard errors, and the tails of the distribution."""
    sample, n = sample.detach().double().flatten(), sample.numel()
    assert n > 90_000
    assert abs(sample.mean()) < 6 * math.sqrt(variance / n)
    assert abs(sample.var() - variance) < 6 * variance * math.sqrt((KURTOSIS[distribution] - 1) / n)
    largest = sample.abs().max() / math.sqrt(variance)
    if distribution == "uniform":  # sqrt(3) is the bound, and of so many numbers one comes close
        assert 0.99 * math.sqrt(3) < largest <= math.sqrt(3) * (1 + 1e-6)
    else:
        assert largest > 3.5


@pytest.mark.parametrize("make", WIDE)
@pytest.mark.parametrize(
    ("scheme", "distribution", "variance"),
    [
        ("lecun1998", "uniform", lambda fan_in, fan_out: (2.4 / fan_in) ** 2 / 3),
        (partial(lecun1998, exponent=0.5), "uniform", lambda fan_in, fan_out: 2.4**2 / fan_in / 3),
        ("krizhevsky2012", "normal", lambda fan_in, fan_out: 0.01**2),
        ("simonyan2014", "normal", lambda fan_in, fan_out: 0.01**2),
        (partial(simonyan2014, std=0.1), "normal", lambda fan_in, fan_out: 0.01),
        ("normal", "normal", lambda fan_in, fan_out: 0.01**2),
        (partial(normal, std=0.3), "normal", lambda fan_in, fan_out: 0.09),
        ("glorot2010", "uniform", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        (partial(glorot2010, distribution="normal"), "normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("he2015", "normal", lambda fan_in, fan_out: 2 / fan_in),
        (partial(he2015, distribution="uniform"), "uniform", lambda fan_in, fan_out: 2 / fan_in),
        (partial(he2015, mode="fan_out"), "normal", lambda fan_in, fan_out: 2 / fan_out),
        (partial(he2015, mode="fan_out", distribution="uniform"), "uniform", lambda fan_in, fan_out: 2 / fan_out),
    ],
)
def test_weights(make, scheme, distribution, variance):
    layer = filled(make())
    assert initialize(layer, scheme, generator=seeded()) is layer
    assert_distributed(layer.weight, distribution, variance(*fans(layer)))


def test_glorot_is_torchs_xavier():
    layer, torchs = nn.Conv2d(64, 200, 3), nn.Conv2d(64, 200, 3)
    initialize(layer, "glorot2010", generator=seeded())
    nn.init.xavier_uniform_(torchs.weight, generator=seeded(1))
    bound = math.sqrt(6 / (64 * 9 + 200 * 9))
    for weight in (layer.weight, torchs.weight):
        assert_distributed(weight, "uniform", bound**2 / 3)
        assert 0.999 * bound < weight.abs().max() <= bound


def test_he_is_torchs_kaiming():
    layer, torchs = nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3)
    for mode in ("fan_in", "fan_out"):
        initialize(layer, partial(he2015, mode=mode), generator=seeded())
        nn.init.kaiming_normal_(torchs.weight, mode=mode, nonlinearity="relu", generator=seeded())
        torch.testing.assert_close(layer.weight, torchs.weight)


@pytest.mark.parametrize("make", WIDE)
def test_torch_default_is_what_torch_does(make):
    """For a transposed convolution too, whose fan-in torch takes from the wrong axis of the weight."""
    torch.manual_seed(0)
    layer = make()
    bound = _calculate_fan_in_and_fan_out(layer.weight)[0] ** -0.5
    for _ in ("as torch makes it", "as the scheme does"):
        assert_distributed(layer.weight, "uniform", bound**2 / 3)
        assert 0.9 * bound < layer.bias.abs().max() <= bound
        initialize(filled(layer), "torch_default", generator=seeded())


# Biases


@pytest.mark.parametrize(("scheme", "factor"), [("torch_default", lambda n: n**-0.5), ("lecun1998", lambda n: 2.4 / n)])
def test_biases_as_connections(scheme, factor):
    layer = filled(nn.Linear(30, 100_000))
    initialize(layer, scheme, generator=seeded())
    assert_distributed(layer.bias, "uniform", factor(30) ** 2 / 3)


@pytest.mark.parametrize(
    "scheme", ["simonyan2014", "normal", "glorot2010", "he2015", "orthogonal", "sparse", "constant", "zeros"]
)
@pytest.mark.parametrize("make", [partial(nn.Linear, 20, 5), partial(nn.Conv2d, 3, 5, 3), partial(Subsample, 5)])
def test_biases_of_zero(scheme, make):
    assert torch.equal(initialize(filled(make()), scheme).bias, torch.zeros(5))


def test_krizhevsky_biases():
    """Ones in the second, fourth and fifth convolution and in the hidden linear layers."""
    convolutions = {f"conv{i}": nn.Conv2d(2, 2, 3) for i in (1, 2, 3, 4, 5)}
    model = nn.ModuleDict({**convolutions, **{f"fc{i}": nn.Linear(2, 2) for i in (6, 7, 8)}})
    initialize(filled(model), "krizhevsky2012")
    biases = {name: set(layer.bias.tolist()) for name, layer in model.items()}
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert biases == {name: {1.0} if name in ones else {0.0} for name in model}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "make", [nn.Linear, partial(nn.Conv2d, kernel_size=3), partial(nn.ConvTranspose1d, kernel_size=2)]
)
def test_layers_without_a_bias(scheme, make):
    layer = initialize(filled(make(6, 4, bias=False)), scheme)
    assert layer.bias is None
    assert layer.weight.isfinite().all()


# Structure


@pytest.mark.parametrize("make", [partial(nn.Linear, 30, 20), partial(nn.Linear, 20, 30), partial(nn.Conv2d, 4, 20, 3)])
@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_orthogonal(make, gain):
    weight = initialize(filled(make().double()), partial(orthogonal, gain=gain), generator=seeded()).weight.flatten(1)
    rows, columns = weight.shape
    product = weight @ weight.T if rows <= columns else weight.T @ weight
    torch.testing.assert_close(product, gain**2 * torch.eye(min(rows, columns), dtype=torch.float64), rtol=0, atol=1e-5)


def test_orthogonal_of_single_coefficients_is_the_gain():
    layer = initialize(filled(Subsample(5)), partial(orthogonal, gain=1.7))
    assert torch.equal(layer.weight, torch.full((5,), 1.7))


@pytest.mark.parametrize(
    ("make", "connections", "expected"),
    [
        (partial(nn.Linear, 100, 700), 15, 15),
        (partial(nn.Conv2d, 8, 700, 3), 15, 15),
        (partial(nn.Conv2d, 8, 700, 3), 4, 4),
        (partial(nn.Linear, 10, 700), 15, 10),  # a unit with fewer inputs keeps them all
    ],
)
def test_sparse(make, connections, expected):
    layer = initialize(filled(make()), partial(sparse, connections=connections, std=2.0), generator=seeded())
    units = layer.weight.detach().flatten(1)
    assert units.count_nonzero(1).unique().tolist() == [expected]
    kept = units[units != 0]
    assert abs(kept.std() - 2) < 6 * 2 / math.sqrt(2 * len(kept))
    assert units.count_nonzero(0).min() > 0  # no input is left out by all of 700 units
    assert len({tuple(row) for row in (units != 0).tolist()}) > 600 or expected == units.shape[1]


def test_sparse_default_is_fifteen():
    layer = initialize(nn.Linear(100, 20), "sparse", generator=seeded())
    assert layer.weight.count_nonzero(1).tolist() == [15] * 20


@pytest.mark.parametrize(
    "make", [partial(nn.ConvTranspose2d, 8, 6, 3), partial(ConnectionTableConv2d, 3, [(0, 1, 2)], 5)]
)
def test_sparse_units_that_are_not_rows(make):
    layer = initialize(make(), "sparse", generator=seeded())
    connections = layer.weight.count_nonzero()
    assert connections == 15 * layer.out_channels


def test_sparse_in_channels_last():
    layer = initialize(nn.Conv2d(8, 4, 3).to(memory_format=torch.channels_last), "sparse", generator=seeded())
    assert layer.weight.flatten(1).count_nonzero(1).tolist() == [15] * 4


@pytest.mark.parametrize(("scheme", "value"), [("constant", 0.1), (partial(constant, value=-2.0), -2.0), (zeros, 0.0)])
def test_constant(scheme, value):
    layer = initialize(filled(nn.Conv2d(3, 4, 5)), scheme)
    assert torch.equal(layer.weight, torch.full((4, 3, 5, 5), value))


# Fans


@pytest.mark.parametrize(
    "layer", [nn.Linear(7, 5), nn.Conv1d(6, 4, 5), nn.Conv2d(6, 4, (3, 2)), nn.Conv3d(2, 3, (1, 2, 3))], ids=repr
)
def test_fans_are_torchs(layer):
    assert fans(layer) == _calculate_fan_in_and_fan_out(layer.weight)


def test_fans_of_groups_stay_within_the_group():
    layer = nn.Conv2d(6, 4, 3, groups=2)
    fan_in, fan_out = _calculate_fan_in_and_fan_out(layer.weight)
    assert fans(layer) == (fan_in, fan_out // 2) == (27, 18)


@pytest.mark.parametrize("groups", [1, 2])
def test_fans_of_a_transposed_convolution_are_those_of_the_convolution_it_transposes(groups):
    transposed, convolution = nn.ConvTranspose2d(6, 4, 3, groups=groups), nn.Conv2d(4, 6, 3, groups=groups)
    assert fans(transposed) == fans(convolution)[::-1] == (54 // groups, 36 // groups)
    if groups == 1:
        assert fans(transposed) == _calculate_fan_in_and_fan_out(transposed.weight)[::-1]


# LeNet-5


def rows_of(c3):
    """For each map of C3 the inputs of a unit, its kernels and its bias."""
    kernels = c3.weight.detach().split([len(inputs) for inputs in c3.table])
    return [(25 * len(inputs), *pair) for inputs, *pair in zip(c3.table, kernels, c3.bias.tolist(), strict=True)]


def test_lecun_bounds_of_the_connection_table():
    c3 = initialize(cnnzoo.lenet5(classic=True), "lecun1998", generator=seeded()).c3
    assert [fan_in for fan_in, *_ in rows_of(c3)] == [75] * 6 + [100] * 9 + [150]
    assert {fan_in.item() for fan_in in fans(c3)[0].unique()} == {75, 100, 150}
    assert {fan_out.item() for fan_out in fans(c3)[1].unique()} == {250}  # each map of S2 feeds ten of C3
    for fan_in, kernels, bias in rows_of(c3):
        assert 0.9 * 2.4 / fan_in < kernels.abs().max() <= 2.4 / fan_in
        assert abs(bias) <= 2.4 / fan_in


def test_he_spread_of_the_connection_table():
    c3 = ConnectionTableConv2d(8, [range(size) for size in (1, 2, 4, 8)], 100)
    initialize(c3, "he2015", generator=seeded())
    for inputs, kernels in zip((1, 2, 4, 8), c3.weight.detach().split((1, 2, 4, 8)), strict=True):
        n, variance = kernels.numel(), 2 / (inputs * 100**2)
        assert abs(kernels.var() - variance) < 6 * variance * math.sqrt(2 / n)


@pytest.mark.parametrize("scheme", ["torch_default", "lecun1998"])
def test_bias_bounds_of_the_connection_table(scheme):
    bound = {"torch_default": lambda n: n**-0.5, "lecun1998": lambda n: 2.4 / n}[scheme]
    c3 = ConnectionTableConv2d(4, [(0,)] * 200 + [(0, 1, 2, 3)] * 200, 5)
    initialize(c3, scheme, generator=seeded())
    for fan_in, biases in zip((25, 100), c3.bias.detach().split(200), strict=True):
        assert 0.9 * bound(fan_in) < biases.abs().max() <= bound(fan_in)


def test_lecun_bounds_of_the_subsampling():
    layer = initialize(Subsample(2000), "lecun1998", generator=seeded())
    for parameter in (layer.weight, layer.bias):
        assert 0.99 * 2.4 / 4 < parameter.abs().max() <= 2.4 / 4


def test_codes_are_no_weights():
    model = cnnzoo.lenet5(classic=True)
    codes = model.output.codes.clone()
    initialize(model, "constant")
    assert torch.equal(model.output.codes, codes)


# Random state


class Mixed(nn.ModuleDict):
    """Layers that recipes speak of, layers that have a reset of their own, and a normalisation."""

    def __init__(self):
        super().__init__(
            {
                "embedding": nn.Embedding(5, 3),
                "gru": nn.GRU(3, 4, num_layers=2),
                "conv": nn.Conv2d(2, 3, 3),
                "norm": nn.BatchNorm2d(3),
                "bilinear": nn.Bilinear(2, 3, 4),
                "fc": nn.Linear(4, 2),
            }
        )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_generator_decides_and_the_global_one_is_left_alone(scheme):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    models = [initialize(filled(Mixed()), scheme, generator=seeded(seed)).state_dict() for seed in (1, 1, 2)]
    torch.set_rng_state(before)
    model = Mixed()
    state = torch.get_rng_state()
    again = initialize(filled(model), scheme, generator=seeded(1)).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(models[0], models[1], rtol=0, atol=0)
    torch.testing.assert_close(models[0], again, rtol=0, atol=0)
    for name in ("embedding.weight", "gru.weight_hh_l1", "bilinear.weight"):
        assert not torch.equal(models[0][name], models[2][name])


def test_generator_of_the_cpu_leaves_other_devices_alone(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    initialize(nn.Embedding(5, 3), generator=seeded())
    assert seeds == []


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in ("constant", "zeros")])
def test_without_a_generator_the_global_one_decides(scheme):
    def drawn(seed):
        model = filled(Mixed())
        torch.manual_seed(seed)
        return {name: p.clone() for name, p in initialize(model, scheme).named_parameters()}

    torch.testing.assert_close(drawn(1), drawn(1), rtol=0, atol=0)
    assert all(p.isfinite().all() for p in drawn(1).values())
    for name in ("fc.weight", "embedding.weight", "gru.weight_hh_l1"):
        assert not torch.equal(drawn(1)[name], drawn(2)[name])


def test_layers_draw_numbers_of_their_own():
    model = nn.ModuleList([nn.Embedding(50, 3), nn.Embedding(50, 3), nn.Linear(50, 3), nn.Linear(50, 3)])
    initialize(model, "normal", generator=seeded())
    one, two, three, four = (layer.weight for layer in model)
    assert not torch.equal(one, two)
    assert not torch.equal(three, four)


# Whole networks


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(4), nn.BatchNorm1d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LayerNorm(4)],
)
@pytest.mark.parametrize("scheme", ["he2015", "zeros", "krizhevsky2012"])
def test_normalisation_starts_as_the_identity(norm, scheme):
    initialize(filled(norm), scheme)
    assert torch.equal(norm.weight, torch.ones(4))
    assert torch.equal(norm.bias, torch.zeros(4))
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        norm.num_batches_tracked.fill_(7)
        initialize(norm, scheme)
        assert torch.equal(norm.running_mean, torch.zeros(4))
        assert torch.equal(norm.running_var, torch.ones(4))
        assert norm.num_batches_tracked == 0


def test_normalisation_without_parameters_is_left_alone():
    assert initialize(nn.BatchNorm2d(4, affine=False, track_running_stats=False)).weight is None


def assert_overwritten(model, scheme=None):
    """No number is left of what was there, except the codes of LeNet-5, which are no weights."""
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "output.codes"}
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.fill_(math.nan)
    initialize(model, scheme, generator=seeded())
    assert [name for name, tensor in state.items() if tensor.isnan().any()] == []


def test_own_recipe_overwrites_every_parameter(variant):
    assert_overwritten(variant.build(init=False))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("network", [partial(cnnzoo.lenet5, classic=True), cnnzoo.tutorial_cifar_resnet])
def test_every_recipe_overwrites_every_parameter(network, scheme):
    assert_overwritten(network(), scheme)


def test_default_is_the_networks_own_recipe():
    model = cnnzoo.CNN({"fc": nn.Linear(200, 100)}, init=partial(normal, std=5.0))
    assert 4 < initialize(model).fc.weight.std() < 6
    model.init = "constant"
    assert torch.equal(initialize(model).fc.weight, torch.full((100, 200), 0.1))


def test_default_for_a_network_that_has_none_is_torchs():
    one, two = torchvision.models.squeezenet1_0(), torchvision.models.squeezenet1_0()
    initialize(filled(one), generator=seeded())
    initialize(filled(two), torch_default, generator=seeded())
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=0, atol=0)
    assert one.classifier[1].weight.abs().max().item() == pytest.approx(512**-0.5, rel=1e-3)


def test_gradients_stay_as_they_were():
    model = cnnzoo.lenet5()
    model.c1.weight.requires_grad_(False)
    initialize(model, "orthogonal")
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["c1.weight"]
    assert all(p.is_leaf and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_types(scheme, dtype):
    model = initialize(filled(cnnzoo.lenet5(classic=True).to(dtype)), scheme, generator=seeded())
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(p.isfinite().all() for p in model.parameters())


# Errors


def test_unknown_recipe():
    with pytest.raises(UnknownNameError, match=r"^initialize: unknown scheme 'he2051': did you mean 'he2015'\?$"):
        initialize(nn.Linear(2, 2), "he2051")
    with pytest.raises(
        UnknownNameError, match=r"^initialize: unknown scheme 'xyz': known: torch_default, .*, zeros\.$"
    ):
        initialize(nn.Linear(2, 2), "xyz")


def test_unknown_mode():
    with pytest.raises(OptionError, match=r"^initialize: got mode='fan_avg'; it is 'fan_in' or 'fan_out'$"):
        initialize(nn.Linear(2, 2), partial(he2015, mode="fan_avg"))


@pytest.mark.parametrize("scheme", [he2015, glorot2010])
def test_unknown_distribution(scheme):
    with pytest.raises(OptionError, match=r"got distribution='cauchy'; it is 'uniform' or 'normal'$"):
        initialize(nn.Linear(2, 2), partial(scheme, distribution="cauchy"))


@pytest.mark.parametrize("scheme", [krizhevsky2012, lecun1998])
def test_recipe_of_no_layers(scheme):
    model = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert initialize(model, scheme) is model


# Layers that say themselves what they are


class Mixing(nn.Module):
    """A layer of one's own: each output sees every input through a weight of another shape than torch's."""

    def __init__(self, bias: str = "none") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((60, 300, 7), math.nan))
        if bias != "none":
            self.bias = nn.Parameter(torch.full((60,), math.nan))

    def fans(self) -> tuple[int, int]:
        return 2100, 420


class Uneven(Mixing):
    """Units with fans of their own."""

    def fans(self) -> tuple[Tensor, Tensor]:  # pyright: ignore
        fan_in = torch.arange(1.0, 61).view(60, 1, 1)
        return fan_in, torch.full_like(fan_in, 420)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("make", [Mixing, partial(Mixing, "one"), partial(Uneven, "one")])
def test_a_layer_with_fans_follows_every_scheme(make, scheme):
    layer = initialize(make(), scheme, generator=seeded())
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    if scheme == "he2015" and type(layer) is Mixing:
        assert_distributed(layer.weight, "normal", 2 / 2100)
    if scheme == "glorot2010" and type(layer) is Mixing:
        assert_distributed(layer.weight, "uniform", 2 / 2520)
    if scheme in ("torch_default", "lecun1998") and hasattr(layer, "bias"):
        fan_in = layer.fans()[0]
        bound = (fan_in**-0.5) if scheme == "torch_default" else 2.4 / fan_in
        bound = bound.flatten() if isinstance(bound, Tensor) else bound
        assert (layer.bias.abs() <= bound).all()


def test_fans_that_differ_within_a_unit_need_those_of_the_bias():
    class Within(Mixing):
        def fans(self):  # pyright: ignore
            return torch.ones(60, 300, 1), torch.ones(60, 300, 1)

    with pytest.raises(OptionError, match=r"the fans\(\) of Within differ within a unit, .*; give it unit_fan_in\(\)"):
        initialize(Within("one"), "lecun1998")


def parametrised():
    return nn.utils.parametrizations.weight_norm(nn.Linear(3, 3, bias=False))


def bare():
    layer = nn.Module()
    layer.scale = nn.Parameter(torch.zeros(3))
    return layer


def gated():
    layer = Mixing()
    layer.gate = nn.Parameter(torch.zeros(3))
    return layer


def pruned():
    return prune.identity(nn.Linear(3, 3, bias=False), "weight")


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (bare, ["layer.scale"]),
        (gated, ["layer.gate"]),
        (parametrised, ["layer.parametrizations.weight.original0", "layer.parametrizations.weight.original1"]),
        (pruned, ["layer.weight_orig"]),
        (lambda: prune.identity(nn.Embedding(3, 3), "weight"), ["layer.weight_orig"]),
        (lambda: prune.identity(nn.Linear(3, 3), "weight"), ["layer.weight_orig"]),
    ],
)
def test_a_parameter_that_no_rule_covers_is_named(make, names):
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), "layer": make()})
    before = {name: model.get_parameter(name).clone() for name in names}
    with pytest.warns(InitializationWarning) as met:
        initialize(model, "he2015")
    assert len(met) == 1
    assert all(name in str(met[0].message) for name in names)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in before.items())
    assert model.fc.bias.eq(0).all()


def test_a_reset_reaches_what_shares_its_memory():
    layer = nn.utils.spectral_norm(nn.Conv2d(3, 3, 1))
    initialize(filled(layer))
    assert layer.weight_orig.isfinite().all()


def test_multihead_attention_has_a_rule():
    layer = nn.MultiheadAttention(8, 2)
    with torch.no_grad():
        layer.in_proj_weight.fill_(math.nan)
    initialize(layer)
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
