"""Common parts of the gates: the module ``x * gate(x)``, the bottleneck, and checks of options."""

from __future__ import annotations

from torch import Tensor, nn

from fedlit.core.counts import as_int, at_least
from fedlit.core.errors import InputError

OPEN = 2.0
"""Logit of a gate that starts open: sigmoid(2) = 0.88. A higher value would be closer to the identity, but a saturated
sigmoid learns slowly: its slope is 0.25 at logit 0, 0.105 at 2 and 0.018 at 4."""


class Gated(nn.Module):
    """Scales a feature map by a gate that is computed from it: ``x * gate(x)``, (B, C, H, W) -> (B, C, H, W).

    The output has the dtype of ``x``, also under autocast, where the gate may have another one.
    """

    def gate(self, x: Tensor) -> Tensor:
        """The gate in (0, 1): (B, C, 1, 1) from a channel module, (B, 1, H, W) from a spatial one."""
        raise NotImplementedError(f"{type(self).__name__} must define gate(x)")

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``x`` by its gate: (B, C, H, W) -> (B, C, H, W)."""
        return x * self.gate(x).to(x.dtype)


def bottleneck(channels: int, reduction: int, min_hidden: int, bias: bool) -> nn.Sequential:
    """Linear -> ReLU -> Linear, (B, C) -> (B, C), with max(C // reduction, min_hidden) hidden units."""
    channels = at_least(1, "channels", channels)
    hidden = max(channels // at_least(1, "reduction", reduction), at_least(1, "min_hidden", min_hidden))
    return nn.Sequential(nn.Linear(channels, hidden, bias), nn.ReLU(), nn.Linear(hidden, channels, bias))


def odd(name: str, value: int) -> None:
    """Raise InputError if ``value`` is not an odd number from 1 up: only an odd kernel has a centre."""
    if as_int(name, value) < 1 or value % 2 == 0:
        raise InputError(f"{name} must be odd and positive, got {value}; use {max(value, 0) // 2 * 2 + 1}")
