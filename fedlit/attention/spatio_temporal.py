"""A gate over time, a gate over space, and one after the other, for feature maps (B, C, T, S) of sequences.

T is time in steps and S is space: the places of measurement, such as the sensors of a site. As in FLAMe (Chen et al.:
federated learning with attention over spatio-temporal features), attention over space and attention over time are
combined. FLAMe's text was not available, so this is not a reimplementation: the gates are an interpretation of that
idea, in the style of CBAM (Woo et al. 2018, arXiv 1807.06521).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedlit.attention.gating import OPEN, Gated, odd
from fedlit.core.counts import at_least
from fedlit.core.given import one_of

First = Literal["time", "space"]


def profile_over_time(x: Tensor) -> Tensor:
    """Mean and maximum of each step over channels and places: (B, C, T, S) -> (B, 2, T)."""
    return torch.stack([x.mean((1, 3)), x.amax((1, 3))], dim=1)


def profile_over_space(x: Tensor) -> Tensor:
    """Mean and maximum of each place over channels and steps: (B, C, T, S) -> (B, 2, S)."""
    return torch.stack([x.mean((1, 2)), x.amax((1, 2))], dim=1)


class Temporal(Gated):
    r"""Scale steps by a convolution of mean and maximum, over time.

    .. math:: y = x \cdot \sigma(\mathrm{conv}_k([\bar{x}; \hat{x}]) + b), \qquad
              \bar{x}_t = \tfrac{1}{CS} \sum_{cs} x_{cts},\ \hat{x}_t = \max_{cs} x_{cts}

    Source: an interpretation of attention over time, see :mod:`fedlit.attention.spatio_temporal`: CBAM's spatial gate
    without the dimension of places. It has 2k + 1 parameters. At initialisation the kernel is zero and ``b = 2``: the
    module multiplies every input by sigmoid(2) = 0.88. Zeros are padded at both ends.

    Args:
        channels: unused, as the gate only needs two statistics of the channels; every attention has this argument.
        kernel_size: k, odd, in steps of the feature map.
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = _starting_open(channels, kernel_size)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, T, S) -> (B, 1, T, 1)."""
        return torch.sigmoid(self.conv(profile_over_time(x)))[:, :, :, None]  # (B, 1, T, 1)


class Sensorwise(Gated):
    r"""Scale places by their mean and maximum over time, with a convolution over places.

    .. math:: y = x \cdot \sigma(\mathrm{conv}_k([\bar{x}; \hat{x}]) + b), \qquad
              \bar{x}_s = \tfrac{1}{CT} \sum_{ct} x_{cts},\ \hat{x}_s = \max_{ct} x_{cts}

    Source: an interpretation of attention over space, see :mod:`fedlit.attention.spatio_temporal`. Unlike
    :class:`~fedlit.attention.Spatial`, which on such a feature map has a gate for each pair of step and place, it has
    one gate for each place at all times. It has 2k + 1 parameters and starts like :class:`Temporal`.

    Args:
        channels: unused, as the gate only needs two statistics of the channels; every attention has this argument.
        kernel_size: k, odd. With 1 a gate depends on its own place only, and the order of places does not matter.
    """

    def __init__(self, channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = _starting_open(channels, kernel_size)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, T, S) -> (B, 1, 1, S)."""
        return torch.sigmoid(self.conv(profile_over_space(x)))[:, :, None]  # (B, 1, 1, S)


class SpatioTemporal(nn.Module):
    r"""First :class:`Temporal`, then :class:`Sensorwise` on its output; or the other way round.

    .. math:: y = x \cdot g_1(x) \cdot g_2(x \cdot g_1(x))

    Source: an interpretation of FLAMe, see :mod:`fedlit.attention.spatio_temporal`. 18 parameters by default.

    Args:
        channels: unused; every attention has this argument.
        time_kernel_size: k of the gate over time, odd.
        space_kernel_size: k of the gate over space, odd.
        first: which gate is applied first, ``time`` or ``space``.
    """

    def __init__(
        self, channels: int, time_kernel_size: int = 7, space_kernel_size: int = 1, first: First = "time"
    ) -> None:
        super().__init__()
        one_of("first", first, get_args(First))
        odd("time_kernel_size", time_kernel_size)
        odd("space_kernel_size", space_kernel_size)
        self.time = Temporal(channels, time_kernel_size)
        self.space = Sensorwise(channels, space_kernel_size)
        self.first = first

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, for pictures: (B, C, T, S) -> (B, 1, T, S)."""
        first, second = self._in_order()
        return first.gate(x) * second.gate(first(x))

    def forward(self, x: Tensor) -> Tensor:
        """Both gates in turn: (B, C, T, S) -> (B, C, T, S)."""
        first, second = self._in_order()
        return second(first(x))  # type: ignore[no-any-return]

    def _in_order(self) -> tuple[Gated, Gated]:
        return (self.time, self.space) if self.first == "time" else (self.space, self.time)


def _starting_open(channels: int, kernel_size: int) -> nn.Conv1d:
    """A convolution from two statistics to a gate's logits, (B, 2, L) -> (B, 1, L), which are OPEN at first."""
    at_least(1, "channels", channels)
    odd("kernel_size", kernel_size)
    conv = nn.Conv1d(2, 1, kernel_size, padding=kernel_size // 2)
    nn.init.zeros_(conv.weight)
    nn.init.constant_(conv.bias, OPEN)  # type: ignore[arg-type]
    return conv
