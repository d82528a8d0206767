"""Normalisation before batch normalisation."""

import torch
from torch import Tensor, nn


class LocalResponseNorm(nn.LocalResponseNorm):
    """Torch's layer, in single precision where the maps are in half: torch's CPU kernel takes no halves.

    Each value is divided by (k + alpha / size * sum of the squares of `size` neighbouring channels) ** beta. The
    formula of the paper does not divide by the size, its authors' code does.

    Source: Krizhevsky et al. 2012, section 3.3.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype in (torch.bfloat16, torch.float16):
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)
