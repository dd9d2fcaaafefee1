"""Multinomial logistic regression, a convex model."""

from __future__ import annotations

from torch import Tensor, nn

from fedlit.core.errors import InputError
from fedlit.models.init import MAX_UNITS


class SoftmaxRegression(nn.Module):
    """One linear layer on the pixels: (B, C, S, S) -> (B, num_classes) logits.

    It is convex, as federated theory assumes: the only difficulty is that clients have different minima. Weights and
    biases start at zero, so every seed starts at the loss log(num_classes) and only the data differ.

    Args:
        num_classes: number of classes.
        in_channels: C, 1 for grey images.
        image_size: S, side length in pixels.
    """

    def __init__(self, num_classes: int = 47, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        inputs = in_channels * image_size**2
        if min(num_classes, in_channels, image_size) < 1 or max(num_classes, inputs) > MAX_UNITS:
            given = f"{num_classes}, {in_channels} and {image_size}"
            raise InputError(f"num_classes, in_channels and image_size must be at least 1, got {given}; use 1 or more")
        self.linear = nn.Linear(inputs, num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, num_classes)."""
        return self.linear(images.flatten(1))  # type: ignore[no-any-return]
