"""Parameters and multiply-adds: rows add up to totals, and totals are those of torch's own counter."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import cnnzoo
from cnnzoo import infer_shapes, summary


class Calls(nn.Module):
    """A network that is one function of its inputs and its layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs):
        return self.function(*inputs, *self.layers)


def counted_by_torch(model, *shapes):
    """Multiply-adds of one forward on the meta device."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.to("meta")(*(torch.zeros(1, *shape, device="meta") for shape in shapes))
    return counter.get_total_flops() // 2


def assert_adds_up(table, model):
    assert sum(layer.params for layer in table.layers) == table.params == sum(p.numel() for p in model.parameters())
    assert sum(layer.macs for layer in table.layers) == table.macs
    assert sum(layer.products for layer in table.layers) == table.products


def torchvision_network(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    builder = torchvision.models.get_model_builder(name)
    if "weights_backbone" in builder.__annotations__:
        options["weights_backbone"] = None
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, **options).eval()


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("googlenet", [(3, 224, 224)]),  # with auxiliary classifiers, which do not run
        ("inception_v3", [(3, 299, 299)]),
        ("vit_b_32", [(3, 224, 224)]),
        ("swin_t", [(3, 224, 224)]),
        ("swin_v2_t", [(3, 256, 256)]),
        ("maxvit_t", [(3, 224, 224)]),
        ("convnext_tiny", [(3, 224, 224)]),
        ("lraspp_mobilenet_v3_large", [(3, 224, 224)]),
        ("r3d_18", [(3, 8, 56, 56)]),
        ("mvit_v2_s", [(3, 16, 224, 224)]),
        ("swin3d_t", [(3, 8, 64, 64)]),
        ("raft_small", [(3, 128, 128), (3, 128, 128)]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_torchvision_adds_up_and_agrees_with_torchs_counter(name, shapes):
    model = torchvision_network(name)
    table = summary(model, *shapes)
    assert_adds_up(table, model)
    assert table.macs + table.products == counted_by_torch(model, *shapes)


@pytest.mark.parametrize(
    "name",
    [
        "resnetv2_50", "vit_tiny_patch16_224", "levit_128s", "mobilevit_s", "swin_tiny_patch4_window7_224", "coat_tiny",
        "xcit_nano_12_p16_224", "beit_base_patch16_224", "volo_d1_224", "edgenext_xx_small", "nf_resnet50", "ghostnet_100",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_timm_adds_up(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False).eval()
    table = summary(model)
    assert_adds_up(table, model)
    assert table.macs + table.products == counted_by_torch(model, table.input_shape)


def test_detectors_give_tables():
    model = torchvision_network("ssdlite320_mobilenet_v3_large")
    with pytest.warns(cnnzoo.ProbeWarning) as caught:
        table = summary(model, (3, 320, 320))
    assert any(
        "how many results there are depends on values (a mask, nonzero, NMS)" in str(one.message) for one in caught
    )
    assert_adds_up(table, model)
    assert table.macs == pytest.approx(583e6, rel=0.01)  # as torchvision publishes it


def test_weights_and_products_are_two_figures():
    table = summary(torchvision_network("vit_b_16"), (3, 224, 224))
    assert (table.macs, table.products) == (16_848_500_736, 715_327_488)  # 16.85 G, and 17.56 G together
    assert table.total == (
        "86,567,656 parameters, 16,848,500,736 multiply-adds + 715,327,488 in the products of attention"
    )
    (row,) = (row for row in table.rows() if row[0] == "encoder.layers.encoder_layer_0.self_attention")
    assert row[1:5] == ("MultiheadAttention", "197x768", "2,362,368", "464,781,312 + 59,610,624")


def test_what_does_not_run_has_a_row_of_its_own():
    model = torchvision_network("googlenet")
    rows = {row[0]: row for row in summary(model, (3, 224, 224)).rows()}
    assert rows["aux1.fc2"] == ("aux1.fc2", "Linear", "not run", "1,025,000", "", "")
    assert list(rows)[-1] == "fc"


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.query, self.layer = (
            nn.Parameter(torch.ones(8, 5)),
            nn.Parameter(torch.ones(3, 8)),
            nn.Linear(8, 8),
        )

    def forward(self, x):
        return x @ self.weight + (self.layer(self.query) @ self.weight).mean()


def test_parameters_of_ones_own_and_layers_on_learned_queries():
    table = summary(Own(), (8,))
    found = [(layer.name, layer.params, layer.macs, layer.products) for layer in table.layers]
    assert found == [("layer", 72, 3 * 64, 0), ("", 64, 40 + 3 * 40, 0)] or found == [
        ("layer", 72, 3 * 64, 0),
        ("", 64, 40, 3 * 40),
    ]


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_parametrised_weights_have_rows(wrap):
    model = nn.Sequential(wrap(nn.Conv2d(3, 4, 3))).eval()
    table = summary(model, (3, 9, 9))
    assert_adds_up(table, model)
    assert table.macs == 4 * 27 * 49
    assert {layer.name for layer in table.layers if layer.params} == {"0", "0.parametrizations.weight"} | (
        set() if wrap is nn.utils.parametrizations.weight_norm else {"0.parametrizations.weight"}
    )


def test_shared_weights_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    table = summary(model, (4,))
    assert_adds_up(table, model)
    assert (table.params, table.macs) == (24, 32)


def attend(query, key, layer):
    return layer(query, key, key)[0]


@pytest.mark.parametrize(
    ("model", "shapes", "macs", "products"),
    [
        (nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True), [(5, 8)], 5 * 2 * 24 * (14 + 18), 0),
        (nn.GRU(8, 6), [(5, 8)], 5 * 18 * 14, 0),
        (nn.RNN(8, 6, bias=False), [(5, 8)], 5 * 6 * 14, 0),
        (nn.LSTM(8, 6, proj_size=3), [(5, 8)], 5 * (24 * (8 + 3) + 18), 0),
        (nn.GRUCell(8, 6), [(8,)], 18 * 14, 0),
        (nn.Bilinear(4, 5, 6), [(4,), (5,)], 120, 0),
        (Calls(attend, nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True)), [(7, 8), (9, 5)], 1616, 1008),
        (Calls(attend, nn.MultiheadAttention(8, 2, batch_first=True)), [(7, 8), (9, 8)], 64 * (7 + 9 + 9 + 7), 1008),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), [(7, 8)], 7 * (4 * 64 + 2 * 128), 2 * 49 * 8),
        (Calls(lambda x, offset, conv: conv(x, offset(x)), nn.Conv2d(3, 18, 3, padding=1),
               torchvision.ops.DeformConv2d(3, 4, 3, padding=1)), [(3, 9, 9)], 81 * 27 * (18 + 4), 0),
        (Calls(lambda x, layer: torch.einsum("nchw,oc->nohw", x, layer.weight), nn.Linear(3, 4)), [(3, 5, 5)], 300, 0),
        (Calls(lambda x, layer: F.linear(x, layer.weight.view(-1, 3)), nn.Linear(6, 2)), [(7, 3)], 7 * 12, 0),
        (Calls(lambda x, layer: torch.tensordot(x, layer.weight, dims=([1], [1])), nn.Linear(3, 4)), [(3, 5, 5)], 300, 0),
        (Calls(lambda x, layer: torch.addmm(layer.bias, x, layer.weight.t()), nn.Linear(3, 4)), [(3,)], 12, 0),
        (Calls(lambda x, y: x @ y.mT), [(4, 3), (5, 3)], 0, 60),
        (Calls(lambda q: F.scaled_dot_product_attention(q, q, q)), [(2, 5, 3)], 0, 2 * 2 * 25 * 3),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_multiply_adds(model, shapes, macs, products):
    table = summary(model.eval(), *shapes)
    assert (table.macs, table.products) == (macs, products)
    assert_adds_up(table, model)


def test_a_probe_as_weight():
    model = Calls(lambda x, layer: F.linear(layer.weight, x), nn.Linear(6, 4))
    assert summary(model, (6,)).macs == 24


def test_a_table_that_a_layer_runs_on_counts():
    model = torchvision_network("swin_v2_t")
    layers = {layer.name: layer for layer in infer_shapes(model, (3, 256, 256))}
    first = layers["features.1.0.attn.cpb_mlp.0"]
    assert (first.kind, first.output_shape, first.macs) == ("Linear", (15, 15, 512), 225 * 2 * 512)
    assert str(first.receptive_field) == "none"
