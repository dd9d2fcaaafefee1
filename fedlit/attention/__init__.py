"""Attention for feature maps: every module is made by ``Module(channels, **options)`` and keeps (B, C, H, W).

``module.gate(x)`` is the factor of the feature map: (B, C, 1, 1) for a channel gate, (B, 1, H, W) for a spatial one; on
feature maps (B, C, T, S) of sequences, (B, 1, T, 1) for a gate over time and (B, 1, 1, S) for one over space.
"""

from fedlit.attention.cbam import CBAM, ChannelMLP, Spatial
from fedlit.attention.channel import Channel
from fedlit.attention.eca import ECA
from fedlit.attention.global_spatial import GlobalSpatial
from fedlit.attention.spatio_temporal import Sensorwise, SpatioTemporal, Temporal
from fedlit.attention.squeeze_excite import SqueezeExcite

__all__ = [
    "CBAM",
    "ECA",
    "Channel",
    "ChannelMLP",
    "GlobalSpatial",
    "Sensorwise",
    "Spatial",
    "SpatioTemporal",
    "SqueezeExcite",
    "Temporal",
]
