"""The network for sequences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedlit.attention import SpatioTemporal, Temporal
from fedlit.core.errors import InputError
from fedlit.models import SequenceCNN


def net(*args: object, **options: object) -> SequenceCNN:
    torch.manual_seed(0)
    return SequenceCNN(*args, **options)  # type: ignore[arg-type]


def test_a_block_convolves_each_place_over_time_and_the_head_reads_its_peaks() -> None:
    model = net(widths=[3], kernel_size=3, num_classes=2)
    x = np.random.default_rng(0).normal(size=(2, 5, 4))  # (B, T, S)
    weight, bias = model.blocks[0].conv.weight[:, 0, :, 0].detach().numpy(), model.blocks[0].conv.bias.detach().numpy()
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    features = np.stack([np.einsum("bks,ck->bcs", padded[:, t : t + 3], weight) for t in range(5)], 2)  # (B, C, T, S)
    peaks = np.maximum(features + bias[:, None, None], 0).max(2).mean(2)  # (B, C): a maximum of maxima is the maximum
    expected = peaks @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    np.testing.assert_allclose(model(torch.from_numpy(x).float()).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 8), (7, 3), (1, 1), (20, 2, 3), (9,)], ids=str)
def test_any_number_of_steps_and_places_is_accepted(shape: tuple[int, ...]) -> None:
    assert net(SpatioTemporal, num_classes=4)(torch.randn(2, *shape)).shape == (2, 4)


def test_the_shape_and_order_of_places_do_not_matter() -> None:
    model, x = net(SpatioTemporal), torch.randn(2, 16, 2, 3)
    torch.testing.assert_close(model(x), model(x.flatten(2)))
    torch.testing.assert_close(model(x), model(x.flip(3)))


def test_attention_comes_after_each_block_and_other_weights_start_alike() -> None:
    plain, model = dict(net().named_parameters()), dict(net(Temporal).named_parameters())
    gates = {name for name in model if ".attention." in name}
    assert {name.partition(".attention.")[0] for name in gates} == {"blocks.0", "blocks.1"}
    assert model.keys() - gates == plain.keys()
    for name, parameter in plain.items():
        assert torch.equal(parameter, model[name])


def test_parameters_are_as_many_as_documented_and_the_first_loss_is_that_of_guessing() -> None:
    model = net()
    # 16 kernels of 9 steps, then 16 of 9 steps and 16 channels, then 5 classes; an offset each
    assert sum(parameter.numel() for parameter in model.parameters()) == 16 * 10 + 16 * (9 * 16 + 1) + 5 * 17
    assert F.cross_entropy(model(torch.randn(50, 64, 8)), torch.arange(50) % 5).item() == pytest.approx(
        math.log(5), abs=0.1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, r"num_classes must be from 1 to 10,000,000, got \[0\]; use"),
        ({"widths": []}, r"widths must be from 1 to 10,000,000, got \[\]; use"),
        ({"widths": [8, 0]}, r"widths must be from 1 to 10,000,000, got \[8, 0\]; use"),
        ({"kernel_size": 4}, "kernel_size must be odd and positive, got 4; use"),
        ({"attention": lambda channels: torch.nn.Flatten()}, "turned .* into .*; use a class"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        net(**options)
