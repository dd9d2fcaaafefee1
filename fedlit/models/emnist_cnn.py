"""A small convolutional network with optional attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from fedlit.attention.build import Attention, build_attention
from fedlit.attention.norm import Norm, norm_layer
from fedlit.core.errors import InputError
from fedlit.core.given import one_of
from fedlit.models.conv_pool import conv_pool
from fedlit.models.init import MAX_UNITS, he_
from fedlit.models.norm_pool import norm_pool

Place = Literal["after_pool", "before_pool"]
MAX_SIDE = 10_000


class EmnistCNN(nn.Module):
    """Convolution blocks with attention after each, then one hidden layer: (B, C, S, S) -> (B, num_classes) logits.

    A block is 3x3 convolution -> norm -> ReLU -> 2x2 max pool -> attention. The default is the network of 32 and 64
    channels and 128 hidden units that federated papers use on 28x28 characters: 426,415 parameters, 25 MFLOP per sample
    in a training step.

    The attention comes after the pool, where it costs a quarter as much and where a k x k gate covers twice the
    distance. Before the pool (``attention_at``) the maximum partly undoes a spatial gate: where the gate is small, a
    neighbouring place is the maximum.

    Convolutions and linear layers are initialised by :func:`~fedlit.models.init.he_`; attention keeps its own
    initialisation and is built last, so that at one seed all variants start from the same weights elsewhere. Parameters
    of the attention have ``.attention.`` in their names.

    Args:
        attention: from a number of channels to a module that keeps (B, C, H, W), of ``fedlit.attention`` for example;
            in YAML a class path, or ``null`` for none.
        num_classes: number of classes.
        in_channels: C, 1 for grey images.
        image_size: S, side length in pixels. Each block halves it, rounding down.
        widths: channels of each block.
        hidden: units of the hidden layer.
        norm: ``group`` (8 channel groups, or the largest divisor of 8 that divides the width) does not depend on other
            images or clients; ``batch`` trains fastest on IID data and is fragile on skewed clients.
        dropout: probability in [0, 1) of dropping a hidden unit.
        attention_at: ``after_pool``, or ``before_pool``: between ReLU and pool, on four times as many places.
    """

    def __init__(
        self,
        attention: Attention | None = None,
        num_classes: int = 47,
        in_channels: int = 1,
        image_size: int = 28,
        widths: Sequence[int] = (32, 64),
        hidden: int = 128,
        norm: Norm = "none",
        dropout: float = 0.0,
        attention_at: Place = "after_pool",
    ) -> None:
        super().__init__()
        one_of("attention_at", attention_at, get_args(Place))
        _check(num_classes, in_channels, image_size, widths, hidden, dropout)
        side = image_size >> len(widths)
        channels = pairwise([in_channels, *widths])
        self.blocks = nn.Sequential(*(ConvBlock(n_in, n_out, norm, attention_at) for n_in, n_out in channels))
        output = nn.Linear(hidden, num_classes)
        self.head = nn.Sequential(nn.Linear(widths[-1] * side**2, hidden), nn.ReLU(), nn.Dropout(dropout), output)
        he_(self, output)
        if attention is not None:
            pools = attention_at == "after_pool"
            for number, (block, width) in enumerate(zip(self.blocks, widths, strict=True)):
                block.attention = build_attention(attention, width, image_size >> (number + pools))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, num_classes)."""
        x = self.blocks(images)  # (B, widths[-1], side, side)
        return self.head(x.flatten(1))  # type: ignore[no-any-return]  # (B, num_classes)


class ConvBlock(nn.Module):
    """3x3 convolution -> norm -> ReLU -> 2x2 max pool -> attention: (B, C, H, W) -> (B, D, H // 2, W // 2).

    The attention may come before the pool.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: Norm = "none", attention_at: Place = "after_pool"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm == "none")
        self.norm = norm_layer(norm, out_channels)
        self.attention: nn.Module = nn.Identity()
        self.attention_at = attention_at

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H // 2, W // 2)."""
        if self.attention_at == "before_pool":
            return F.max_pool2d(self.attention(self.norm(self.conv(x)).relu()), 2)
        if isinstance(self.norm, nn.Identity) and self.conv.bias is not None:
            x = conv_pool(x, self.conv.weight, self.conv.bias)  # (B, D, H // 2, W // 2)
        else:
            x = norm_pool(self.conv(x), self.norm)  # the same with the norm between
        return self.attention(x)  # type: ignore[no-any-return]  # (B, D, H // 2, W // 2)


def _check(
    num_classes: int, in_channels: int, image_size: int, widths: Sequence[int], hidden: int, dropout: float
) -> None:
    """Raise InputError for sizes with which the network is impossible."""
    counts = {"num_classes": num_classes, "in_channels": in_channels, "hidden": hidden}
    for name, count in counts.items():
        if not 1 <= count <= MAX_UNITS:
            limit = "at least 1" if count < 1 else f"at most {MAX_UNITS:,}"
            raise InputError(f"{name} must be {limit}, got {count}; use a whole number from 1 up")
    if not widths or not 1 <= min(widths) <= max(widths) <= MAX_UNITS:
        raise InputError(f"widths must be one or more positive numbers, got {list(widths)}; use for example [32, 64]")
    if image_size > MAX_SIDE:
        raise InputError(f"image_size must be at most {MAX_SIDE:,}, got {image_size}; it is the side length in pixels")
    if image_size >> len(widths) < 1:
        least = 2 ** len(widths)
        raise InputError(f"image_size {image_size} is too small for {len(widths)} blocks; use {least} or more")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be in [0, 1), got {dropout}; use 0 for none")
