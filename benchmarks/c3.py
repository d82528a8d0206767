"""LeNet-5's C3: a table of kernels run as one dense convolution, against a dense layer and one layer for each map."""

from collections.abc import Sequence
from copy import deepcopy

import click
import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import (
    Comparison,
    Report,
    Target,
    device,
    interleave,
    min_time,
    repeats,
    reporting,
    synchronizer,
)
from cnnzoo.nn import ConnectionTable, ConnectionTableConv2d

SHAPE = (256, 6, 14, 14)


class OneMap(nn.Conv2d):
    """The convolution of one output map, which picks the input maps that its row of the table lists."""

    row: Tensor

    def __init__(self, row: Sequence[int], kernel_size: int) -> None:
        super().__init__(len(row), 1, kernel_size)
        self.register_buffer("row", torch.tensor(row))

    def forward(self, input: Tensor) -> Tensor:
        # Of the ways to pick maps, index_select with a tensor at hand is the quickest, forward and backward.
        return super().forward(input.index_select(1, self.row))


class SeparateConv2d(nn.Module):
    """One convolution for each row of a connection table: the layer as it is usually written."""

    def __init__(self, table: ConnectionTable, kernel_size: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(OneMap(row, kernel_size) for row in table)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([one(x) for one in self.maps], 1)


@click.command()
@device()
@repeats()
@min_time()
@reporting
def c3(device: str, repeats: int, min_time: float, report: Report) -> None:
    """The sparse C3 of LeNet-5 at batch 256."""
    layers = {name: layer.to(device) for name, layer in same_layers().items()}
    require_agreement(layers, device)
    x = torch.randn(SHAPE, device=device, requires_grad=True)  # as inside a network
    gradient = torch.randn_like(layers["dense"](x))

    def step(layer: nn.Module) -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x), (x, *layer.parameters()), gradient)

    passes = {"forward": lambda layer: layer(x), "forward and backward": step}
    comparisons, targets = [], []
    for name, run in passes.items():
        calls = {kind: (lambda layer=layer, run=run: run(layer)) for kind, layer in layers.items()}
        samples = interleave(calls, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
        one = Comparison(f"{name}, {device}", "dense", samples)
        comparisons.append(one)
        targets += [
            Target(f"{one.case}: table / dense", one.ratio("table").median, at_most=1.15),
            Target(f"{one.case}: sixteen / table", one.ratio("sixteen", to="table").median, at_least=5),
        ]
    report.timings("c3", comparisons, targets)


def same_layers() -> dict[str, nn.Module]:
    """Three layers that compute the same: the dense one has zeros where the table has no connection."""
    table = ConnectionTableConv2d(SHAPE[1], cnnzoo.models.TABLE_I, 5)
    dense = nn.Conv2d(SHAPE[1], len(cnnzoo.models.TABLE_I), 5)
    sixteen = SeparateConv2d(cnnzoo.models.TABLE_I, 5)
    dense.weight = nn.Parameter(table.dense_weight().detach())
    dense.bias = nn.Parameter(table.bias.detach().clone())
    kernels = table.weight.detach().split([len(row) for row in cnnzoo.models.TABLE_I])
    for one, kernel, bias in zip(sixteen.maps, kernels, dense.bias.detach(), strict=True):
        one.weight = nn.Parameter(kernel.clone().unsqueeze(0))
        one.bias = nn.Parameter(bias.clone().unsqueeze(0))
    return {"dense": dense, "table": table, "sixteen": sixteen}


def require_agreement(layers: dict[str, nn.Module], device: str) -> None:
    """The same outputs and input gradients, or there is nothing to compare."""
    # In float64, because CUDA's float32 convolutions round to TensorFloat-32 on the way.
    x = torch.randn(2, *SHAPE[1:], dtype=torch.float64, device=device, requires_grad=True)
    results = {}
    for name, layer in layers.items():
        out = deepcopy(layer).double()(x)
        results[name] = (out, *torch.autograd.grad(out.square().sum(), x))
    for name, result in results.items():
        torch.testing.assert_close(result, results["table"], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
