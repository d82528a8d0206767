"""From a map to the sequence of its columns, and a recurrent layer that reads it in both directions."""

import torch
from torch import Tensor, nn

__all__ = ["BidirectionalLSTM", "Columns"]


class Columns(nn.Module):
    """The columns of a map from left to right: (N, C, H, W) to (N, W, C * H).

    Source: Shi et al. 2015, section 2.1, where the columns of all maps are joined to one vector.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 1, 2).flatten(2)


class BidirectionalLSTM(nn.Module):
    """Two LSTMs, one of which reads from the end: (N, steps, features) to (N, steps, 2 * hidden).

    It computes what `nn.LSTM(features, hidden, batch_first=True, bidirectional=True)` does, and has its parameters
    under the same names. That one keeps a list of them, which torch.compile does not take and torch.export warns of.

    Args:
        features: numbers in a step.
        hidden: units of each direction; those of the forward one stand first in the output.

    Source: Shi et al. 2015, section 2.2; Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), with the
    forget gates of Gers et al. 2000.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.features, self.hidden = features, hidden
        gates = 4 * hidden  # input, forget, cell and output, in the order of torch
        for direction in ("", "_reverse"):
            self.register_parameter(f"weight_ih_l0{direction}", nn.Parameter(torch.empty(gates, features)))
            self.register_parameter(f"weight_hh_l0{direction}", nn.Parameter(torch.empty(gates, hidden)))
            self.register_parameter(f"bias_ih_l0{direction}", nn.Parameter(torch.empty(gates)))
            self.register_parameter(f"bias_hh_l0{direction}", nn.Parameter(torch.empty(gates)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """What torch's own LSTM does: everything uniform within 1 / sqrt(hidden)."""
        bound = self.hidden**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, steps: Tensor) -> Tensor:
        nothing = steps.new_zeros(2, steps.shape[0], self.hidden)
        parameters: list[Tensor] = list(self.parameters())
        out, _, _ = torch.lstm(steps, (nothing, nothing), parameters, True, 1, 0.0, self.training, True, True)
        return out

    def extra_repr(self) -> str:
        return f"{self.features}, {self.hidden}"
