"""The layers that torch does not have: those of LeNet-5 (1998), and the blocks that two or more families share.

A layer whose parameters are not an ordinary weight tells the rest of the library what it is by three optional
methods: `fans()` for initialization, `macs(output_shape)` for the shape table and `connections(output_shape)` for
the paper's own count.
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
