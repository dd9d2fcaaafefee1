"""A gate over time, a gate over space, and one after the other, for feature maps (B, C, T, S) of sequences.

T is time in steps and S is space: the places at which something is measured, such as the sensors of a site. FLAMe
(Chen et al.: federated learning with attention over spatio-temporal features) is what this follows in one point: that
attention over space and attention over time are joined. Its text was not at hand, so the gates are our own reading, in
the manner of CBAM (Woo et al. 2018, arXiv 1807.06521), and no reimplementation.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedlit.attention.gating import OPEN, Gated, at_least, odd
from fedlit.core.errors import InputError

First = Literal["time", "space"]


def profile_over_time(x: Tensor) -> Tensor:
    """Mean and maximum of each step over channels and places: (B, C, T, S) -> (B, 2, T)."""
    return torch.stack([x.mean((1, 3)), x.amax((1, 3))], dim=1)


def profile_over_space(x: Tensor) -> Tensor:
    """Mean and maximum of each place over channels and steps: (B, C, T, S) -> (B, 2, S)."""
    return torch.stack([x.mean((1, 2)), x.amax((1, 2))], dim=1)


class Temporal(Gated):
    r"""Scale each step of time by a convolution of its mean and maximum, and of those of the steps around it.

    .. math:: y = x \cdot \sigma(\mathrm{conv}_k([\bar{x}; \hat{x}]) + b), \qquad
              \bar{x}_t = \tfrac{1}{CS} \sum_{cs} x_{cts},\ \hat{x}_t = \max_{cs} x_{cts}

    Source: our reading of attention over time, see :mod:`fedlit.attention.spatio_temporal`: CBAM's spatial gate, with
    the place left out. It has 2k + 1 parameters. At initialisation the kernel is zero and ``b = 2``: the module
    multiplies by sigmoid(2) = 0.88 whatever the input. Zeros are padded at both ends.

    Args:
        channels: accepted so that every attention is built alike; unused, as the gate sees two statistics of them.
        kernel_size: k, odd, in steps of the feature map.
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = _starting_open(channels, kernel_size)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, T, S) -> (B, 1, T, 1)."""
        return torch.sigmoid(self.conv(profile_over_time(x)))[:, :, :, None]  # (B, 1, T, 1)


class Sensorwise(Gated):
    r"""Scale each place by its mean and maximum over time.

    .. math:: y = x \cdot \sigma(\mathrm{conv}_k([\bar{x}; \hat{x}]) + b), \qquad
              \bar{x}_s = \tfrac{1}{CT} \sum_{ct} x_{cts},\ \hat{x}_s = \max_{ct} x_{cts}

    Source: our reading of attention over space, see :mod:`fedlit.attention.spatio_temporal`. Otherwise than
    :class:`~fedlit.attention.Spatial`, which on such a feature map gates each pair of step and place, a place has one
    gate for all of the time. It has 2k + 1 parameters and starts as :class:`Temporal` does.

    Args:
        channels: accepted so that every attention is built alike; unused, as the gate sees two statistics of them.
        kernel_size: k, odd. 1 sees a place by itself and needs no order of the places; more sees its neighbours.
    """

    def __init__(self, channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = _starting_open(channels, kernel_size)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, T, S) -> (B, 1, 1, S)."""
        return torch.sigmoid(self.conv(profile_over_space(x)))[:, :, None]  # (B, 1, 1, S)


class SpatioTemporal(nn.Module):
    r"""First :class:`Temporal`, then :class:`Sensorwise` on what it leaves; or the other way round.

    .. math:: y = x \cdot g_1(x) \cdot g_2(x \cdot g_1(x))

    Source: our reading of FLAMe, see :mod:`fedlit.attention.spatio_temporal`. 18 parameters by default.

    Args:
        channels: accepted so that every attention is built alike; unused.
        time_kernel_size: k of the gate over time, odd.
        space_kernel_size: k of the gate over space, odd.
        first: which gate sees the feature map as it is, ``time`` or ``space``; the other sees what that one leaves.
    """

    def __init__(
        self, channels: int, time_kernel_size: int = 7, space_kernel_size: int = 1, first: First = "time"
    ) -> None:
        super().__init__()
        if first not in get_args(First):
            raise InputError(f"first must be time or space, got {first!r}; use time")
        self.time = Temporal(channels, time_kernel_size)
        self.space = Sensorwise(channels, space_kernel_size)
        self.first = first

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, for a picture of it: (B, C, T, S) -> (B, 1, T, S)."""
        first, second = self._in_order()
        return first.gate(x) * second.gate(first(x))

    def forward(self, x: Tensor) -> Tensor:
        """Both gates in turn: (B, C, T, S) -> (B, C, T, S)."""
        first, second = self._in_order()
        return second(first(x))  # type: ignore[no-any-return]

    def _in_order(self) -> tuple[Gated, Gated]:
        return (self.time, self.space) if self.first == "time" else (self.space, self.time)


def _starting_open(channels: int, kernel_size: int) -> nn.Conv1d:
    """A convolution from the two statistics to logits of a gate, (B, 2, L) -> (B, 1, L), which are OPEN at first."""
    at_least("channels", channels, 1)
    odd("kernel_size", kernel_size)
    conv = nn.Conv1d(2, 1, kernel_size, padding=kernel_size // 2)
    nn.init.zeros_(conv.weight)
    nn.init.constant_(conv.bias, OPEN)  # type: ignore[arg-type]
    return conv
