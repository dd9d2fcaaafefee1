"""Computes the metrics of each run, means over seeds, and paired differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fedlit.report.at_chance import learned_nothing
from fedlit.report.collect import Study
from fedlit.report.intervals import LEAST_SEEDS, LEVEL, Difference, Interval, bounded_interval, difference, holm
from fedlit.report.metrics import BY_KEY, COLUMN, LAST_ROUNDS, METRICS, TESTED, Metric
from fedlit.report.record import Cell
from fedlit.report.run import Run
from fedlit.runs.outcome import CLIENTS_CSV
from fedlit.runs.read import rows_of

#: The keys of the result of `stability`.
STABILITY = tuple(metric.key for metric in METRICS if metric.topic == "Stability")

# --- one run ----------------------------------------------------------------------------------------------------------


def measure(table: pd.DataFrame, target: float = math.nan, clients: ArrayLike = ()) -> dict[str, float]:
    """All metrics of a run; metrics that its table lacks are left out.

    Args:
        table: Its scalars up to the last round that counts, a row for each round. ``global/*`` may be empty in rounds
            without validation; the metrics of accuracy then use the validated rounds.
        target: The target accuracy of ``to_target``, which is infinite if no round reaches it.
        clients: Accuracy of the final model on each client's data, (K,); empty if unknown.
    """
    validated = table[table["global/accuracy"].notna()]
    if validated.empty:
        return {}
    accuracy = validated["global/accuracy"].to_numpy(dtype=float)
    last = table.iloc[-LAST_ROUNDS:]
    result = {"accuracy": float(accuracy[-1]), "best_accuracy": float(accuracy.max()), **stability(accuracy)}
    for key, column in (("loss", "global/loss"), ("f1_macro", "global/f1_macro")):
        if column in table:
            result[key] = float(validated[column].iloc[-1])
    if math.isnan(result.get("loss", 0.0)):
        result["loss"] = math.inf  # it diverged; as NaN it would be left out of the means
    means = {
        "clients_p10": "clients/accuracy_p10",
        "clients_mean": "clients/accuracy_mean",
        "own_mean": "clients/own_accuracy_mean",
        "own_p10": "clients/own_accuracy_p10",
    }
    result |= {key: float(last[column].mean()) for key, column in means.items() if column in table}
    result |= fairness(np.asarray(clients, dtype=float))
    if "round/seconds" in table:
        result["seconds"] = float(table["round/seconds"].median())
    if {"round/megabytes_down", "round/megabytes_up"} <= set(table):
        up = table["round/megabytes_up"]  # models alone; down there may also be a message of the algorithm
        result["megabytes"] = float((table["round/megabytes_down"] + up).sum())
        if "round/clients" in table and table["round/clients"].iloc[-1] > 0:
            result["values"] = float(round(up.iloc[-1] * 1e6 / 4 / table["round/clients"].iloc[-1]))  # float32
    if not math.isnan(target):
        reached = np.flatnonzero(accuracy >= target)
        result["to_target"] = float(validated["round"].iloc[reached[0]]) if len(reached) else math.inf
    return result


def fairness(clients: NDArray[np.float64]) -> dict[str, float]:
    """The spread of an accuracy (K,) over clients, where NaN is a client without data; empty if all are NaN."""
    known = np.sort(clients[~np.isnan(clients)])
    if not len(known):
        return {}
    return {
        "client_mean": float(known.mean()),
        "client_std": float(known.std()),
        "client_p10": float(np.percentile(known, 10)),
        "client_worst": float(known[: math.ceil(len(known) / 10)].mean()),
    }


def stability(accuracy: NDArray[np.float64]) -> dict[str, float]:
    """Four measures of how unsteady an accuracy (R,) over rounds is; NaN if there are too few rounds.

    ``wobble`` is the residual standard deviation, sqrt(SSR / (n - 2)), around the straight trend line of the last
    rounds: unlike ``std`` it does not count steady progress as unsteadiness.
    """
    last = accuracy[-LAST_ROUNDS:]
    steps = np.diff(accuracy)
    n = len(last)
    wobble = math.nan
    if n > 2 and np.isfinite(last).all():
        x = np.arange(n) - (n - 1) / 2
        residuals = last - last.mean() - x * (x @ last) / (x @ x)
        wobble = math.sqrt(residuals @ residuals / (n - 2))
    return {
        "wobble": wobble,
        "std": float(last.std(ddof=1)) if n > 1 else math.nan,
        "largest_drop": max(0.0, float(-steps.min())) if len(steps) else math.nan,
        "change": float(np.abs(steps).mean()) if len(steps) else math.nan,
    }


# --- all runs ---------------------------------------------------------------------------------------------------------


def targets(study: Study, baseline: str, target: float | None = None) -> dict[str, float]:
    """The target accuracy at each partition: the given one, else 0.9 of the baseline's best final accuracy there.

    If the baseline has no finished run, the best variant is used instead; NaN if there is none.
    """
    if target is not None:
        return dict.fromkeys(study.partitions, target)
    result = {}
    for partition in study.partitions:
        there = [run for run in study.finished if run.partition == partition]
        chosen = [run for run in there if run.variant == baseline] or there
        finals = [_until(run.table, study.horizon)["global/accuracy"].dropna().iloc[-1:] for run in chosen]
        result[partition] = 0.9 * max((float(final) for each in finals for final in each), default=math.nan)
    return result


def measure_all(study: Study, target: Mapping[str, float], columns: Sequence[str] = ()) -> pd.DataFrame:
    """A row for each finished run: variant, partition, seed, and its metrics up to the horizon.

    For each of ``columns`` of its table it has the last value, which is infinite if it is not a number. The stability
    of a run that learned nothing is NaN, as its accuracy is always that of one class.
    """
    rows = [
        {
            "variant": run.variant,
            "partition": run.partition,
            "seed": run.seed,
            **measure(_until(run.table, study.horizon), target[run.partition], _clients(run, study.horizon)),
            **(dict.fromkeys(STABILITY, math.nan) if learned_nothing(run, study.horizon) else {}),
            **_last(run, study.horizon, columns),
        }
        for run in study.finished
    ]
    known = [metric.key for metric in METRICS if any(metric.key in row for row in rows)]
    return pd.DataFrame(
        rows, columns=["variant", "partition", "seed", *known, *(f"{COLUMN}{name}" for name in columns)]
    )


def _last(run: Run, horizon: int, columns: Sequence[str]) -> dict[str, float]:
    """The last value of each of the columns of a run's table that have any.

    It is infinite if it is not a number, as after a divergence, so that no earlier value counts in its place and a
    difference that contains it is not tested. Rounds in which nothing was logged are passed over.
    """
    rows = [row for row in rows_of(run.folder) if 0 < int(row["round"]) <= horizon] if columns else []
    cells = {name: [cell for row in rows if (cell := row.get(name))] for name in columns}
    last = {f"{COLUMN}{name}": float(found[-1]) for name, found in cells.items() if found}
    return {name: math.inf if math.isnan(value) else value for name, value in last.items()}


def _clients(run: Run, horizon: int) -> ArrayLike:
    table = run.outcome(CLIENTS_CSV, horizon)
    return () if table is None else table["accuracy"].to_numpy(dtype=float)


def _until(table: pd.DataFrame, horizon: int) -> pd.DataFrame:
    return table[table["round"] <= horizon].sort_values("round")


# --- contrasts --------------------------------------------------------------------------------------------------------


def contrast(measured: pd.DataFrame, metric: str, weights: Mapping[Cell, float]) -> pd.Series[float]:
    """The sum of weight * metric over cells (variant, partition), by seed, for the seeds that have all cells."""
    if metric not in measured:
        return pd.Series(dtype=float)
    variants, partitions = measured["variant"].to_numpy(), measured["partition"].to_numpy()
    seeds, values = measured["seed"].to_numpy(), measured[metric].to_numpy(dtype=float)
    cells = []
    for variant, partition in weights:
        there = (variants == variant) & (partitions == partition) & ~np.isnan(values)
        cells.append(dict(zip(seeds[there].tolist(), values[there].tolist(), strict=True)))
    common = sorted(set.intersection(*map(set, cells)))
    table = np.array([[cell[seed] for cell in cells] for seed in common]).reshape(len(common), len(cells))
    with np.errstate(invalid="ignore"):  # the difference of two infinite values is NaN
        sums = table @ np.array(list(weights.values()))
    return pd.Series(sums, index=pd.Index(common, dtype="int64"))


def against(variant: str, baseline: str, partition: str) -> dict[Cell, float]:
    """The weights of ``variant`` minus ``baseline`` at a partition."""
    return {(variant, partition): 1.0, (baseline, partition): -1.0}


@dataclass(frozen=True)
class Comparison:
    """A variant's paired difference to the baseline, with its p corrected for all comparisons of the metric."""

    metric: Metric
    variant: str
    partition: str
    difference: Difference
    corrected_p: float

    @property
    def decided(self) -> bool:
        """Whether the difference is significant after correction for all comparisons of this metric."""
        return self.corrected_p <= 1 - LEVEL

    @property
    def better(self) -> bool:
        return self.difference.mean * self.metric.sign > 0


def compare(measured: pd.DataFrame, study: Study, baseline: str) -> list[Comparison]:
    """Every variant against the baseline by metric, partition, variant; only the mean below `LEAST_SEEDS` pairs."""
    result = []
    for key in TESTED:
        cells = [(v, p) for p in study.partitions for v in study.variants if v != baseline]
        found = [(v, p, _difference(contrast(measured, key, against(v, baseline, p)))) for v, p in cells]
        found = [(v, p, d) for v, p, d in found if d.n > 0]
        corrected = holm([d.p for *_, d in found])
        result += [Comparison(BY_KEY[key], *each, p) for each, p in zip(found, corrected, strict=True)]
    return result


def _difference(pairs: pd.Series[float]) -> Difference:
    found = difference(pairs)
    if found.n >= LEAST_SEEDS:
        return found
    return Difference(Interval(found.mean, math.nan, math.nan, found.n), math.nan, math.nan)


def summarise(measured: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Mean and interval of every metric in every cell, and whether it is significantly the best there.

    ``best`` is true if its paired difference to every other variant at the partition is significant with at least
    `LEAST_SEEDS` pairs, by paired t-tests corrected by Holm over the metric. Times are never best.
    """
    rows = []
    for metric in (metric for metric in METRICS if metric.key in measured):
        winners = _winners(measured, study, metric)
        for partition in study.partitions:
            there = measured[measured["partition"] == partition]
            for variant in (variant for variant in study.variants if variant in set(there["variant"])):
                values = there.loc[there["variant"] == variant, metric.key].dropna().to_numpy(dtype=float)
                finite = values[np.isfinite(values)]
                interval = bounded_interval(finite, metric.most)
                rows.append(
                    {
                        "partition": partition,
                        "variant": variant,
                        "metric": metric.key,
                        "mean": interval.mean,
                        "low": interval.low,
                        "high": interval.high,
                        "n": len(finite),
                        "of": len(study.seeds),
                        "best": winners.get(partition) == variant,
                    }
                )
    return pd.DataFrame(rows, columns=["partition", "variant", "metric", "mean", "low", "high", "n", "of", "best"])


def _winners(measured: pd.DataFrame, study: Study, metric: Metric) -> dict[str, str]:
    """The variant that is significantly better than every other one, by partition, if there is one."""
    if metric.sign == 0 or metric.timed:
        return {}
    firsts: list[tuple[str, str]] = []  # a partition and its best variant, once for each other variant
    tests: list[Difference] = []
    for partition in study.partitions:
        means = measured[measured["partition"] == partition].groupby("variant")[metric.key].mean() * metric.sign
        if len(means) < 2 or not np.isfinite(means).all():
            continue
        first = str(means.idxmax())
        pairs = [contrast(measured, metric.key, against(first, other, partition)) for other in means.index.drop(first)]
        firsts += [(partition, first)] * len(pairs)
        tests += [_difference(each) for each in pairs]
    corrected = holm([each.p for each in tests])
    # The best mean may be that of other seeds, so the difference at the common ones must be in its favour, too.
    better = [c <= 1 - LEVEL and each.mean * metric.sign > 0 for c, each in zip(corrected, tests, strict=True)]
    found = list(zip(firsts, better, strict=True))
    return {p: first for p, first in dict(firsts).items() if all(is_better for (at, _), is_better in found if at == p)}
