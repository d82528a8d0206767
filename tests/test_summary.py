"""The layer table: totals, text, HTML, and where its input shape comes from."""

import re

import pytest
import torch
import torchvision
from torch import nn

import cnnzoo
from cnnzoo import OptionError, ShapeError, infer_shapes, summary
from cnnzoo.shapes.summary import COLUMNS


@pytest.fixture
def lenet5():
    return cnnzoo.lenet5()


def chain(name="conv", layer=None):
    """A network that does not say what it takes."""
    model = nn.Sequential()
    model.add_module(name, layer or nn.Conv2d(1, 2, 3))
    return model


def test_fields(lenet5):
    table = summary(lenet5)
    assert (table.title, table.input_shape) == ("lenet5", (1, 28, 28))
    assert table.layers == tuple(infer_shapes(lenet5, (1, 28, 28)))
    assert (table.params, table.trainable, table.macs) == (61_706, 61_706, 416_520)


def test_classic_counts_the_connections_that_exist():
    table = summary(cnnzoo.lenet5(classic=True))
    assert table.params == 60_000
    assert table.macs == 6 * 25 * 28 * 28 + 60 * 25 * 10 * 10 + 120 * 400 + 84 * 120


def test_input_shape_given_wins(lenet5):
    table = summary(lenet5[:3], (1, 40, 30))
    assert (table.title, table.input_shape, table.layers[-1].output_shape) == ("CNN", (1, 40, 30), (6, 20, 15))


def test_title_of_a_network_from_elsewhere_is_its_class():
    with torch.device("meta"):
        table = summary(torchvision.models.alexnet(), (3, 224, 224))
    assert (table.title, table.params, table.macs) == ("AlexNet", 61_100_840, 714_188_480)
    assert str(table).startswith("AlexNet on 3x224x224")


def test_layer_used_twice_counts_once():
    model = chain()
    model.append(nn.ConstantPad2d(0, 0))
    conv = nn.Conv2d(2, 2, 1)
    model.extend([conv, conv])
    table = summary(model, (1, 5, 5))
    assert table.params == sum(layer.params for layer in table.layers) == 20 + 6
    assert table.macs == 18 * 9 + 2 * 4 * 9


def test_multiply_adds_of_weights_that_belong_to_no_leaf():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    assert summary(Attention().eval(), (5, 8)).macs == 5 * (8 * 24 + 8 * 8)


def test_multiply_adds_of_a_network_that_returns_several_maps():
    with torch.device("meta"):
        model = torchvision.models.segmentation.fcn_resnet50(weights_backbone=None).eval()
    assert summary(model, (3, 224, 224)).macs == 26_484_498_432


def test_rows(lenet5):
    rows = {row[0]: row for row in summary(lenet5).rows()}
    assert list(rows) == [name for name, _ in lenet5.named_children()]
    assert all(len(row) == len(COLUMNS) for row in rows.values())
    assert rows["c3"] == ("c3", "Conv2d", "16x10x10", "2,416", "240,000", "14x14")
    assert rows["s2"] == ("s2", "AvgPool2d", "6x14x14", "", "", "6x6")
    assert rows["output"] == ("output", "Linear", "10", "850", "840", "32x32 (whole)")


def test_text(lenet5):
    title, *lines = (line.strip() for line in str(summary(lenet5)).splitlines())
    assert title == "lenet5 on 1x28x28"
    assert lines[-1] == "61,706 parameters, 416,520 multiply-adds"
    assert [cell.strip() for cell in re.split("[┃│]", lines[1])[1:-1]] == list(COLUMNS)
    printed = [tuple(cell.strip() for cell in line.split("│")[1:-1]) for line in lines if line.startswith("│")]
    assert printed == list(summary(lenet5).rows())


def test_text_cuts_nothing():
    name = "a_very_long_name_" * 8
    text = str(summary(chain(name), (1, 5, 5)))
    assert sum(name in line for line in text.splitlines()) == 1  # names are never broken


def test_frozen_parameters_show(lenet5):
    assert "trainable" not in str(summary(lenet5))
    cnnzoo.freeze(lenet5, until="c3")
    table = summary(lenet5)
    assert (table.params, table.trainable) == (61_706, 61_706 - 156 - 2_416)
    assert table.total == "61,706 parameters (59,134 trainable), 416,520 multiply-adds"
    assert table.total in str(table)
    assert table.total in table._repr_html_()


def test_html(lenet5):
    html = summary(lenet5)._repr_html_()
    caption = "lenet5 on 1x28x28: 61,706 parameters, 416,520 multiply-adds"
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    assert html.startswith(f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody><tr><td>c1</td>")
    assert re.findall(r"<tr><td>(\w+)</td>", html) == [name for name, _ in lenet5.named_children()]


def test_html_escapes_names():
    kind = type("Conv<b>", (nn.Conv2d,), {})
    model = type("Net<i>", (nn.Sequential,), {})()
    model.add_module("<script>&", kind(1, 2, 3))
    html = summary(model, (1, 5, 5))._repr_html_()
    assert "<td>&lt;script&gt;&amp;</td><td>Conv&lt;b&gt;</td>" in html
    assert "<caption>Net&lt;i&gt; on 1x5x5: " in html
    assert not {"<script>", "<b>", "<i>"} & set(re.findall("<[^>]*>", html))


def test_text_keeps_what_looks_like_markup():
    assert "[red]conv" in str(summary(chain("[red]conv"), (1, 5, 5)))


def test_input_shape_missing():
    with pytest.raises(
        OptionError, match=r"^summary: Sequential does not say what it takes; pass input_shape=\(C, H, W\)$"
    ):
        summary(chain())


def test_layer_that_cannot_take_its_input():
    with pytest.raises(ShapeError, match=r"layer conv \(Conv2d\) takes 1 input channel\(s\), got 3 \(3x5x5\)\.$"):
        summary(chain(), (3, 5, 5))
