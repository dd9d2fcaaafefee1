"""From runs to numbers: what is measured of each run, intervals over seeds, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from fedlit.report.collect import Cell, Run, Study
from fedlit.report.metrics import BY_KEY, LAST_ROUNDS, METRICS, TESTED, Metric
from fedlit.runs.outcome import CLIENTS_CSV

#: Of every interval; 1 - LEVEL is what a corrected p must not exceed.
LEVEL = 0.95


# --- one run ----------------------------------------------------------------------------------------------------------


def measure(table: pd.DataFrame, target: float = math.nan, clients: ArrayLike = ()) -> dict[str, float]:
    """All metrics of a run; those that its table lacks are left out.

    Args:
        table: Its scalars up to the last round that counts, a row a round; those of ``global/*`` may be empty where a
            round was not validated, and the metrics of accuracy are then of the rounds that were.
        target: The accuracy of ``to_target``, which is infinite where no round reaches it.
        clients: Accuracy of the final model on each client's data, (K,); empty where it is not known.
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
        down = table["round/megabytes_down"]
        result["megabytes"] = float((down + table["round/megabytes_up"]).sum())
        if "round/clients" in table and table["round/clients"].iloc[-1] > 0:
            result["values"] = float(round(down.iloc[-1] * 1e6 / 4 / table["round/clients"].iloc[-1]))  # float32
    if not math.isnan(target):
        reached = np.flatnonzero(accuracy >= target)
        result["to_target"] = float(validated["round"].iloc[reached[0]]) if len(reached) else math.inf
    return result


def fairness(clients: NDArray[np.float64]) -> dict[str, float]:
    """How an accuracy (K,) is spread over clients; NaN is a client without data; empty where all are."""
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
    """How unsteady an accuracy (R,) over rounds is, in four ways; NaN where there are too few rounds.

    ``wobble`` is the residual standard deviation, sqrt(SSR / (n - 2)), about the straight line through the last rounds:
    unlike ``std`` it does not take steady progress for unsteadiness.
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
    """The accuracy to reach at each partition: as given, else 0.9 of the baseline's best final accuracy there.

    Where the baseline has no finished run, the best of any variant stands in for it; NaN without any.
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


def measure_all(study: Study, target: Mapping[str, float]) -> pd.DataFrame:
    """A row for each finished run: variant, partition, seed, and its metrics up to the horizon."""
    rows = [
        {
            "variant": run.variant,
            "partition": run.partition,
            "seed": run.seed,
            **measure(_until(run.table, study.horizon), target[run.partition], _clients(run, study.horizon)),
        }
        for run in study.finished
    ]
    known = [metric.key for metric in METRICS if any(metric.key in row for row in rows)]
    return pd.DataFrame(rows, columns=["variant", "partition", "seed", *known])


def _clients(run: Run, horizon: int) -> ArrayLike:
    table = run.outcome(CLIENTS_CSV, horizon)
    return () if table is None else table["accuracy"].to_numpy(dtype=float)


def _until(table: pd.DataFrame, horizon: int) -> pd.DataFrame:
    return table[table["round"] <= horizon].sort_values("round")


# --- intervals and tests ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95 % t interval, which is NaN for a single seed."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def effect_in_words(metric: Metric, interval: Interval) -> tuple[str, str]:
    """The signed mean of differences in a metric, and the ends of its interval, a dash where they are not known."""
    digits = max(metric.digits, 4)
    ends = "\u2013" if math.isnan(interval.low) else f"{interval.low:+.{digits}f} … {interval.high:+.{digits}f}"
    return f"{interval.mean:+.{digits}f}", ends


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean of n values and Student's t interval for it: mean ± t(n - 1) s / sqrt(n)."""
    x = np.asarray(values, dtype=float)
    n, mean = len(x), float(x.mean()) if len(x) else math.nan
    if n < 2 or not np.isfinite(x).all():
        return Interval(mean, math.nan, math.nan, n)
    return _interval(mean, float(x.std(ddof=1)), n, level)


def _interval(mean: float, spread: float, n: int, level: float) -> Interval:
    """Of n values with this mean and standard deviation; ``scipy.stats.t`` takes fifty times as long."""
    half = float(stdtrit(n - 1, (1 + level) / 2)) * spread / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Difference:
    """A mean paired difference over seeds.

    Args:
        interval: Mean and t interval.
        p: Of the paired t-test, two-sided. It takes the differences for normal.
        detectable: The true difference that these many seeds, scattering as they do, would find 4 times in 5.
        spread: Standard deviation of the differences.
    """

    interval: Interval
    p: float
    detectable: float
    spread: float = math.nan

    @property
    def mean(self) -> float:
        return self.interval.mean

    @property
    def n(self) -> int:
        return self.interval.n


def difference(pairs: ArrayLike, level: float = LEVEL) -> Difference:
    """What paired differences (n,) say, with an interval of this level; p is NaN below two pairs."""
    d = np.asarray(pairs, dtype=float)
    if len(d) < 2 or not np.isfinite(d).all():
        return Difference(t_interval(d), math.nan, math.nan)
    largest = float(np.abs(d).max())
    spread = float(d.std(ddof=1))
    # Differences that are all alike leave nothing to judge chance by but whether they are zero.
    return expected(float(d.mean()), 0.0 if spread <= 1e-12 * largest * math.sqrt(len(d)) else spread, len(d), level)


def expected(mean: float, spread: float, pairs: int, level: float = LEVEL) -> Difference:
    """What so many paired differences, at least two, say that have this mean and this standard deviation."""
    error, df = spread / math.sqrt(pairs), pairs - 1
    p = 2 * float(stdtr(df, -abs(mean) / error)) if error else float(mean == 0)
    reach = float(stdtrit(df, (1 + LEVEL) / 2) + stdtrit(df, 0.8))
    return Difference(_interval(mean, spread, pairs, level), p, reach * error, spread)


def smallest_p(pairs: int) -> float:
    """The least p with so many pairs of a two-sided test that does not take their differences for normal.

    All differences are of one sign, and 2 of the 2^n changes of their signs are as extreme.
    """
    return 2.0 ** (1 - pairs)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that may each be held against one level; NaN stays NaN and is not counted.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    corrected = [math.nan] * len(ps)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * ps[i]))
        corrected[i] = least
    return corrected


# --- contrasts --------------------------------------------------------------------------------------------------------


def contrast(measured: pd.DataFrame, metric: str, weights: Mapping[Cell, float]) -> pd.Series[float]:
    """sum of weight * metric over cells (variant, partition), by seed, of the seeds that have all of them."""
    if metric not in measured:
        return pd.Series(dtype=float)
    values = measured.pivot_table(index="seed", columns=["variant", "partition"], values=metric, dropna=False)
    if not set(weights) <= set(values.columns):
        return pd.Series(dtype=float)
    chosen = values[list(weights)].dropna()  # (seeds, cells)
    return pd.Series(chosen.to_numpy(dtype=float) @ np.array(list(weights.values())), index=chosen.index)


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
        """Whether it is unlikely to be chance, all comparisons of this metric considered."""
        return self.corrected_p <= 1 - LEVEL


def compare(measured: pd.DataFrame, study: Study, baseline: str) -> list[Comparison]:
    """Every variant against the baseline, by metric, partition and variant; none without two seeds in common."""
    result = []
    for key in TESTED:
        cells = [(v, p) for p in study.partitions for v in study.variants if v != baseline]
        found = [(v, p, difference(contrast(measured, key, against(v, baseline, p)))) for v, p in cells]
        found = [(v, p, d) for v, p, d in found if d.n > 0]
        corrected = holm([d.p for *_, d in found])
        result += [Comparison(BY_KEY[key], *each, p) for each, p in zip(found, corrected, strict=True)]
    return result


def summarise(measured: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Mean and interval of every metric at every cell, and whether it is the best there beyond chance.

    ``best`` holds where its paired difference to every other variant at that partition is decided: paired t-tests,
    corrected for their number by Holm.
    """
    rows = []
    known = [metric for metric in METRICS if metric.key in measured]
    for partition in study.partitions:
        there = measured[measured["partition"] == partition]
        variants = [variant for variant in study.variants if variant in set(there["variant"])]
        for metric in known:
            winner = _winner(measured, metric, variants, partition)
            for variant in variants:
                values = there.loc[there["variant"] == variant, metric.key].dropna().to_numpy(dtype=float)
                finite = values[np.isfinite(values)]
                interval = t_interval(finite)
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
                        "best": variant == winner,
                    }
                )
    return pd.DataFrame(rows, columns=["partition", "variant", "metric", "mean", "low", "high", "n", "of", "best"])


def _winner(measured: pd.DataFrame, metric: Metric, variants: Sequence[str], partition: str) -> str | None:
    """The variant that is better than every other one beyond chance, or None."""
    there = measured[measured["partition"] == partition]
    means = there.groupby("variant")[metric.key].mean() * metric.sign
    if metric.sign == 0 or len(variants) < 2 or not np.isfinite(means).all():
        return None
    first = str(means.idxmax())
    others = [variant for variant in variants if variant != first]
    pairs = [contrast(measured, metric.key, against(first, other, partition)) for other in others]
    ps = holm([difference(d).p for d in pairs])
    return first if all(p <= 1 - LEVEL for p in ps) else None
