"""Arrays as they come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fedlit.data.convert import as_examples, as_inputs, channel_stats, held_out
from fedlit.errors import InputError
from fedlit.seeding import rng


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 8, 9), (5, 1, 8, 9)),
        ((5, 8, 9, 3), (5, 3, 8, 9)),
        ((5, 8, 9, 1), (5, 1, 8, 9)),
        ((5, 3, 8, 9), (5, 3, 8, 9)),
        ((5, 3, 8, 3), (5, 3, 8, 3)),
        ((5, 7), (5, 7)),
    ],
)
def test_inputs_become_channels_first(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert as_inputs(np.zeros(shape, np.uint8)).shape == expected


def test_channels_last_pixels_keep_their_place() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    assert as_inputs(images)[1, 2, 3, 4] == images[1, 3, 4, 2]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.uint8, torch.uint8), (np.int64, torch.uint8), (np.float64, torch.float32), (bool, torch.float32)],
)
def test_inputs_become_uint8_or_float32(dtype: type, expected: torch.dtype) -> None:
    assert as_inputs(np.ones((2, 3, 3), dtype)).dtype == expected


def test_names_of_groups_are_numbered_in_sorted_order() -> None:
    groups = as_examples(np.zeros((3, 2)), [0, 1, 1], ["zoe", "ann", "zoe"]).groups
    assert groups is not None
    assert groups.tolist() == [1, 0, 1]


def test_channel_stats_are_those_of_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    mean, std = channel_stats(torch.from_numpy(images))
    assert_allclose(mean, (images / 255).mean((0, 2, 3)), rtol=1e-12)
    assert_allclose(std, (images / 255).std((0, 2, 3)), rtol=1e-12)
    assert channel_stats(torch.full((2, 1, 2, 2), 51, dtype=torch.uint8))[1] == [1 / 255]


@given(strata=st.lists(st.integers(0, 4), max_size=60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_same_fraction_of_every_stratum_is_held_out_rounded_down(
    strata: list[int], fraction: float, seed: int
) -> None:
    is_test = held_out(np.array(strata, dtype=np.int64), fraction, rng(seed, "test set"))
    for stratum in set(strata):
        members = np.array(strata) == stratum
        assert is_test[members].sum() == int(members.sum() * fraction) < members.sum()


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros(3), [0, 1, 2], r"inputs must have shape \(N, H, W\)"),
        (np.full((1, 2, 2), 256), [0], r"pixels in 0..255, got 256..256"),
        (np.array([["a"]]), [0], "inputs must be numbers"),
        (np.zeros((2, 2)), [0.0, 1.0], "labels must be integers"),
        (np.zeros((2, 2)), [[0], [1]], "labels must be integers of shape"),
        (np.zeros((2, 2)), [-1, 1], "labels must be class numbers from 0, got -1"),
        (np.zeros((2, 2)), [0], "2 inputs but 1 targets"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(inputs, targets, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_examples(inputs, targets)
