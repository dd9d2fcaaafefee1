"""One spatial gate for all images, inspired by Xu et al. 2020, arXiv 2007.15897."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlit.attention.gating import OPEN, Gated, at_least


def resize(grid: Tensor, height: int, width: int) -> Tensor:
    """Resize a map so that every cell of it counts: (1, 1, S, S) -> (1, 1, H, W).

    Bilinear towards more cells, the mean of the cells covered towards fewer: a bilinear reading of a finer map would
    skip cells, which then would never learn.
    """
    rows, columns = grid.shape[-2:]
    grid = F.adaptive_avg_pool2d(grid, (min(rows, height), min(columns, width)))  # (1, 1, <=H, <=W)
    return F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)  # (1, 1, H, W)


class GlobalSpatial(Gated):
    r"""Scale each place by a learned map that is the same for every image.

    .. math:: y = x \cdot \sigma(\mathrm{resize}_{H \times W}(M)), \qquad M \in \mathbb{R}^{S \times S}

    Inspired by Xu et al. 2020, arXiv 2007.15897, and not a reimplementation: the idea taken is that images with a
    common layout share one map. There a binary classifier makes the map, whose features at a pixel are the intensities
    of all images there; here its logits are learned directly. That needs no images at the server, and S * S numbers do
    not depend on the data's size. The grid has a fixed resolution, so one module fits every size of feature map.

    At initialisation ``M = 2`` everywhere and the module multiplies by sigmoid(2) = 0.88 whatever the input.

    Args:
        channels: accepted so that every attention is built alike; unused, as one map serves all of them.
        size: S, cells of the map a side. 7 suits digits of 28 pixels after two poolings, one cell a place.
    """

    def __init__(self, channels: int, size: int = 7) -> None:
        super().__init__()
        at_least("channels", channels, 1)
        at_least("size", size, 1)
        self.grid = nn.Parameter(torch.full((1, 1, size, size), OPEN))

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W), the same for each of the B images."""
        batch, _, height, width = x.shape
        shared = torch.sigmoid(resize(self.grid, height, width))  # (1, 1, H, W)
        return shared.expand(batch, -1, -1, -1)  # (B, 1, H, W)
