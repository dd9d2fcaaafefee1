"""The gates against their formulas, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedlit.attention import Channel, ChannelMLP, GlobalSpatial, Spatial, SqueezeExcite


def logit(gate: Tensor) -> Tensor:
    return torch.log(gate / (1 - gate))


def image(*channels: list[list[float]]) -> Tensor:
    return torch.tensor([channels], dtype=torch.float64)  # (1, C, H, W)


def test_channel_is_an_affine_map_of_each_mean() -> None:
    module = Channel(2).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([2.0, -1.0]))
        module.bias.copy_(torch.tensor([0.5, 1.0]))
    gate = module.gate(image([[1, 3]], [[0, 4]]))  # means 2 and 2
    torch.testing.assert_close(logit(gate).flatten().tolist(), [2 * 2 + 0.5, -1 * 2 + 1.0])


def test_channel_mlp_adds_the_perceptron_of_the_means_to_that_of_the_maxima() -> None:
    module = ChannelMLP(2, min_hidden=1, reduction=2).double()
    with torch.no_grad():
        module.mlp[0].weight.copy_(torch.tensor([[1.0, -1.0]]))
        module.mlp[2].weight.copy_(torch.tensor([[0.5], [-0.25]]))
    gate = module.gate(image([[1, 3]], [[0, 1]]))  # means 2, 0.5: hidden 1.5; maxima 3, 1: hidden 2
    torch.testing.assert_close(logit(gate).flatten().tolist(), [0.5 * (1.5 + 2), -0.25 * (1.5 + 2)])


def test_spatial_reads_the_mean_and_the_maximum_over_the_channels_of_each_place() -> None:
    module = Spatial(2, kernel_size=1).double()
    with torch.no_grad():
        module.conv.weight.copy_(torch.tensor([3.0, 0.5]).view(1, 2, 1, 1))
        module.conv.bias.fill_(-1.0)
    gate = module.gate(image([[1, 3]], [[0, -1]]))  # means 0.5, 1; maxima 1, 3
    torch.testing.assert_close(logit(gate).flatten().tolist(), [3 * 0.5 + 0.5 * 1 - 1, 3 * 1 + 0.5 * 3 - 1])


def test_a_group_norm_in_the_spatial_gate_sees_one_image_at_a_time() -> None:
    torch.manual_seed(4)
    module, x = Spatial(3, norm="group"), torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(module.gate(x)[:1], module.gate(x[:1]))
    logits = logit(module.gate(x))
    torch.testing.assert_close(logits.mean((1, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("module", [ChannelMLP, SqueezeExcite])
@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(256, 16, 16), (64, 16, 8), (4, 1, 8), (100, 8, 12)])
def test_the_bottleneck_is_the_quotient_but_never_below_8(module, channels: int, reduction: int, hidden: int) -> None:
    assert module(channels, reduction).mlp[0].out_features == hidden


def test_the_global_map_is_read_cell_by_cell_where_the_sizes_agree() -> None:
    module = GlobalSpatial(3, size=2)
    with torch.no_grad():
        module.grid.copy_(torch.tensor([[-1.0, 0.0], [1.0, 2.0]]))
    gate = module.gate(torch.randn(5, 3, 2, 2))
    torch.testing.assert_close(gate, torch.sigmoid(module.grid).expand(5, 1, 2, 2))


def test_the_global_map_is_averaged_where_the_features_are_coarser() -> None:
    module = GlobalSpatial(3, size=4)
    with torch.no_grad():
        module.grid.copy_(torch.arange(16.0).view(1, 1, 4, 4) / 8)
    # the top left quarter holds 0, 1, 4, 5 eighths, the others 2, 8 and 10 eighths more
    expected = torch.sigmoid(torch.tensor([[2.5, 4.5], [10.5, 12.5]]) / 8)
    torch.testing.assert_close(module.gate(torch.randn(1, 3, 2, 2))[0, 0], expected)


def test_the_global_map_is_interpolated_where_the_features_are_finer() -> None:
    module = GlobalSpatial(3, size=2)
    with torch.no_grad():
        module.grid.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    row = module.gate(torch.randn(1, 3, 4, 4))[0, 0, 0]  # centres of 4 places on 2 cells: 0, 1/4, 3/4, 1
    torch.testing.assert_close(logit(row), torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_the_global_map_does_not_depend_on_the_image() -> None:
    module = GlobalSpatial(3)
    torch.testing.assert_close(module.gate(torch.zeros(1, 3, 9, 9)), module.gate(torch.randn(1, 3, 9, 9)))
