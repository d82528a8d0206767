"""Networks with one thing changed, to see whether somebody notices.

`mutations` names every change that can be made to a network; `mutant` makes one on a copy that holds no numbers.
"""

import itertools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cnnzoo.initialization import SCHEMES
from cnnzoo.initialization.fans import is_weighted
from cnnzoo.nn import (
    BasicBlock,
    Bottleneck,
    Branches,
    PreActBasicBlock,
    PreActBottleneck,
    ScaledResidual,
    Subsample,
)
from cnnzoo.nn.residual import ZeroPadShortcut
from cnnzoo.verification.computed import blank

Change = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Mutation:
    """One change: its kind, the layers that an answer must name one of, and how to make it."""

    kind: str
    layers: tuple[str, ...]
    change: Change

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(self.layers)}"


def mutant(model: nn.Module, mutation: Mutation) -> nn.Module:
    copy, constants = blank(model)
    for name, buffer in list(copy.named_buffers()):  # what the digits look like is part of the network
        if id(buffer) in constants:
            copy.get_submodule(name.rpartition(".")[0])._buffers[name.rpartition(".")[2]] = constants[id(buffer)]
    with torch.device("meta"):
        mutation.change(copy)
    return copy


def setting(kind: str, name: str, **values: object) -> Mutation:
    def change(model: nn.Module) -> None:
        for key, value in values.items():
            setattr(model.get_submodule(name), key, value)

    return Mutation(kind, (name,), change)


def replaced(kind: str, name: str, build: Callable[[], nn.Module]) -> Mutation:
    return Mutation(kind, (name,), lambda model: model.set_submodule(name, build()))


def mutations(model: nn.Module) -> Iterator[Mutation]:
    modules = dict(model.named_modules())
    for name, module in modules.items():
        for one in MUTATED:
            yield from one(name, module)
    yield from neighbours(modules)
    yield from strides_moved(modules)
    yield from initializations(model)


def dropped(name: str, module: nn.Module) -> Iterator[Mutation]:
    keeps = isinstance(module, (nn.ReLU, nn.BatchNorm2d, nn.LocalResponseNorm, nn.Dropout, nn.Tanh, nn.Sigmoid))
    if isinstance(module, nn.Conv2d):
        keeps = module.in_channels == module.out_channels and module.stride == (1, 1)
        keeps &= all(
            2 * p == d * (k - 1) for p, k, d in zip(module.padding, module.kernel_size, module.dilation, strict=True)
        )
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        keeps = module.stride in (1, (1, 1))
    if keeps and name:
        kind = "dropout removed" if isinstance(module, nn.Dropout) else "layer dropped"
        yield replaced(kind, name, nn.Identity)


def pooling(name: str, module: nn.Module) -> Iterator[Mutation]:
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        other = nn.AvgPool2d if isinstance(module, nn.MaxPool2d) else nn.MaxPool2d
        window = {key: getattr(module, key) for key in ("kernel_size", "stride", "padding", "ceil_mode")}
        if module.kernel_size != 1:
            yield replaced("max and average swapped", name, lambda: other(**window))
            yield setting("ceil mode", name, ceil_mode=not module.ceil_mode)
        if isinstance(module, nn.MaxPool2d):
            yield setting("dilation", name, dilation=2)
        elif module.padding:
            yield setting("padding counted", name, count_include_pad=not module.count_include_pad)
        kernel = module.kernel_size if isinstance(module.kernel_size, int) else module.kernel_size[0]
        yield setting("pooling window", name, kernel_size=kernel + 1)
        yield setting("padding", name, padding=0 if module.padding else 1)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        yield replaced("max and average swapped", name, lambda: nn.AdaptiveMaxPool2d(module.output_size))


def activations(name: str, module: nn.Module) -> Iterator[Mutation]:
    if isinstance(module, (nn.ReLU, nn.Tanh, nn.Sigmoid)):
        yield replaced("activation", name, nn.Tanh if isinstance(module, nn.ReLU) else nn.ReLU)
    if type(module).__name__ == "ScaledTanh":
        yield replaced("activation", name, nn.ReLU)
        yield replaced("activation", name, nn.Tanh)
    if isinstance(module, nn.ReLU):
        yield replaced("activation", name, lambda: nn.LeakyReLU(0.1))


def convolutions(name: str, module: nn.Module) -> Iterator[Mutation]:
    if not isinstance(module, nn.Conv2d):
        return
    height, width = module.stride
    yield setting("stride", name, stride=(2 * height, 2 * width) if height == 1 else (1, 1))
    yield setting("dilation", name, dilation=(2, 2))
    pads = [(max(0, p - 1) if p else 1) for p in module.padding]
    yield setting("padding", name, padding=tuple(pads))
    yield setting(
        "bias", name, bias=None if module.bias is not None else nn.Parameter(torch.empty(module.out_channels))
    )
    groups = 1 if module.groups > 1 else 2
    if module.in_channels % groups == 0 and module.out_channels % groups == 0 and groups != module.groups:

        def regrouped(model: nn.Module) -> None:
            conv = model.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            conv.groups = groups
            shape = (conv.out_channels, conv.in_channels // groups, *conv.kernel_size)
            conv.weight = nn.Parameter(torch.empty(shape, device="meta"))

        yield Mutation("groups", (name,), regrouped)
    if module.kernel_size[0] != module.kernel_size[1]:

        def turned(model: nn.Module) -> None:
            conv = model.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            conv.padding = conv.padding[::-1]
            conv.weight = nn.Parameter(conv.weight.transpose(2, 3))

        yield Mutation("rows and columns swapped", (name,), turned)


def linears(name: str, module: nn.Module) -> Iterator[Mutation]:
    if isinstance(module, nn.Linear):
        yield setting("bias", name, bias=None)


def constants(name: str, module: nn.Module) -> Iterator[Mutation]:
    if isinstance(module, nn.BatchNorm2d):
        assert module.momentum is not None
        yield setting("constant", name, eps=1.1 * module.eps)
        yield setting("constant", name, momentum=1.1 * module.momentum)
        yield setting("scale and shift dropped", name, weight=None, bias=None, affine=False)
    if isinstance(module, nn.LocalResponseNorm):
        for key in ("alpha", "beta", "k"):
            yield setting("constant", name, **{key: 1.1 * getattr(module, key)})
        yield setting("constant", name, size=module.size - 2)
    if isinstance(module, nn.Dropout):
        yield setting("constant", name, p=1.1 * module.p)
    if isinstance(module, ScaledResidual):
        yield setting("constant", name, scale=1.1 * module.scale)
    if type(module).__name__ == "ScaledTanh":
        yield Mutation("constant", (name,), _forward(name, lambda self, a: 1.1 * 1.7159 * torch.tanh(a * (2 / 3))))
        yield Mutation("constant", (name,), _forward(name, lambda self, a: 1.7159 * torch.tanh(a * (2.2 / 3))))
    if isinstance(module, Subsample):
        yield Mutation("layer dropped", (name,), _forward(name, lambda self, x: F.avg_pool2d(x, 2)))
        yield Mutation("max and average swapped", (name,), _forward(name, _max_subsample))


def _max_subsample(self, x):
    return F.max_pool2d(x, 2) * (self.weight * 4).view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def _forward(name: str, forward: Callable) -> Change:
    def change(model: nn.Module) -> None:
        module = model.get_submodule(name)
        module.forward = types.MethodType(forward, module)

    return change


def branches(name: str, module: nn.Module) -> Iterator[Mutation]:
    if not isinstance(module, Branches):
        return
    keys = list(module._modules)
    for i in range(len(keys)):
        for j in range(i):

            def swap(model: nn.Module, i: int = i, j: int = j) -> None:
                part = model.get_submodule(name)
                order = list(part._modules)
                order[i], order[j] = order[j], order[i]
                part._modules = {key: part._modules[key] for key in order}

            yield Mutation("branches swapped", (*(f"{name}.{keys[k]}".strip(".") for k in (i, j)), name), swap)


def shortcuts(name: str, module: nn.Module) -> Iterator[Mutation]:
    """What only a block's `forward` knows."""
    if isinstance(module, ZeroPadShortcut):
        yield setting("downsample by pooling", name, subsample=nn.AvgPool2d(2))
        yield setting("downsample by pooling", name, subsample=nn.MaxPool2d(2))

        def both_sides(self, x):
            half = self.extra // 2
            return F.pad(self.subsample(x), (0, 0, 0, 0, half, self.extra - half))

        yield Mutation("zeros moved", (name,), _forward(name, both_sides))
    if isinstance(module, (BasicBlock, Bottleneck)):
        # Its own `forward`, with one line of it changed.
        def main(self, x):
            out = self.relu(self.bn1(self.conv1(x)))
            if hasattr(self, "conv3"):
                return self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
            return self.bn2(self.conv2(out))

        def around(self, x):
            return x if self.downsample is None else self.downsample(x)

        yield Mutation("no shortcut", (name,), _forward(name, lambda self, x: self.relu(main(self, x))))
        yield Mutation("no last ReLU", (name,), _forward(name, lambda self, x: main(self, x) + around(self, x)))
        early = _forward(name, lambda self, x: self.relu(main(self, x)) + around(self, x))
        yield Mutation("ReLU before the sum", (name,), early)
        yield Mutation("product", (name,), _forward(name, lambda self, x: self.relu(main(self, x) * around(self, x))))
        third = _forward(name, lambda self, x: self.relu(main(self, x) + 0.9 * around(self, x)))
        yield Mutation("shortcut scaled", (name,), third)
        if module.downsample is not None:
            yield setting("shortcut's projection dropped", name, downsample=None)
    if isinstance(module, (PreActBasicBlock, PreActBottleneck)):

        def inner(self, out):
            out = self.conv2(self.relu(self.bn2(self.conv1(out))))
            return self.conv3(self.relu(self.bn3(out))) if hasattr(self, "conv3") else out

        def unchanged(self, x):
            out = x if self.bn1 is None else self.relu(self.bn1(x))
            return out, x if self.downsample is None else self.downsample(out)

        yield Mutation("no shortcut", (name,), _forward(name, lambda self, x: inner(self, unchanged(self, x)[0])))

        def activated(self, x):
            out, around = unchanged(self, x)
            return self.relu(inner(self, out) + around)

        def from_activation(self, x):
            out, _ = unchanged(self, x)
            return inner(self, out) + (out if self.downsample is None else self.downsample(x))

        yield Mutation("ReLU after the sum", (name,), _forward(name, activated))
        if module.bn1 is not None:
            yield Mutation("shortcut from elsewhere", (name,), _forward(name, from_activation))
    if isinstance(module, ScaledResidual):

        def plain(self, x):
            out = self.expand(self.branches(x))
            return out if self.relu is None else self.relu(out)

        yield Mutation("no shortcut", (name,), _forward(name, plain))
        if module.relu is not None:
            yield setting("no last ReLU", name, relu=None)


MUTATED = (
    dropped, pooling, activations, convolutions, linears, constants, branches, shortcuts,
)  # fmt: skip


def neighbours(modules: dict[str, nn.Module]) -> Iterator[Mutation]:
    """Two layers of a chain that change places."""
    movable = (nn.ReLU, nn.Dropout, nn.LocalResponseNorm, nn.MaxPool2d, nn.AvgPool2d, nn.Tanh, nn.BatchNorm2d)
    for name, module in modules.items():
        if not isinstance(module, nn.Sequential):
            continue
        keys = list(module._modules)
        for one, other in itertools.pairwise(keys):
            pair = module._modules[one], module._modules[other]
            drops = any(isinstance(part, nn.Dropout) for part in pair)
            if not (all(isinstance(part, movable) for part in pair) or (drops and isinstance(pair[1], nn.Linear))):
                continue
            if type(pair[0]) is type(pair[1]):
                continue

            def swap(model: nn.Module, name: str = name, one: str = one, other: str = other) -> None:
                part = model.get_submodule(name)
                order = list(part._modules)
                i, j = order.index(one), order.index(other)
                order[i], order[j] = order[j], order[i]
                part._modules = {key: part._modules[key] for key in order}

            layers = tuple(f"{name}.{key}".strip(".") for key in (one, other))
            yield Mutation("dropout moved" if drops else "neighbours swapped", layers, swap)


def strides_moved(modules: dict[str, nn.Module]) -> Iterator[Mutation]:
    """The stride of a block goes to its other convolution."""
    for name, module in modules.items():
        parts = {
            key: part
            for key, part in module.named_modules()
            if isinstance(part, nn.Conv2d) and not key.startswith("downsample")
        }
        if not isinstance(module, (BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck)):
            continue
        strided = [key for key, part in parts.items() if part.stride != (1, 1)]
        for key in strided:
            for other in parts.keys() - {key}:

                def move(model: nn.Module, name: str = name, key: str = key, other: str = other) -> None:
                    block = model.get_submodule(name)
                    block.get_submodule(key).stride, block.get_submodule(other).stride = (1, 1), (2, 2)

                yield Mutation("stride moved", (f"{name}.{key}", f"{name}.{other}"), move)


def initializations(model: nn.Module) -> Iterator[Mutation]:
    own = model.scheme if hasattr(model, "scheme") else model.init
    scheme = SCHEMES[own] if isinstance(own, str) else own
    names = [name for name, module in model.named_modules() if is_weighted(module)]
    for i, name in enumerate(names):

        def doubled(layers, generator=None, i: int = i):
            scheme(layers, generator)
            layers[i].weight.mul_(2)

        def shifted(layers, generator=None, i: int = i):
            scheme(layers, generator)
            if layers[i].bias is not None:
                layers[i].bias.fill_(0.5)

        def change(model: nn.Module, scheme=doubled) -> None:
            setattr(model, "scheme" if hasattr(model, "scheme") else "init", scheme)

        yield Mutation("initialization scale doubled", (name,), change)
        if getattr(model.get_submodule(name), "bias", None) is not None:
            yield Mutation("bias starts elsewhere", (name,), lambda model, shifted=shifted: change(model, shifted))
