"""A round of the same cohort out of ever more clients, and how long it takes to make that many.

``python -m tests.benchmarks.population FOLDER`` times the partitions of the workload in FOLDER, as a JSON line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.contenders import REFERENCE, python
from tests.benchmarks.measure import run
from tests.benchmarks.race import Race, prepared, race
from tests.benchmarks.report import Sheet, machine, with_spread
from tests.benchmarks.workloads import SEED, Plan, population, quick

POPULATIONS = (100, 100_000, 1_000_000)
CONTENDERS = (REFERENCE, "LoopEngine", "VectorizedEngine", "fit")
PARTITIONS = ("Uniform", "Dirichlet")


def population_sheets(repeats: int, is_quick: bool, tell: Callable[[str], None]) -> tuple[list[Sheet], list[Race]]:
    """Rounds, then partitions."""
    workloads = [quick(population(clients)) if is_quick else population(clients) for clients in POPULATIONS]
    races = [race(workload, repeats, CONTENDERS, tell) for workload in workloads]
    with prepared(workloads[-1]) as (_, folder):
        tell(f"partitions of {workloads[-1].clients:,} clients")
        seconds = run(python("tests.benchmarks.population", folder)).result
    return [_rounds(races, repeats), _partitions(workloads[-1].clients, seconds)], races


def _rounds(races: list[Race], repeats: int) -> Sheet:
    rows = []
    for outcome in races:
        for name, runs in outcome.runs.items():
            if name in outcome.failures:
                rows.append([f"{outcome.plan.workload.clients:,}", name, "FAILED", "", "", ""])
                continue
            rounds = outcome.plan.workload.rounds
            walls = [1e3 * run.wall_seconds / rounds for run in runs.values()]
            first = median(1e3 * run.wall_seconds / rounds for run in races[0].runs[name].values())
            rows.append(
                [
                    f"{outcome.plan.workload.clients:,}",
                    name,
                    with_spread(walls, ".1f"),
                    f"{median(walls) / first:.2f}",
                    f"{outcome.peak_mb[name]:,.0f}",
                    f"{outcome.peak_mb[name] / outcome.peak_mb[REFERENCE]:.2f}",
                ]
            )
    workload = races[0].plan.workload
    columns = (
        "clients",
        "contender",
        "ms/round, all in",
        f"x {workload.clients} clients'",
        "memory, MB",
        f"x {REFERENCE}'s",
    )
    notes = (
        f"{workload.cohort} clients a round of {workload.mean_size} samples of {workload.side}x{workload.side} pixels, "
        f"mlp; the data itself grows with the clients. Medians of {repeats} interleaved repeats. {machine()}"
    )
    return Sheet("Population: the same cohort out of more clients", columns, rows, notes)


def _partitions(clients: int, seconds: dict[str, float]) -> Sheet:
    rows = [[name, f"{taken:.2f}"] for name, taken in seconds.items()]
    return Sheet(f"Population: partition over {clients:,} clients", ("partition", "seconds"), rows, machine())


def time_partitions(folder: Path) -> dict[str, float]:
    """Seconds that each partition takes."""
    import fedlit.data  # here alone: the benchmark's own process stays without torch

    workload = Plan.load(folder).workload
    with np.load(folder / "data.npz") as file:
        labels = file["labels"][: file["n_train"]]
    seconds = {}
    for name in PARTITIONS:
        started = time.perf_counter()
        getattr(fedlit.data, name)().split(labels, workload.clients, np.random.default_rng(SEED))
        seconds[name] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    sys.stdout.write(json.dumps(time_partitions(Path(sys.argv[1]))) + "\n")
