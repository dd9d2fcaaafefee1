"""The section with all metrics of all variants at every partition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from fedlit.report.analysis import Analysis
from fedlit.report.collect import heterogeneity_of
from fedlit.report.document import Element, Table, Tables, Text
from fedlit.report.intervals import LEAST_SEEDS, LEVEL
from fedlit.report.metrics import METRICS, Metric
from fedlit.report.numbers import DASH, number


def results(found: Analysis) -> Iterable[Element]:
    """A table for each topic, with rows grouped by partition."""
    if found.measured.empty:
        return
    yield Text(reading(found))
    topics = dict.fromkeys(metric.topic for metric in METRICS if metric.key in found.measured)
    yield Tables(tuple(_table(found, topic) for topic in topics))


def reading(found: Analysis) -> str:
    """An explanation of the cells."""
    counts = found.measured.groupby(["variant", "partition"]).size()
    low, high = int(counts.min()), int(counts.max())
    each = str(low) if low == high else f"{low} to {high}"
    if high == 1:
        return "One seed each, so there are no intervals."
    if high < LEAST_SEEDS:
        return "Mean over two seeds and, in brackets, both values."
    best = f"better than every other variant at the same {found.study.within} beyond chance"
    return (
        f"Mean over seeds ({each} each) and, in brackets, its {LEVEL:.0%} interval; for two seeds, both values. "
        f"**Bold**: {best} (paired t-tests, Holm, p ≤ {1 - LEVEL:.2g})."
    )


def _table(found: Analysis, topic: str) -> Table:
    study = found.study
    metrics = [metric for metric in METRICS if metric.topic == topic and metric.key in found.measured]
    groups = {}
    for partition in study.partitions:
        label = heterogeneity_of(study, partition)
        label += f", target {found.targets[partition]:.3f}" if topic == "Cost" else ""
        rows = [
            (variant, *cells) for variant in study.variants if (cells := cells_of(found, metrics, variant, partition))
        ]
        if rows:
            groups[label] = rows
    notes = {metric.title: metric.meaning for metric in metrics}
    columns = ("variant", *(metric.title for metric in metrics))
    return Table(columns, groups, title=topic, notes=notes, grouped_by=study.within)


def cells_of(found: Analysis, metrics: Sequence[Metric], variant: str, partition: str) -> tuple[str, ...]:
    """The metrics of a variant at a partition; empty if it has no run there."""
    there = found.measured[(found.measured["variant"] == variant) & (found.measured["partition"] == partition)]
    if there.empty:
        return ()
    summary = found.summary[(found.summary["variant"] == variant) & (found.summary["partition"] == partition)]
    rows = {row["metric"]: row for row in summary.to_dict("records")}
    return tuple(_cell(metric, rows[metric.key], there[metric.key]) for metric in metrics)


def _cell(metric: Metric, row: Any, values: pd.Series[float]) -> str:
    """A mean with its interval or the values of two seeds, the number of values if some are missing, bold if best.

    Values that are not finite, such as a target that was not reached, are left out.
    """
    n, of = int(row["n"]), int(row["of"])
    if n == 0:
        return "not reached" if metric.key == "to_target" else DASH
    known = values[values.map(math.isfinite)]
    spread = "" if known.nunique() < 2 else " and ".join(number(metric, value) for value in known) if n == 2 else ""
    if not math.isnan(row["low"]) and row["low"] < row["high"]:
        spread = f"{number(metric, row['low'])} to {number(metric, row['high'])}"
    beside = "; ".join(filter(None, (spread, f"{n} of {of}" if n < of else "")))
    text = number(metric, row["mean"]) + (f" ({beside})" if beside else "")
    return f"**{text}**" if row["best"] else text
