"""Every client of a partition: its accuracy in each variant, its size and its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from fedlit.core.files import require_regular
from fedlit.core.tables import unescape_cell
from fedlit.report.collect import Study, at_one_seed, heterogeneity_of, outcomes
from fedlit.report.panels import Chart, Clients
from fedlit.runs.outcome import CLIENTS_CSV
from fedlit.runs.setting import LABELS

#: At most this many clients are shown, evenly spaced from the worst to the best.
MOST_CLIENTS = 150


def each_client(study: Study) -> Chart | None:
    """A panel for each partition, at the seed with the most variants."""
    panels = tuple(panel for partition in study.partitions if (panel := _panel(study, partition)) is not None)
    if not panels:
        return None
    caption = (
        f"The final global model on each client's own training data ({CLIENTS_CSV}) at one seed; clients are "
        "sorted from the least to the most accurate by the mean over variants."
    )
    return Chart("each_client", "Every client", caption, panels)


def _panel(study: Study, partition: str) -> Clients | None:
    found = at_one_seed({variant: outcomes(study, variant, partition, CLIENTS_CSV) for variant in study.variants})
    if found is None:
        return None
    seed, tables = found[0], {variant: table.set_index("client") for variant, table in found[1].items()}
    accuracy = pd.DataFrame({variant: table["accuracy"] for variant, table in tables.items()})  # (K, V)
    ranked = accuracy.mean(axis=1).dropna().sort_values(kind="stable").index
    shown = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(len(ranked), MOST_CLIENTS)).astype(int))]
    if not len(shown):
        return None
    known_sizes = pd.concat([table["samples"] for table in tables.values()])
    samples = known_sizes[~known_sizes.index.duplicated()]  # variants may have other numbers of clients
    runs = [run for run in study.finished if (run.partition, run.seed) == (partition, seed)]
    known = next((table for run in runs if (table := _labels(run.folder / LABELS, shown)) is not None), None)
    return Clients(
        f"{heterogeneity_of(study, partition)}, seed {seed}",
        tuple(accuracy.columns),
        tuple(map(str, shown)),
        accuracy.loc[shown].to_numpy(dtype=float).T,
        tuple(samples.loc[shown].astype(int)),
        *((tuple(map(unescape_cell, known.columns)), known.to_numpy(dtype=np.int64)) if known is not None else ()),
    )


def _labels(path: Path, clients: pd.Index[int]) -> pd.DataFrame | None:
    """How many examples of each class these clients have, (K, C); None if this is not recorded for all of them."""
    try:
        return pd.read_csv(require_regular(path)).set_index("client").loc[clients].astype("int64")
    except (OSError, ValueError, KeyError):
        return None
