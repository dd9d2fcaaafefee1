"""Five partitioners, which split a data set over clients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedlit.core.counts import at_least
from fedlit.core.errors import InputError
from fedlit.data.partition import IntArray, Partition, Partitioner, offsets_of

#: Number of draws that `Dirichlet` makes before it repairs the last one.
MAX_DRAWS = 10


class Uniform(Partitioner):
    """IID: the samples are shuffled and distributed evenly, so client sizes differ by at most one.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data"
    (arXiv:1602.05629), section 3, the IID partition.
    """

    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """See `Partitioner.split`."""
        _require_enough(len(labels), num_clients)
        return Partition(rng.permutation(len(labels)), offsets_of(_even_sizes(len(labels), num_clients)))


class Dirichlet(Partitioner):
    """Label skew: each class is divided over the clients in proportions drawn from Dir(alpha, ..., alpha).

    Two schemes have this name. This one is that of Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning
    of Neural Networks" (arXiv:1905.12022), section 4: one draw *per class* over the K clients, so that clients' sizes
    vary too. Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification" (arXiv:1909.06335), made Dirichlet skew popular with one draw *per client* over the classes and
    equal sizes; results of the two are not comparable at the same alpha.

    A share becomes a count by systematic sampling, so a class with fewer samples than clients reaches a random subset
    of them. If at most 10 clients have fewer than ``min_samples``, the partition is drawn again, up to 10 times in all.
    After that (or at once if more clients are short, as another draw would hardly help) the smallest possible number of
    samples is moved, at random, from clients that can spare them, and ``Partition.note`` tells how many. Time is
    O(N log N + K C) for each draw, memory O(N + K).

    Args:
        alpha: Concentration, > 0. A small alpha is skewed (0.1: few clients have most of a class); a large alpha tends
            to an even split of each class. Values outside of [1e-12, 1e12] are replaced by the nearer bound.
        min_samples: Minimum number of samples of every client, >= 1.

    Raises:
        InputError: If ``alpha`` or ``min_samples`` is out of range, or there are fewer than K * min_samples samples.
    """

    def __init__(self, alpha: float = 0.5, min_samples: int = 1) -> None:
        if not (np.isfinite(alpha) and alpha > 0):
            raise InputError(
                f"alpha must be a finite number > 0, got {alpha}; use fedlit.data.Uniform for an even split"
            )
        self.alpha = alpha
        self.min_samples = at_least(1, "min_samples", min_samples)

    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """See `Partitioner.split`."""
        _require_enough(len(labels), num_clients, self.min_samples)
        for _ in range(MAX_DRAWS):
            assignment = self._draw(np.asarray(labels), num_clients, rng)
            num_short = np.count_nonzero(np.bincount(assignment, minlength=num_clients) < self.min_samples)
            if num_short == 0 or num_short > MAX_DRAWS:
                break
        return _with_minimum(assignment, num_clients, self.min_samples, rng)

    def _draw(self, labels: NDArray[np.integer], num_clients: int, rng: np.random.Generator) -> IntArray:
        by_class = _shuffled_by(labels, rng)  # (N,)
        class_sizes = np.unique(labels, return_counts=True)[1]  # (C,)
        assignment = np.empty(len(labels), dtype=np.int64)
        for members in np.split(by_class, np.cumsum(class_sizes)[:-1]):  # each (n_c,)
            shares = dirichlet_shares(self.alpha, num_clients, rng)  # (K,)
            assignment[members] = np.repeat(np.arange(num_clients), apportion(shares, len(members), rng))
        return assignment


class Shards(Partitioner):
    """Pathological label skew: samples sorted by label, cut into equal shards, a few random shards for each client.

    Source: McMahan et al. 2017 (arXiv:1602.05629), section 3, the non-IID partition of MNIST (200 shards of 300, two
    per client), also used in Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv:1812.06127).

    As in the paper, shards have equal sizes (within one sample). A shard with two labels gives its client one more
    class, and two shards of the same label one class fewer. If there are too few samples for one in every shard, each
    client gets fewer shards, and ``Partition.note`` tells so.

    Args:
        classes_per_client: Number of shards of a client, >= 1: about the number of its classes.

    Raises:
        InputError: If ``classes_per_client`` is below 1, or there are more clients than samples.
    """

    def __init__(self, classes_per_client: int = 2) -> None:
        self.classes_per_client = at_least(1, "classes_per_client", classes_per_client)

    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """See `Partitioner.split`."""
        _require_enough(len(labels), num_clients)
        per_client = min(self.classes_per_client, len(labels) // num_clients)
        num_shards = num_clients * per_client
        owners = rng.permutation(np.repeat(np.arange(num_clients), per_client))  # (S,)
        assignment = np.empty(len(labels), dtype=np.int64)
        assignment[_shuffled_by(np.asarray(labels), rng)] = np.repeat(owners, _even_sizes(len(labels), num_shards))
        note = (
            ""
            if per_client == self.classes_per_client
            else f"{per_client} shards per client, not {self.classes_per_client}: there are only {len(labels)} samples"
        )
        return Partition.from_assignment(assignment, num_clients, note)


class QuantitySkew(Partitioner):
    """Quantity skew: lognormal client sizes and IID labels.

    Sources: Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study" (arXiv:2102.02079), names
    the skew and draws sizes from a Dirichlet distribution; lognormal sizes are those of the synthetic federations of
    Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv:1812.06127).

    Clients with fewer than ``min_samples`` get the smallest possible number of samples from clients that can spare
    them, at random, and ``Partition.note`` tells how many.

    Args:
        sigma: Standard deviation of the logarithm of the sizes, >= 0. 0 is an even split; with 1 the largest of 100
            clients is typically about 150 times as large as the smallest.
        min_samples: Minimum number of samples of every client, >= 1.

    Raises:
        InputError: If ``sigma`` or ``min_samples`` is out of range, or there are fewer than K * min_samples samples.
    """

    def __init__(self, sigma: float = 1.0, min_samples: int = 1) -> None:
        if not (np.isfinite(sigma) and sigma >= 0):
            raise InputError(f"sigma must be a finite number >= 0, got {sigma}; 0 is an even split, 1 a strong skew")
        self.sigma = sigma
        self.min_samples = at_least(1, "min_samples", min_samples)

    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """See `Partitioner.split`."""
        _require_enough(len(labels), num_clients, self.min_samples)
        shares = _normalised_exp(min(self.sigma, 1e12) * rng.standard_normal(num_clients))  # (K,)
        owners = np.repeat(np.arange(num_clients), apportion(shares, len(labels), rng))  # (N,)
        return _with_minimum(rng.permutation(owners), num_clients, self.min_samples, rng)


class ByGroup(Partitioner):
    """The natural partition: one client for each group, such as the writer of a digit, in the order of the groups.

    Source: the writers of LEAF's FEMNIST, Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings"
    (arXiv:1812.01097).

    Raises:
        InputError: If the data has no groups, or another number of groups than ``num_clients``.
    """

    def clients_of(self, labels: NDArray[np.integer], groups: NDArray[np.integer] | None) -> int | None:
        """The number of groups."""
        return None if groups is None else len(np.unique(groups))

    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """See `Partitioner.split`; draws nothing from ``rng``."""
        if groups is None:
            raise InputError("the data has no groups to split by; use fedlit.data.Dirichlet, or give groups (writers)")
        values, assignment = np.unique(groups, return_inverse=True)
        if len(values) != num_clients:
            raise InputError(
                f"num_clients is {num_clients} but there are {len(values)} groups, one client each; leave it out"
            )
        return Partition.from_assignment(assignment.astype(np.int64), num_clients)


def dirichlet_shares(alpha: float, num_clients: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw from the symmetric Dirichlet distribution, for any positive alpha.

    It normalises gamma variates in logarithms: below alpha = 0.01 most gamma variates underflow to 0, and if all of
    them do, ``Generator.dirichlet`` divides 0 by 0. Gamma(a) is Gamma(a + 1) * U**(1/a) (Marsaglia and Tsang 2000,
    "A Simple Method for Generating Gamma Variables"), and -log U is exponential.

    Returns:
        Shares >= 0 that sum to 1, shape (K,).
    """
    alpha = min(max(alpha, 1e-12), 1e12)  # beyond, float64 cannot tell the draw from its limit
    log_gamma = np.log(rng.standard_gamma(alpha + 1, num_clients)) - rng.standard_exponential(num_clients) / alpha
    return _normalised_exp(log_gamma)


def apportion(shares: NDArray[np.float64], total: int, rng: np.random.Generator) -> IntArray:
    """Turn shares into counts that sum to ``total``, each rounded down or up, exact on average.

    Systematic sampling (Madow 1949, "On the Theory of Systematic Sampling, II"): one random offset for all bounds.
    Rounding at a fixed offset would favour the same clients in each class.

    Args:
        shares: Shares >= 0 that sum to 1, shape (K,).
        total: Number to distribute, >= 0.
        rng: Source of the offset.

    Returns:
        Counts of shape (K,).
    """
    bounds = np.floor(np.cumsum(shares) * total + rng.random()).astype(np.int64)  # (K,)
    bounds[-1] = total
    return np.diff(np.minimum(bounds, total), prepend=0)


def _with_minimum(assignment: IntArray, num_clients: int, min_samples: int, rng: np.random.Generator) -> Partition:
    """A partition in which every client has ``min_samples``, made by moving as few samples as possible."""
    sizes = np.bincount(assignment, minlength=num_clients)  # (K,)
    deficits = np.maximum(min_samples - sizes, 0)  # (K,)
    num_moved = int(deficits.sum())
    if num_moved == 0:
        return Partition.from_assignment(assignment, num_clients)
    by_client = _shuffled_by(assignment, rng)  # (N,)
    rank = np.arange(len(assignment)) - np.repeat(offsets_of(sizes)[:-1], sizes)  # (N,), index at its client
    moved = rng.choice(by_client[rank >= min_samples], num_moved, replace=False)
    repaired = assignment.copy()
    repaired[moved] = np.repeat(np.arange(num_clients), deficits)
    note = (
        f"moved {num_moved} of {len(assignment)} samples to bring {np.count_nonzero(deficits)} of {num_clients} "
        f"clients up to min_samples={min_samples}"
    )
    return Partition.from_assignment(repaired, num_clients, note)


def _shuffled_by(keys: NDArray[np.integer], rng: np.random.Generator) -> IntArray:
    """Indices that sort ``keys``; equal keys are in random order."""
    shuffled = rng.permutation(len(keys))
    return shuffled[np.argsort(keys[shuffled], kind="stable")]


def _normalised_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def _even_sizes(total: int, parts: int) -> IntArray:
    return total // parts + (np.arange(parts) < total % parts)


def _require_enough(num_samples: int, num_clients: int, min_samples: int = 1) -> None:
    at_least(1, "num_clients", num_clients)
    if num_clients * min_samples > num_samples:
        raise InputError(
            f"{num_clients} clients with at least {min_samples} each need {num_clients * min_samples} samples, "
            f"the data has {num_samples}; use num_clients <= {num_samples // min_samples}"
        )
