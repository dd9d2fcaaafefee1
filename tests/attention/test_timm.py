"""Our gates compute what timm's compute, weights copied across: an independent statement of the same papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm import layers
from torch import nn

from fedlit.attention import CBAM, ECA, ChannelMLP, Spatial, SqueezeExcite
from fedlit.runs.gates import gates

CHANNELS = 48
PAIRS = {
    "squeeze_excite": (SqueezeExcite(CHANNELS, min_hidden=8), lambda: layers.SEModule(CHANNELS, rd_channels=8)),
    "squeeze_excite_ratio": (SqueezeExcite(CHANNELS, 4), lambda: layers.SqueezeExcite(CHANNELS, 1 / 4, rd_divisor=1)),
    "eca": (ECA(CHANNELS), lambda: layers.EcaModule(CHANNELS)),
    "eca_kernel": (ECA(CHANNELS, kernel_size=9), lambda: layers.EcaModule(None, kernel_size=9)),
    "eca_wide": (ECA(512), lambda: layers.EcaModule(512)),
    "channel_mlp": (ChannelMLP(CHANNELS, 4), lambda: layers.cbam.ChannelAttn(CHANNELS, 1 / 4)),
    "spatial": (Spatial(CHANNELS, norm="batch"), lambda: layers.cbam.SpatialAttn()),
    "spatial_kernel": (Spatial(CHANNELS, 3, norm="batch"), lambda: layers.cbam.SpatialAttn(3)),
    "cbam": (CBAM(CHANNELS, 4, norm="batch"), lambda: layers.cbam.CbamModule(CHANNELS, 1 / 4)),
}


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters one for one, as both declare them in the order of use; drawn anew, as some start at 0 or 1."""
    ours, theirs = list(source.parameters()), list(target.parameters())
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine.normal_().view_as(other))


def set_statistics(*modules: nn.Module) -> None:
    """Give the norms of all gates the same statistics, away from 0 and 1."""
    for module in modules:
        for path, buffer in module.named_buffers():
            if path.endswith(("running_mean", "running_var")):
                buffer.fill_(0.3)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", PAIRS)
def test_the_output_equals_timms(name: str, training: bool) -> None:
    torch.manual_seed(3)
    ours, theirs = PAIRS[name][0].train(training), PAIRS[name][1]().train(training)
    copy_in_order(ours, theirs)
    if not training:
        set_statistics(ours, theirs)
    x = torch.randn(4, 512 if name == "eca_wide" else CHANNELS, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("channels", [1, 4, 8, 16, 32, 64, 100, 128, 256, 512, 1024, 2048, 4096])
def test_the_adaptive_kernel_of_eca_is_timms(channels: int) -> None:
    assert ECA(channels).conv.weight.shape == layers.EcaModule(channels).conv.weight.shape


@pytest.mark.parametrize("name", [name for name in PAIRS if not name.startswith("eca")])  # its gate is (B, 1, C)
def test_the_gates_of_timms_modules_are_found_and_equal_ours(name: str) -> None:
    torch.manual_seed(3)
    ours, theirs = PAIRS[name][0].eval(), PAIRS[name][1]().eval()
    copy_in_order(ours, theirs)
    set_statistics(ours, theirs)
    x = torch.randn(4, CHANNELS, 9, 7)
    found = gates(nn.Sequential(theirs), x)
    mine = gates(nn.Sequential(ours), x)
    assert len(found) == (2 if name == "cbam" else 1)
    for theirs_at, gate in found.items():
        np.testing.assert_allclose(gate, mine[theirs_at], rtol=1e-4, atol=1e-6)
