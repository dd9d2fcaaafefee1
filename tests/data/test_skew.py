"""The distance of clients' label distributions from that of all data."""

from __future__ import annotations

import numpy as np
import pytest

from fedlit.data import Dirichlet, Partition
from fedlit.data.skew import label_skew


def test_the_same_mix_is_0_and_a_single_class_is_1_minus_its_share() -> None:
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 1])
    owners = np.array([0, 0, 1, 1, 2, 2, 3, 3])  # clients 0 and 1 have one of each, 2 and 3 two of one class
    assert label_skew(labels, Partition.from_assignment(owners, 4)).tolist() == [0, 0, 0.5, 0.5]


def test_it_is_half_of_the_sum_of_absolute_differences() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3000)
    partition = Dirichlet(0.3).split(labels, 20, rng)
    population = np.bincount(labels, minlength=10) / len(labels)
    mixes = np.stack([np.bincount(labels[partition.client(k)], minlength=10) for k in range(20)], dtype=float)
    mixes /= mixes.sum(1, keepdims=True)
    np.testing.assert_allclose(label_skew(labels, partition), 0.5 * np.abs(mixes - population).sum(1), atol=1e-12)


def test_the_skew_of_a_client_without_examples_is_nan() -> None:
    skew = label_skew(np.array([0, 1]), Partition.from_assignment(np.array([0, 0]), 2))
    assert skew.tolist() == pytest.approx([0, np.nan], nan_ok=True)
