"""Charts of the accuracy of each client against the skew of its labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fedlit.core.files import require_regular
from fedlit.report.collect import Study, at_one_seed, heterogeneity_of, outcomes
from fedlit.report.panels import Chart, Curves, Line, Scatter, padded
from fedlit.report.run import Run
from fedlit.runs.by_round import files_by_round
from fedlit.runs.client_accuracy import ClientAccuracy
from fedlit.runs.outcome import CLIENTS_CSV

#: The most and the least skewed clients are compared; each group has this share of all clients.
SHARE = 0.25


def skewed_clients(study: Study) -> Chart | None:
    """A panel for each variant with the clients of the most heterogeneous partition as points, at one seed."""
    partition = study.partitions[0]
    found = at_one_seed({variant: _known(study, variant, partition) for variant in study.variants})
    if found is None:
        return None
    seed, tables = found
    values = pd.concat(tables.values())
    x, y = padded(values["skew"]), padded(values["accuracy"])
    panels = tuple(_scatter(variant, table, x, y) for variant, table in tables.items())
    caption = (
        f"Each point is a client at {heterogeneity_of(study, partition)}, seed {seed}: the final global model on its "
        f"own training data ({CLIENTS_CSV}). The skew of its labels is the total variation distance between its "
        "class mix and that of all clients together: 0 is the same mix, 1 no common class. Line: least squares."
    )
    return Chart("skewed_clients", "Accuracy of each client against the skew of its labels", caption, panels)


def skewed_over_rounds(study: Study) -> Chart | None:
    """The mean accuracy of the most skewed clients over the rounds, for runs that recorded it."""
    panels = []
    for partition in study.partitions:
        lines = []
        for variant in study.variants:
            runs = study.finished_of(variant, partition)
            found = {run.seed: values for run in runs if len(values := _followed(run, study.horizon)) > 1}
            if found:
                lines.append(Line.mean_of(variant, pd.concat(found, axis=1, join="inner")))
        if lines:
            panels.append(Curves(heterogeneity_of(study, partition), "round", "accuracy", tuple(lines)))
    if not panels:
        return None
    caption = (
        f"Mean over the {SHARE:.0%} of the clients with the most skewed labels, each on its own training data "
        f"(rounds/{ClientAccuracy.pattern.format('*')})."
    )
    return Chart("skewed_over_rounds", "The most skewed clients over the rounds", caption, tuple(panels))


def ends(table: pd.DataFrame) -> tuple[float, float]:
    """Mean accuracy of the quarter of clients with the least skewed labels, and of that with the most skewed ones."""
    ranked = table.sort_values("skew", kind="stable")["accuracy"].to_numpy(dtype=float)
    number = max(1, int(SHARE * len(ranked)))
    return float(ranked[:number].mean()), float(ranked[-number:].mean())


def ends_by_seed(study: Study, variant: str, partition: str) -> Mapping[int, tuple[float, float]]:
    """The result of `ends` by seed, for runs that have the data."""
    return {seed: ends(table) for seed, table in _known(study, variant, partition).items()}


def _known(study: Study, variant: str, partition: str) -> dict[int, pd.DataFrame]:
    """Skew and accuracy of the clients by seed, in ascending order, for runs that have the data."""
    tables = sorted(outcomes(study, variant, partition, CLIENTS_CSV).items())
    return {seed: known for seed, table in tables if (known := _complete(table)) is not None}


def _complete(table: pd.DataFrame) -> pd.DataFrame | None:
    """The clients with a skew and an accuracy; None if there are fewer than two, as in early runs."""
    if "skew" not in table:
        return None
    numbers = table[["client", "samples", "skew", "accuracy"]].apply(pd.to_numeric, errors="coerce").dropna()
    return numbers if len(numbers) > 1 else None


def _followed(run: Run, horizon: int) -> pd.Series[float]:
    """Mean accuracy of a run's most skewed clients, by round."""
    found = {}
    for round, path in files_by_round(run.folder, ClientAccuracy.pattern).items():
        try:
            table = _complete(pd.read_csv(require_regular(path)))
        except (OSError, ValueError, KeyError):  # a damaged file is left out
            continue
        if table is not None and round <= horizon:
            found[round] = ends(table)[1]
    return pd.Series(found, dtype=float)


def _scatter(variant: str, table: pd.DataFrame, x: tuple[float, float], y: tuple[float, float]) -> Scatter:
    skew, accuracy = (table[name].to_numpy(dtype=float) for name in ("skew", "accuracy"))
    none = np.full(len(table), np.nan)
    names = tuple(f"client {c}: {n} examples" for c, n in zip(table["client"], table["samples"], strict=True))
    line = Line(variant, skew, accuracy, none, none)
    spread = skew - skew.mean()
    slope = float(spread @ accuracy / (spread @ spread)) if spread.any() else 0.0
    trend = tuple(float(accuracy.mean()) + slope * (end - float(skew.mean())) for end in x)
    return Scatter(
        variant, "skew of its labels", "accuracy", (line,), limits=y, across=x, trend=(trend[0], trend[1]), names=names
    )
