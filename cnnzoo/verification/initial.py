"""How a network starts: the distribution of every parameter, read off the calls that fill it, without drawing.

The scheme runs on the meta device under a mode that sees each call, so the scale is exact and nothing is allocated.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnzoo.initialization import initialize
from cnnzoo.initialization.fans import fans
from cnnzoo.support.torch_private import BATCH_OR_INSTANCE_NORM, tree_leaves

NORMALISED = (BATCH_OR_INSTANCE_NORM, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Distribution:
    """Of the numbers of a tensor: `kind` is `"constant"`, `"uniform"`, `"normal"`, `"truncated normal"` or another.

    Attributes:
        kind: its name.
        scale: the value of a constant, the bound of a uniform, the standard deviation of a normal distribution (before
            it is truncated); the smallest and the largest where it differs within the tensor.
        around: the mean.
    """

    kind: str
    scale: tuple[float, float]
    around: float = 0.0

    def __str__(self) -> str:
        low, high = (f"{value:.6g}" for value in self.scale)
        number = low if low == high else f"{low} to {high}"
        mean = f" around {self.around:.6g}" if self.around else ""
        return (number if self.kind == "constant" else f"{self.kind} {number}") + mean

    def same(self, other: "Distribution") -> bool:
        """Whether both are equal but for rounding errors of single precision."""
        pairs = [*zip(self.scale, other.scale, strict=True), (self.around, other.around)]
        return self.kind == other.kind and all(abs(a - b) <= 1e-5 * max(abs(a), abs(b)) for a, b in pairs)


def distributions(model: nn.Module) -> dict[str, Distribution]:
    """What each parameter of a network with its own scheme is drawn from; the network must be on the meta device."""
    with _Fills(model) as fills, torch.no_grad():
        initialize(model)
    return fills.distributions()


def while_building(build: Callable[[], nn.Module]) -> tuple[nn.Module, dict[str, Distribution]]:
    """Build somebody's network on the meta device, and what its constructor draws each parameter from."""
    with torch.device("meta"), _Fills(None) as fills:
        model = build()
    fills.name(model)
    return model, fills.distributions()


class _Fills(TorchFunctionMode):
    """Notes what is done to the numbers of tensors, in place, also through views."""

    def __init__(self, model: nn.Module | None) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        self.origins: dict[int, int] = {}
        self.kept: list[Tensor] = []
        self.steps: dict[int, list[tuple[str, tuple[Any, ...]]]] = {}
        self.factors: dict[int, Tensor] = {}  # what a tensor held before it went to the meta device
        if model is not None:
            self.name(model)

    def name(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            self.names[id(parameter)] = name
            self.kept.append(parameter)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        target = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
        if isinstance(target, Tensor):
            origin = self.origins.get(id(target), id(target))
            if name.endswith("_") and not name.startswith("__"):
                if name not in ("requires_grad_", "detach_"):
                    self._step(origin, target, name, (*args[1:], *kwargs.values()))
            elif name == "to" and isinstance(out, Tensor) and out.is_meta and not target.is_meta:
                self.factors[id(out)] = target
                self.kept.append(out)
            elif name in VIEWS:
                for leaf in tree_leaves(out):
                    if isinstance(leaf, Tensor):
                        self.origins[id(leaf)] = origin
                        self.kept += [leaf, target]
        return out

    def _step(self, origin: int, target: Tensor, name: str, given: tuple[Any, ...]) -> None:
        self.kept.append(target)
        values = tuple(
            self.factors.get(id(value), value)
            for value in given
            if value is not None and value is not target and not isinstance(value, torch.Generator)
        )
        if name == "kaiming_uniform_":  # the one of `torch.nn.init` that torch shows whole, and not its steps
            bound = _kaiming_bound(target, *values)
            name, values = "uniform_", (-bound, bound)
        name = {"constant_": "fill_"}.get(name, name)
        steps = self.steps.setdefault(origin, [])
        if name in FRESH and id(target) == origin:
            steps.clear()
        if not steps or not _alike(steps[-1], (name, values)):  # the shares of a tensor are filled alike
            steps.append((name, values))

    def distributions(self) -> dict[str, Distribution]:
        return {name: _named(self.steps[key]) for key, name in self.names.items() if key in self.steps}


def _kaiming_bound(weight: Tensor, a: Any = 0.0, mode: Any = "fan_in", nonlinearity: Any = "leaky_relu") -> float:
    area = weight[0, 0].numel()
    fan = weight.shape[mode == "fan_in"] * area
    return nn.init.calculate_gain(nonlinearity, a) * math.sqrt(3 / fan)


VIEWS = {
    *("view", "detach", "split", "chunk", "transpose", "unsqueeze", "flatten", "reshape", "view_as", "t", "permute"),
    *("unbind", "__get__"),
}
FRESH = {"uniform_", "normal_", "fill_", "zero_", "copy_", "kaiming_uniform_", "constant_"}


def _named(steps: Sequence[tuple[str, Any]]) -> Distribution:
    """The distribution that a row of steps makes, where it is a known one."""
    last = max((i for i, (name, _) in enumerate(steps) if name in FRESH), default=0)
    nothing = {"add_": 0.0, "mul_": 1.0}
    steps = [(name, v) for name, v in steps[last:] if name not in nothing or _number(v[0]) != nothing[name]]
    names = [name for name, _ in steps]
    (first, values), *rest = steps
    if first in ("fill_", "zero_") and not rest:
        value = float(values[0]) if values else 0.0
        return Distribution("constant", (value, value))
    if first == "normal_" and set(names[1:]) <= {"mul_"}:
        mean, std = (*map(float, values), *(0.0, 1.0)[len(values) :])
        low, high = _product(rest)
        return Distribution("normal", (std * low, std * high), mean)
    if first == "uniform_" and set(names[1:]) <= {"mul_"}:
        low, high = map(float, values)
        small, large = _product(rest)
        return Distribution("uniform", ((high - low) / 2 * small, (high - low) / 2 * large), (high + low) / 2)
    if names == ["uniform_", "erfinv_", "mul_", "clamp_"]:
        std = float(rest[1][1][0]) / math.sqrt(2)
        bound = max(map(abs, map(float, rest[2][1])))
        inside = math.erf(bound / std / math.sqrt(2))
        if abs(abs(float(values[0])) - inside) < 1e-6 or abs(abs(float(values[0])) - 1) < 1e-2:
            # At two standard deviations that is what papers call truncated; torch's own default is at 2 absolute.
            kind = "truncated normal" if abs(bound - 2 * std) < 1e-6 * bound else f"normal within {bound / std:.4g} std"
            return Distribution(kind, (std, std))
    return Distribution(" ".join(f"{name}{values}" for name, values in steps)[:120], (0.0, 0.0))


def _alike(one: tuple[str, tuple[Any, ...]], other: tuple[str, tuple[Any, ...]]) -> bool:
    """Whether two steps are one, done to two shares of a tensor; shares are only filled."""
    return one[0] == other[0] and one[0] in FRESH and one[1] == other[1]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _product(steps: Sequence[tuple[str, Any]]) -> tuple[float, float]:
    """The smallest and the largest of the factors that numbers are multiplied by, one after the other."""
    low = high = 1.0
    for _, (factor, *_rest) in steps:
        least, most = _range(factor)
        low, high = low * least, high * most
    return low, high


def _range(value: Any) -> tuple[float, float]:
    """The smallest and the largest of a factor."""
    if isinstance(value, Tensor):
        return (math.nan, math.nan) if value.is_meta else (float(value.min()), float(value.max()))
    return float(value), float(value)


@dataclass(frozen=True)
class Start:
    """A line about how parameters start.

    Attributes:
        which: `"weights"` or `"biases"`, of normalisation with `"bn "` before it.
        text: the distribution, as written.
        layers: patterns of the layers' names; of all where there is none.
        source: where it stands.
        reads: the distribution that the network is known to have instead, as written.
        note: why.
    """

    which: str
    text: str
    layers: tuple[str, ...]
    source: str
    reads: str = ""
    note: str = ""

    def speaks_of(self, name: str, module: nn.Module) -> bool:
        layer, _, parameter = name.rpartition(".")
        which = "weights" if parameter.startswith("weight") else "biases"
        if isinstance(module, NORMALISED):
            which = f"bn {which}"
        return which == self.which and (not self.layers or any(fnmatchcase(layer, one) for one in self.layers))

    def here(self, sizes: Mapping[str, Any]) -> Distribution:
        """What a network must have: with the fans of a layer in the place of their names."""
        text = self.reads or self.text
        kind = next((k for k in ("truncated normal", "normal", "uniform") if text.startswith(k)), "constant")
        formula = ast.parse(text.removeprefix(kind).strip(), mode="eval").body
        return Distribution(kind, _range(_value(formula, sizes)))

    @property
    def of(self) -> str:
        return ", ".join(self.layers) or "all layers"


def starts(lines: Sequence[str], sources: Mapping[str, str]) -> list[Start]:
    """Read lines such as `weights normal sqrt(2 / fan_in) of conv* [section 2.2]`; a later one overrules."""
    found = []
    for line in lines:
        hit = LINE.fullmatch(line)
        if hit is None:
            raise ValueError(f"papers: a line about initialization: {line!r}")
        text, reads, kind = hit["text"], hit["reads"], re.match(r"truncated normal |normal |uniform |", hit["text"])
        if reads and kind and kind[0] and not reads.startswith(kind[0]):
            reads = kind[0] + reads
        layers = tuple((hit["layers"] or "").split())
        source = sources.get(hit["source"], hit["source"])
        found.append(Start(hit["which"], text, layers, source, reads or "", hit["note"] or ""))
    return found


LINE = re.compile(
    r"(?P<which>bn weights|bn biases|weights|biases) (?P<text>.+?)( \(here (?P<reads>[^:]+): (?P<note>[^)]*)\))?"
    r"( of (?P<layers>[^\[]+?))? \[(?P<source>.*)\]"
)

_OPERATIONS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip


def _value(node: ast.expr, sizes: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, sizes), _value(node.right, sizes))
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, sizes)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sqrt":
        return _value(node.args[0], sizes) ** 0.5
    raise ValueError(f"papers: {ast.unparse(node)} in a line about initialization")


def sizes_of(module: nn.Module) -> dict[str, Any]:
    """What a formula may use: fan_in and fan_out of a layer."""
    try:
        fan_in, fan_out = fans(module)
    except (AttributeError, AssertionError, IndexError, TypeError):
        return {}
    return {"fan_in": fan_in, "fan_out": fan_out}
