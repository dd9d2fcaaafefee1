"""The weighted mean of updates, for use in a chain."""

from __future__ import annotations

from typing import Literal, get_args

from fedlit.algorithms.algorithm import Algorithm, Facts
from fedlit.algorithms.noise import Noise
from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.given import one_of
from fedlit.core.records import Broadcast, Weights

Missing = Literal["left out", "zero"]


class Mean(Algorithm):
    """The weighted mean of updates, with the weights of ``federation.averaging``, which is also the default.

    Args:
        missing: How a client of the cohort counts that was dropped, failed or was rejected: ``left out``; or ``zero``,
            as an update of zero, so that no client's weight depends on which others answered. ``zero`` needs clients
            of equal weight (``federation.averaging: uniform``). None is ``zero`` if they are and the chain has
            ``Noise``, else ``left out``.
    """

    def __init__(self, missing: Missing | None = None) -> None:
        self.missing = None if missing is None else one_of("missing", missing, get_args(Missing))

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        is_uniform = facts.averaging == "uniform"
        if self.missing == "zero" and not is_uniform:
            raise InputError(
                "Mean with missing 'zero' is defined for clients of equal weight, not for weights by size; set "
                "federation.averaging to uniform"
            )
        noisy = any(isinstance(part, Noise) for part in facts.chain)
        self.counts_missing = self.missing == "zero" or (self.missing is None and noisy and is_uniform)

    def reducer(self, sent: Broadcast) -> WeightedMean | None:
        return _CohortMean(sent.weights, self.facts.clients_per_round) if self.counts_missing else None


class _CohortMean(WeightedMean):
    """A mean in which missing clients of a cohort count as updates of zero, of weight 1; a draw has a weight of 1.

    Args:
        start: w_t.
        cohort: Number of draws of the cohort, on all ranks together.
    """

    def __init__(self, start: Weights, cohort: int) -> None:
        super().__init__(start)
        self._cohort = cohort

    def reduce(self) -> None:
        super().reduce()
        if missing := self._cohort - self.weight:
            self.add_state(self._like, missing)
