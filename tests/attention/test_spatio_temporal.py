"""Gates over time, over space and both after each other, against their formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedlit.attention import Sensorwise, SpatioTemporal, Temporal
from fedlit.core.errors import InputError

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5, 4))  # (B, C, T, S)


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


def gate_of(conv: nn.Conv1d, profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sigmoid of a convolution written out: (B, 2, L) -> (B, L)."""
    weight, bias = conv.weight[0].detach().numpy(), conv.bias.item()  # type: ignore[union-attr]  # (2, k)
    reach = weight.shape[1] // 2
    padded = np.pad(profile, ((0, 0), (0, 0), (reach, reach)))
    logits = [(padded[:, :, at : at + 2 * reach + 1] * weight).sum((1, 2)) + bias for at in range(profile.shape[2])]
    return 1 / (1 + np.exp(-np.stack(logits, 1)))


def over_time(conv: nn.Conv1d, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return gate_of(conv, np.stack([x.mean((1, 3)), x.max((1, 3))], 1))[:, None, :, None]  # (B, 1, T, 1)


def over_space(conv: nn.Conv1d, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return gate_of(conv, np.stack([x.mean((1, 2)), x.max((1, 2))], 1))[:, None, None, :]  # (B, 1, 1, S)


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_a_step_is_scaled_by_the_mean_and_maximum_of_the_steps_around_it(kernel_size: int) -> None:
    module = randomised(Temporal(3, kernel_size))
    expected = FEATURES * over_time(module.conv, FEATURES)
    np.testing.assert_allclose(module(torch.from_numpy(FEATURES)).detach(), expected)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_place_is_scaled_by_its_mean_and_maximum_over_time(kernel_size: int) -> None:
    module = randomised(Sensorwise(3, kernel_size))
    expected = FEATURES * over_space(module.conv, FEATURES)
    np.testing.assert_allclose(module(torch.from_numpy(FEATURES)).detach(), expected)


def test_the_gate_over_time_comes_first_and_the_gate_over_space_sees_its_output() -> None:
    module = randomised(SpatioTemporal(3))
    left = FEATURES * over_time(module.time.conv, FEATURES)
    expected = left * over_space(module.space.conv, left)
    np.testing.assert_allclose(module(torch.from_numpy(FEATURES)).detach(), expected)


def test_the_gate_over_space_comes_first_on_request() -> None:
    module = randomised(SpatioTemporal(3, first="space"))
    left = FEATURES * over_space(module.space.conv, FEATURES)
    expected = left * over_time(module.time.conv, left)
    np.testing.assert_allclose(module(torch.from_numpy(FEATURES)).detach(), expected)


def test_permuting_places_permutes_their_gates() -> None:
    module, x, order = randomised(Sensorwise(3)), torch.from_numpy(FEATURES), [2, 0, 3, 1]
    torch.testing.assert_close(module(x[..., order]), module(x)[..., order])


@pytest.mark.parametrize(
    ("module", "number"), [(Temporal(64), 2 * 7 + 1), (Sensorwise(64), 2 + 1), (SpatioTemporal(64), 15 + 3)]
)
def test_parameters_are_few_and_as_many_as_documented(module: nn.Module, number: int) -> None:
    assert sum(parameter.numel() for parameter in module.parameters()) == number


def test_another_order_than_the_two_is_refused() -> None:
    with pytest.raises(InputError, match="first must be one of 'time', 'space', got 'channels'; use 'time'"):
        SpatioTemporal(3, first="channels")  # type: ignore[arg-type]
