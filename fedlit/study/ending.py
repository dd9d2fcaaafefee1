"""The end of a study: a table of accuracies, and the report."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from fedlit.core.errors import InputError
from fedlit.core.terminal import Column, Terminal, table_of
from fedlit.report.analysis import Analysis
from fedlit.report.command import report


def conclude(folder: Path, console: Terminal) -> None:
    """Write a study's report, and show the accuracy of its variants and the path of the report."""
    try:
        found = report(folder)
    except InputError as error:
        console.print(f"no report: {error}")
        return
    study = found.study
    console.print(f"accuracy of the global model on {study.held_out} data at round {study.horizon}, mean over seeds:")
    console.print(means(found, console))
    console.print(f"report: {folder / 'report' / 'report.html'}")


def means(found: Analysis, console: Terminal) -> Table:
    """A row for each variant and a column for each partition, with the number of seeds if it varies."""
    study, summary = found.study, found.summary
    rows = summary[summary["metric"] == "accuracy"].set_index(["variant", "partition"])
    seeds = {(v, p): int(rows["n"].get((v, p), 0)) for v in study.variants for p in study.partitions}
    alike = len(set(seeds.values())) == 1

    def cell(variant: str, partition: str) -> str:
        n = seeds[variant, partition]
        return f"{rows['mean'][variant, partition]:.4f}{'' if alike else f' ({n})'}" if n else "-"

    columns = [Column(p, [cell(v, p) for v in study.variants]) for p in study.partitions]
    return table_of([Column("variant", study.variants, right=False), *columns], console)
