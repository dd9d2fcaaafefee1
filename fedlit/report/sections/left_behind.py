"""Sections on clients with skewed labels, and on attention over the rounds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study, heterogeneity_of
from fedlit.report.document import Element, PictureRow, Table, Text
from fedlit.report.left_behind import SHARE, ends_by_seed
from fedlit.report.numbers import fixed
from fedlit.runs.film import CHANNELS, FILM

CHARTS = ("skewed_clients", "skewed_over_rounds")


def left_behind(found: Analysis) -> Iterable[Element]:
    """Accuracy against the skew of clients' labels: charts, and a table of the most and least skewed clients."""
    charts = [chart for chart in found.charts if chart.name in CHARTS]
    yield from charts
    if charts:
        yield _ends(found.study)


def attention(study: Study) -> Iterable[Element]:
    """Films of gates, at the most heterogeneous partition that has any, at its first seed."""
    for partition in study.partitions:
        runs = sorted((run for run in study.runs if run.partition == partition), key=lambda run: run.seed)
        first = {variant: run for variant in study.variants for run in reversed(runs) if run.variant == variant}
        files = [(run.variant, run.folder / name) for run in first.values() for name in (FILM, CHANNELS)]
        there: list[tuple[str, Path]] = [(variant, path) for variant, path in files if path.is_file()]
        if there:
            yield Text(
                f"Gates over the rounds at {heterogeneity_of(study, partition)}, on the same test inputs: the "
                "gates of the global model, and of one skewed client after local training from that model. Colours go "
                "from 0 to 1, and further only where a gate does."
            )
            yield PictureRow(tuple(there))
            return


def _ends(study: Study) -> Table:
    groups = {}
    for partition in study.partitions:
        rows = []
        for variant in study.variants:
            if found := ends_by_seed(study, variant, partition):
                least, most = np.array(list(found.values())).mean(0)
                rows.append((variant, fixed(least, 3), fixed(most, 3), fixed(most - least, 3, "+"), str(len(found))))
        if rows:
            groups[heterogeneity_of(study, partition)] = rows
    return Table(
        ("variant", "least skewed", "most skewed", "difference", "n"),
        groups,
        title="Accuracy on the clients' own training data, by the skew of their labels",
        notes={
            "least skewed": f"mean over the {SHARE:.0%} of the clients with the least skewed labels",
            "most skewed": f"mean over the {SHARE:.0%} of the clients with the most skewed labels",
            "n": "number of seeds",
        },
    )
