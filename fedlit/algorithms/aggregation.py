"""Aggregates the updates of a round."""

from __future__ import annotations

from fedlit.algorithms.algorithm import Algorithm, Average
from fedlit.core.average import WeightedMean
from fedlit.core.ranks import gather_dict
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate


class Aggregation:
    """Adds updates one by one, as they arrive; memory holds one model for each average that the algorithm needs.

    Args:
        algorithm: Changes and averages the updates.
        sent: This round's broadcast.
    """

    def __init__(self, algorithm: Algorithm, sent: Broadcast) -> None:
        self._algorithm, self._sent = algorithm, sent
        self._mean = algorithm.reducer(sent) or WeightedMean(sent.weights)
        self._extra: dict[str, WeightedMean] = {}
        self._tasks: dict[int, ClientTask] = {}

    def add(self, update: ClientUpdate) -> None:
        """Add a client's update."""
        changed = self._algorithm.transform(self._sent, update)
        self._mean.add(changed)
        for name, weight in self._algorithm.extra_weights(self._sent, changed.task).items():
            self._extra.setdefault(name, WeightedMean(self._sent.weights)).add_state(update.weights, weight)
        self._tasks[update.task.client] = changed.task

    def average(self) -> Average | None:
        """The average over all ranks, or None without any updates; every rank has to call it, once."""
        self._mean.reduce()
        self._tasks = gather_dict(self._tasks)
        for name in sorted(self._names()):
            self._extra.setdefault(name, WeightedMean(self._sent.weights)).reduce()
        if not self._mean.weight:
            return None
        extra = {name: (mean.mean(), mean.weight) for name, mean in self._extra.items()}
        # In the order of a single process, so that sums over the tasks do not depend on the ranks.
        tasks = sorted(self._tasks.values(), key=lambda task: (-task.steps, task.client))
        return Average(self._mean.mean(), self._mean.weight, tuple(tasks), extra)

    def _names(self) -> set[str]:
        """Names of the extra averages of all ranks; a rank without clients takes part in the sums, too."""
        return {name for task in self._tasks.values() for name in self._algorithm.extra_weights(self._sent, task)}
