"""Drawings: every label legible, every connection the model's own, and nothing run."""

import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click.testing import CliRunner
from PIL import ImageFont
from torch import nn

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.drawing.drawing import Drawing
from cnnzoo.drawing.flow import INVISIBLE, follow
from cnnzoo.drawing.layout import Gaps, arrange, sections
from cnnzoo.drawing.parts import Frame, assembled
from cnnzoo.drawing.svg import shortened, text_width, wrapped

SVG = "{http://www.w3.org/2000/svg}"
STYLES = ("volumes", "graph")
THOUSAND = ("cifar_resnet1202", "cifar_preresnet1001")
"""Networks of a thousand layers, which take a second."""
REGISTERED = [
    pytest.param(name, classic, id=f"{name}{'-classic' if classic else ''}")
    for name in cnnzoo.list_models(kind=None)
    if name not in THOUSAND
    for classic in ([False, True] if cnnzoo.spec(name).has_classic else [False])
]
SIZES = {"t": (15, True), "n": (11, True), "s": (10, False), "k": (10, False)}


def test_a_registered_name_takes_its_arguments() -> None:
    assert cnnzoo.draw("lenet5", classic=True).title == "lenet5 (classic)"
    with pytest.raises(cnnzoo.OptionError, match=r"draw: vgg16 takes no classic="):
        cnnzoo.draw("vgg16", classic=True)
    with pytest.raises(cnnzoo.OptionError, match=r"draw: got classic= with a network that is built already"):
        cnnzoo.draw(build("vgg16"), classic=True)


def build(name: str, classic: bool = False) -> nn.Module:
    options = {"classic": True} if classic else {}
    return cnnzoo.create(cnnzoo.spec(name).name, device="meta", **options)


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float
    text: str = ""

    def meets(self, other: "Box") -> bool:
        e = 0.05  # coordinates are written with one decimal
        return (
            self.left < other.right - e
            and other.left < self.right - e
            and self.top < other.bottom - e
            and other.top < self.bottom - e
        )


@cache
def font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, the widest of the fonts that a drawing names, at ten times its size."""
    matplotlib = pytest.importorskip("matplotlib", reason="the font that labels are measured with comes with it")
    folder = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size * 10)


def walk(element: ET.Element, dx: float = 0.0, dy: float = 0.0):
    """Every element with how far it is moved."""
    moved = re.findall(r"-?[\d.]+", element.get("transform", ""))
    if moved:
        dx, dy = dx + float(moved[0]), dy + float(moved[1])
    yield element, dx, dy
    for child in element:
        yield from walk(child, dx, dy)


def labels(drawing: Drawing) -> list[Box]:
    boxes = []
    for element, dx, dy in walk(ET.fromstring(drawing.svg)):
        if element.tag != f"{SVG}text":
            continue
        kind, *anchor = element.get("class", "").split()
        size, bold = SIZES[kind]
        assert element.text
        width = font(size, bold).getlength(element.text) / 10
        x, y = float(element.get("x", "")) + dx, float(element.get("y", "")) + dy
        left = x - {"m": width / 2, "e": width}.get(anchor[0] if anchor else "", 0.0)
        boxes.append(Box(left, y - 0.76 * size, left + width, y + 0.24 * size, element.text))
    return boxes


def nodes(drawing: Drawing) -> list[ET.Element]:
    return [element for element, _, _ in walk(ET.fromstring(drawing.svg)) if element.get("class") == "node"]


def told(drawing: Drawing) -> str:
    """What a pointer that rests on each node shows."""
    return "\n".join(title.text or "" for node in nodes(drawing) for title in node.iter(f"{SVG}title"))


def words(drawing: Drawing) -> set[str]:
    return {box.text for box in labels(drawing)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "classic"), REGISTERED)
def test_every_label_of_every_network_can_be_read(name: str, classic: bool, style) -> None:
    drawing = cnnzoo.draw(build(name, classic), style=style)
    assert drawing.width <= 1000
    assert len(drawing.svg.encode()) < 300_000
    boxes = sorted(labels(drawing))
    page = Box(0, 0, drawing.width, drawing.height)
    for index, box in enumerate(boxes):
        assert box.left >= page.left, box
        assert box.right <= page.right, box
        assert box.bottom <= page.bottom, box
        for other in boxes[index + 1 :]:
            if other.left >= box.right:
                break
            assert not box.meets(other), f"{box} and {other}"


@pytest.mark.parametrize(("name", "classic"), REGISTERED)
def test_labels_of_a_card_stay_on_it(name: str, classic: bool) -> None:
    drawing = cnnzoo.draw(build(name, classic), style="graph")
    known = {(round(box.left, 3), round(box.top, 3)): box for box in labels(drawing)}
    cards = []
    for element, dx, dy in walk(ET.fromstring(drawing.svg)):
        card = element.find(f"{SVG}rect") if element.get("class") == "node" else None
        if card is None:
            continue
        x, y, width, height = (float(card.get(key, "")) for key in ("x", "y", "width", "height"))
        outer = Box(x + dx, y + dy, x + dx + width, y + dy + height)
        cards.append(outer)
        inside = {text.text for text in element.iter(f"{SVG}text")}
        on_it = {box.text for box in known.values() if box.meets(outer)}
        assert inside == on_it
        assert all(outer.left <= box.left and box.right <= outer.right for box in known.values() if box.meets(outer))
    assert not any(one.meets(other) for i, one in enumerate(cards) for other in cards[i + 1 :])


def parameters_drawn(frame: Frame) -> int:
    return sum(
        item.count * (parameters_drawn(item) if isinstance(item, Frame) else item.params + follow_params(item))
        for item in frame.items
    )


def follow_params(card) -> int:
    return sum(layer.params for layer in card.followers)


@pytest.mark.parametrize("volumes", [False, True])
@pytest.mark.parametrize(("name", "classic"), REGISTERED)
def test_every_parameter_is_drawn(name: str, classic: bool, volumes: bool) -> None:
    model = build(name, classic)
    shape = getattr(model, "input_shape", None) or cnnzoo.spec(name).input_shape
    frame = assembled(follow(model, shape), name, lambda group, level: False, volumes=volumes)
    expected = sum(parameter.numel() for parameter in model.parameters())
    if not volumes:  # in volumes, boxes alike may differ in what they are given
        assert parameters_drawn(frame) == expected
    assert f"{expected:,} parameters" in cnnzoo.draw(model, style="volumes").svg


@pytest.mark.parametrize("name", ["vgg16", "lenet5", "googlenet", "bottleneck", "inception"])
def test_the_graph_has_every_layer_with_kind_shape_and_parameters(name: str) -> None:
    model = build(name)
    shape = getattr(model, "input_shape", None) or cnnzoo.spec(name).input_shape
    text = told(cnnzoo.draw(model, style="graph", depth=9))
    for layer in cnnzoo.infer_shapes(model, shape):
        lines = [line for line in text.splitlines() if line.startswith(f"{layer.name} {layer.kind}")]
        assert any(line.split(" to ")[1].startswith("×".join(map(str, layer.output_shape))) for line in lines), layer
        if layer.params:
            assert any(line.endswith(f"{layer.params:,} parameters") for line in lines), layer


# The connections, against torch.fx, which finds them another way.

PLAIN = {"iadd": "add", "imul": "mul", "concat": "cat", "getitem": "getitem"}


def fx_edges(model: nn.Module) -> Counter[tuple[str, str]]:
    graph = torch.fx.symbolic_trace(model).graph

    def names(node: torch.fx.Node) -> list[str]:
        if node.op == "placeholder":
            return ["input"]
        if node.op == "call_module":
            return [str(node.target)]
        name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", node.target))
        name = PLAIN.get(name.strip("_"), name.strip("_"))
        if name in INVISIBLE or name in {"shape", "dim", "getattr", "floordiv"}:
            return [one for source in node.all_input_nodes for one in names(source)]
        return [name]

    edges: Counter[tuple[str, str]] = Counter()
    for node in graph.nodes:
        if node.op in ("placeholder", "output", "get_attr"):
            continue
        own = names(node)
        if len(own) != 1 or own[0] == "input":
            continue
        name = str(node.target).strip("_") if node.op != "call_module" else ""
        if name and PLAIN.get(name, name) in INVISIBLE:
            continue
        sources = set(node.all_input_nodes)
        edges.update((one, own[0]) for source in sources for one in names(source))
    return edges


def own_edges(model: nn.Module, shape: tuple[int, ...]) -> Counter[tuple[str, str]]:
    def name(layer) -> str:
        return "input" if layer is None else layer.name or layer.functions[0]

    return Counter((name(source), name(layer)) for layer in follow(model, shape) for source in layer.inputs)


@pytest.mark.parametrize("name", cnnzoo.list_models(kind="block"))
def test_connections_of_blocks_are_those_that_fx_finds(name: str) -> None:
    model = build(name)
    assert own_edges(model, cnnzoo.spec(name).input_shape) == fx_edges(model)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "squeezenet1_0", "mobilenet_v2", "mnasnet1_0"])
def test_connections_of_torchvisions_networks_are_those_that_fx_finds(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
    assert own_edges(model, (3, 224, 224)) == fx_edges(model)


def test_an_in_place_operation_feeds_what_reads_its_input_later() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.conv(x)
            self.relu(y)
            y.add_(x)
            return y

    assert own_edges(InPlace(), (3, 8, 8)) == Counter(
        {("input", "conv"): 1, ("conv", "relu"): 1, ("relu", "add"): 1, ("input", "add"): 1}
    )


# What it looks like


def test_a_residual_block_has_its_shortcut_around_it() -> None:
    drawing = cnnzoo.draw("basic_block", style="graph")
    circles = list(ET.fromstring(drawing.svg).iter(f"{SVG}circle"))
    assert len(circles) == 1
    x, y = float(circles[0].get("cx", "")), float(circles[0].get("cy", ""))
    paths = [path.get("d", "") for path in ET.fromstring(drawing.svg).iter(f"{SVG}path")]
    ends = [[float(v) for v in re.findall(r"[\d.]+", d)][-2:] for d in paths if d.count("L") > 2]
    around = [(a, b) for a, b in ends if abs(b - y) < 0.2 and a > x]
    assert len(around) == 1, "one line reaches the addition from its side"


def test_a_projection_stands_beside_the_main_path() -> None:
    drawing = cnnzoo.draw(cnnzoo.create("basic_block", in_channels=64, out_channels=128, stride=2), style="graph")
    assert "downsample" in words(drawing)
    left = {box.text: box.left for box in labels(drawing)}
    assert left["downsample"] > left["conv1"] == left["conv2"]


def test_an_inception_block_has_four_branches_that_meet() -> None:
    boxes = {box.text: box for box in labels(cnnzoo.draw("inception", style="graph"))}
    branches = ["branch_1x1", "branch_3x3.0", "branch_5x5.0", "branch_pool.0"]
    lefts = [boxes[name].left for name in branches]
    assert lefts == sorted(lefts)
    assert len(set(lefts)) == 4
    assert boxes["branch_3x3.1"].left == boxes["branch_3x3.0"].left
    assert boxes["branch_3x3.1"].top > boxes["branch_3x3.0"].bottom
    assert boxes["concatenate"].top > max(box.bottom for name, box in boxes.items() if name.startswith("branch"))


def test_volumes_gather_what_repeats() -> None:
    assert {"conv4_x", "6 bottlenecks", "1024×14×14"} <= words(cnnzoo.draw("resnet50"))
    assert {"conv5_1–3", "512×14×14", "3 × conv 3×3"} <= words(cnnzoo.draw("vgg16"))
    assert {"inception_4a", "4 branches"} <= words(cnnzoo.draw("googlenet"))
    assert {"inception_b", "7 blocks of 4"} <= words(cnnzoo.draw("inception_v4"))


def test_the_graph_gathers_blocks_alike() -> None:
    assert {"conv4_x.1 – 5", "5 × Bottleneck"} <= words(cnnzoo.draw("resnet50", style="graph"))


def test_boxes_are_to_scale() -> None:
    fronts = {}
    for node in nodes(cnnzoo.draw("vgg16")):
        front = [rect for rect in node.iter(f"{SVG}rect") if rect.get("class") == "conv"]
        if front:
            size = float(front[0].get("width", "")), float(front[0].get("height", ""))
            fronts[next(node.iter(f"{SVG}text")).text] = size
    heights = {name: height for name, (_, height) in fronts.items()}
    assert heights["conv1_1–2"] / heights["conv3_1–3"] == pytest.approx(224 / 56, rel=0.02)
    assert heights["conv2_1–2"] / heights["conv4_1–3"] == pytest.approx(112 / 28, rel=0.02)
    lengths = {name: length for name, (length, _) in fronts.items()}
    assert lengths["conv4_1–3"] / lengths["conv2_1–2"] == pytest.approx(512 / 128, rel=0.02)


def test_lenet_is_drawn_map_by_map() -> None:
    drawing = cnnzoo.draw(build("lenet5", classic=True))
    maps = {}
    for node in nodes(drawing):
        texts = [text.text for text in node.iter(f"{SVG}text")]
        if texts:
            maps[texts[0]] = len([rect for rect in node.iter(f"{SVG}rect") if rect.get("class") in ("conv", "pool")])
    assert {name: maps[name] for name in ("c1", "s2", "c3", "s4")} == {"c1": 6, "s2": 6, "c3": 16, "s4": 16}


def test_depth_opens_and_closes_blocks() -> None:
    assert [len(nodes(cnnzoo.draw("resnet50", style=style, depth=0))) for style in STYLES] == [2, 1]
    model = build("resnet50")
    closed = cnnzoo.draw(model, style="graph", depth=1)
    assert {"conv1", "pool1", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "avgpool", "fc"} <= words(closed)
    assert "conv2_x.0" not in words(closed)
    assert {"conv2_x.0", "conv4_x.1 – 5"} <= words(cnnzoo.draw(model, style="graph", depth=2))
    assert "downsample" not in words(cnnzoo.draw(model, style="graph", depth=2))
    assert "downsample" in words(cnnzoo.draw(model, style="graph", depth=3))


def test_what_cannot_be_taken_apart_stands_in_one_line() -> None:
    class Part(NamedTuple):
        length: float = 10.0
        near: float = 5.0
        far: float = 5.0
        circle: bool = False

    parts = [Part() for _ in range(4)]
    edges = {(-1, 0), (-1, 2), (0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (3, 4)}
    assert sections(4, edges) == [[0, 1, 2], [3]]
    whole = arrange(parts, edges, Gaps(along=4, across=4, fork=6, lane=3))
    assert [across for _, _, across in whole.places] == [0.0] * 4
    starts = [along for _, along, _ in whole.places]
    assert starts == sorted(starts)
    assert all(b - a >= 10 for a, b in pairwise(starts))
    lanes = {across for line in whole.lines for _, across in line.points if across > 5}
    assert len(lanes) >= 2, "connections beside the line have lanes of their own"


# Text


def test_widths_are_those_of_the_font() -> None:
    for bold in (False, True):
        for text in (
            "conv1",
            "BatchNorm2d",
            "64×112×112",
            "12,345,678",
            'a "quoted" {name}_~',
            "3×3\N{NO-BREAK SPACE}/2",
        ):
            measured = font(10, bold).getlength(text) / 10
            assert text_width(text, 10, bold=bold) >= measured - 0.1
            assert text_width(text, 10, bold=bold) == pytest.approx(measured, rel=0.02)


def test_long_names_keep_their_end() -> None:
    assert shortened("conv1", 11, 100) == "conv1"
    assert shortened("features.denseblock3.denselayer1", 11, 80) == "denselayer1"
    assert shortened("a" * 50 + "z", 11, 80).startswith("…")
    assert shortened("a" * 50 + "z", 11, 80).endswith("z")
    assert all(text_width(line, 10) <= 72 for line in wrapped("max pool with a long explanation", 72, 10))


def test_names_are_escaped() -> None:
    model = nn.Sequential()
    model.add_module('a<b & "c">', nn.Conv2d(3, 4, 3))
    model.add_module("]]>\x00\x1b", nn.Conv2d(4, 4, 3))
    model.add_module("卷积", nn.Conv2d(4, 4, 3))
    for style in STYLES:
        drawing = cnnzoo.draw(model, input_shape=(3, 8, 8), style=style)
        texts = {element.text for element in ET.fromstring(drawing.svg).iter() if element.tag.endswith("text")}
        assert any(text and text.endswith('b & "c">') for text in texts)
        assert any(text and "卷积" in text for text in texts)


# Any network


class Parallel(nn.Module):
    """Two inputs of one join, one of them used twice, and an output that nothing else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        a = self.first(x)
        b = self.second(a)
        return {"sum": a + b, "both": torch.cat([a, b, x], 1)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (3, 9, 9)),
        (nn.Linear(7, 3), (7,)),
        (nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 2)), (2, 10)),
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)), (1, 5, 6, 7)),
        (nn.Sequential(nn.Identity(), nn.ReLU()), (3, 4, 4)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8)),
        (Parallel(), (3, 6, 6)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_any_module_can_be_drawn(model: nn.Module, shape: tuple[int, ...], style) -> None:
    drawing = cnnzoo.draw(model, input_shape=shape, style=style)
    assert nodes(drawing)
    boxes = sorted(labels(drawing))
    assert not any(box.meets(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "name", ["alexnet", "vgg16", "resnet50", "googlenet", "densenet121", "mobilenet_v2", "convnext_tiny", "vit_b_16"]
)
def test_torchvisions_networks_are_legible(name: str, style) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.get_model(name, **({"init_weights": False} if name == "googlenet" else {})).eval()
    drawing = cnnzoo.draw(model, input_shape=(3, 224, 224), style=style)
    assert drawing.width <= 1000
    assert len(drawing.svg.encode()) < 300_000
    boxes = sorted(labels(drawing))
    assert not any(box.meets(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])


def test_nothing_runs_and_nothing_stays() -> None:
    model = cnnzoo.create("resnet18", device="meta").train()
    hooks = nn.modules.module
    before = len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)
    cnnzoo.draw(model)
    assert (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)) == before
    assert model.training
    own = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    cnnzoo.draw(own, input_shape=(3, 4, 4))
    assert own[1].num_batches_tracked == 0


# The drawing


def test_notebooks_show_it() -> None:
    drawing = cnnzoo.draw("lenet5")
    assert drawing._repr_svg_() == drawing.svg
    assert drawing.svg in drawing._repr_html_()
    assert "lenet5" in repr(drawing)


def test_themes() -> None:
    light, dark, auto = (cnnzoo.draw("lenet5", theme=theme).svg for theme in ("light", "dark", "auto"))
    assert "prefers-color-scheme" not in light
    assert "prefers-color-scheme" not in dark
    assert "prefers-color-scheme:dark" in auto
    assert "#14181f" in dark
    assert "#14181f" not in light
    assert ".cnnzoo-light" not in dark, "drawings of two themes do not disturb each other on a page"


def test_save(tmp_path: Path) -> None:
    drawing = cnnzoo.draw("lenet5")
    assert drawing.save(tmp_path / "a.svg").read_text("utf-8") == drawing.svg
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_save_converts(tmp_path: Path, suffix: str, start: bytes) -> None:
    pytest.importorskip("cairosvg", reason="the converter is an extra", exc_type=Exception)
    path = cnnzoo.draw("resnet50", theme="light").save(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    assert content.startswith(start)
    assert len(content) > 10_000, "something is drawn"


def test_save_without_a_converter_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(cnnzoo.OptionError, match=r'save: .png needs cairosvg.*pip install "cnnzoo\[draw\]"'):
        cnnzoo.draw("lenet5").save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_bad_paths(tmp_path: Path) -> None:
    drawing = cnnzoo.draw("lenet5")
    with pytest.raises(cnnzoo.OptionError, match=r"save: .*a\.jpg: drawings are written as \.svg, \.png, \.pdf"):
        drawing.save(tmp_path / "a.jpg")
    with pytest.raises(cnnzoo.OptionError, match=r"save: cannot write .*nowhere.*choose a folder that exists"):
        drawing.save(tmp_path / "nowhere" / "a.svg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(cnnzoo.OptionError, match=r"save: cannot write .*folder\.svg"):
        drawing.save(tmp_path / "folder.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


class Branching(nn.Module):
    input_shape = (3, 4, 4)

    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_bad_arguments() -> None:
    with pytest.raises(cnnzoo.UnknownNameError, match=r"draw: unknown .*'resnet5'.*did you mean 'resnet50'"):
        cnnzoo.draw("resnet5")
    with pytest.raises(cnnzoo.OptionError, match=r"draw: got style='3d'; it is one of 'volumes', 'graph'"):
        cnnzoo.draw("lenet5", style="3d")  # type: ignore[arg-type]
    with pytest.raises(cnnzoo.OptionError, match=r"draw: got theme='sepia'; it is one of 'auto', 'light', 'dark'"):
        cnnzoo.draw("lenet5", theme="sepia")  # type: ignore[arg-type]
    with pytest.raises(cnnzoo.OptionError, match=r"draw: got depth=-1; it is 0"):
        cnnzoo.draw("lenet5", depth=-1)
    with pytest.raises(cnnzoo.OptionError, match=r"draw: Linear does not say what it takes; pass input_shape="):
        cnnzoo.draw(nn.Linear(2, 2))
    with pytest.raises(cnnzoo.OptionError, match=r"draw: Identity hands its input on unchanged"):
        cnnzoo.draw(nn.Identity(), input_shape=(3, 4, 4))
    with pytest.raises(cnnzoo.OptionError, match=r"draw: the model asks for the values of a tensor at test_drawing.py"):
        cnnzoo.draw(Branching())
    with pytest.raises(cnnzoo.ShapeError, match=r"draw: input 3x8x8: .*the smallest input that works is 63x63"):
        cnnzoo.draw("alexnet", input_shape=(3, 8, 8))


def test_on_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "lenet.svg"
    result = CliRunner().invoke(main, ["draw", "lenet5", "--classic", "--style", "graph", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "lenet5 (classic)" in result.output
    assert "RBFOutput" in out.read_text("utf-8")
    block = ["draw", "basic_block", "--set", "stride=2", "--set", "out_channels=128", "--out", str(out)]
    assert CliRunner().invoke(main, block).exit_code == 0
    assert "downsample" in out.read_text("utf-8")
    bad = CliRunner().invoke(main, ["draw", "lenet5", "--out", str(tmp_path / "a.txt")])
    assert bad.exit_code == 2
    assert "a.txt: drawings are written as .svg" in bad.stderr


def test_the_drawing_of_the_readme_is_todays() -> None:
    shown = Path(__file__).parent.parent / "docs" / "assets" / "drawings" / "lenet5.svg"
    assert shown.read_text("utf-8") == cnnzoo.draw(build("lenet5", classic=True)).svg, "run `make drawings`"
