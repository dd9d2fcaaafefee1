"""Partitions: every sample used once, and each rule has the distribution that its source states."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fedlit.core.errors import InputError
from fedlit.core.seeding import rng
from fedlit.data import ByGroup, Dirichlet, Partition, Partitioner, QuantitySkew, Shards, Uniform
from fedlit.data.partitioners import apportion, dirichlet_shares


def label_counts(partition: Partition, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Samples of each client and class, (K, C)."""
    cells = partition.owners * num_classes + labels  # (N,)
    return np.bincount(cells, minlength=partition.num_clients * num_classes).reshape(-1, num_classes)


def balanced_labels(num_classes: int, per_class: int) -> np.ndarray:
    return np.repeat(np.arange(num_classes), per_class)


partitioners = st.one_of(
    st.just(Uniform()),
    st.builds(Dirichlet, alpha=st.floats(min_value=5e-324, max_value=1.7e308), min_samples=st.integers(1, 3)),
    st.builds(Shards, classes_per_client=st.integers(1, 50)),
    st.builds(QuantitySkew, sigma=st.floats(min_value=0, max_value=1.7e308), min_samples=st.integers(1, 3)),
)


@given(
    partitioner=partitioners,
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=200),
    clients_share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=300)
def test_every_sample_is_used_exactly_once_and_every_client_has_its_minimum(
    partitioner: Partitioner, labels: list[int], clients_share: float, seed: int
) -> None:
    minimum = getattr(partitioner, "min_samples", 1)
    most = len(labels) // minimum
    if most == 0:
        with pytest.raises(InputError, match="samples"):
            partitioner.split(np.array(labels), 1, rng(seed, "partition"))
        return
    num_clients = 1 + int(clients_share * (most - 1))
    partition = partitioner.split(np.array(labels), num_clients, rng(seed, "partition"))
    assert partition.num_clients == num_clients
    assert partition.sizes.min() >= minimum
    assert_array_equal(np.sort(partition.order), np.arange(len(labels)))
    assert_array_equal(np.concatenate([partition.client(k) for k in range(num_clients)]), partition.order)
    again = partitioner.split(np.array(labels), num_clients, rng(seed, "partition"))
    assert again.hash == partition.hash


@given(groups=st.lists(st.integers(-5, 5), min_size=1, max_size=100))
@settings(deadline=None)
def test_by_group_gives_each_group_a_client_that_holds_all_of_it(groups: list[int]) -> None:
    values = sorted(set(groups))
    partition = ByGroup().split(np.zeros(len(groups), int), len(values), rng(0, "partition"), np.array(groups))
    for client, value in enumerate(values):
        assert partition.client(client).tolist() == [i for i, group in enumerate(groups) if group == value]


def test_uniform_sizes_differ_by_at_most_one() -> None:
    sizes = Uniform().split(np.zeros(103, int), 10, rng(0, "partition")).sizes
    assert sorted(sizes) == [10] * 7 + [11] * 3  # 103 = 7 * 10 + 3 * 11


def test_a_million_uniform_clients_take_seconds() -> None:
    labels = np.arange(1_200_000) % 62
    start = time.perf_counter()
    partition = Uniform().split(labels, 1_000_000, rng(0, "partition"))
    counts = label_counts(partition, labels, 62)
    partition.hash  # noqa: B018
    assert time.perf_counter() - start < 20
    assert counts.shape == (1_000_000, 62)
    assert_array_equal(counts.sum(0), np.bincount(labels))
    assert set(np.unique(partition.sizes)) == {1, 2}


def test_dirichlet_shares_have_the_mean_and_variance_of_the_dirichlet() -> None:
    """Of Dir(a, ..., a) over K: mean 1/K, variance (1/K)(1 - 1/K)/(K a + 1). 40 classes x 50 seeds are 2,000 draws."""
    num_clients, num_classes, per_class, alpha = 8, 40, 1000, 0.5
    labels = balanced_labels(num_classes, per_class)
    draws = []
    for seed in range(50):
        partition = Dirichlet(alpha).split(labels, num_clients, rng(seed, "partition"))
        assert not partition.note
        draws.append(label_counts(partition, labels, num_classes).T / per_class)  # (C, K)
    shares = np.concatenate(draws)  # (2000, K)
    variance = (1 / num_clients) * (1 - 1 / num_clients) / (num_clients * alpha + 1)
    # Standard errors: of the mean 0.148 / sqrt(2000) = 0.0033; of the variance about 4 % a client. Four of each.
    assert_allclose(shares.mean(0), 1 / num_clients, atol=4 * np.sqrt(variance / 2000))
    assert_allclose(shares.var(0), variance, rtol=0.16)
    assert_allclose(shares.var(0).mean(), variance, rtol=0.04)


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 1.0, 30.0])
def test_dirichlet_shares_agree_with_numpy_in_the_largest_share(alpha: float) -> None:
    """numpy draws small alpha by breaking a stick: independent of normalised gamma variates."""
    ours = np.array([dirichlet_shares(alpha, 5, rng(0, "ours", i)).max() for i in range(4000)])
    numpys = rng(0, "numpy").dirichlet(np.full(5, alpha), size=4000).max(axis=1)
    standard_error = np.sqrt((ours.var() + numpys.var()) / 4000)
    assert abs(ours.mean() - numpys.mean()) < 4 * standard_error + 1e-12


def test_dirichlet_with_a_tiny_alpha_gives_each_class_to_one_client() -> None:
    """As alpha -> 0 the Dirichlet puts all mass on one corner, each with probability 1/K."""
    corners = np.zeros(4)
    for i in range(400):
        shares = dirichlet_shares(5e-324, 4, rng(0, "corner", i))
        assert sorted(shares) == [0, 0, 0, 1]
        corners += shares
    assert_allclose(corners / 400, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 400))


def test_dirichlet_with_alpha_to_infinity_divides_each_class_evenly_as_uniform_divides_the_whole() -> None:
    labels = balanced_labels(10, 403)
    partition = Dirichlet(1e12).split(labels, 20, rng(0, "partition"))
    assert not partition.note
    assert set(np.unique(label_counts(partition, labels, 10))) == {20, 21}  # 403 / 20 = 20.15, rounded down or up
    uniform = Uniform().split(labels, 20, rng(0, "partition"))
    assert abs(partition.sizes - uniform.sizes).max() <= 10  # one sample a class


def test_dirichlet_with_more_clients_than_samples_in_a_class_favours_no_client() -> None:
    """100 classes of 3 samples over 10 clients: the expected size is 30, and rounding must not starve anyone."""
    labels = balanced_labels(100, 3)
    sizes = np.mean([Dirichlet(1e12).split(labels, 10, rng(seed, "p")).sizes for seed in range(50)], axis=0)
    # Each of 5,000 class draws gives a client one sample with probability 0.3: standard error sqrt(0.21 * 100 / 50).
    assert_allclose(sizes, 30, atol=4 * np.sqrt(0.21 * 100 / 50))


def test_dirichlet_of_alpha_a_thousandth_over_a_thousand_clients_is_quick_and_says_what_it_repaired() -> None:
    labels = balanced_labels(10, 400)
    start = time.perf_counter()
    partition = Dirichlet(0.001).split(labels, 1000, rng(0, "partition"))
    assert time.perf_counter() - start < 5
    assert partition.sizes.min() == 1
    # Each class lands on few clients, so nearly all of the others got their one sample by the repair.
    moved = int(partition.note.split()[1])
    assert partition.note.startswith(f"moved {moved} of 4000 samples to bring {moved} of 1000 clients")
    assert 850 < moved < 1000


def test_a_repair_moves_no_more_samples_than_are_missing() -> None:
    """One class and a tiny alpha: one client has all 100, the other four need 7 each, so 28 move."""
    partition = Dirichlet(1e-12, min_samples=7).split(np.zeros(100, int), 5, rng(0, "partition"))
    assert sorted(partition.sizes) == [7, 7, 7, 7, 72]
    assert partition.note == "moved 28 of 100 samples to bring 4 of 5 clients up to min_samples=7"


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=50).filter(lambda w: sum(w) > 1e-3),
    total=st.integers(0, 10_000),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_apportioned_counts_sum_to_the_total_and_are_shares_rounded_down_or_up(
    weights: list[float], total: int, seed: int
) -> None:
    shares = np.array(weights) / np.sum(weights)
    counts = apportion(shares, total, rng(seed, "apportion"))
    assert counts.sum() == total
    assert (abs(counts - shares * total) < 1 + 1e-9).all()


def test_shards_that_divide_evenly_are_pure_as_in_mcmahan() -> None:
    """600 samples of 10 classes, 20 clients, 2 shards each: 40 shards of 15, four to a class, none across a border."""
    labels = balanced_labels(10, 60)
    partition = Shards(2).split(labels, 20, rng(0, "partition"))
    counts = label_counts(partition, labels, 10)
    assert_array_equal(partition.sizes, 30)
    assert set(np.unique(counts)) <= {0, 15, 30}
    assert ((counts > 0).sum(1) <= 2).all()


def test_shards_report_when_there_are_too_few_samples() -> None:
    partition = Shards(4).split(np.arange(10), 5, rng(0, "partition"))
    assert_array_equal(partition.sizes, 2)
    assert partition.note == "2 shards per client, not 4: there are only 10 samples"


def test_quantity_skew_sizes_are_lognormal_and_labels_iid() -> None:
    labels = balanced_labels(10, 100_000)
    partition = QuantitySkew(sigma=0.7).split(labels, 1000, rng(0, "partition"))
    logs = np.log(partition.sizes)
    # Standard error of a normal's standard deviation: 0.7 / sqrt(2000) = 0.016; of its skewness sqrt(6/1000) = 0.077.
    assert abs(logs.std() - 0.7) < 4 * 0.016
    assert abs((((logs - logs.mean()) / logs.std()) ** 3).mean()) < 4 * 0.077
    largest = label_counts(partition, labels, 10)[partition.sizes.argmax()]
    # Pearson's chi-squared with 9 degrees of freedom has mean 9; 27.9 is its 0.999 quantile.
    assert ((largest - largest.mean()) ** 2 / largest.mean()).sum() < 27.9


def test_quantity_skew_of_sigma_zero_is_even() -> None:
    sizes = QuantitySkew(0.0).split(np.zeros(103, int), 10, rng(0, "partition")).sizes
    assert sorted(sizes) == [10] * 7 + [11] * 3


def test_clients_and_hash_follow_from_the_assignment() -> None:
    partition = Partition.from_assignment(np.array([2, 0, 2, 0, 0]), 4)
    assert partition.order.tolist() == [1, 3, 4, 0, 2]
    assert partition.offsets.tolist() == [0, 3, 3, 5, 5]
    assert partition.client(1).tolist() == []
    assert label_counts(partition, np.array([0, 1, 1, 1, 0]), 2).tolist() == [[1, 2], [0, 0], [1, 1], [0, 0]]
    assert len(partition.hash) == 16
    assert int(partition.hash, 16) >= 0
    assert partition.hash != Partition.from_assignment(np.array([2, 0, 2, 0, 1]), 4).hash


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dirichlet(0.0), r"alpha must be a finite number > 0, got 0.0; use fedlit.data.Uniform"),
        (lambda: Dirichlet(float("nan")), "got nan"),
        (lambda: Dirichlet(float("inf")), "got inf"),
        (lambda: Dirichlet(min_samples=0), "min_samples must be at least 1, got 0"),
        (lambda: Shards(0), "classes_per_client must be at least 1, got 0"),
        (lambda: QuantitySkew(-1.0), "sigma must be a finite number >= 0, got -1.0"),
        (lambda: QuantitySkew(min_samples=0), "min_samples must be at least 1, got 0"),
        (lambda: Partition(np.array([0, 0]), np.array([0, 2])), "exactly once"),
        (lambda: Partition(np.array([0, 1]), np.array([0, 1])), "offsets must rise from 0 to 2"),
        (lambda: Partition.from_assignment(np.array([0, 3]), 3), r"client ids must be in 0..2, got 0..3"),
        (lambda: Partition.from_assignment(np.array([0, 1]), 2).client(2), r"client must be in 0..1, got 2"),
        (lambda: Uniform().split(np.zeros(5), 6, rng(0, "p")), "6 clients .* need 6 samples, the data has 5"),
        (lambda: Uniform().split(np.zeros(5), 0, rng(0, "p")), "num_clients must be at least 1, got 0"),
        (lambda: Dirichlet(min_samples=3).split(np.zeros(8), 3, rng(0, "p")), "use num_clients <= 2"),
        (lambda: ByGroup().split(np.zeros(2), 2, rng(0, "p")), "no groups .* use fedlit.data.Dirichlet"),
        (lambda: ByGroup().split(np.zeros(2), 1, rng(0, "p"), np.arange(2)), "num_clients is 1 but there are 2 groups"),
    ],
)
def test_impossible_splits_are_refused_in_one_line_with_a_remedy(make, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
