"""A channel gate without a perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlit.attention.gating import OPEN, Gated
from fedlit.core.counts import at_least


class Channel(Gated):
    r"""Scale each channel by a function of its mean, and of nothing else.

    .. math:: y = x \cdot \sigma(w \odot \bar{x} + b), \qquad \bar{x}_c = \tfrac{1}{HW} \sum_{hw} x_{chw}

    It is the smallest channel gate, with 2C parameters, and the baseline for :class:`~fedlit.attention.ChannelMLP`,
    which differs by the perceptron, in which channels interact.

    Source: the ablation of Wang et al. 2020, arXiv 1910.03151, section 3.2.1, "SE-Var2" (a diagonal matrix on the
    average pool). The bias ``b`` is added here, so that the gate can start open: at initialisation ``w = 0, b = 2`` and
    the module multiplies every input by sigmoid(2) = 0.88.

    Args:
        channels: C, the channels of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        at_least(1, "channels", channels)
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.full((channels,), OPEN))

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        z = x.mean((2, 3))  # (B, C)
        return torch.sigmoid(self.weight * z + self.bias)[:, :, None, None]  # (B, C, 1, 1)
