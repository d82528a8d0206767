"""The names that torchvision and timm give to the tensors of our networks, and back.

A table lists pairs (ours, theirs) of the beginnings of dotted names; `*` stands for a part without a dot, and what
follows a pair, and every name without one, stays as it is. The first pair that fits counts.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import CheckpointError, UnknownNameError, operation, unknown
from cnnzoo.registry import find
from cnnzoo.support.wrappers import inside

Layout = Literal["cnnzoo", "torchvision", "timm"]
Pairs = tuple[tuple[str, str], ...]


def numbered(ours: str, theirs: str, count: int, *, start: int = 1) -> Pairs:
    """Layers that we count from 0 with a dot, and others from `start` without."""
    return tuple((f"{ours}.{i}", f"{theirs}{i + start}") for i in range(count))


@dataclass(frozen=True)
class Features:
    """AlexNet and VGG: the others number the convolutions in one sequence with all that stands between them.

    Attributes:
        head: what they call fc6, fc7 and fc8.
        early: what their first versions called these.
    """

    head: tuple[str, str, str]
    early: tuple[str, str, str] | None = None

    def pairs(self, model: CNN, names: Collection[str] = ()) -> Pairs:
        """The table of one network; where they changed it, that of a file with these names."""
        is_early = self.early is not None and {f"{one}.weight" for one in self.early} <= set(names)
        head = self.early if is_early and self.early else self.head
        numbers = ((name, f"features.{i}") for i, name in enumerate(model.chain()))
        return (*zip(("fc6", "fc7", "fc8"), head, strict=True), *numbers)


ALEXNET = Features(("classifier.1", "classifier.4", "classifier.6"))
VGG = Features(("classifier.0", "classifier.3", "classifier.6"), early=("classifier.1", "classifier.4", "classifier.6"))
VGG_TIMM = Features(("pre_logits.fc1", "pre_logits.fc2", "head.fc"))

GOOGLENET: Pairs = (
    ("conv2_reduce", "conv2"),
    ("conv2", "conv3"),
    ("inception_*.branch_1x1", "inception*.branch1"),
    ("inception_*.branch_3x3", "inception*.branch2"),
    ("inception_*.branch_5x5", "inception*.branch3"),
    ("inception_*.branch_pool", "inception*.branch4"),
    ("aux.inception_4a", "aux1"),
    ("aux.inception_4d", "aux2"),
)

INCEPTION_V3: Pairs = (
    ("conv1a", "Conv2d_1a_3x3"),
    ("conv2a", "Conv2d_2a_3x3"),
    ("conv2b", "Conv2d_2b_3x3"),
    ("conv3b", "Conv2d_3b_1x1"),
    ("conv4a", "Conv2d_4a_3x3"),
    ("mixed_6a.branch_3x3", "Mixed_6a.branch3x3"),
    *numbered("mixed_7a.branch_7x7", "Mixed_7a.branch7x7x3_", 4),
    ("mixed_*.branch_1x1", "Mixed_*.branch1x1"),
    *numbered("mixed_*.branch_5x5", "Mixed_*.branch5x5_", 2),
    *numbered("mixed_*.branch_7x7", "Mixed_*.branch7x7_", 3),
    *numbered("mixed_*.branch_double_7x7", "Mixed_*.branch7x7dbl_", 5),
    ("mixed_*.branch_3x3.1.row", "Mixed_*.branch3x3_2a"),
    ("mixed_*.branch_3x3.1.column", "Mixed_*.branch3x3_2b"),
    *numbered("mixed_*.branch_3x3", "Mixed_*.branch3x3_", 2),
    ("mixed_*.branch_double_3x3.2.row", "Mixed_*.branch3x3dbl_3a"),
    ("mixed_*.branch_double_3x3.2.column", "Mixed_*.branch3x3dbl_3b"),
    *numbered("mixed_*.branch_double_3x3", "Mixed_*.branch3x3dbl_", 3),
    ("mixed_*.branch_pool.1", "Mixed_*.branch_pool"),
    ("aux.mixed_6e", "AuxLogits"),
)

INCEPTION_V4: Pairs = (
    ("stem.4.branch_3x3", "features.4.branch0"),
    ("stem.4.branch_7x7", "features.4.branch1"),
    *((f"stem.{i}", f"features.{i}") for i in (0, 1, 2, 3, 5)),
    *(
        (f"{part}.{i}.{ours}", f"features.{first + i}.{theirs}")
        for part, first, count, branches in (
            ("inception_a", 6, 4, ("branch_1x1", "branch_3x3", "branch_double_3x3", "branch_pool")),
            ("inception_b", 11, 7, ("branch_1x1", "branch_7x7", "branch_double_7x7", "branch_pool")),
        )
        for i in range(count)
        for ours, theirs in zip(branches, ("branch0", "branch1", "branch2", "branch3"), strict=True)
    ),
    ("reduction_a.branch_3x3", "features.10.branch0"),
    ("reduction_a.branch_double_3x3", "features.10.branch1"),
    ("reduction_b.branch_3x3", "features.18.branch0"),
    ("reduction_b.branch_7x7", "features.18.branch1"),
    *(
        (f"inception_c.{i}.{ours}", f"features.{19 + i}.{theirs}")
        for i in range(3)
        for ours, theirs in (
            ("branch_1x1", "branch0"),
            ("branch_3x3.1.row", "branch1_1a"),
            ("branch_3x3.1.column", "branch1_1b"),
            ("branch_double_3x3.3.row", "branch2_3a"),
            ("branch_double_3x3.3.column", "branch2_3b"),
            *numbered("branch_3x3", "branch1_", 1, start=0),
            *numbered("branch_double_3x3", "branch2_", 3, start=0),
            ("branch_pool", "branch3"),
        )
    ),
    ("fc", "last_linear"),
)

INCEPTION_RESNET_V2: Pairs = (
    ("stem.0", "conv2d_1a"),
    ("stem.1", "conv2d_2a"),
    ("stem.2", "conv2d_2b"),
    ("stem.4", "conv2d_3b"),
    ("stem.5", "conv2d_4a"),
    ("mixed_5b.branch_1x1", "mixed_5b.branch0"),
    ("mixed_5b.branch_5x5", "mixed_5b.branch1"),
    ("mixed_5b.branch_double_3x3", "mixed_5b.branch2"),
    ("mixed_5b.branch_pool", "mixed_5b.branch3"),
    ("inception_a.*.branches.branch_1x1", "repeat.*.branch0"),
    ("inception_a.*.branches.branch_3x3", "repeat.*.branch1"),
    ("inception_a.*.branches.branch_double_3x3", "repeat.*.branch2"),
    ("inception_a.*.expand", "repeat.*.conv2d"),
    ("reduction_a.branch_3x3", "mixed_6a.branch0"),
    ("reduction_a.branch_double_3x3", "mixed_6a.branch1"),
    ("inception_b.*.branches.branch_1x1", "repeat_1.*.branch0"),
    ("inception_b.*.branches.branch_7x7", "repeat_1.*.branch1"),
    ("inception_b.*.expand", "repeat_1.*.conv2d"),
    ("reduction_b.branch_3x3", "mixed_7a.branch0"),
    ("reduction_b.branch_3x3_short", "mixed_7a.branch1"),
    ("reduction_b.branch_double_3x3", "mixed_7a.branch2"),
    ("inception_c.9.branches.branch_1x1", "block8.branch0"),
    ("inception_c.9.branches.branch_3x3", "block8.branch1"),
    ("inception_c.9.expand", "block8.conv2d"),
    ("inception_c.*.branches.branch_1x1", "repeat_2.*.branch0"),
    ("inception_c.*.branches.branch_3x3", "repeat_2.*.branch1"),
    ("inception_c.*.expand", "repeat_2.*.conv2d"),
    ("conv_7b", "conv2d_7b"),
    ("fc", "classif"),
)

RESNET: Pairs = (("conv2_x", "layer1"), ("conv3_x", "layer2"), ("conv4_x", "layer3"), ("conv5_x", "layer4"))

PRERESNET: Pairs = (
    ("conv1", "stem.conv"),
    *(
        (f"conv{i + 2}_x.*.{ours}", f"stages.{i}.blocks.*.{theirs}")
        for i in range(4)
        for ours, theirs in (("conv*", "conv*"), ("bn*", "norm*"), ("downsample", "downsample.conv"))
    ),
    ("bn", "norm"),
    ("fc", "head.fc"),
)

TABLES: Mapping[str, Mapping[str, Pairs | Features]] = {
    "torchvision": {
        "alexnet": ALEXNET,
        **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), VGG),
        **dict.fromkeys(("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"), VGG),
        "googlenet": GOOGLENET,
        "inception_v3": INCEPTION_V3,
        **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), RESNET),
    },
    "timm": {
        **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), VGG_TIMM),
        **dict.fromkeys(("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"), VGG_TIMM),
        "inception_v3": INCEPTION_V3,
        "inception_v4": INCEPTION_V4,
        "inception_resnet_v2": INCEPTION_RESNET_V2,
        **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), RESNET),
        **dict.fromkeys(("preresnet18", "preresnet34", "preresnet50", "preresnet101", "preresnet152"), PRERESNET),
    },
}

KERNELS = {
    "vgg": {"pre_logits.fc1.weight": 7, "pre_logits.fc2.weight": 1},
    "preresnet": {"head.fc.weight": 1},
}
"""By family, the linear layers of ours that timm runs as convolutions, and the size of their kernel."""


@operation
def from_layout(model: CNN, tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Translate the tensors of another library's network into our names and shapes.

    Args:
        model: what they are for; it is not changed, and may be on the meta device.
        tensors: a state dict.
        layout: whose names it has.

    Raises:
        CheckpointError: that library has no such network.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.create("resnet18", seed=0)
        >>> theirs = cnnzoo.to_layout(model, "torchvision")
        >>> cnnzoo.from_layout(model, theirs, "torchvision").keys() == model.state_dict().keys()
        True
    """
    if layout != "cnnzoo":
        _check_variant(model, layout)
    return translated(model, tensors, layout)


def translated(model: CNN, tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """`from_layout` of tensors that may be those of the printed variant: they have the same names, and cannot tell."""
    if layout == "cnnzoo":
        return dict(tensors)
    pairs = [(theirs, ours) for ours, theirs in _table(model, layout, tensors.keys())[1]]
    named = zip(_renamed(tensors, pairs), tensors.values(), strict=True)
    linear = {f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    return {name: tensor.flatten(1) if name in linear and tensor.ndim > 2 else tensor for name, tensor in named}


@operation
def to_layout(model: CNN, layout: Layout) -> dict[str, Tensor]:
    """Translate a network's state dict into the names and shapes of another library's.

    Raises:
        CheckpointError: that library has no such network.

    Examples:
        >>> import cnnzoo
        >>> tensors = cnnzoo.to_layout(cnnzoo.create("resnet18", seed=0), "torchvision")
        >>> list(tensors)[:2]
        ['conv1.weight', 'bn1.weight']
    """
    model = inside(model)
    tensors: dict[str, Tensor] = model.state_dict()
    if layout == "cnnzoo":
        return tensors
    _check_variant(model, layout)
    name, pairs = _table(model, layout)
    named = dict(zip(_renamed(tensors, pairs), tensors.values(), strict=True))
    kernels = KERNELS.get(find(name).family, {}) if layout == "timm" else {}
    return {key: _as_kernel(tensor, kernels.get(key)) for key, tensor in named.items()}


def counterpart(model: nn.Module, name: str) -> str | None:
    """What a layer or stage that torchvision or timm call so is called in this network; None where it is not known."""
    known = {path for path, _ in model.named_modules()}
    if not isinstance(model, CNN) or model.config is None:
        return None
    for layout, tables in TABLES.items():
        if model.config.name in tables:
            _, pairs = _table(model, layout)  # pyright: ignore[reportArgumentType]
            rules = [(theirs, ours) for ours, theirs in pairs]
            (ours,) = _renamed([name], [*rules, *_beginnings(rules)])
            if ours != name and ours in known:
                return ours
    return None


def _beginnings(rules: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a table of layers says of the blocks that they are in, where it says one thing."""
    found: dict[str, set[str]] = {}
    for theirs, ours in rules:
        found.setdefault(theirs.partition(".")[0], set()).add(ours.partition(".")[0])
    return [(theirs, next(iter(ours))) for theirs, ours in found.items() if len(ours) == 1]


def unknown_layer(model: nn.Module, name: str, known: Iterable[str], remedy: str = "") -> UnknownNameError:
    """The error for a layer that a network does not have, which names it where another library calls it so."""
    ours = counterpart(model, name)
    if ours is not None:
        return UnknownNameError(f"unknown layer {name!r}, which is another library's name: here it is {ours!r}")
    return unknown("", "layer", name, known, remedy)


def _table(model: CNN, layout: Layout, names: Collection[str] = ()) -> tuple[str, Pairs]:
    """The registered name of a network and its table."""
    if layout not in get_args(Layout):
        raise unknown("", "layout", layout, get_args(Layout))
    if model.config is None:
        raise CheckpointError(
            f"a {type(model).__name__} put together by hand has no counterpart in {layout}; build it with cnnzoo.create"
        )
    name = model.config.name
    table = TABLES[layout].get(name)
    if table is None:
        raise CheckpointError(f"{layout} has no {name}; it has {', '.join(TABLES[layout])}")
    return name, table.pairs(model, names) if isinstance(table, Features) else table


def _check_variant(model: CNN, layout: Layout) -> None:
    """Raise for a network as printed, which others do not have: its tensors may fit, and it computes something else."""
    if model.config is not None and model.config.classic:
        raise CheckpointError(
            f"{layout} has no {model.config.name} as printed (classic=True); it has {', '.join(TABLES.get(layout, ()))}"
        )


def _renamed(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    rules = [(_beginning(old), new) for old, new in pairs]
    renamed = []
    for name in names:
        found = ((match, new) for pattern, new in rules if (match := pattern.match(name)))
        match, new = next(found, (None, ""))
        if match is not None:
            parts = iter(match.groups())
            name = re.sub(r"\*", lambda _: next(parts), new) + name[match.end() :]  # noqa: B023  used at once
        renamed.append(name)
    return renamed


def _beginning(pattern: str) -> re.Pattern[str]:
    """Matches names that begin with the pattern, up to a dot or their end."""
    return re.compile(re.escape(pattern).replace(r"\*", "([^.]+)") + r"(?=\.|$)")


def _as_kernel(weight: Tensor, size: int | None) -> Tensor:
    return weight if size is None else weight.unflatten(1, (-1, size, size))
