"""A multilayer perceptron on the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from fedlit.core.errors import InputError
from fedlit.models.init import MAX_UNITS, he_


class MLP(nn.Module):
    """Linear layers with ReLU in between: (B, C, S, S) -> (B, num_classes) logits; 784-64-47 by default.

    It is small and without convolutions, so hundreds of clients can train at once in one vectorised program.
    Initialisation: :func:`~fedlit.models.init.he_`.

    Args:
        hidden: units of each hidden layer; empty for a linear model.
        num_classes: number of classes.
        in_channels: C, 1 for grey images.
        image_size: S, side length in pixels.
    """

    def __init__(
        self, hidden: Sequence[int] = (64,), num_classes: int = 47, in_channels: int = 1, image_size: int = 28
    ) -> None:
        super().__init__()
        units = [in_channels * image_size**2, *hidden, num_classes]
        if not 1 <= min(in_channels, image_size, *units) <= max(image_size, *units) <= MAX_UNITS:
            limit = "at least 1 unit" if min(in_channels, image_size, *units) < 1 else f"at most {MAX_UNITS:,} units"
            raise InputError(f"layers of an MLP must have {limit}, got {units}; use whole numbers from 1 up")
        linear = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(units)]
        self.layers = nn.ModuleList(linear)
        he_(self, output=linear[-1])

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, num_classes)."""
        x = images.flatten(1)  # (B, C * S * S)
        for layer in self.layers[:-1]:
            x = layer(x).relu()  # (B, units)
        return self.layers[-1](x)  # type: ignore[no-any-return]  # (B, num_classes)
