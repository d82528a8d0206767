"""LeNet-5's C3: a table of kernels run as one dense convolution, against a dense layer and one layer for each map."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from benchmarks.harness import Bench, benchmark, require_same
from cnnzoo.models import TABLE_I
from cnnzoo.nn import ConnectionTableConv2d

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

    def __init__(self, kernels: Sequence[OneMap]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(kernels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([one(x) for one in self.maps], 1)


@benchmark(device=True)
def c3(bench: Bench) -> None:
    """The sparse C3 of LeNet-5 at batch 256."""
    layers = {name: layer.to(bench.device) for name, layer in same_layers().items()}
    # In float64, because CUDA's float32 convolutions round to TensorFloat-32 on the way.
    few = torch.randn(2, *SHAPE[1:], dtype=torch.float64, device=bench.device, requires_grad=True)
    outputs = {name: deepcopy(layer).double()(few) for name, layer in layers.items()}
    gradients = {name: torch.autograd.grad(out.square().sum(), few)[0] for name, out in outputs.items()}
    require_same(outputs, 1e-5, "outputs")
    require_same(gradients, 1e-5, "gradients")
    x = torch.randn(SHAPE, device=bench.device, requires_grad=True)  # as inside a network
    gradient = torch.randn_like(layers["dense"](x))

    def step(layer: nn.Module) -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x), (x, *layer.parameters()), gradient)

    for name, run in {"forward": lambda layer: layer(x), "forward and backward": step}.items():
        calls = {kind: (lambda layer=layer, run=run: run(layer)) for kind, layer in layers.items()}
        one = bench.compare(f"{name}, {bench.device}", "dense", calls)
        bench.ratio(one, "table", at_most=1.15)
        bench.ratio(one, "sixteen", to="table", at_least=5)


def same_layers() -> dict[str, nn.Module]:
    """Three layers that compute the same: the dense one has zeros where the table has no connection."""
    table = ConnectionTableConv2d(SHAPE[1], TABLE_I, 5)
    assert table.bias is not None
    dense, sixteen = nn.Conv2d(SHAPE[1], len(TABLE_I), 5), [OneMap(row, 5) for row in TABLE_I]
    dense.weight = nn.Parameter(table.dense_weight().detach())
    dense.bias = nn.Parameter(table.bias.detach().clone())
    kernels = table.weight.detach().split([len(row) for row in TABLE_I])
    for one, kernel, bias in zip(sixteen, kernels, dense.bias.detach(), strict=True):
        one.weight = nn.Parameter(kernel.clone().unsqueeze(0))
        one.bias = nn.Parameter(bias.clone().unsqueeze(0))
    return {"dense": dense, "table": table, "sixteen": SeparateConv2d(sixteen)}
