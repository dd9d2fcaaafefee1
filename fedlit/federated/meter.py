"""What is measured of a round, from the clients' updates as they pass."""

from __future__ import annotations

import math
import re

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fedlit.federated.ranks import many_ranks
from fedlit.federated.records import ClientUpdate, Weights
from fedlit.federated.state import Layout


class RoundMeter:
    """Running measurements of one round, in one model's worth of memory.

    With delta_k = w_k - w_t over the trainable parameters:

    - ``drift/mean``: mean of ||delta_k|| over the cohort; ``drift/attention`` and ``drift/rest`` the same for the
      parameters whose name matches ``pattern`` and for the others;
    - ``drift/cosine``: mean cosine between delta_k and the average update. Because
      mean_k cos(delta_k, D) = <mean_k delta_k/||delta_k||, D/||D||>, one running sum of directions is enough;
    - ``clients/train_loss`` and ``clients/proximal``: means over the cohort with the weights of the average;
    - ``clients/accuracy_mean``, ``_std``, ``_p10``, ``_p90``: training accuracy of the fits, over clients, unweighted;
    - ``round/samples``: training samples processed; ``round/megabytes_down``, ``_up``: 10^6 bytes of model state that
      a deployment would send to the cohort and back.

    Args:
        start: The broadcast model w_t.
        layout: Its layout.
        pattern: Regular expression of the parameters measured apart (searched for in the name).
    """

    def __init__(self, start: Weights, layout: Layout, pattern: str = r"\battention\b") -> None:
        self._start = start.floats[: layout.num_trainable]
        self._numels = layout.numels[: len(layout.trainable)]
        self._apart = np.zeros(len(layout.trainable), dtype=bool)
        self._apart[list(layout.select(lambda name: re.search(pattern, name) is not None))] = True
        self._megabytes = (start.floats.nbytes + start.counts.nbytes) / 1e6
        self._directions = torch.zeros_like(self._start)
        self._rows: list[dict[str, float]] = []

    def add(self, update: ClientUpdate) -> None:
        """Measure one client's update."""
        delta = update.weights.floats[: len(self._start)] - self._start  # (T,)
        squares = torch.stack(torch._foreach_norm(delta.split(self._numels))).double().cpu().numpy() ** 2
        norm = math.sqrt(squares.sum())
        if norm > 0:
            self._directions.add_(delta, alpha=1 / norm)
        row = {"weight": update.task.weight, "drift": norm, **update.metrics}
        row["drift_apart"] = math.sqrt(squares[self._apart].sum())
        row["drift_rest"] = math.sqrt(squares[~self._apart].sum())
        self._rows.append({"client": update.task.client, **row})

    def reduce(self) -> None:
        """Gather over all ranks; nothing to do in a single process."""
        if not many_ranks():
            return
        gathered: list[list[dict[str, float]]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(gathered, self._rows)
        self._rows = [row for rows in gathered for row in rows]
        dist.all_reduce(self._directions)

    def summary(self, mean: Weights, seconds: float) -> dict[str, float]:
        """The round's scalars.

        Args:
            mean: The average of the clients' models.
            seconds: Wall time of the round, evaluation excluded.
        """
        if not self._rows:
            return {"round/clients": 0.0, "round/samples": 0.0, "round/seconds": seconds}
        # In the order of the clients, so that the sums do not depend on how they were dealt to ranks.
        rows = sorted(self._rows, key=lambda row: row["client"])
        column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        weights = column["weight"] / column["weight"].sum()
        accuracy = column["accuracy"]
        result = {
            "clients/train_loss": weights @ column["loss"],
            "clients/proximal": weights @ column["proximal"],
            "clients/accuracy_mean": accuracy.mean(),
            "clients/accuracy_std": accuracy.std(),
            "clients/accuracy_p10": np.percentile(accuracy, 10),
            "clients/accuracy_p90": np.percentile(accuracy, 90),
            "drift/mean": column["drift"].mean(),
            "drift/cosine": self._cosine(mean.floats[: len(self._start)] - self._start),
            "round/clients": len(rows),
            "round/samples": column["samples"].sum(),
            "round/samples_per_second": column["samples"].sum() / seconds,
            "round/seconds": seconds,
            "round/megabytes_down": len(rows) * self._megabytes,
            "round/megabytes_up": len(rows) * self._megabytes,
        }
        if self._apart.any():
            result["drift/attention"] = column["drift_apart"].mean()
            result["drift/rest"] = column["drift_rest"].mean()
        return {name: float(value) for name, value in result.items()}

    def _cosine(self, average: Tensor) -> float:
        norm = average.double().norm()
        if norm == 0:
            return 0.0
        return float(self._directions.double() @ (average.double() / norm)) / len(self._rows)
