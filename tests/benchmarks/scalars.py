"""What does a round's row of ``metrics.csv`` cost late in a long run? ``python -m tests.benchmarks.scalars [ROUNDS]``

The baseline makes text of the whole table again in each round.
"""

from __future__ import annotations

import csv
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from fedlit.core.files import atomic_write
from fedlit.runs import MetricsTable

COLUMNS, TIMED = 40, 9


class WholeTable:
    """The baseline."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []

    def log(self, metrics: dict[str, float], round: int) -> None:
        self._rows.append({"round": round, **metrics})
        with atomic_write(self._path, newline="") as file:
            writer = csv.DictWriter(file, dict.fromkeys(name for row in self._rows for name in row))
            writer.writeheader()
            writer.writerows(self._rows)


def seconds_of(log: Callable[[dict[str, float], int], None], rounds: int) -> float:
    """Processor seconds of one of the last rounds."""
    draw = random.Random(0)
    taken = []
    for round in range(1, rounds + 1):
        row = {f"group/metric_{column}": draw.random() for column in range(COLUMNS)}
        started = time.process_time()
        log(row, round)
        taken.append(time.process_time() - started)
    return median(taken[-TIMED:])


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        whole, table = Path(folder) / "whole.csv", Path(folder) / "metrics.csv"
        baseline = seconds_of(WholeTable(whole).log, rounds)
        measured = seconds_of(MetricsTable(table).log_metrics, rounds)
        assert whole.read_bytes() == table.read_bytes()
    sys.stdout.write(
        f"round {rounds}: {1e3 * measured:.1f} ms, the whole table {1e3 * baseline:.1f} ms: {baseline / measured:.1f} "
        "times as fast\n"
    )


if __name__ == "__main__":
    main()
