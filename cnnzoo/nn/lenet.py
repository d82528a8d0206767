"""The layers of LeNet-5 as it was printed in 1998, which torch does not have."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.errors import OptionError, ShapeError
from cnnzoo.support.torch_private import Derived

ConnectionTable = Sequence[Sequence[int]]


class ScaledTanh(nn.Module):
    """The squashing function A tanh(S a) with A = 1.7159 and S = 2/3, so that f(1) = 1 and f(-1) = -1.

    Source: LeCun et al. 1998, equation 6 and Appendix A.
    """

    def forward(self, a: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(a * (2 / 3))


class Subsample(nn.Module):
    """Trainable sub-sampling: the sum over each window times a coefficient plus a bias, one pair for each map.

    Images (N, channels, H, W) to (N, channels, H / kernel_size, W / kernel_size); windows do not overlap.
    Parameters: `weight` and `bias`, (channels,) each.

    Source: LeCun et al. 1998, section II-B, layers S2 and S4: "the four inputs to a unit in S2 are added, then
    multiplied by a trainable coefficient, and added to a trainable bias".
    """

    def __init__(self, channels: int, kernel_size: int = 2) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as average pooling."""
        nn.init.constant_(self.weight, 1 / self.kernel_size**2)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, self.kernel_size)
        return mean * (self.weight * self.kernel_size**2).view(-1, 1, 1) + self.bias.view(-1, 1, 1)

    def fans(self) -> tuple[int, int]:
        """Each coefficient serves the inputs of one window, and each input feeds one window."""
        return self.kernel_size**2, 1

    def connections(self, output_shape: tuple[int, ...]) -> int:
        """One from each input of the window, and one from the bias."""
        return (self.kernel_size**2 + 1) * math.prod(output_shape)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, kernel_size={self.kernel_size}"


class ConnectionTableConv2d(Derived):
    """A convolution in which each output map sees only the input maps that a table lists for it.

    It holds the kernels that exist and no others, `weight` (kernels, K, K) and `bias` (maps,), in the table's order,
    and runs as one dense convolution: the kernels are placed into a (maps, in_channels, K, K) weight of zeros.
    Images (N, in_channels, H, W) to (N, len(table), H - K + 1, W - K + 1).

    Args:
        in_channels: the number of input maps.
        table: for each output map, the indices of the input maps that it sees.
        kernel_size: K.

    Raises:
        OptionError: a row of the table is empty, repeats an index, or names a map that does not exist.

    Source: LeCun et al. 1998, Table I and layer C3: 60 kernels and 16 biases, 1,516 parameters.
    """

    index: Tensor

    def __init__(self, in_channels: int, table: ConnectionTable, kernel_size: int) -> None:
        super().__init__()
        for row, inputs in enumerate(table):
            if not inputs or len(set(inputs)) < len(inputs) or not all(0 <= i < in_channels for i in inputs):
                raise OptionError(
                    f"ConnectionTableConv2d: row {row} of the connection table is {list(inputs)}; each output map "
                    f"lists at least one input map, each once, from 0 to {in_channels - 1}"
                )
        if not table:
            raise OptionError("ConnectionTableConv2d: the connection table is empty; give one row for each output map")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, len(table), kernel_size
        self.table = tuple(tuple(inputs) for inputs in table)
        self.weight = nn.Parameter(torch.empty(sum(map(len, self.table)), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))
        self.register_buffer("index", self.derived()["index"], persistent=False)
        self.reset_parameters()

    def derived(self) -> dict[str, Tensor]:
        """Where the kernels stand in the dense weight, which follows from the table, so that no file need hold it."""
        places = [row * self.in_channels + i for row, inputs in enumerate(self.table) for i in inputs]
        return {"index": torch.tensor(places)}

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(fan-in), torch's own default for a convolution, with each map's own fan-in."""
        with torch.no_grad():
            for parameter, fan_in in ((self.weight, self.fans()[0]), (self.bias, self.unit_fan_in())):
                parameter.uniform_(-1, 1).mul_(fan_in.rsqrt().to(parameter))

    def dense_weight(self) -> Tensor:
        """The kernels in their places, (maps, in_channels, K, K), zero where there is no connection."""
        k = self.kernel_size
        dense = self.weight.new_zeros(self.out_channels * self.in_channels, k, k)
        return dense.index_copy(0, self.index, self.weight).view(self.out_channels, self.in_channels, k, k)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.dense_weight(), self.bias)

    def fans(self) -> tuple[Tensor, Tensor]:
        """Fan-in and fan-out of each kernel, (kernels, 1, 1): 75 to 150 inputs, by the row of Table I it belongs to."""
        fed = [sum(i in inputs for inputs in self.table) for i in range(self.in_channels)]
        fan_in = [len(inputs) for inputs in self.table for _ in inputs]
        fan_out = [fed[i] for inputs in self.table for i in inputs]
        area = self.kernel_size**2
        both = torch.tensor([fan_in, fan_out], dtype=torch.float32, device="cpu") * area
        return both[0].view(-1, 1, 1), both[1].view(-1, 1, 1)

    def unit_fan_in(self) -> Tensor:
        """Fan-in of each output map's units, (maps,)."""
        return torch.tensor([len(row) * self.kernel_size**2 for row in self.table], dtype=torch.float32, device="cpu")

    def units(self) -> Iterator[Tensor]:
        """The kernels of each output map, (1, kernels, K, K)."""
        return (kernels.unsqueeze(0) for kernels in self.weight.split([len(row) for row in self.table]))

    def macs(self, output_shape: tuple[int, ...]) -> int:
        """Only the connections that exist count; the zeros of the dense weight do not."""
        return self.weight.numel() * math.prod(output_shape[1:])

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, kernels={len(self.weight)}"


class RBFOutput(nn.Module):
    """Euclidean radial basis function units with fixed codes: features (N, F) to scores (N, classes).

    The paper's y_i is the squared distance between the features and the code of class i, and the smallest wins.
    `forward` returns -y, so that here as everywhere the largest score wins.

    Args:
        codes: (classes, F), one code for each class, kept as a buffer.

    Source: LeCun et al. 1998, equation 7; "kept fixed, at least initially".
    """

    codes: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.initial = codes.detach().clone().to("cpu", torch.get_default_dtype())
        self.register_buffer("codes", self.initial.clone())

    def reset_parameters(self) -> None:
        """Start with the codes that it was made with."""
        self.codes.copy_(self.initial)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-1] != self.codes.shape[1]:
            raise ShapeError(f"RBFOutput: got {features.shape[-1]} features, its codes have {self.codes.shape[1]}")
        return -(features.unsqueeze(-2) - self.codes).square().sum(-1)

    def connections(self, output_shape: tuple[int, ...]) -> int:
        """One for each component of each code."""
        return self.codes.numel()

    def extra_repr(self) -> str:
        return f"{self.codes.shape[1]}, {self.codes.shape[0]}"
