"""Every layer of the networks against tables of what publications give (tests/facts).

Compared are operation, output shape, parameters and multiply-adds of each convolution, pooling, normalisation and
linear layer. Parts of the chain and layers of a branch are compared in order; the branches of a block in any, for the
tables list them as the figures do. What that leaves open is the order in which a block joins its branches, what a
shortcut starts from, and where the rectifiers are. Wrong ones give other functions, which the tests of equality with
independent implementations show.
"""

import ast
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from torch import nn

import cnnzoo
from cnnzoo import LayerShape, infer_shapes
from cnnzoo.shapes.trace import trace

FACTS = Path(__file__).parent / "facts"
TABLES = sorted(path for path in FACTS.glob("*.txt") if path.stem != "totals")


class Layer(NamedTuple):
    """A layer, or what a whole part amounts to."""

    operation: str
    output: tuple[int, ...]
    params: int
    macs: int

    def __str__(self) -> str:
        size = "x".join(map(str, self.output))
        return f"{self.operation}: {size}, {self.params:,} parameters, {self.macs:,} multiply-adds"


@dataclass
class Part:
    """A layer of the chain or a block, and the layers of each of its branches."""

    whole: Layer
    branches: dict[str, list[Layer]] = field(default_factory=dict)

    def __str__(self) -> str:
        """All of it that is compared: branches may be called otherwise and stand in another order."""
        branches = sorted("\n  ".join(["branch", *map(str, rows)]) for rows in self.branches.values())
        return "\n".join([str(self.whole), *branches])


@dataclass(frozen=True)
class Table:
    """The facts of one network, or of one block."""

    name: str
    options: dict
    input: tuple[int, ...]
    parts: dict[str, Part]


def create(name: str, options: dict) -> nn.Module:
    return cnnzoo.create(cnnzoo.spec(name).name, device="meta", **options).eval()


# Reading the tables


def number(text: str) -> int:
    return int(text.replace(",", ""))


def dimensions(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def keywords(text: str) -> dict:
    """`classic=True aux=True`, or - for none."""
    return {
        key: ast.literal_eval(value) for key, _, value in (one.partition("=") for one in text.split() if one != "-")
    }


def names(label: str) -> list[str]:
    """`conv4_x.1..5` is conv4_x.1 to conv4_x.5."""
    several = re.fullmatch(r"(.+\.)(\d+)\.\.(\d+)", label)
    return [f"{several[1]}{i}" for i in range(int(several[2]), int(several[3]) + 1)] if several else [label]


def made(operation: str, output: tuple[int, ...], params: int, macs: int) -> Layer:
    """A layer; a dropout may stand before the flattening or behind it."""
    return Layer(operation, (math.prod(output),) if operation.startswith("dropout") else output, params, macs)


@cache
def read(path: Path) -> Table:
    head, _, body = path.read_text("utf-8").partition("\n\n")
    (_, name, *options), (_, input) = (re.split(" {2,}", line) for line in head.split("\n") if line[0] != "#")
    parts: dict[str, Part] = {}
    part: Part | None = None
    for line in body.splitlines():
        label, operation, output, *counts = re.split(" {2,}", line.strip())
        params, macs = (*map(number, counts), 0, 0)[:2]
        row = made(operation, dimensions(output), params, macs)
        if not line.startswith(" "):
            kind, _, residual = operation.partition(", ")
            rows = {} if kind in ("block", "blocks", "layer", "head") else {"-": [row]}
            part = Part(row._replace(operation=residual), rows)
            parts |= dict.fromkeys(names(label), part)
        else:
            assert part, f"{path.name} begins with a row of a block"
            part.branches.setdefault(label, []).append(row)
    return Table(name, keywords(" ".join(options)), dimensions(input), parts)


def read_totals() -> dict[tuple[str, str], tuple[int, int | None]]:
    """Parameters and multiply-adds by name and options as they are written."""
    lines = (FACTS / "totals.txt").read_text("utf-8").splitlines()
    rows = [re.split(" {2,}", line) for line in lines if line and not line.startswith("#")]
    return {(row[0], row[1]): (number(row[2]), None if row[3] == "-" else number(row[3])) for row in rows}


TOTALS = read_totals()


# Reading the networks


def dotted(*names: str) -> str:
    return ".".join(filter(None, names))


def window(kernel: int | tuple[int, ...], stride: int | tuple[int, ...], padding: int | tuple[int, ...]) -> str:
    """`3x3/2 p1`."""
    kernel, stride, padding = ((one, one) if isinstance(one, int) else one for one in (kernel, stride, padding))
    assert stride[0] == stride[1]
    step = f"/{stride[0]}" if stride[0] > 1 else ""
    pad = "" if not any(padding) else f" p{padding[0]}" if padding[0] == padding[1] else f" p{padding[0]},{padding[1]}"
    return f"{kernel[0]}x{kernel[1]}{step}{pad}"


def operation(module: nn.Module, layer: LayerShape) -> str | None:
    """What a layer does in the words of the tables, read from the module itself; None if the tables leave it out."""
    to_one_unit = len(layer.output_shape) == 3 and layer.output_shape[1:] == (1, 1)
    match module:
        case nn.ReLU() | nn.Flatten():
            return None
        case nn.Conv2d():
            assert module.dilation == (1, 1)
            assert module.padding_mode == "zeros"
            groups = f" {module.groups} groups" if module.groups > 1 else ""
            return f"conv {window(module.kernel_size, module.stride, module.padding)}{groups}"
        case nn.MaxPool2d():
            ceil = " ceil" if module.ceil_mode else ""
            return f"max pool {window(module.kernel_size, module.stride, module.padding)}{ceil}"
        case nn.AvgPool2d():
            assert not module.ceil_mode
            stride = 1 if to_one_unit else module.stride  # a window over the whole map makes no step
            return f"avg pool {window(module.kernel_size, stride, module.padding)}"
        case nn.AdaptiveAvgPool2d() if layer.input_shape == layer.output_shape:
            return None  # it serves images of other sizes
        case nn.AdaptiveAvgPool2d() if to_one_unit:
            return f"avg pool {window(layer.input_shape[1:], 1, 0)}"
        case nn.BatchNorm2d():
            return "bn" + (f" eps {module.eps:g}" if module.eps != 1e-5 else "")
        case nn.LocalResponseNorm():
            return f"lrn {module.size} k {module.k:g} alpha {module.alpha:g} beta {module.beta:g}"
        case nn.Linear():
            return "linear"
        case nn.Dropout():
            return f"dropout {module.p:g}"
        case cnnzoo.nn.ZeroPadShortcut():
            return "subsample, zero channels"
    raise AssertionError(f"{layer.name}: the tables have no word for {module}")


def residual(module: nn.Module) -> str:
    """The factor of a residual Inception block, and whether its sum stays as it is."""
    if not isinstance(module, cnnzoo.nn.ScaledResidual):
        return ""
    return f"scale {module.scale:g}" + (", linear" if module.relu is None else "")


def parts(model: nn.Module, shape: tuple[int, ...], known: Collection[str], prefix: str = "") -> dict[str, Part]:
    """The parts that are `known`, and every other layer as a part of its own, in the order in which they run.

    Args:
        model: the network, a block or an auxiliary classifier.
        shape: of what it takes.
        known: names of parts.
        prefix: what the name of the model is.
    """
    modules = dict(model.named_modules())
    calls = {call.name: call for call in trace(model, shape)}
    found: dict[str, Part] = {}
    for layer in filter(lambda layer: layer.ran, infer_shapes(model, shape)):
        outer = layer.name.rpartition(".")[0]
        if isinstance(modules[outer], cnnzoo.nn.ZeroPadShortcut):  # its sub-sampling is a layer
            layer = calls[outer]
        what = operation(modules[layer.name], layer)
        if what is None:
            continue
        path = layer.name.split(".")
        above = [".".join(path[:i]) for i in range(len(path) + 1)]
        name = next((one for one in reversed(above) if dotted(prefix, one) in known), layer.name)
        if dotted(prefix, name) not in found:
            params = sum(parameter.numel() for parameter in modules[name].parameters())
            _, output, params, macs = made(what, calls[name].output_shape, params, calls[name].macs)
            found[dotted(prefix, name)] = Part(Layer(residual(modules[name]), output, params, macs))
        branch = " ".join(
            f"{inside}.{step}"
            for inside, step in zip(above, path, strict=False)
            if isinstance(modules[inside], cnnzoo.nn.Branches) or step == "downsample"
        )
        row = made(what, layer.output_shape, layer.params, layer.macs)
        found[dotted(prefix, name)].branches.setdefault(branch, []).append(row)
    return found


# The comparison


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_layer(path: Path) -> None:
    table = read(path)
    model = create(table.name, table.options)
    heads = [name for name in table.parts if name.startswith("aux.")]
    if cnnzoo.spec(table.name).kind == "block":
        found = parts(model, table.input, table.parts, prefix=table.name)
    else:
        assert model.input_shape == table.input
        found = parts(model, table.input, table.parts)
    assert list(found) == [name for name in table.parts if name not in heads]
    for name in heads:
        below = found[name.removeprefix("aux.")]
        found |= parts(model.get_submodule(name), below.whole.output, table.parts, prefix=name)
    for name, expected in table.parts.items():
        if not expected.branches:
            found[name].branches.clear()
        assert str(found[name]).splitlines() == str(expected).splitlines(), name


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_table_adds_up(path: Path) -> None:
    """A slip of the pen in a table would otherwise have to be found in a network."""
    table = read(path)
    options = " ".join(f"{key}={value!r}" for key, value in table.options.items()) or "-"
    wholes = [part.whole for part in table.parts.values()]
    assert TOTALS[table.name, options] == (sum(one.params for one in wholes), sum(one.macs for one in wholes))
    for name, part in table.parts.items():
        rows = [row for branch in part.branches.values() for row in branch]
        if rows:
            assert sum(row.params for row in rows) == part.whole.params, name
            assert sum(row.macs for row in rows) == part.whole.macs, name


def test_inception_v4_as_released_turns_kernels() -> None:
    """Of its figures the default differs in which of a pair of 1x7 and 7x1, or 1x3 and 3x1, comes first."""
    drawn = read(FACTS / "inception_v4_classic.txt")
    found = parts(create("inception_v4", {}), drawn.input, drawn.parts)

    def turned(part: Part) -> str:
        """With every n x 1 kernel laid down."""
        branches = {
            name: [row._replace(operation=re.sub(r"(\d)x1 p(\d),0", r"1x\1 p0,\2", row.operation)) for row in rows]
            for name, rows in part.branches.items()
        }
        return str(Part(part.whole, branches))

    assert [turned(part) for part in found.values()] == [turned(part) for part in drawn.parts.values()]
    different = [name for name, part in found.items() if str(part) != str(drawn.parts[name])]
    assert different == ["stem", *(f"inception_b.{i}" for i in range(7)), *(f"inception_c.{i}" for i in range(3))]
    long = max(found["inception_b.0"].branches.values(), key=len)
    convolutions = [row.operation.split()[1] for row in long if row.operation.startswith("conv")]
    assert convolutions == ["1x1", "7x1", "1x7", "7x1", "1x7"]


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_vgg_with_normalisation_is_vgg_with_a_layer_behind_each_convolution(name: str) -> None:
    table = read(FACTS / f"{name}.txt")
    plain = [str(part) for part in table.parts.values()]
    found = [(part, part.branches[""][0]) for part in parts(create(f"{name}_bn", {}), table.input, ()).values()]
    assert [str(part) for part, layer in found if layer.operation != "bn"] == plain
    expected = [
        ("bn", layer.output, 2 * layer.output[0], 0) for _, layer in found if layer.operation.startswith("conv")
    ]
    assert [layer for _, layer in found if layer.operation == "bn"] == expected
    operations = " ".join(layer.operation for _, layer in found)
    assert operations.count("conv 3x3 p1 bn") == len(expected)


@pytest.mark.parametrize(("name", "options"), TOTALS, ids=lambda text: text)
def test_totals(name: str, options: str) -> None:
    params, macs = TOTALS[name, options]
    given = keywords(options)
    model = create(name, given)
    channels, *size = cnnzoo.spec(name).input_shape
    counted = cnnzoo.summary(model, getattr(model, "input_shape", (given.get("in_channels", channels), *size)))
    heads = [cnnzoo.summary(head).macs for head in getattr(model, "aux", {}).values()]
    assert counted.params == counted.trainable == params
    assert macs in (None, counted.macs + sum(heads))


@pytest.mark.parametrize(
    ("name", "counted"),
    [("bn_inception", False), ("inception_v3", True), ("inception_v4", False), ("inception_resnet_v2", False)],
)
def test_padding_of_average_pools(name: str, counted: bool) -> None:
    """TensorFlow, in which they were trained, leaves it out of the average; torchvision's Inception-v3 counts it."""
    pools = [module for module in create(name, {}).modules() if isinstance(module, nn.AvgPool2d)]
    assert pools
    assert {(pool.padding, pool.count_include_pad) for pool in pools} == {(1, counted)}


# Figures that follow from the layers


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("alexnet", {}, 195),
        ("alexnet", {"classic": True}, 195),
        ("vgg16", {}, 212),
        ("bn_inception", {}, 699),
        ("inception_v3", {}, 1311),
        ("inception_v4", {}, 2071),
        ("inception_resnet_v2", {}, 3039),
        ("resnet50", {"classic": True}, 483),
        ("resnet101", {"classic": True}, 1027),
        ("resnet152", {"classic": True}, 1507),
    ],
)
def test_receptive_fields(name: str, options: dict, size: int) -> None:
    """Of the last map. Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (2019)."""
    field = cnnzoo.receptive_field(create(name, options))
    assert (field.size, field.stride) == ((size, size), (32, 32))


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", 63), ("vgg16", 32), ("googlenet", 15), ("inception_v3", 75), ("resnet50", 1)]
)
def test_smallest_images(name: str, size: int) -> None:
    model = create(name, {})
    assert cnnzoo.min_input_size(model) == size
    assert infer_shapes(model, (3, size, size))[-1].output_shape == (1000,)
    with pytest.raises(cnnzoo.ShapeError):
        infer_shapes(model, (3, size - 1, size - 1))
