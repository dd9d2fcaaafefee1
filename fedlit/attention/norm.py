"""The normalisations that networks and gates offer."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import nn

from fedlit.core.given import one_of

Norm = Literal["none", "group", "batch"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """A normalisation of (B, C, H, W); ``group`` has 8 groups of channels, or the largest divisor of 8 that divides C.

    Raises:
        InputError: If there is none of this name.
    """
    one_of("norm", norm, get_args(Norm))
    if norm == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()
