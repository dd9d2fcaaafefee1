"""Reads the rows of ``metrics.csv`` on a resume, and replaces damaged rows by TensorBoard's numbers."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fedlit.core.files import require_regular, writing
from fedlit.core.messages import warn
from fedlit.runs.board import curves_in, name_of
from fedlit.runs.folder import METRICS_CSV

#: Name under which a damaged table is kept.
DAMAGED = "metrics.damaged.csv"

Rows = dict[int, dict[str, Any]]


def salvaged(run: Path, finished: int) -> Rows:
    """The rows of a run's finished rounds, by round.

    If the table is damaged or lacks rounds, a warning names the rounds that were taken from TensorBoard's files, whose
    numbers have only the seven digits of float32, and the rounds that are lost. The damaged table is kept as
    ``metrics.damaged.csv``.
    """
    rows, is_whole = whole_rows(run / METRICS_CSV)
    rows = {round: row for round, row in rows.items() if round <= finished}
    gone = [round for round in range(1, finished + 1) if round not in rows]
    if is_whole and not gone:
        return rows
    copied = ""
    if (run / METRICS_CSV).exists() and not is_whole:
        with writing(run / DAMAGED):
            shutil.copyfile(run / METRICS_CSV, run / DAMAGED)
        copied = f"; the damaged file is kept as {DAMAGED}"
    found = rows_of_curves(run, gone)
    lost = [round for round in gone if round not in found]
    said = [f"rounds {in_spans(found)} were taken from TensorBoard's files"] if found else []
    said += [f"rounds {in_spans(lost)} are lost"] if lost else []
    warn(f"{run / METRICS_CSV} is damaged or lacks rounds: {' and '.join(said) or 'no round is lost'}{copied}")
    return dict(sorted((rows | found).items()))


def whole_rows(path: Path) -> tuple[Rows, bool]:
    """The readable rows of a table, by round, and whether the whole file is readable."""
    try:
        content = require_regular(path).read_bytes()
    except FileNotFoundError:
        return {}, False
    header, *lines = content.decode(errors="replace").splitlines(keepends=True) or [""]
    names = _cells(header)
    rows = {}
    for line in lines:
        row = dict(zip(names, _cells(line), strict=False))
        if line.endswith("\n") and len(row) == len(_cells(line)) == len(names) and _is_numbers(row):
            rows[int(row["round"])] = row
    return dict(rows), bool(rows) and len(rows) == len(lines)


def rows_of_curves(run: Path, rounds: Iterable[int]) -> Rows:
    """The scalars of rounds from TensorBoard's files, by round; empty if the run has no such files."""
    rounds, rows = set(rounds), Rows()
    if not rounds or not any(run.glob("events.out.tfevents.*")):
        return rows
    for tag, points in curves_in(run).items():
        for point in points:
            if point.step in rounds:
                rows.setdefault(point.step, {"round": point.step})[name_of(tag)] = np.float32(point.value)
    return rows


def in_spans(rounds: Iterable[int]) -> str:
    """Numbers as spans: ``1 to 4, 7``."""
    spans = []
    for _, group in groupby(enumerate(sorted(rounds)), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        spans.append(f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0]))
    return ", ".join(spans)


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _is_numbers(row: dict[str, str]) -> bool:
    try:
        return int(row["round"]) >= 0 and all(float(value or "nan") is not None for value in row.values())
    except (ValueError, LookupError):
        return False
