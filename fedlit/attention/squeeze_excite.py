"""Squeeze-and-excitation, Hu et al. 2018, arXiv 1709.01507."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlit.attention.gating import Gated, bottleneck


class SqueezeExcite(Gated):
    r"""Scale channels by a perceptron of their means.

    .. math:: y = x \cdot \sigma(W_2\, \mathrm{relu}(W_1 \bar{x} + b_1) + b_2), \qquad
              W_1 \in \mathbb{R}^{h \times C},\ W_2 \in \mathbb{R}^{C \times h}

    Source: Hu et al. 2018, arXiv 1709.01507, equations 2 (squeeze), 3 (excitation) and 4 (scale). One difference: the
    bottleneck has ``max(channels // reduction, min_hidden)`` units, since the paper's C / 16 gives a network of 32
    channels only two units, which may easily die in the ReLU. The linear layers have PyTorch's default initialisation,
    as the source does not specify another one: the gate starts near 0.5, not near 1.

    Args:
        channels: C, the channels of the feature map.
        reduction: C divided by the width of the bottleneck, the paper's r.
        min_hidden: minimum width of the bottleneck.
    """

    def __init__(self, channels: int, reduction: int = 16, min_hidden: int = 8) -> None:
        super().__init__()
        self.mlp = bottleneck(channels, reduction, min_hidden, bias=True)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        z = x.mean((2, 3))  # (B, C)
        return torch.sigmoid(self.mlp(z))[:, :, None, None]  # (B, C, 1, 1)
