"""The layers that torch does not have: those of LeNet-5 (1998), and the blocks that two or more families share.

A layer tells the rest of the library what it is by optional methods:

- `fans()`: a scheme initialises its `weight` and, if it has one, its `bias`. Returns fan-in and fan-out, numbers or
  tensors that broadcast against the weight. Where fan-ins differ between units, `unit_fan_in()` returns those of the
  bias, and `units()` the weight in parts whose rows each belong to one unit.
- `reset_parameters()`: initialises every other parameter, and the layer if it has no `fans()`.
- `macs(output_shape)` for the shape table, and `connections(output_shape)` for the paper's own count.
"""

from cnnzoo.nn.inception import Branches, ConvUnit, ScaledResidual
from cnnzoo.nn.lenet import ConnectionTable, ConnectionTableConv2d, RBFOutput, ScaledTanh, Subsample
from cnnzoo.nn.normalization import LocalResponseNorm
from cnnzoo.nn.residual import (
    BasicBlock,
    Bottleneck,
    PreActBasicBlock,
    PreActBottleneck,
    Shortcut,
    ZeroPadShortcut,
)

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "Branches",
    "ConnectionTable",
    "ConnectionTableConv2d",
    "ConvUnit",
    "LocalResponseNorm",
    "PreActBasicBlock",
    "PreActBottleneck",
    "RBFOutput",
    "ScaledResidual",
    "ScaledTanh",
    "Shortcut",
    "Subsample",
    "ZeroPadShortcut",
]
