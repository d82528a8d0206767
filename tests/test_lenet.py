"""LeNet-5 against its paper, computed a second time by other means."""

import math

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.models.lenet import TABLE_I, digit_codes
from cnnzoo.nn import ConnectionTableConv2d, RBFOutput, ScaledTanh, Subsample


def separate_convolutions(layer: ConnectionTableConv2d, x: torch.Tensor) -> torch.Tensor:
    """Sixteen convolutions, each over the maps that its row of the table lists."""
    outputs, start = [], 0
    for row, inputs in enumerate(layer.table):
        kernels = layer.weight[start : start + len(inputs)].unsqueeze(0)
        outputs.append(nn.functional.conv2d(x[:, list(inputs)], kernels, layer.bias[row : row + 1]))
        start += len(inputs)
    return torch.cat(outputs, 1)


def test_layers_of_1998_in_order() -> None:
    names = list(dict(cnnzoo.lenet5(classic=True).named_children()))
    assert [name for name in names if not name.startswith("tanh") and name != "flatten"] == [
        *("c1", "s2", "c3", "s4", "c5", "f6", "output")
    ]


def test_table_i_is_the_papers() -> None:
    crosses = [sum(i in row for row in TABLE_I) for i in range(6)]
    assert [len(row) for row in TABLE_I] == [3] * 6 + [4] * 9 + [6]
    assert crosses == [10] * 6  # each map of S2 feeds ten maps of C3
    assert len({frozenset(row) for row in TABLE_I}) == 16  # and no two maps of C3 see the same


def test_connection_table_equals_sixteen_convolutions() -> None:
    torch.manual_seed(0)
    layer = ConnectionTableConv2d(6, TABLE_I, 5).double()
    x = torch.randn(3, 6, 14, 14, dtype=torch.float64, requires_grad=True)
    assert sum(p.numel() for p in layer.parameters()) == 1516
    ours, theirs = layer(x), separate_convolutions(layer, x)
    assert torch.allclose(ours, theirs, atol=1e-12)
    variables = (x, layer.weight, layer.bias)
    toward = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * toward).sum(), variables),
        torch.autograd.grad((theirs * toward).sum(), variables),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)


def test_connection_table_with_every_connection_is_a_convolution() -> None:
    table = [range(4)] * 3
    layer, dense = ConnectionTableConv2d(4, table, 3), nn.Conv2d(4, 3, 3)
    with torch.no_grad():
        layer.weight.copy_(dense.weight.view(12, 3, 3))
        layer.bias.copy_(dense.bias)
    x = torch.randn(2, 4, 8, 8)
    assert torch.allclose(layer(x), dense(x), atol=1e-6)


@pytest.mark.parametrize("table", [[[0], []], [[0, 0]], [[6]], [[-1]]])
def test_connection_table_refuses_what_is_none(table: list[list[int]]) -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"row \d of the connection table is .*from 0 to 5"):
        ConnectionTableConv2d(6, table, 5)
    with pytest.raises(cnnzoo.OptionError, match="the connection table is empty"):
        ConnectionTableConv2d(6, [], 5)


def test_subsample_adds_multiplies_and_adds() -> None:
    layer = Subsample(3).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    y = layer(x)
    for c in range(3):
        window = x[1, c, 2:4, 0:2]
        assert y[1, c, 1, 0].item() == pytest.approx((window.sum() * layer.weight[c] + layer.bias[c]).item())
    assert torch.allclose(Subsample(3)(x.float()), nn.AvgPool2d(2)(x.float()))


def test_scaled_tanh_passes_through_one() -> None:
    squash = ScaledTanh()
    # 1.7159 tanh(2/3) = 1.00000..., the constants are printed with five digits
    assert squash(torch.tensor([-1.0, 0.0, 1.0])).tolist() == pytest.approx([-1, 0, 1], abs=1e-4)
    assert squash(torch.tensor(50.0)).item() == pytest.approx(1.7159)
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    assert torch.allclose(squash(x), torch.tensor([1.7159 * math.tanh(2 * v / 3) for v in x.tolist()]).double())


def test_rbf_scores_are_negative_squared_distances() -> None:
    codes = digit_codes()
    layer = RBFOutput(codes)
    features = torch.randn(5, 84)
    assert torch.allclose(layer(features), -torch.cdist(features, codes).square(), atol=1e-3)
    assert layer(codes).argmax(1).tolist() == list(range(10))
    assert list(layer.parameters()) == []
    with pytest.raises(cnnzoo.ShapeError, match="got 12 features, its codes have 84"):
        layer(torch.randn(1, 12))


def test_digit_codes_are_figure_3() -> None:
    codes = digit_codes()
    assert codes.shape == (10, 84)
    assert codes.unique().tolist() == [-1, 1]
    image = codes[7].view(12, 7)
    assert image[0].tolist() == [1] * 7  # the bar of the seven
    assert image[1].tolist() == [-1] * 5 + [1] * 2
    bars = [digit for digit in range(10) if codes[digit].view(12, 7)[0].tolist() == [-1, 1, 1, 1, 1, 1, -1]]
    assert bars == [0, 2, 4, 5, 8, 9]
    apart = [digit for digit in bars if codes[digit].view(12, 7)[1].tolist() == [-1] * 7]
    assert apart == [0, 2, 4, 5]  # a bar above the digit, which 8 and 9 have as their own round top
    assert torch.cdist(codes, codes).fill_diagonal_(99).min() > 0


def test_map_loss_is_equation_9() -> None:
    torch.manual_seed(0)
    y = torch.rand(6, 10, dtype=torch.float64) * 5  # penalties
    target, j = torch.tensor([0, 3, 9, 9, 1, 2]), 0.7
    by_hand = sum(
        y[p, target[p]].item() + math.log(math.exp(-j) + sum(math.exp(-v) for v in y[p].tolist())) for p in range(6)
    ) / len(target)
    assert cnnzoo.models.MAPLoss(j)(-y, target).item() == pytest.approx(by_hand)
    far = torch.full((1, 10), -1e4)  # no overflow where exp(-y) is 0
    assert cnnzoo.models.MAPLoss(1.0)(far, torch.tensor([0])).item() == pytest.approx(1e4 - 1)


@pytest.mark.parametrize("j", [0, -1])
def test_map_loss_needs_a_positive_constant(j: float) -> None:
    with pytest.raises(cnnzoo.OptionError, match=rf"MAPLoss: got j={j}; it is a positive constant"):
        cnnzoo.models.MAPLoss(j)


def test_classic_counts_of_the_paper() -> None:
    model = cnnzoo.lenet5(classic=True)
    assert sum(p.numel() for p in model.parameters()) == 60_000
    total = next(
        r for r in cnnzoo.verify("lenet5", classic=True).rows if (r.layer, r.quantity) == ("total", "connections")
    )
    assert total.paper == total.model == 340_908
    assert cnnzoo.summary(model).macs == 325_680


def test_classic_starts_within_the_papers_bounds() -> None:
    model = cnnzoo.create("lenet5", classic=True, seed=0)
    for layer, fan_in in ((model.c1, 25), (model.s2, 4), (model.c5, 400), (model.f6, 120)):
        assert layer.weight.abs().max() <= 2.4 / fan_in
    fan_in = model.c3.fans()[0]
    assert sorted(set(fan_in.flatten().tolist())) == [75, 100, 150]
    assert (model.c3.weight.abs() <= 2.4 / fan_in).all()
    assert (model.c3.weight.abs() * fan_in).max() > 2.3


@pytest.mark.parametrize("connections", ["dense", [[0, 1], [2, 3, 4, 5], [5]]])
def test_any_connection_table(connections) -> None:
    for classic in (True, False):
        model = cnnzoo.lenet5(classic=classic, connections=connections)
        expected = 6 * 16 * 25 if connections == "dense" else 7 * 25
        assert model.c3.weight.numel() == expected
        assert model(torch.zeros(1, *model.input_shape)).shape == (1, 10)


def test_default_is_what_everybody_builds() -> None:
    model = cnnzoo.lenet5()
    assert sum(p.numel() for p in model.parameters()) == 61_706
    twin = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )
    state = {
        key: v.view_as(w) for (key, w), v in zip(twin.state_dict().items(), model.state_dict().values(), strict=True)
    }
    twin.load_state_dict(state)
    x = torch.randn(3, 1, 28, 28)
    assert torch.allclose(model(x), twin(x), atol=1e-6)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [("activation", "relu", nn.ReLU), ("activation", "sigmoid", nn.Sigmoid), ("pool", "max", nn.MaxPool2d)],
)
def test_options_of_the_default(option: str, value: str, kind: type) -> None:
    assert any(isinstance(m, kind) for m in cnnzoo.create("lenet5", **{option: value}).modules())


def test_codes_for_other_classes() -> None:
    codes = torch.ones(3, 84)
    model = cnnzoo.lenet5(classic=True, num_classes=3, codes=codes)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    assert torch.equal(model.output.codes, codes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classic": True, "num_classes": 26}, r"lenet5: 26 classes with classic=True need codes= of shape \(26, 84\)"),
        ({"classic": True, "codes": torch.ones(9, 84)}, r"got codes of shape \(9, 84\)"),
        ({"codes": torch.ones(10, 84)}, r"codes= belongs to the RBF output of lenet5\(classic=True\)"),
        ({"classic": True, "activation": "relu"}, r"activation='relu' does not go with classic=True"),
        ({"classic": True, "pool": "max"}, r"pool='max' does not go with classic=True"),
        ({"activation": "gelu"}, r"lenet5: got activation='gelu'; it is one of 'tanh', 'relu', 'sigmoid'"),
        ({"pool": "mean"}, r"lenet5: got pool='mean'; it is one of 'avg', 'max'"),
        ({"num_classes": -1}, r"lenet5: got num_classes=-1, expected a whole number of at least 0"),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str) -> None:
    with pytest.raises(cnnzoo.OptionError, match=message):
        cnnzoo.lenet5(**options)
