"""Robust aggregation: averages that tolerate some clients with wrong updates, by fault or attack.

A single client can move a weighted mean arbitrarily far. It cannot move these averages, as long as wrong clients are a
minority. They apply to the trainable parameters; buffers and frozen parameters are averaged plainly. Each rank holds
the updates of its share of the cohort in memory until all have arrived.
"""

from __future__ import annotations

import statistics
from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm, Facts
from fedlit.algorithms.clip import clipped, norm_of
from fedlit.algorithms.collected import Collected
from fedlit.core.average import WeightedMean
from fedlit.core.counts import at_least, share_of
from fedlit.core.errors import InputError
from fedlit.core.ranks import gather_dict
from fedlit.core.records import Broadcast, Weights


class RobustAverage(Algorithm):
    """Replaces the weighted mean of the trainable parameters by another average."""

    @abstractmethod
    def average(self, updates: Collected, start: Tensor) -> Tensor:
        """The average of the clients' parameters, (T,), from all updates and w_t, (T,); the same on every rank."""

    def reducer(self, sent: Broadcast) -> WeightedMean:
        return _Robust(sent.weights, self.facts.layout.num_trainable, self.average)


class _Robust(Collected):
    """Averages the trainable scalars, the first ``size``, by ``average``, and the others by the weighted mean."""

    def __init__(self, start: Weights, size: int, average: Callable[[Collected, Tensor], Tensor]) -> None:
        super().__init__(start)
        self._size, self._average = size, average

    def mean(self) -> Weights:
        mean = super().mean()
        average = self._average(self, self._like.floats[: self._size]).to(mean.floats)
        return mean._replace(floats=torch.cat([average, mean.floats[self._size :]]))


class CoordinateMedian(RobustAverage):
    """The median over clients of each parameter separately (Yin et al. 2018, arXiv:1803.01498, Definition 1).

    It tolerates wrong clients if they are less than half of the cohort. All clients count equally, whatever their size.
    """

    def average(self, updates: Collected, start: Tensor) -> Tensor:
        return torch.cat([median(chunk) for chunk in updates.columns(len(start))])


class TrimmedMean(RobustAverage):
    """The mean of each parameter without its extremes (Yin et al. 2018, Definition 2).

    Of K clients, the floor(fraction K) smallest and as many of the largest values are left out, so it tolerates that
    many wrong clients. All clients count equally, whatever their size.

    Args:
        fraction: Fraction left out at each end, at least 0 and less than 0.5; 0 is the unweighted mean.
    """

    def __init__(self, fraction: float = 0.1) -> None:
        if not 0 <= fraction < 0.5:
            raise InputError(
                f"fraction must be at least 0 and less than 0.5, got {fraction}; 0.1 leaves out a tenth at each end, "
                "and fedlit.algorithms.CoordinateMedian is the limit for 0.5"
            )
        self._fraction = fraction

    def average(self, updates: Collected, start: Tensor) -> Tensor:
        return torch.cat([trimmed(chunk, self.cut(len(chunk))) for chunk in updates.columns(len(start))])

    def cut(self, clients: int) -> int:
        """Number of values that are left out at each end: floor(fraction K), but fewer than half."""
        return min(int(share_of(clients, self._fraction)), (clients - 1) // 2)


class ClippedMean(RobustAverage):
    """The weighted mean of clipped updates: each w_k - w_t is scaled down to a norm if its own is greater.

    A wrong client then moves the average by at most its share of the norm: it is limited, not left out.

    Args:
        norm: The greatest norm of an update, more than 0; None takes the median norm of each round's cohort.
    """

    def __init__(self, norm: float | None = None) -> None:
        if norm is not None and not norm > 0:
            raise InputError(f"norm must be > 0, got {norm}; leave it out for the median norm of the cohort")
        self._norm = norm

    def average(self, updates: Collected, start: Tensor) -> Tensor:
        start = start.to(updates.device)
        states = [(update.task, update.weights.floats[: len(start)].to(start)) for update in updates.updates]
        limit = self._norm
        if limit is None:
            norms = gather_dict({task.client: norm_of(state, start) for task, state in states})
            limit = statistics.median(norms.values())
        return mean_of(((clipped(state, start, limit), task.weight) for task, state in states), start)


class Krum(RobustAverage):
    """The client that is nearest to its neighbours (Blanchard et al. 2017, arXiv:1703.02757, Section 4).

    Client k's score is the sum of ||w_k - w_j||^2 over the K - f - 2 other clients j nearest to it; the client with the
    lowest score is chosen. Multi-Krum is the mean of the ``multi`` clients with the lowest scores. All clients count
    equally, whatever their size.

    Args:
        attackers: Number f of clients in a cohort that may be wrong; K has to be at least 2 f + 3.
        multi: Number of clients that are averaged, from 1 (Krum) to K - f - 2, the most for which the guarantee holds.
    """

    def __init__(self, attackers: int, multi: int = 1) -> None:
        self._attackers = at_least(0, "attackers", attackers, "1 tolerates one wrong client in a cohort")
        self._multi = at_least(1, "multi", multi, "1 is Krum, more is Multi-Krum")

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        self._check_cohort(facts.clients_per_round)

    @property
    def fewest_clients(self) -> int:
        return max(2 * self._attackers + 3, self._attackers + 2 + self._multi)

    def average(self, updates: Collected, start: Tensor) -> Tensor:
        self._check_cohort(int(updates.count))
        clients = sorted(gather_dict({update.task.client: None for update in updates.updates}))
        scores = krum_scores(squared_distances(updates.columns(len(start))), self._attackers)
        chosen = {clients[k] for k in scores.argsort(stable=True)[: self._multi].tolist()}
        best = (update for update in updates.updates if update.task.client in chosen)
        return mean_of(((update.weights.floats[: len(start)], 1.0) for update in best), start)

    def _check_cohort(self, clients: int) -> None:
        f = self._attackers
        if clients < 2 * f + 3:
            raise InputError(
                f"Krum with {f} attackers needs the updates of at least {2 * f + 3} clients a round, got {clients}; "
                "raise federation.clients_per_round or lower attackers"
            )
        if self._multi > clients - f - 2:
            raise InputError(
                f"multi must be at most {clients - f - 2} with {clients} clients and {f} attackers, got {self._multi}; "
                "lower it or raise federation.clients_per_round"
            )


def mean_of(states: Iterable[tuple[Tensor, float]], like: Tensor) -> Tensor:
    """The weighted mean of the states (T,) of all ranks, each given with its weight; in the type of ``like``, (T,)."""
    no_counts = torch.zeros(0, dtype=torch.int64, device=like.device)
    total = WeightedMean(Weights(like, no_counts))
    for state, weight in states:
        total.add_state(Weights(state, no_counts), weight)
    total.reduce()
    return total.mean().floats


def median(x: Tensor) -> Tensor:
    """The median over rows, (K, C) to (C,) in float64; for an even K the mean of the two middle values."""
    return trimmed(x, (len(x) - 1) // 2)


def trimmed(x: Tensor, cut: int) -> Tensor:
    """The mean of each column without its ``cut`` smallest and largest values, (K, C) to (C,) in float64."""
    return x.sort(0).values[cut : len(x) - cut].mean(0, dtype=torch.float64)


def squared_distances(chunks: Iterable[Tensor]) -> Tensor:
    """||x_j - x_k||^2 of all pairs of rows of x, (K, K) in float64, from chunks (K, C) of its columns."""
    exact = "donot_use_mm_for_euclid_dist"
    parts = (torch.cdist(chunk.double(), chunk.double(), compute_mode=exact).square() for chunk in chunks)
    total = next(iter(parts))
    for part in parts:
        total += part
    return total


def krum_scores(distances: Tensor, attackers: int) -> Tensor:
    """Sum of the K - f - 2 smallest squared distances of each client to others, (K, K) to (K,) on the CPU."""
    count = len(distances)
    others = distances.cpu().clone().fill_diagonal_(torch.inf)
    return others.sort(1).values[:, : count - attackers - 2].sum(1)
