"""Torch's layers, made in less time where a network is outlined: there they leave their parameters as they are.

Outside of an outline they are made by torch's own constructors, and everywhere they are torch's own layers. A
network's first values come from its scheme (`cnnzoo.initialization`), so that nobody would see those of the layer.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from torch import nn

from cnnzoo.initialization.outline import current

P = ParamSpec("P")
L = TypeVar("L", bound=nn.Module)


def _outlined(layer_type: Callable[P, L]) -> Callable[P, L]:
    bases: Any = (layer_type,)
    bare: Any = type(bases[0].__name__, bases, {"reset_parameters": lambda self: None})

    def make(*args: P.args, **options: P.kwargs) -> L:
        if current() is None:
            return layer_type(*args, **options)
        layer = bare(*args, **options)
        layer.__class__ = layer_type
        return layer

    return make


Conv2d = _outlined(nn.Conv2d)
Linear = _outlined(nn.Linear)
BatchNorm2d = _outlined(nn.BatchNorm2d)
