"""Conversion of users' arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fedlit.core.errors import InputError
from fedlit.core.seeding import rng
from fedlit.data.convert import as_examples, as_inputs, channel_stats, held_out


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
    [
        (np.uint8, torch.uint8),
        *((dtype, torch.int64) for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64)),
        *((dtype, torch.float32) for dtype in (np.float16, np.float32, np.float64, bool)),
    ],
)
@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 3), (2, 5, 4, 3)])
def test_only_uint8_is_pixels_and_all_else_keeps_its_values_and_shape(
    dtype: type, expected: torch.dtype, shape: tuple[int, ...]
) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    found = as_inputs(array)
    assert found.dtype == expected
    if dtype is not np.uint8:
        np.testing.assert_array_equal(found.numpy(), array)


@pytest.mark.parametrize(
    ("dtype", "images", "shape", "expected"),
    [
        (np.float32, True, (2, 5, 3), (2, 1, 5, 3)),
        (np.float32, True, (2, 5, 4, 3), (2, 3, 5, 4)),
        (np.float32, False, (2, 5, 4, 3), (2, 5, 4, 3)),
        (np.uint8, False, (2, 5, 3), (2, 5, 3)),
    ],
)
def test_inputs_can_be_declared_to_be_images(
    dtype: type, images: bool, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    found = as_inputs(np.ones(shape, dtype), images)
    assert found.shape == expected
    assert found.dtype == (torch.int64 if dtype is np.uint8 else torch.float32)  # bytes that are no image are tokens


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


@pytest.mark.parametrize(("size", "fraction", "held"), [(100, 0.29, 29), (180, 0.35, 63), (90, 0.7, 63), (9, 0.99, 8)])
def test_the_share_held_out_is_that_of_the_decimal_fraction(size: int, fraction: float, held: int) -> None:
    assert held_out(np.zeros(size, dtype=np.int64), fraction, rng(0, "test set")).sum() == held


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros(3), [0, 1, 2], r"inputs must have shape \(N, H, W\)"),
        (np.full((1, 2), 2**63, np.uint64), [0], "must fit int64, got 9223372036854775808"),
        (np.array([["a"]]), [0], "inputs must be numbers"),
        (np.zeros((2, 2)), [0.0, 1.0], "labels must be integers"),
        (np.zeros((2, 2)), [[0], [1]], "labels must be integers of shape"),
        (np.zeros((2, 2)), [-1, 1], "labels must be class numbers from 0 to 999,999, got -1"),
        (np.zeros((2, 2)), [0], "2 inputs but 1 targets"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(inputs, targets, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_examples(inputs, targets)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros((2, 1), int), r"groups must have shape \(N,\), one group per input, got \(2, 1\)"),
        (np.array(3), r"groups must have shape \(N,\).*got \(\)"),
        (np.array([1.0, np.nan]), "an owner of every input, got nan in row 1"),
        (np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"), "got NaT in row 1"),
        ([None, "ann"], "got None in row 0"),
        (np.array(["ann", float("nan")], dtype=object), "got nan in row 1"),
        (np.array([0.5, 1.0]), "groups must be names or whole numbers, got 0.5; if these are weights or targets"),
        (np.array(["ann", 3], dtype=object), "groups must be of one type"),
        ([1, 2, 3], "2 targets but 3 groups"),
    ],
)
def test_groups_that_name_no_owner_are_refused_with_their_row(groups, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_examples(np.zeros((2, 2)), [0, 1], groups)
