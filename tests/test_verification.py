"""Paper beside model: rounded figures, notes, counts, and the papers' files themselves."""

import io
from collections.abc import Callable
from decimal import Decimal

import pytest
from conftest import Variant
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import cnnzoo
from cnnzoo.verification import QUANTITIES, Row, Verification, agrees, printed_networks

Verify = Callable[..., Verification]


@pytest.fixture
def verify_rows(monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verify LeNet-5 of 1998 as if its paper printed these rows."""

    def verify(*rows: dict) -> Verification:
        (table,) = (one for one in printed_networks(cnnzoo.spec("lenet5")) if one.get("classic"))
        monkeypatch.setitem(table, "rows", [{"source": "here", **row} for row in rows])
        return cnnzoo.verify("lenet5", classic=True)

    return verify


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
    assert result.total == "2 figures: 2 agree"
    console = Console(file=io.StringIO(), width=120)
    console.print(result)
    assert "│   60K │  60,000 │ = │" in console.file.getvalue()
    assert "<td>60K</td><td>60,000</td><td>=</td>" in result._repr_html_()


@pytest.mark.parametrize("wrong", ["61K", "59K", "60.1K", "59.9K", "0.6M", "60G"])
def test_a_wrong_rounded_figure_differs(verify_rows: Verify, wrong: str) -> None:
    result = verify_rows({"layer": "c1", "parameters": 156}, {"layer": "total", "parameters": wrong})
    assert not result.ok
    assert [row.ok for row in result.rows] == [True, False]
    assert marks(result) == ["=", "DIFFERS"]
    assert result.total == "2 figures: 1 agree, 1 DIFFER"


def test_a_figure_that_differs_as_noted(verify_rows: Verify) -> None:
    row = {"layer": "total", "parameters": "13.6M", "reads": {"parameters": 60000}, "note": "why"}
    result = verify_rows(row, {"layer": "c1", "parameters": 156})
    assert result.ok
    assert marks(result) == ["noted", "="]
    assert [row.note for row in result.rows] == ["why", ""]
    assert result.total == "2 figures: 1 agree, 1 differ as noted"


def test_it_differs_exactly_as_noted_or_not_at_all(verify_rows: Verify) -> None:
    one_off = {"layer": "total", "parameters": "13.6M", "reads": {"parameters": 60001}, "note": "why"}
    outdated = {"layer": "total", "parameters": "60K", "reads": {"parameters": 60965}, "note": "why"}
    for row in (one_off, outdated):
        result = verify_rows(row)
        assert not result.ok
        assert marks(result) == ["DIFFERS"]
        assert result.total == "1 figures: 0 agree, 1 DIFFER"


def test_counts_of_all_three_kinds() -> None:
    rows = (
        Row("a", "parameters", 1, 1, True, "", ""),
        Row("b", "parameters", "1K", 1400, True, "", ""),
        Row("c", "parameters", "1K", 2000, True, "", "why"),
        Row("d", "parameters", "1K", 2000, False, "", ""),
        Row("e", "parameters", "1K", 1000, False, "", "outdated"),
        Row("f", "output", [1], None, False, "", ""),
    )
    result = Verification("some", False, "a paper", rows)
    assert not result.ok
    assert marks(result) == ["=", "=", "noted", "DIFFERS", "DIFFERS", "DIFFERS"]
    assert result.total == "6 figures: 2 agree, 1 differ as noted, 3 DIFFER"


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
    result = cnnzoo.verify("tutorial_cifar_resnet")
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
        assert table.keys() <= {"name", "classic", "input", "rows"}
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
