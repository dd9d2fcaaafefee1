"""A small convolutional network for sequences, with optional attention over time and space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fedlit.attention.build import Attention, build_attention
from fedlit.core.errors import InputError
from fedlit.models.init import MAX_UNITS, he_


class SequenceCNN(nn.Module):
    """Convolution blocks over time, attention after each, and a linear head: (B, T, ...) -> (B, num_classes) logits.

    The S numbers of an input at one step, in any shape, are its places: sensors, or joints and their coordinates. A
    block is convolution over time -> ReLU -> max pool over 2 steps -> attention, on feature maps (B, C, T, S). The
    head's input is the maximum over time, and then the mean over places, of each channel. Places share their weights
    and are combined only in the attention and in that mean, so any T and S are possible, and the order of the places
    does not matter. 2,565 parameters by default.

    Initialisation: :func:`~fedlit.models.init.he_`; attention keeps its own and is built last, so that at one seed all
    variants start from the same weights elsewhere. Its parameters have ``.attention.`` in their names.

    Args:
        attention: from a number of channels to a module that keeps (B, C, T, S), of ``fedlit.attention`` for example;
            in YAML a class path, or ``null`` for none.
        num_classes: number of classes.
        widths: channels of each block. Each block halves T, rounding up.
        kernel_size: width of the convolutions in steps, odd.
    """

    def __init__(
        self,
        attention: Attention | None = None,
        num_classes: int = 5,
        widths: Sequence[int] = (16, 16),
        kernel_size: int = 9,
    ) -> None:
        super().__init__()
        _check(num_classes, widths, kernel_size)
        self.blocks = nn.Sequential(*(Block(n_in, n_out, kernel_size) for n_in, n_out in pairwise([1, *widths])))
        self.head = nn.Linear(widths[-1], num_classes)
        he_(self, self.head)
        if attention is not None:
            for block, width in zip(self.blocks, widths, strict=True):
                block.attention = build_attention(attention, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, ...) -> (B, num_classes)."""
        x = x.reshape(len(x), 1, x.shape[1], -1)  # (B, 1, T, S)
        x = self.blocks(x)  # (B, widths[-1], T', S)
        peaks = x.amax(2).mean(2)  # (B, widths[-1])
        return self.head(peaks)  # type: ignore[no-any-return]  # (B, num_classes)


class Block(nn.Module):
    """Convolution over time -> ReLU -> max pool over 2 steps -> attention: (B, C, T, S) -> (B, D, ceil(T / 2), S)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel_size, 1), padding=(kernel_size // 2, 0))
        self.attention: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, S) -> (B, D, ceil(T / 2), S)."""
        x = F.max_pool2d(self.conv(x), (2, 1), ceil_mode=True).relu()
        return self.attention(x)  # type: ignore[no-any-return]  # (B, D, ceil(T / 2), S)


def _check(num_classes: int, widths: Sequence[int], kernel_size: int) -> None:
    """Raise InputError for sizes with which the network is impossible."""
    for name, sizes in {"num_classes": [num_classes], "widths": list(widths)}.items():
        if not sizes or not 1 <= min(sizes) <= max(sizes) <= MAX_UNITS:
            raise InputError(f"{name} must be from 1 to {MAX_UNITS:,}, got {sizes}; use for example 32")
    if kernel_size < 1 or kernel_size % 2 == 0 or kernel_size > MAX_UNITS:
        raise InputError(f"kernel_size must be odd and positive, got {kernel_size}; use for example 9")
