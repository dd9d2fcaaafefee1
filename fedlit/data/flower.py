"""Partitioners of Flower's flwr-datasets."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedlit.core.errors import InputError
from fedlit.data.partition import Partition, Partitioner

#: The column with the row numbers in a partitioner's data set.
ROW = "fedlit_row"


class RowPartitioner(Protocol):
    """A partitioner of ``flwr_datasets.partitioner``; its attribute ``dataset`` is the data set to divide."""

    def load_partition(self, partition_id: int) -> Any:
        """The rows of a partition."""

    def is_dataset_assigned(self) -> bool:
        """Whether it has a data set."""


class FlowerPartitioner(Partitioner):
    """A partitioner of Flower's ``flwr_datasets``.

    It divides a data set with the columns ``label`` and ``group``, to which its ``partition_by`` may refer. Its draws
    depend on its own ``seed``, not on ``data.seed``. Each of its partitions is a client.

    Args:
        partitioner: A partitioner that divides rows, such as ``DirichletPartitioner``, without a data set; in YAML its
            class path with arguments.
        label: Name of the column of labels.
        group: Name of the column of groups (writers, users), if the data has groups.
    """

    def __init__(self, partitioner: RowPartitioner, label: str = "label", group: str = "group") -> None:
        if not all(hasattr(partitioner, name) for name in ("load_partition", "is_dataset_assigned")):
            raise InputError(
                f"partitioner must be a partitioner of flwr_datasets, got {type(partitioner).__name__}; give one, such "
                "as DirichletPartitioner"
            )
        if partitioner.is_dataset_assigned():
            raise InputError(f"{type(partitioner).__name__} has a data set already; make a new one without a data set")
        self.partitioner = partitioner
        self.label, self.group = label, group

    def clients_of(self, labels: NDArray[np.integer], groups: NDArray[np.integer] | None) -> int:
        """See `Partitioner.clients_of`."""
        return int(self._assigned(labels, groups).num_partitions)

    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """See `Partitioner.split`; draws nothing from ``rng``."""
        name, assigned = type(self.partitioner).__name__, self._assigned(labels, groups)
        if assigned.num_partitions != num_clients:
            raise InputError(
                f"num_clients is {num_clients} but {name} makes {assigned.num_partitions} partitions; leave "
                "num_clients out"
            )
        parts = [np.asarray(assigned.load_partition(k)[ROW], dtype=np.int64) for k in range(num_clients)]
        order, offsets = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
        if not np.array_equal(np.sort(order), np.arange(len(labels))):
            raise InputError(
                f"{name} does not assign every example to exactly one client; use a partitioner that divides all rows"
            )
        return Partition(order, offsets)

    def _assigned(self, labels: NDArray[np.integer], groups: NDArray[np.integer] | None) -> Any:
        """A copy of the partitioner with the data set to divide, which it accepts only once."""
        columns = {self.label: labels, ROW: np.arange(len(labels))}
        if groups is not None:
            columns[self.group] = groups
        made: Any = copy.deepcopy(self.partitioner)
        made.dataset = import_module("datasets").Dataset.from_dict(columns)
        return made
