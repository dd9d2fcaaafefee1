"""The convolutional block attention module and its two halves, Woo et al. 2018, arXiv 1807.06521."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlit.attention.gating import Gated, bottleneck, odd
from fedlit.attention.norm import Norm, norm_layer
from fedlit.core.counts import at_least


def channel_statistics(x: Tensor) -> Tensor:
    """Mean and maximum over the channels at each place: (B, C, H, W) -> (B, 2, H, W)."""
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)


class ChannelMLP(Gated):
    r"""Scale channels by a perceptron of their means and maxima; the same perceptron is applied to both.

    .. math:: y = x \cdot \sigma(f(\bar{x}) + f(\hat{x})), \qquad f(z) = W_1\, \mathrm{relu}(W_0 z), \qquad
              \hat{x}_c = \max_{hw} x_{chw}

    Source: Woo et al. 2018, arXiv 1807.06521, section 3.1, equation 2, without biases as in the equation. One
    difference: the bottleneck has ``max(channels // reduction, min_hidden)`` units, as in
    :class:`~fedlit.attention.SqueezeExcite`. With PyTorch's default initialisation the gate starts near 0.5, not
    near 1.

    Args:
        channels: C, the channels of the feature map.
        reduction: C divided by the width of the bottleneck, the paper's r.
        min_hidden: minimum width of the bottleneck.
    """

    def __init__(self, channels: int, reduction: int = 16, min_hidden: int = 8) -> None:
        super().__init__()
        self.mlp = bottleneck(channels, reduction, min_hidden, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        mean, peak = x.mean((2, 3)), x.amax((2, 3))  # (B, C) each
        return torch.sigmoid(self.mlp(mean) + self.mlp(peak))[:, :, None, None]  # (B, C, 1, 1)


class Spatial(Gated):
    r"""Scale places by a convolution of mean and maximum, those over the channels.

    .. math:: y = x \cdot \sigma(\mathrm{norm}(\mathrm{conv}_{k \times k}([\bar{x}; \hat{x}]))), \qquad
              \bar{x}_{hw} = \tfrac{1}{C} \sum_c x_{chw},\ \hat{x}_{hw} = \max_c x_{chw}

    Source: Woo et al. 2018, arXiv 1807.06521, section 3.2, equation 3. The equation has no normalisation; the authors'
    code has a BatchNorm between convolution and sigmoid. Both are available: ``norm: none`` is the equation (with a
    bias in the convolution), ``norm: batch`` the code. In a federation the BatchNorm is a likely cause if this gate is
    unstable: each client trains with its own statistics, but the server evaluates the average model with averaged ones.
    ``norm: group`` normalises each image's map by its own mean and variance, so no statistics are shared between
    images.

    With PyTorch's default initialisation the gate starts near 0.5 without a norm, and spread around 0.5 with one.

    Args:
        channels: unused, as the gate only needs two statistics of the channels; every attention has this argument.
        kernel_size: k, odd. Zero padding keeps the size of the map.
        norm: normalisation between convolution and sigmoid.
    """

    def __init__(self, channels: int, kernel_size: int = 7, norm: Norm = "none") -> None:
        super().__init__()
        at_least(1, "channels", channels)
        odd("kernel_size", kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=norm == "none")
        self.norm = norm_layer(norm, channels=1)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        z = channel_statistics(x)  # (B, 2, H, W)
        return torch.sigmoid(self.norm(self.conv(z)))  # (B, 1, H, W)


class CBAM(nn.Module):
    """First :class:`ChannelMLP`, then :class:`Spatial` on its output.

    Source: Woo et al. 2018, arXiv 1807.06521, equation 1. The options are those of the two modules.

    Args:
        channels: C, the channels of the feature map.
        reduction: C divided by the width of the channel gate's bottleneck, the paper's r.
        min_hidden: minimum width of that bottleneck.
        kernel_size: k of the spatial gate, odd.
        norm: normalisation between convolution and sigmoid in the spatial gate.
    """

    def __init__(
        self, channels: int, reduction: int = 16, min_hidden: int = 8, kernel_size: int = 7, norm: Norm = "none"
    ) -> None:
        super().__init__()
        self.channel = ChannelMLP(channels, reduction, min_hidden)
        self.spatial = Spatial(channels, kernel_size, norm)

    def gate(self, x: Tensor) -> Tensor:
        """The spatial gate, for pictures: (B, C, H, W) -> (B, 1, H, W)."""
        return self.spatial.gate(self.channel(x))

    def forward(self, x: Tensor) -> Tensor:
        """Both gates in turn: (B, C, H, W) -> (B, C, H, W)."""
        x = self.channel(x)  # (B, C, H, W)
        return self.spatial(x)  # type: ignore[no-any-return]  # (B, C, H, W)
