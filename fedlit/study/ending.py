"""What a study says at its end: its small table, and where its report is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

from fedlit.core.errors import InputError
from fedlit.core.terminal import Column, Terminal, table_of
from fedlit.report.collect import Run, Study
from fedlit.report.command import report
from fedlit.runs.checkpoints import BEST_BY


def conclude(folder: Path, console: Terminal) -> None:
    """Write a study's report, and show the accuracy of its variants and where the report is."""
    try:
        study = report(folder).study
    except InputError as error:
        console.print(f"no report: {error}")
        return
    console.print(f"accuracy of the global model on {study.held_out} data at round {study.horizon}, mean over seeds:")
    console.print(means(study, console))
    console.print(f"report: {folder / 'report' / 'report.html'}")


def means(study: Study, console: Terminal) -> Table:
    """A row for each variant and a column for each partition; where the number of seeds varies, it stands behind."""
    cells = {
        (variant, partition): [
            _accuracy(run, study.horizon)
            for run in study.finished
            if (run.variant, run.partition) == (variant, partition)
        ]
        for variant in study.variants
        for partition in study.partitions
    }
    alike = len({len(values) for values in cells.values()}) == 1
    columns = [
        Column(partition, [_mean(cells[variant, partition], alike) for variant in study.variants])
        for partition in study.partitions
    ]
    return table_of([Column("variant", study.variants, right=False), *columns], console)


def _accuracy(run: Run, round: int) -> float:
    """Of the global model at a round, or before where that was not validated."""
    until = run.table.loc[run.table["round"] <= round, BEST_BY].dropna()
    return float(until.iloc[-1]) if len(until) else float("nan")


def _mean(values: Sequence[float], alike: bool) -> str:
    if not values:
        return "-"
    return f"{pd.Series(values).mean():.4f}{'' if alike else f' ({len(values)})'}"
