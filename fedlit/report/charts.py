"""The report's charts as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd

from fedlit.core.bins import bin_names, bin_width
from fedlit.report.client_map import each_client
from fedlit.report.collect import Study, heterogeneity_of, outcomes
from fedlit.report.intervals import LEAST_SEEDS, LEVEL, bounded_interval
from fedlit.report.left_behind import skewed_clients, skewed_over_rounds
from fedlit.report.metrics import BY_KEY, LAST_ROUNDS, Metric
from fedlit.report.panels import Chart, Curves, Differences, Heat, Line, Panel, Points, padded
from fedlit.report.record import BASELINE_VARIANT
from fedlit.report.run import read_outcome
from fedlit.report.statistics import Comparison, against, contrast
from fedlit.runs.outcome import CLASSES_CSV, CLIENTS_CSV

TESTED_CLASSES = "test_classes.csv"
#: Shares of the clients, worst first, at which accuracies are shown.
SHARES = np.linspace(0, 1, 101)


def charts(
    study: Study, measured: pd.DataFrame, comparisons: Sequence[Comparison], baseline: str = BASELINE_VARIANT
) -> list[Chart]:
    """All charts for which there are numbers."""
    found = [
        _curves(study, "accuracy", "Accuracy over the rounds", "global/accuracy", f"{study.held_out} accuracy"),
        _curves(study, "loss", "Loss over the rounds", "global/loss", f"{study.held_out} loss"),
        _curves(
            study,
            "stability",
            "Stability: how much accuracy changes from round to round",
            "global/accuracy",
            "absolute change of accuracy",
            _unsteadiness,
            f"Absolute change of accuracy from one round to the next, mean over the last {LAST_ROUNDS} rounds. ",
        ),
        _curves(
            study,
            "drift",
            "Drift: how far clients move from the server's model",
            "drift/mean",
            "norm of an update, mean over clients",
        ),
        _curves(
            study,
            "agreement",
            "Agreement: the cosine of a client's update with the average one",
            "drift/cosine",
            "cosine, mean over clients",
        ),
        _heterogeneity(study, measured),
        _differences(study, measured, comparisons, baseline),
        _clients(study),
        each_client(study),
        skewed_clients(study),
        skewed_over_rounds(study),
        _classes(study),
    ]
    return [chart for chart in found if chart is not None]


def _unsteadiness(values: pd.Series[float]) -> pd.Series[float]:
    return values.diff().abs().rolling(LAST_ROUNDS, min_periods=2).mean()


def _curves(
    study: Study,
    name: str,
    title: str,
    column: str,
    label: str,
    of: Callable[[pd.Series[float]], pd.Series[float]] = lambda values: values,
    note: str = "",
) -> Chart | None:
    """A scalar over the rounds, with a panel for each partition."""
    by_partition = _by_partition(study, lambda variant, partition: _line(study, variant, partition, column, of))
    lines = list(chain(*by_partition.values()))
    if not lines:
        return None
    low = min(float(np.nanmin(line.low)) for line in lines)
    high = max(float(np.nanmax(line.high)) for line in lines)
    log = low > 0 and high / low > 20 and "accuracy" not in column  # a share has a linear axis
    limits = (low / 1.1, high * 1.1) if log else padded([low, high])
    panels = tuple(
        Curves(heterogeneity_of(study, partition), "round", label, there, limits=limits, log=log)
        for partition, there in by_partition.items()
    )
    return Chart(name, title, f"{note}{_bands(lines)}", panels)


def _by_partition(study: Study, line_of: Callable[[str, str], Line | None]) -> dict[str, tuple[Line, ...]]:
    """The lines of all variants at each partition that has any, from those of a variant at a partition."""
    found = {p: tuple(line for v in study.variants if (line := line_of(v, p)) is not None) for p in study.partitions}
    return {partition: lines for partition, lines in found.items() if lines}


def _bands(lines: Sequence[Line]) -> str:
    """An explanation of the lines and bands of curves."""
    most = max(len(line.seeds) for line in lines)
    if most < 2:
        return "One seed: no bands."
    if most < LEAST_SEEDS:
        return "Lines: mean over seeds; dots: each seed."
    return "Lines: mean over seeds; bands: lowest to highest."


def _line(
    study: Study,
    variant: str,
    partition: str,
    column: str,
    of: Callable[[pd.Series[float]], pd.Series[float]],
) -> Line | None:
    """A variant's curve over the rounds that all its runs have; unfinished runs are used if none is finished."""
    finished, begun = study.finished_of(variant, partition), study.runs_of(variant, partition)
    runs = [run for run in finished if column in run.table] or [run for run in begun if column in run.table]
    values = {run.seed: of(run.table.set_index("round")[column].astype(float).dropna()) for run in runs}
    if not values:
        return None
    joined = pd.concat(values, axis=1).replace([np.inf, -np.inf], np.nan).dropna()
    joined = joined[joined.index <= study.horizon]
    return None if joined.empty else Line.mean_of(variant, joined)


def _heterogeneity(study: Study, measured: pd.DataFrame) -> Chart | None:
    """Final accuracy and wobble against alpha, if at least two partitions have an alpha."""
    known = [p for p in study.partitions if not math.isnan(study.alphas[p])]
    if len({study.alphas[p] for p in known}) < 2:
        return None
    ticks = tuple(f"{'∞ (even)' if math.isinf(study.alphas[p]) else f'{study.alphas[p]:g}'}\n{p}" for p in known)
    found = [(BY_KEY[key], _over_alpha(study, measured, BY_KEY[key], known)) for key in ("accuracy", "wobble")]
    panels = tuple(
        Points(metric.title, "Dirichlet \u03b1: clients differ less to the right", metric.title, lines, ticks)
        for metric, lines in found
        if lines
    )
    if not panels:
        return None
    return Chart("heterogeneity", "Accuracy and stability against heterogeneity", _dots(panels), panels)


def _over_alpha(study: Study, measured: pd.DataFrame, metric: Metric, known: Sequence[str]) -> tuple[Line, ...]:
    """A metric of each variant at the partitions, with the variants side by side."""
    variants = [v for v in study.variants if v in set(measured["variant"])]
    lines = []
    for i, variant in enumerate(variants):
        cells = measured[measured["variant"] == variant]
        rows = []
        for x, partition in enumerate(known):
            there = cells[cells["partition"] == partition]
            found = bounded_interval(there.get(metric.key, pd.Series(dtype=float)).dropna(), metric.most)
            if found.n and math.isfinite(found.mean):
                rows.append((x + 0.07 * (i - (len(variants) - 1) / 2), found.mean, found.low, found.high))
        if rows:
            lines.append(Line(variant, *np.array(rows).T))
    return tuple(lines)


def _dots(panels: Sequence[Panel]) -> str:
    """An explanation of points and bars."""
    if all(np.isnan(line.low).all() for panel in panels for line in panel.lines):
        return f"Points: mean over seeds; no intervals with fewer than {LEAST_SEEDS} seeds."
    return f"Points: mean over seeds; bars: {LEVEL:.0%} intervals, none with fewer than {LEAST_SEEDS} seeds."


def _differences(
    study: Study, measured: pd.DataFrame, comparisons: Sequence[Comparison], baseline: str
) -> Chart | None:
    """Paired differences to the baseline: a panel for each metric, with the partitions below each other."""
    fair = "client_p10" if any(c.metric.key == "client_p10" for c in comparisons) else "clients_p10"
    panels = []
    for key in ("accuracy", "loss", "wobble", fair):
        chosen = [c for c in comparisons if c.metric.key == key and c.difference.n > 1]
        partitions = [p for p in study.partitions if any(c.partition == p for c in chosen)]
        variants = [v for v in study.variants if any(c.variant == v for c in chosen)]
        lines = []
        for i, variant in enumerate(variants):
            places = {p: y + 0.8 * ((i + 0.5) / len(variants) - 0.5) for y, p in enumerate(partitions)}
            rows = [
                (places[c.partition], *row)
                for c in chosen
                if c.variant == variant
                for row in _pairs(measured, c, baseline)
                if math.isfinite(row[0])
            ]
            lines += [Line(variant, *np.array(rows).T)] if rows else []
        if lines:
            ticks = tuple(heterogeneity_of(study, p, short=True) for p in partitions)
            panels.append(Differences(_title(BY_KEY[key]), f"difference to {baseline}", "", tuple(lines), ticks))
    if not panels:
        return None
    caption = (
        f"Points: mean over pairs of runs with one seed; bars: {LEVEL:.0%} t intervals, uncorrected. "
        f"With fewer than {LEAST_SEEDS} pairs, a point for each pair."
    )
    return Chart("differences", "Paired differences to the baseline", caption, tuple(panels))


def _pairs(measured: pd.DataFrame, compared: Comparison, baseline: str) -> list[tuple[float, float, float]]:
    """Mean and interval of a difference; with fewer than LEAST_SEEDS pairs, each pair without an interval."""
    found = compared.difference.interval
    if found.n >= LEAST_SEEDS:
        return [(found.mean, found.low, found.high)]
    weights = against(compared.variant, baseline, compared.partition)
    return [(each, math.nan, math.nan) for each in contrast(measured, compared.metric.key, weights)]


def _title(metric: Metric) -> str:
    return metric.title + {1: " (right is better)", -1: " (left is better)", 0: ""}[metric.sign]


def _clients(study: Study) -> Chart | None:
    """The final model's accuracy on each client's data, sorted, mean over the seeds that have it."""
    by_partition = _by_partition(study, partial(_sorted_clients, study))
    lines = list(chain(*by_partition.values()))
    if not lines:
        return None
    limits = padded([values for line in lines for values in (line.low, line.high)])
    panels = tuple(
        Curves(
            heterogeneity_of(study, partition),
            "share of the clients, worst first (%)",
            "accuracy on the client's training data",
            there,
            limits=limits,
        )
        for partition, there in by_partition.items()
    )
    caption = (
        f"The final global model on each client's own training data ({CLIENTS_CSV}); the clients of each variant and "
        f"seed are sorted by accuracy. {_bands(lines)}"
    )
    return Chart("clients", "Accuracy over clients", caption, panels)


def _sorted_clients(study: Study, variant: str, partition: str) -> Line | None:
    """Quantiles of the accuracy over clients, which also exist if seeds have different numbers of clients."""
    tables = outcomes(study, variant, partition, CLIENTS_CSV)
    known = {seed: table["accuracy"].dropna().to_numpy(dtype=float) for seed, table in tables.items()}
    quantiles = {seed: np.quantile(accuracy, SHARES) for seed, accuracy in known.items() if len(accuracy)}
    return Line.mean_of(variant, pd.DataFrame(quantiles, index=100 * SHARES)) if quantiles else None


def _classes(study: Study) -> Chart | None:
    """Accuracy by class, mean over the seeds that have it, from finished runs, else from tested runs."""
    caption = f"The final global model on the {study.held_out} data of each class ({CLASSES_CSV}); mean over seeds."
    panels = _class_panels(study, lambda v, p: list(outcomes(study, v, p, CLASSES_CSV).values()))
    if not panels:
        caption = f"Accuracy on the test set, from {TESTED_CLASSES} of fedlit test; mean over seeds."
        panels = _class_panels(study, partial(_tested, study))
    return Chart("classes", "Accuracy by class", caption, panels) if panels else None


def _class_panels(study: Study, tables_of: Callable[[str, str], list[pd.DataFrame]]) -> tuple[Heat, ...]:
    panels = []
    for partition in study.partitions:
        rows = {
            variant: pd.concat([t.set_index("class")["accuracy"] for t in tables], axis=1).mean(axis=1)
            for variant in study.variants
            if (tables := tables_of(variant, partition))
        }
        if rows:
            table = pd.DataFrame(rows).T
            title = heterogeneity_of(study, partition)
            width = bin_width(len(table.columns))
            values = table.T.groupby(np.arange(len(table.columns)) // width).mean().T.to_numpy(dtype=float)
            panels.append(Heat(title, tuple(table.index), tuple(bin_names(list(table.columns))), values))
    return tuple(panels)


def _tested(study: Study, variant: str, partition: str) -> list[pd.DataFrame]:
    paths = (run.folder / TESTED_CLASSES for run in study.runs_of(variant, partition))
    return [read_outcome(path) for path in paths if path.is_file()]
