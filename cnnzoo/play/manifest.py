"""What the pages have to know of a network: its layers, its weights, and how its images are prepared."""

from collections.abc import Callable
from typing import Any

from torch import nn

from cnnzoo.checkpoints.table import Checkpoint, list_checkpoints
from cnnzoo.errors import OptionError
from cnnzoo.models.captcha import CaptchaCNN
from cnnzoo.nn import ConnectionTableConv2d, RBFOutput, ScaledTanh, Subsample
from cnnzoo.registry import spec
from cnnzoo.zoo import create

NETWORKS = ("lenet5", "captcha_cnn_small")
"""The networks that are small enough for a page."""


def shown() -> list[tuple[str, Checkpoint]]:
    """The networks of the pages with their bundled weights: the first of each variant and list of classes."""
    found: dict[tuple[str, bool, Any], Checkpoint] = {}
    for name in NETWORKS:
        for one in list_checkpoints(name):
            if one.source == "bundled":
                found.setdefault((name, bool(one.options.get("classic")), one.class_set), one)
    return [(name, checkpoint) for (name, *_), checkpoint in found.items()]


def described(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """A network and its weights as a value for JSON.

    Raises:
        OptionError: the page cannot run one of its layers.
    """
    model: Any = create(spec(name).name, device="meta", **checkpoint.options)
    reads = {"charset": model.charset, "length": model.length} if isinstance(model, CaptchaCNN) else {}
    prepared = checkpoint.preprocessing
    height, width = prepared.frame
    return reads | {
        "id": f"{name}.{checkpoint.tag}",
        "name": name,
        "classic": bool(checkpoint.options.get("classic")),
        "data": checkpoint.class_set or "captchas",
        "file": f"weights/{checkpoint.file}",
        "classes": list(checkpoint.classes),
        "accuracy": checkpoint.accuracy,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "preprocessing": {
            "channels": prepared.channels,
            "height": height,
            "width": width,
            "pad": prepared.pad,
            "mean": _per_channel(prepared.mean, prepared.channels),
            "std": _per_channel(prepared.std, prepared.channels),
        },
        "layers": [_layer(name, child, layer) for child, layer in model.named_children()],
    }


def _per_channel(value: float | tuple[float, ...], channels: int) -> list[float]:
    return list(value) if isinstance(value, tuple) else [value] * channels


def _layer(network: str, name: str, layer: nn.Module) -> dict[str, Any]:
    """A layer: its type, and what its output follows from besides its weights."""
    granted = ALWAYS.get(type(layer), {})
    if type(layer) not in DETAILS or any(getattr(layer, key) != value for key, value in granted.items()):
        raise OptionError(
            f"layer {name} of {network} is {layer}, which the page does not run; "
            f"it runs {', '.join(sorted(known.__name__ for known in DETAILS))}, without groups, padded "
            "poolings or ceil mode"
        )
    params = sum(parameter.numel() for parameter in layer.parameters())
    return {"name": name, "type": type(layer).__name__, "params": params} | DETAILS[type(layer)](layer)


def _window(layer: Any) -> dict[str, Any]:
    given = {"kernel": "kernel_size", "stride": "stride", "padding": "padding", "dilation": "dilation"}
    stated = {key: getattr(layer, name) for key, name in given.items() if hasattr(layer, name)}
    return {key: value if isinstance(value, tuple) else (value, value) for key, value in stated.items()}


def _nothing(layer: nn.Module) -> dict[str, Any]:
    return {}


DETAILS: dict[type[nn.Module], Callable[[Any], dict[str, Any]]] = {
    nn.Conv2d: lambda layer: _window(layer) | {"in": layer.in_channels, "out": layer.out_channels},
    ConnectionTableConv2d: lambda layer: (
        _window(layer) | {"stride": (1, 1), "in": layer.in_channels, "out": layer.out_channels, "table": layer.table}
    ),
    Subsample: _window,
    nn.AvgPool2d: _window,
    nn.MaxPool2d: _window,
    nn.AdaptiveAvgPool2d: _nothing,
    nn.BatchNorm2d: lambda layer: {"eps": layer.eps},
    nn.Linear: lambda layer: {"out": layer.out_features},
    RBFOutput: _nothing,
    nn.Tanh: _nothing,
    ScaledTanh: _nothing,
    nn.Sigmoid: _nothing,
    nn.ReLU: _nothing,
    nn.Flatten: _nothing,
}
"""The layers that `web/engine.js` runs, and what it has to know of each."""

ALWAYS: dict[type[nn.Module], dict[str, Any]] = {
    nn.Conv2d: {"groups": 1, "padding_mode": "zeros"},
    nn.AvgPool2d: {"padding": 0, "ceil_mode": False, "divisor_override": None},
    nn.MaxPool2d: {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    nn.AdaptiveAvgPool2d: {"output_size": (1, None)},
}
"""The arguments that `web/engine.js` takes for granted."""
