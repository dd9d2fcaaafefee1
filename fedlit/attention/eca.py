"""Efficient channel attention, Wang et al. 2020, arXiv 1910.03151."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedlit.attention.gating import Gated, odd
from fedlit.core.counts import at_least


def adaptive_kernel_size(channels: int) -> int:
    """The odd number nearest to (log2(C) + 1) / 2, the larger of two, and at least 3.

    Source: Wang et al. 2020, section 3.2.3, with its gamma = 2 and b = 1. The bound of 3 is added here, as in timm: for
    fewer than 8 channels the formula gives 1, without any interaction between channels.
    """
    size = (math.log2(channels) + 1) / 2
    return max(3, 2 * math.floor(size / 2) + 1)


class ECA(Gated):
    r"""Scale channels by a convolution over their means, with k parameters in all.

    .. math:: y = x \cdot \sigma(\mathrm{conv1d}_k(\bar{x}))

    Channels have no natural order: the network learns one in which neighbours are useful for each other. Zeros are
    padded at both ends.

    Source: Wang et al. 2020, arXiv 1910.03151, sections 3.2.2 (gate) and 3.2.3 (kernel size). The convolution has
    PyTorch's default initialisation and no bias: the gate starts near 0.5, not near 1.

    Args:
        channels: C, the channels of the feature map.
        kernel_size: k, odd; ``null`` derives it from the number of channels: 3 for 32 and 64, 5 for 128 to 1,024.
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        at_least(1, "channels", channels)
        size = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        odd("kernel_size", size)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        z = x.mean((2, 3))[:, None]  # (B, 1, C)
        return torch.sigmoid(self.conv(z)).mT[..., None]  # (B, C, 1, 1)
