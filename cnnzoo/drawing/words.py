"""What is written below a map: the words that papers use for a layer."""

import re

from torch import nn

from cnnzoo.drawing.flow import Layer
from cnnzoo.drawing.parts import Card, detail
from cnnzoo.nn import Branches
from cnnzoo.support.torch_private import children_of

SHORT = {
    "BatchNorm1d": "BN",
    "BatchNorm2d": "BN",
    "BatchNorm3d": "BN",
    "batch_norm": "BN",
    "LayerNorm": "LN",
    "LayerNorm2d": "LN",
    "GroupNorm": "GN",
    "LocalResponseNorm": "LRN",
    "ReLU": "ReLU",
    "relu": "ReLU",
    "ReLU6": "ReLU6",
    "SiLU": "SiLU",
    "GELU": "GELU",
    "Tanh": "tanh",
    "ScaledTanh": "tanh",
    "Sigmoid": "sigmoid",
    "Dropout": "dropout",
    "dropout": "dropout",
}
"""Layers that only follow; reshaping is not written."""
UNSAID = {"Flatten", "flatten", "view", "reshape", "permute", "transpose", "Unflatten", "t"}


def name_of(card: Card) -> str:
    """The name, or of several alike the first and where the last differs: conv3_1–3."""
    if card.count == 1 or not card.last:
        return card.name
    first, last = card.name, card.last
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    while same and first[same - 1].isdigit():
        same -= 1
    return f"{first}–{last[same:]}"


def operation(card: Card) -> list[str]:
    """What makes the map, in a line or two."""
    times = f"{card.count} × " if card.count > 1 else ""
    if card.block is not None:
        return [_block(card)]
    module, kind = card.main.module, card.kind
    what = {"conv": "conv", "linear": "fully connected", "join": "concatenate"}.get(card.category, kind)
    if card.category == "conv" and kind.lower().startswith(("convtranspose", "conv_transpose")):
        what = "up-conv"
    elif card.category == "conv" and kind == "ConnectionTableConv2d":
        what = "sparse conv"
    elif card.category == "pool":
        what = _pooling(kind, card.main)
    elif card.category == "linear" and kind == "RBFOutput":
        what = "RBF units"
    size, _, rest = detail(module).partition(" ")
    rest = " ".join(part for part in rest.split(" ") if part)
    first = f"{times}{what} {size}".strip()
    stride, _, more = rest.partition(" ") if rest.startswith("/") else ("", "", rest)
    return [line for line in (f"{first}\N{NO-BREAK SPACE}{stride}" if stride else first, more) if line]


def _pooling(kind: str, layer: Layer) -> str:
    if kind == "Subsample":
        return "sub-sampling"
    if "max" in kind.lower():
        return "max pool"
    spatial = layer.output_shape[1:]
    everything = not spatial or ("daptive" in kind and all(size == 1 for size in spatial))
    return "global average" if everything else "average pool"


def _block(card: Card) -> str:
    block = card.block
    children = list(block.children()) if isinstance(block, nn.Sequential) else []
    alike = len({type(child) for child in children}) == 1
    count, kind = (len(children), type(children[0])) if alike else (1, type(block))
    one = children[0] if alike else block
    count *= card.count
    if isinstance(one, Branches):
        branches = f"{len(children_of(one))} branches"
        return branches if count == 1 else f"{count} blocks of {branches}"
    noun = spelled(kind.__name__)
    return counted(count, noun) if alike or count > 1 else noun


def counted(count: int, noun: str) -> str:
    """A number of things: 6 bottlenecks."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}" + ("" if noun.endswith("s") else "s")


def spelled(kind: str) -> str:
    """The name of a class as words: BasicBlock is a basic block."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", kind).replace("_", " ").strip()
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words.split())


def followers(card: Card) -> list[str]:
    """The layers that only follow, in one line."""
    words = [SHORT.get(layer.kind, layer.kind) for layer in card.followers if layer.kind not in UNSAID]
    return [", ".join(dict.fromkeys(words))] if words else []
