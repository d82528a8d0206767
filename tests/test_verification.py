"""Paper beside model: rounded figures, notes, counts, and the papers' files themselves."""

import io
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
import torch
from conftest import Variant
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn
from torch.nn import functional as F

import cnnzoo
import cnnzoo.construction
import cnnzoo.verification.initial
from cnnzoo.initialization import lecun1998
from cnnzoo.verification import QUANTITIES, Row, Verification, agrees, printed_networks
from cnnzoo.verification.computed import blank, computed
from cnnzoo.verification.initial import starts
from cnnzoo.verification.notation import parse, read, shown

Verify = Callable[..., Verification]


@pytest.fixture
def verify_rows(monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The figures of LeNet-5 of 1998 as if its paper printed these rows."""

    def verify(*rows: dict) -> Verification:
        (table,) = (one for one in printed_networks(cnnzoo.spec("lenet5")) if one.get("classic"))
        monkeypatch.setitem(table, "rows", [{"source": "here", **row} for row in rows])
        return figures_of(cnnzoo.verify("lenet5", classic=True))

    return verify


def figures_of(verification: Verification) -> Verification:
    """Without what the network computes."""
    return replace(verification, rows=tuple(row for row in verification.rows if row.quantity in QUANTITIES))


def marks(verification: Verification) -> list[str]:
    return [verification.cells(row)[4] for row in verification.rows]


@pytest.mark.parametrize(
    ("printed", "found", "expected"),
    [
        ("3.8G", 3_857_973_248, True),  # ResNet-50: the paper cuts digits off
        ("3.8G", 3_800_000_000, True),
        ("3.8G", 3_899_999_999, True),
        ("3.8G", 3_900_000_000, False),
        ("3.8G", 3_700_000_001, True),
        ("3.8G", 3_700_000_000, False),
        ("60M", 60_965_224, True),
        ("60M", 61_100_840, False),
        ("0.27M", 269_722, True),
        ("0.27M", 280_000, False),
        ("1.7M", 1_727_962, True),
        ("2.7K", 2_712, True),
        ("2.7K", 9_472, False),
        ("1000K", 1_000_999, True),
        ("1000K", 1_001_000, False),
        ("159K", 163_328, False),  # K is a thousand, also where a paper's is 1024
        ("0M", 999_999, True),
        (156, 156, True),
        (156, 157, False),
        ([6, 28, 28], [6, 28, 28], True),
        ([6, 28, 28], [6, 28, 27], False),
        ("60K", None, False),
        ("60K", [60], False),
    ],
)
def test_figures_agree_to_their_last_digit(printed, found, expected: bool) -> None:
    assert agrees(printed, found) is expected


@pytest.mark.parametrize(
    "text", ["", "60", "<25M", "60m", "60 M", "6,0M", ".5M", "5.M", "-5M", "60M ", "60M\n", "60Mi"]
)
def test_other_strings_agree_with_nothing(text: str) -> None:
    assert not any(agrees(text, found) for found in (0, 60, 60_000_000, 25_000_000, 500_000, 5_000_000))


@given(
    digits=st.integers(0, 9999),
    decimals=st.integers(0, 3),
    suffix=st.sampled_from(["K", "M", "G"]),
    distance=st.integers(-3 * 10**9, 3 * 10**9),
)
def test_agreement_is_less_than_a_unit_of_the_last_digit_away(
    digits: int, decimals: int, suffix: str, distance: int
) -> None:
    number = Decimal(digits).scaleb(-decimals)
    times = {"K": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9}[suffix]
    unit = int(times / 10**decimals)
    for off in (distance, distance % (2 * unit) - unit, unit, unit - 1, 1 - unit, -unit):
        assert agrees(f"{number:f}{suffix}", int(number * times) + off) is (-unit < off < unit)


def test_a_rounded_figure_counts_as_agreement_and_is_shown_as_printed(verify_rows: Verify) -> None:
    result = verify_rows({"layer": "total", "parameters": "60K", "connections": "341K"})
    assert result.ok
    assert [(row.paper, row.model, row.agrees) for row in result.rows] == [("60K", 60000, True), ("341K", 340908, True)]
    assert marks(result) == ["=", "="]
    assert result.cells(result.rows[0])[2:5] == ("60K", "60,000", "=")
    assert result.total == "2 figures: 2 agree (2 printed)"
    console = Console(file=io.StringIO(), width=120)
    console.print(result)
    assert "│ 60K   │ 60,000  │ = │" in console.file.getvalue()
    assert "<td>60K</td><td>60,000</td><td>=</td>" in result._repr_html_()


@pytest.mark.parametrize("wrong", ["61K", "59K", "60.1K", "59.9K", "0.6M", "60G"])
def test_a_wrong_rounded_figure_differs(verify_rows: Verify, wrong: str) -> None:
    result = verify_rows({"layer": "c1", "parameters": 156}, {"layer": "total", "parameters": wrong})
    assert not result.ok
    assert [row.ok for row in result.rows] == [True, False]
    assert marks(result) == ["=", "DIFFERS"]
    assert result.total == "2 figures: 1 agree, 1 DIFFER (2 printed)"


def test_a_figure_that_differs_as_noted(verify_rows: Verify) -> None:
    row = {"layer": "total", "parameters": "13.6M", "reads": {"parameters": 60000}, "note": "why"}
    result = verify_rows(row, {"layer": "c1", "parameters": 156})
    assert result.ok
    assert marks(result) == ["noted", "="]
    assert [row.note for row in result.rows] == ["why", ""]
    assert result.total == "2 figures: 1 agree, 1 differ as noted (2 printed)"


def test_it_differs_exactly_as_noted_or_not_at_all(verify_rows: Verify) -> None:
    one_off = {"layer": "total", "parameters": "13.6M", "reads": {"parameters": 60001}, "note": "why"}
    outdated = {"layer": "total", "parameters": "60K", "reads": {"parameters": 60965}, "note": "why"}
    for row in (one_off, outdated):
        result = verify_rows(row)
        assert not result.ok
        assert marks(result) == ["DIFFERS"]
        assert result.total == "1 figures: 0 agree, 1 DIFFER (1 printed)"


def test_counts_of_all_three_kinds() -> None:
    rows = (
        Row("a", "parameters", 1, 1, True, "Table 1", ""),
        Row("b", "parameters", "1K", 1400, True, "derived from Table 1", ""),
        Row("c", "parameters", "1K", 2000, True, "released code", "why"),
        Row("d", "parameters", "1K", 2000, False, "chosen: so", ""),
        Row("e", "parameters", "1K", 1000, False, "", "outdated"),
        Row("f", "output", [1], None, False, "", ""),
    )
    result = Verification("some", False, "a paper", rows)
    assert not result.ok
    assert marks(result) == ["=", "=", "noted", "DIFFERS", "DIFFERS", "DIFFERS"]
    assert (
        result.total == "6 figures: 2 agree, 1 differ as noted, 3 DIFFER (1 printed, 1 released, 1 derived, 1 chosen)"
    )


def test_a_note_beside_reads_is_about_what_differs(verify_rows: Verify) -> None:
    row = {"layer": "c1", "output": [6, 28, 28], "parameters": "150K", "reads": {"parameters": 156}, "note": "why"}
    result = verify_rows(row)
    assert [(row.quantity, row.note) for row in result.rows] == [("output", ""), ("parameters", "why")]


def test_a_note_without_reads_is_a_remark(verify_rows: Verify) -> None:
    result = verify_rows(
        {"layer": "c1", "output": [6, 28, 28], "note": "printed in a figure"}, {"layer": "s2", "output": [6]}
    )
    assert [(row.ok, row.note) for row in result.rows] == [(True, "printed in a figure"), (False, "")]
    assert marks(result) == ["=", "DIFFERS"]
    assert "printed in a figure" in result._repr_html_()


def test_several_totals(verify_rows: Verify) -> None:
    result = verify_rows(
        {"layer": "total", "parameters": "60K", "source": "abstract"},
        {"layer": "total", "parameters": 60000, "connections": 340908, "source": "sum"},
    )
    assert [(row.source, row.model) for row in result.rows] == [("abstract", 60000), ("sum", 60000), ("sum", 340908)]
    assert result.ok


def test_a_layer_that_is_not_there(verify_rows: Verify) -> None:
    result = verify_rows({"layer": "c9", "output": [1], "parameters": "1K"})
    assert [row.model for row in result.rows] == [None, None]
    assert result.cells(result.rows[1])[2:5] == ("1K", "none", "DIFFERS")


def test_a_part_of_the_chain_counts_as_the_sum_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    (table,) = printed_networks(cnnzoo.spec("tutorial_cifar_resnet"))
    row = {"layer": "layer2", "output": [32, 16, 16], "parameters": "46K", "macs": "12M", "source": "here"}
    monkeypatch.setitem(table, "rows", [row])
    result = figures_of(cnnzoo.verify("tutorial_cifar_resnet"))
    model = cnnzoo.create("tutorial_cifar_resnet", device="meta")
    leaves = [one for one in cnnzoo.infer_shapes(model, model.input_shape) if one.name.startswith("layer2.")]
    found = {row.quantity: row.model for row in result.rows}
    assert found["output"] == list(leaves[-1].output_shape)
    assert found["parameters"] == sum(one.params for one in leaves)
    assert found["macs"] == sum(one.macs for one in leaves)


# The papers' files


def test_every_variant_has_one_table(variant: Variant) -> None:
    tables = printed_networks(cnnzoo.spec(variant.name))
    assert [table.get("classic", False) for table in tables].count(variant.classic) == 1


@pytest.mark.parametrize("name", cnnzoo.list_models())
def test_rows_are_well_formed(name: str) -> None:
    spec = cnnzoo.spec(name)
    known = {"layer", "source", "reads", "note", *QUANTITIES}
    for table in printed_networks(spec):
        assert table.keys() == {"name", "input", "rows", "computes", "init"} | (table.keys() & {"classic"})
        assert spec.has_classic or not table.get("classic", False)
        for row in table["rows"]:
            figures = {quantity: row[quantity] for quantity in QUANTITIES if quantity in row}
            assert row.keys() <= known, row
            assert row["source"], row
            assert figures, row
            assert row.get("reads", {}).keys() <= figures.keys(), row
            assert "reads" not in row or row["note"], row
            for quantity, reads in row.get("reads", {}).items():
                assert not agrees(figures[quantity], reads), f"{row} needs no reads"


def test_no_table_is_of_an_unknown_network() -> None:
    papers = {cnnzoo.spec(name).paper for name in cnnzoo.list_models()}
    named = {table["name"] for paper in papers for table in paper.table["networks"]}
    assert named == set(cnnzoo.list_models())


@pytest.mark.parametrize("name", cnnzoo.list_models())
def test_every_fact_of_every_line_has_a_source(name: str) -> None:
    paper = cnnzoo.spec(name).paper.table
    for table in printed_networks(cnnzoo.spec(name)):
        lines = read(table, paper)
        assert lines
        for line in lines:
            assert line.sources, line
            assert all(source for source, _ in line.sources), f"{line.expected}: a fact behind the last source"
            assert all(reading.note for reading in line.readings.values()), line


@pytest.mark.parametrize("name", cnnzoo.list_models())
def test_every_parameter_has_a_line_about_its_initialization(name: str) -> None:
    sources = cnnzoo.spec(name).paper.table.get("sources", {})
    for table in printed_networks(cnnzoo.spec(name)):
        options = {"classic": True} if table.get("classic") else {}
        model = cnnzoo.create(cnnzoo.spec(name).name, device="meta", **options)
        lines = starts(table["init"], sources)
        for parameter, _ in model.named_parameters():
            module = model.get_submodule(parameter.rpartition(".")[0])
            assert any(line.speaks_of(parameter, module) for line in lines), parameter


def test_every_source_and_block_of_a_file_is_used() -> None:
    papers = {cnnzoo.spec(name).paper for name in cnnzoo.list_models()}
    for paper in papers:
        table = paper.table
        texts = [network["computes"] + " ".join(network["init"]) for network in table["networks"]]
        text = "\n".join([*texts, *(block["lines"] for block in table.get("blocks", {}).values())])
        for source in table.get("sources", {}):
            used = f"[{source}]" in text or any(source in line.split() for line in text.splitlines())
            assert used, f"{paper.key}: nothing is from {source}"
        for block in table.get("blocks", {}):
            assert any(block in line.replace("unit=", "").split() for line in text.splitlines()), (
                f"{paper.key}: {block}"
            )


# The notation


@pytest.mark.parametrize(
    ("text", "kind", "facts"),
    [
        (
            "conv 11x11/4, 96 maps, pad 2, no bias",
            "conv",
            {"kernel": "11x11", "stride": "4", "maps": 96, "pad": "2", "bias": False},
        ),
        ("conv 1x7, 64 maps, pad 0x3, bias", "conv", {"kernel": "1x7", "pad": "0x3", "bias": True}),
        ("max 3x3/2, rounding up", "max", {"kernel": "3x3", "stride": "2", "rounding": "up"}),
        ("lrn, k 2, n 5, alpha 1e-4/5, beta 0.75", "lrn", {"k": 2, "n": 5, "alpha": 2e-5, "beta": 0.75}),
        ("dropout 0.4", "dropout", {"p": 0.4}),
        ("scale 1/8", "scale", {"by": 0.125}),
        ("global average", "global average", {}),
        ("bn, eps 1e-3, momentum 0.1, no scale and shift", "bn", {"eps": 1e-3, "affine": False}),
    ],
)
def test_notation(text: str, kind: str, facts: dict) -> None:
    found_kind, found, sources, _ = parse(f"{text} [Table 1]", {})
    assert found_kind == kind
    assert found.items() >= facts.items()
    assert [source for source, _ in sources] == ["Table 1"]
    assert parse(shown(found_kind, found), {})[:2] == (found_kind, found)  # what is shown is the notation


def test_notation_of_sources_and_readings() -> None:
    _, facts, sources, readings = parse("conv 3x3 [a], pad 1 (here 2: because, so) [b: c]", {"a": "section 1"})
    assert sources == (("section 1", ("", "kernel")), ("b: c", ("pad",)))
    assert facts["pad"] == "1"
    assert (readings["pad"].reads, readings["pad"].note) == ("2", "because, so")


def test_notation_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="unknown operation or block in 'convolve 3x3'"):
        parse("convolve 3x3", {})


# What a network computes


class Small(nn.Module):
    """Everything by function: no module says what it does."""

    def __init__(self, forward: Callable) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 3, 3, 3))
        self.wanted = forward

    def forward(self, x):
        return self.wanted(x, self.weight)


def kinds(forward: Callable) -> list[str]:
    return [shown(one.kind, one.facts) for one in computed(*blank(Small(forward)), (3, 8, 8)).operations]


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda x, w: F.relu(F.conv2d(x, w, padding=1)), ["conv 3x3, 4 maps, pad 1, no bias", "relu"]),
        (lambda x, w: torch.relu_(F.conv2d(x, w, stride=2)), ["conv 3x3/2, 4 maps, no bias", "relu"]),
        (lambda x, w: x.mean((2, 3)), ["global average"]),
        (lambda x, w: F.adaptive_avg_pool2d(x, 1).flatten(1), ["global average"]),
        (lambda x, w: F.avg_pool2d(x, 8), ["global average"]),
        (lambda x, w: F.adaptive_avg_pool2d(x, 8), []),
        (lambda x, w: x[:, :, ::2, ::2], ["subsample 2"]),
        (lambda x, w: F.avg_pool2d(x, 1, 2), ["subsample 2"]),
        (lambda x, w: F.pad(x, (0, 0, 0, 0, 1, 2)), ["zeros, before 1, after 2"]),
        (lambda x, w: torch.add(x, x.relu(), alpha=0.5), ["relu", "scale 0.5", "add"]),
        (lambda x, w: x + 0.5 * x.relu(), ["relu", "scale 0.5", "add"]),
        (lambda x, w: torch.cat([x, x.tanh()], 1), ["tanh", "cat"]),
        (lambda x, w: F.dropout(x, 0.3, training=False), ["dropout 0.3"]),
        (lambda x, w: F.dropout(x, 0.0), []),
        (lambda x, w: F.local_response_norm(x, 5, 1e-4, 0.75, 2.0), ["lrn, n 5, k 2, alpha 2e-05, beta 0.75"]),
        (lambda x, w: F.leaky_relu(x, 0.1), ["leaky_relu, argument 0 0.1, argument 1 False"]),
        (lambda x, w: x.view(1, -1).reshape(1, 3, 8, 8).contiguous(), []),
        (lambda x, w: x.permute(0, 1, 3, 2), ["permute, argument 0 0, argument 1 1, argument 2 3, argument 3 2"]),
    ],
)
def test_equal_computations_are_written_equally(forward: Callable, expected: list[str]) -> None:
    if not expected:  # the input itself comes out
        assert kinds(lambda x, w: forward(x, w).relu()) == ["relu"]
    else:
        assert kinds(forward) == expected


def test_a_change_in_place_is_one_of_the_identity_too() -> None:
    def faulty(x, w):
        out = F.relu(x, inplace=True)  # the shortcut is rectified as well
        return out.tanh() + x

    operations = computed(*blank(Small(faulty)), (3, 8, 8)).operations
    assert [one.kind for one in operations] == ["relu", "tanh", "add"]
    assert operations[2].takes == (1, 0)


def test_the_network_is_left_as_it_was() -> None:
    model = cnnzoo.create("cifar_resnet20", seed=0).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert cnnzoo.verify(model).ok
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_network_that_cannot_run_says_where() -> None:
    model = cnnzoo.alexnet(classic=True)
    model.conv3 = nn.Conv2d(99, 384, 3, padding=1)
    (first, *_) = cnnzoo.verify(model).differences
    assert (first.layer, first.quantity, first.paper) == ("conv3", "operation", "runs")
    assert "99" in first.model


# What users take for granted and nobody looked at


@pytest.mark.parametrize(
    ("name", "change", "layer", "quantity", "paper", "model"),
    [
        ("alexnet", lambda m: m.set_submodule("norm1", nn.Identity()), "norm1", "place", "lrn, n 5, k 2, alpha 0.0001, beta 0.75 after relu1", "none"),
        ("alexnet", lambda m: m.set_submodule("pool1", nn.AvgPool2d(3, 2)), "pool1", "operation", "max 3x3/2", "average 3x3/2"),
        ("lenet5", lambda m: m.set_submodule("tanh1", nn.ReLU()), "tanh1", "operation", "tanh", "relu"),
        ("alexnet", lambda m: m.set_submodule("drop7", nn.Dropout(0.4)), "drop7", "p", "dropout 0.5", "dropout 0.4"),
        ("resnet50", lambda m: setattr(m.conv2_x[1].conv2, "dilation", (2, 2)), "conv2_x.1.conv2", "dilation", "dilation 1", "dilation 2"),
    ],
)  # fmt: skip
def test_the_layer_and_the_setting_are_named(
    name: str, change: Callable, layer: str, quantity: str, paper: str, model: str
) -> None:
    network = cnnzoo.create(cnnzoo.spec(name).name, classic=True, init=False)
    change(network)
    rows = [(row.layer, row.quantity, row.paper, row.model) for row in cnnzoo.verify(network).differences]
    assert (layer, quantity, paper, model) in rows


def test_options_are_differences_from_the_paper() -> None:
    rows = cnnzoo.verify("alexnet", classic=True, lrn="released").differences
    assert [(row.layer, row.quantity, row.paper, row.model) for row in rows] == [
        ("norm1", "alpha", "alpha 0.0001", "alpha 2e-05"),
        ("norm2", "alpha", "alpha 0.0001", "alpha 2e-05"),
    ]
    assert not cnnzoo.verify("resnet18", shortcut="A").ok


def test_another_initialization_is_a_difference() -> None:
    network = cnnzoo.vgg16()
    cnnzoo.initialize(network, "zeros")  # what it holds is not what it starts with
    assert cnnzoo.verify(network).ok


@pytest.mark.parametrize("layer", ["c1", "s2", "c3", "f6"])
@pytest.mark.parametrize("factor", [2.0, 0.9])
def test_a_scale_that_is_multiplied_afterwards(layer: str, factor: float) -> None:
    def scheme(layers, generator=None) -> None:
        lecun1998(layers, generator)
        next(one for one in layers if one is chosen[0]).weight.mul_(factor)

    network = cnnzoo.construction.outline(lambda: cnnzoo.spec("lenet5").constructor(classic=True))
    network.init = scheme
    chosen: list[nn.Module] = []
    original = cnnzoo.verification.initial.initialize

    def remembered(model: nn.Module) -> nn.Module:
        chosen.append(model.get_submodule(layer))
        return original(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnnzoo.verification.initial, "initialize", remembered)
        rows = cnnzoo.verify(network).differences
    assert [(row.layer, row.quantity) for row in rows] == [(layer, "initialization")]


# Somebody else's network

torchvision = pytest.importorskip("torchvision.models")


@pytest.mark.parametrize(
    ("build", "name"),
    [
        ("alexnet", "alexnet"),
        ("vgg11", "vgg11"),
        ("vgg16_bn", "vgg16_bn"),
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
    ],
)
def test_torchvision_computes_the_same(build: str, name: str) -> None:
    found = cnnzoo.verify(getattr(torchvision, build), paper=name)
    assert {row.quantity for row in found.differences} <= {"initialization"}
    assert any(row.quantity == "initialization" for row in found.rows)


@pytest.mark.parametrize(("build", "name"), [("googlenet", "googlenet"), ("inception_v3", "inception_v3")])
def test_torchvision_inceptions_compute_the_same(build: str, name: str) -> None:
    with torch.device("meta"):
        network = getattr(torchvision, build)(aux_logits=False, init_weights=False)
    found = cnnzoo.verify(network, paper=name)
    assert found.ok, found.differences
    assert not any(row.quantity == "initialization" for row in found.rows)  # nobody knows how it was initialised


def test_what_differs_in_a_network_of_ones_own() -> None:
    def mine() -> nn.Module:
        model = torchvision.alexnet()
        model.features[2] = nn.AvgPool2d(3, 2)
        model.features[4] = nn.Tanh()
        return model

    rows = cnnzoo.verify(mine, paper="alexnet").differences
    assert [(row.layer, row.quantity, row.paper, row.model) for row in rows] == [
        ("pool1 (features.2)", "operation", "max 3x3/2", "average 3x3/2"),
        ("relu2 (features.4)", "operation", "relu", "tanh"),
    ]


def test_a_network_without_a_paper() -> None:
    with pytest.raises(cnnzoo.OptionError, match="does not say which paper it is from; name one of the networks"):
        cnnzoo.verify(nn.Sequential(nn.ReLU()))
    with pytest.raises(cnnzoo.OptionError, match="verify: num_classes: options belong to a name"):
        cnnzoo.verify(cnnzoo.alexnet(), num_classes=3)
    with pytest.raises(cnnzoo.UnknownNameError, match="verify: unknown network 'alexnett'"):
        cnnzoo.verify(nn.Sequential(nn.ReLU()), paper="alexnett")
