"""The weighted mean of updates, as a part of a chain."""

from __future__ import annotations

from typing import Literal

from fedlit.algorithms.algorithm import Algorithm, Facts
from fedlit.algorithms.noise import Noise
from fedlit.core.average import WeightedMean
from fedlit.core.records import Broadcast, Weights


class Mean(Algorithm):
    """The mean of updates with the weights of ``federation.averaging``: what happens where nothing else averages.

    Args:
        missing: What a client of the cohort that was dropped, failed or was rejected counts as: ``left out``, or
            ``zero``, an update of nothing, so that no client's weight depends on who else answered. None is ``zero``
            where ``Noise`` is in the chain and ``left out`` elsewhere.
    """

    def __init__(self, missing: Literal["left out", "zero"] | None = None) -> None:
        self.missing = missing

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        noisy = any(isinstance(part, Noise) for part in facts.chain)
        self.counts_missing = self.missing == "zero" or (self.missing is None and noisy)

    def reducer(self, sent: Broadcast) -> WeightedMean | None:
        return _OfCohort(sent.weights, self.facts.clients_per_round) if self.counts_missing else None


class _OfCohort(WeightedMean):
    """A mean in which those of a cohort that are missing are updates of zero, of weight 1.

    Args:
        start: w_t.
        cohort: Clients of all ranks together.
    """

    def __init__(self, start: Weights, cohort: int) -> None:
        super().__init__(start)
        self._cohort = cohort

    def reduce(self) -> None:
        super().reduce()
        if missing := self._cohort - self.count:
            self.add_state(self._like, missing)
