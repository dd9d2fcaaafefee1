"""Metrics of a round, measured from the clients' updates as they arrive."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import chain, compress

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedlit.clients.client import RESERVED_NAMES
from fedlit.core.exact import ExactSum, dot
from fedlit.core.layout import Layout
from fedlit.core.ranks import gather_list
from fedlit.core.records import ClientUpdate, Weights

ATTENTION = {"attention": r"\battention\b"}
#: Values of clients that have a summary of their own, unlike those that a user's client logs.
KNOWN = RESERVED_NAMES - {"own_accuracy"}


def blocks_of(layout: Layout, patterns: Mapping[str, str]) -> dict[str, NDArray[np.bool_]]:
    """Which trainable tensors make up each block, as masks (L,).

    A tensor belongs to the first block whose regular expression is found in its name, else to ``rest``. Empty blocks
    are left out.
    """
    owners = np.array(
        [next((b for b, p in patterns.items() if re.search(p, name)), "rest") for name in layout.trainable], dtype=str
    )
    return {block: owners == block for block in (*patterns, "rest") if (owners == block).any()}


class RoundMeter:
    """Running measurements of one round, in the memory of one model, the same for any number of ranks.

    With delta_k = w_k - w_t over the trainable parameters:

    - ``drift/mean``: mean of ||delta_k|| over the cohort; ``drift/attention`` and ``drift/rest`` the same for each
      block of parameters, where there is more than one;
    - ``drift/cosine``: mean cosine between delta_k and the average update; ``drift/cosine_of_pairs``: mean cosine
      between the updates of two clients. With u_k = delta_k/||delta_k||, mean_k cos(delta_k, D) = <mean_k u_k, D/||D||>
      and sum_{j != k} <u_j, u_k> = ||sum_k u_k||^2 - K, so one running sum of directions is enough for both;
    - ``clients/train_loss`` and ``clients/proximal``: means over the cohort with the weights of the average, of each
      client's mean loss over the examples of its fit, and of its proximal term at the fit's end;
    - ``clients/accuracy_mean``, ``_std``, ``_p10``, ``_p90``: training accuracy of the fits, over clients, unweighted;
    - ``clients/own_accuracy_mean`` and so on: accuracy on the clients' own held-out examples, if there are any; the
      same for each metric that a user's own ``ClientModule`` logs or measures;
    - ``diagnostics/gamma_mean``, ``_max``: how inexactly the local problems were solved, if measured;
    - ``round/skipped_steps``, in 16-mixed: steps that were left out because a gradient overflowed;
    - ``round/samples``: training samples processed; ``round/megabytes_down``, ``_up``: 10^6 bytes that a deployment
      would send to the cohort and back: the model's state, and down also the algorithm's message (SCAFFOLD's control
      variate).

    Args:
        start: The broadcast model w_t.
        layout: Its layout.
        blocks: From the name of a block of parameters to a regular expression that is searched for in their names.
        message: What the algorithm sends to each client with the model; None is nothing.
    """

    def __init__(
        self, start: Weights, layout: Layout, blocks: Mapping[str, str] = ATTENTION, message: Tensor | None = None
    ) -> None:
        self._start = start.floats[: layout.num_trainable]
        found = blocks_of(layout, blocks)
        self._blocks = found if len(found) > 1 else {}
        self._megabytes_up = sum(part.nbytes for part in start) / 1e6
        self._megabytes_down = self._megabytes_up + (0 if message is None else message.nbytes / 1e6)
        self._directions = ExactSum(len(self._start), self._start.device)
        self._rows: list[dict[str, float]] = []

    def add(self, update: ClientUpdate) -> None:
        """Measure one client's update."""
        norm = math.sqrt(sum(update.squares))
        if norm > 0:
            delta = update.weights.floats[: len(self._start)] - self._start  # (T,)
            self._directions.add(delta, 1 / norm)
        drifts = {
            f"drift/{block}": math.sqrt(sum(compress(update.squares, mask))) for block, mask in self._blocks.items()
        }
        known = {"client": update.task.client, "weight": update.task.weight, "drift": norm}
        self._rows.append({**known, **drifts, **update.metrics})

    def reduce(self) -> None:
        """Gather over all ranks; does nothing in a single process."""
        self._rows = gather_list(self._rows)
        self._directions.reduce()

    def summary(self, mean: Weights) -> dict[str, float]:
        """The round's scalars; ``mean`` is the average of the clients' models."""
        if not self._rows:
            return {"round/clients": 0.0, "round/samples": 0.0}
        # In the order of the clients, so that sums do not depend on their distribution over ranks.
        rows = sorted(self._rows, key=lambda row: row["client"])
        column = {name: np.array([row[name] for row in rows if name in row]) for name in dict.fromkeys(chain(*rows))}
        weights = column["weight"] / column["weight"].sum()
        result = {
            "clients/train_loss": weights @ column["loss"],
            "clients/proximal": weights @ column["proximal"],
            **spread("clients/accuracy", column["accuracy"]),
            "drift/mean": column["drift"].mean(),
            "drift/cosine": self._cosine(mean.floats[: len(self._start)] - self._start),
            "drift/cosine_of_pairs": self._cosine_of_pairs(),
            "round/clients": len(rows),
            "round/samples": column["samples"].sum(),
            "round/megabytes_down": len(rows) * self._megabytes_down,
            "round/megabytes_up": len(rows) * self._megabytes_up,
        }
        result |= {f"drift/{block}": column[f"drift/{block}"].mean() for block in self._blocks}
        for name in sorted(column.keys() - KNOWN):
            if not name.startswith("drift/"):
                result |= spread(f"clients/{name}", column[name])
        if "skipped_steps" in column:
            result["round/skipped_steps"] = column["skipped_steps"].sum()
        if "gamma" in column:
            result |= {
                "diagnostics/gamma_mean": column["gamma"].mean(),
                "diagnostics/gamma_max": column["gamma"].max(),
            }
        return {name: float(value) for name, value in result.items()}

    def _cosine(self, average: Tensor) -> float:
        directions = self._directions.value()
        average = average.to(directions.device)
        norm = math.sqrt(dot(average, average))
        return dot(directions, average) / norm / len(self._rows) if norm else 0.0

    def _cosine_of_pairs(self) -> float:
        moved = sum(row["drift"] > 0 for row in self._rows)
        if moved < 2:
            return 0.0
        directions = self._directions.value()
        return (dot(directions, directions) - moved) / (moved * (moved - 1))


def spread(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, standard deviation, and 10th and 90th percentile of values over clients, ``NAME_mean`` and so on."""
    return {
        f"{name}_mean": values.mean(),
        f"{name}_std": values.std(),
        f"{name}_p10": np.percentile(values, 10),
        f"{name}_p90": np.percentile(values, 90),
    }
