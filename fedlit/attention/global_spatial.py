"""One spatial gate for all images, inspired by Xu et al. 2020, arXiv 2007.15897."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlit.attention.gating import OPEN, Gated
from fedlit.core.counts import at_least


def resize(grid: Tensor, height: int, width: int) -> Tensor:
    """Resize a map so that every cell has an influence: (1, 1, S, S) -> (1, 1, H, W).

    It interpolates bilinearly to a larger size, and averages the covered cells for a smaller size, as bilinear
    interpolation would skip cells, which then would never learn.
    """
    rows, columns = grid.shape[-2:]
    grid = F.adaptive_avg_pool2d(grid, (min(rows, height), min(columns, width)))  # (1, 1, <=H, <=W)
    return F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)  # (1, 1, H, W)


class GlobalSpatial(Gated):
    r"""Scale places by a learned map, the same for every image.

    .. math:: y = x \cdot \sigma(\mathrm{resize}_{H \times W}(M)), \qquad M \in \mathbb{R}^{S \times S}

    Inspired by Xu et al. 2020, arXiv 2007.15897, but not a reimplementation: it adopts the idea that images with a
    common layout share one map. In the paper a binary classifier computes the map from the intensities of all images at
    a pixel; here the logits are learned directly, so the server needs no images, and the number of parameters, S * S,
    does not depend on the data. The map has a fixed resolution, so one module fits feature maps of any size.

    At initialisation ``M = 2`` everywhere and the module multiplies every input by sigmoid(2) = 0.88.

    Args:
        channels: unused, as all channels share one map; every attention has this argument.
        size: S, side length of the map in cells. 7 suits digits of 28 pixels after two poolings, one cell per place.
    """

    def __init__(self, channels: int, size: int = 7) -> None:
        super().__init__()
        at_least(1, "channels", channels)
        at_least(1, "size", size)
        self.grid = nn.Parameter(torch.full((1, 1, size, size), OPEN))

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W), the same for each of the B images."""
        batch, _, height, width = x.shape
        shared = torch.sigmoid(resize(self.grid, height, width))  # (1, 1, H, W)
        return shared.expand(batch, -1, -1, -1)  # (B, 1, H, W)
