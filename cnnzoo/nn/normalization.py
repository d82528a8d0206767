"""Normalisation before batch normalisation."""

from typing import Literal

import torch
from torch import Tensor, nn

from cnnzoo.errors import OptionError


class LocalResponseNorm(nn.LocalResponseNorm):
    """Torch's layer, in single precision where the maps are in half: torch's CPU kernel takes no halves.

    Each value is divided by (k + alpha / size * sum of the squares of `size` neighbouring channels) ** beta. The
    formula of the paper does not divide alpha by the size, its authors' code does; `krizhevsky2012` makes either.

    Source: Krizhevsky et al. 2012, section 3.3.
    """

    @classmethod
    def krizhevsky2012(cls, lrn: Literal["printed", "released"]) -> "LocalResponseNorm":
        """The layer of AlexNet, k = 2, n = 5, alpha = 1e-4, beta = 0.75, as printed or as released.

        Raises:
            OptionError: `lrn` is neither of the two.
        """
        if lrn not in ("printed", "released"):
            raise OptionError(
                f"LocalResponseNorm: got lrn={lrn!r}; it is 'printed' (alpha times the sum) or 'released' (alpha "
                "divided by the window)"
            )
        return cls(5, alpha=5e-4 if lrn == "printed" else 1e-4, beta=0.75, k=2)

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype in (torch.bfloat16, torch.float16):
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)
