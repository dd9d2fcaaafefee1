"""A round of the same cohort out of ever more clients, how long it takes to make that many, and what they keep on disk.

``python -m tests.benchmarks.population FOLDER`` times the partitions of the workload in FOLDER, as a JSON line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.contenders import REFERENCE, python
from tests.benchmarks.measure import run
from tests.benchmarks.race import Race, prepared, race
from tests.benchmarks.report import Sheet, machine, with_spread
from tests.benchmarks.workloads import SEED, WARMUP_ROUNDS, Plan, Workload, population, quick

POPULATIONS = (100, 100_000, 1_000_000)
CONTENDERS = (REFERENCE, "LoopEngine", "VectorizedEngine", "fit")
PARTITIONS = ("Uniform", "Dirichlet")
#: For SCAFFOLD, whose clients remember.
REMEMBERING = (
    replace(population(20_000), cohort=2_000, rounds=8),
    replace(population(1_000_000), cohort=1_000, rounds=8),
)


def population_sheets(repeats: int, is_quick: bool, tell: Callable[[str], None]) -> tuple[list[Sheet], list[Race]]:
    """Rounds, then partitions."""
    workloads = [quick(population(clients)) if is_quick else population(clients) for clients in POPULATIONS]
    races = [race(workload, repeats, CONTENDERS, tell) for workload in workloads]
    with prepared(workloads[-1]) as (_, folder):
        tell(f"partitions of {workloads[-1].clients:,} clients")
        seconds = run(python("tests.benchmarks.population", folder)).result
    kept = [_store(run(python("tests.benchmarks.kept", "store")).result)] if not is_quick else []
    kept.append(_scaffold([quick(workload) if is_quick else workload for workload in REMEMBERING], repeats, tell))
    return [_rounds(races, repeats), _partitions(workloads[-1].clients, seconds), *kept], races


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


def _store(found: dict[str, dict[str, float]]) -> Sheet:
    names = {"FileEach": "a file for each client and round", "Packs": "packs"}
    first = found["FileEach"]["seconds"]
    rows = [
        [
            name,
            f"{of['seconds']:.3f}",
            f"{first / of['seconds']:.1f}",
            f"{of['files']:,.0f}",
            f"{of['bytes'] / 1e6:,.0f}",
        ]
        for name, of in ((names[kind], found[kind]) for kind in names)
    ]
    columns = ("kept in", "s/round", "times as fast", "files", "MB")
    notes = f"2,000 of 20,000 clients read, write and are pruned, 4,143 scalars each; medians of 11 rounds. {machine()}"
    return Sheet("Population: what clients keep, the store by itself", columns, rows, notes)


def _scaffold(workloads: list[Workload], repeats: int, tell: Callable[[str], None]) -> Sheet:
    """Rounds of FedAvg and SCAFFOLD in turns, and their memory beside the loop's from runs of their own."""
    rows = []
    for workload in workloads:
        with prepared(workload) as (plan, folder):
            loop = python("tests.benchmarks.baselines", REFERENCE, folder)
            fedavg = python("tests.benchmarks.api", "WorkersEngine", folder)
            scaffold = python("tests.benchmarks.kept", "rounds", folder)
            walls: dict[str, list[float]] = {"loop": [], "FedAvg": [], "SCAFFOLD": []}
            for _ in range(repeats):
                for name, command in zip(walls, (loop, fedavg, scaffold), strict=True):
                    tell(f"{workload.name}, {workload.cohort:,} a round: {name}")
                    walls[name] += run(command).results[0]["wall_seconds"][WARMUP_ROUNDS:]
            finished = run(scaffold, weigh=True)
            peak_mb, loop_mb = finished.peak_mb, run(loop, weigh=True).peak_mb
        rounds, left = len(plan.cohorts), finished.result
        rows.append(
            [
                f"{workload.clients:,}",
                f"{workload.cohort:,}",
                *(f"{median(seconds):.2f}" for seconds in walls.values()),
                f"{left['files'] / rounds:.1f}",
                f"{left['bytes'] / rounds / 1e6:.1f}",
                f"{peak_mb:,.0f}",
                f"{peak_mb / loop_mb:.2f}",
            ]
        )
    columns = (
        "clients",
        "a round",
        "loop, s/round",
        "FedAvg, s/round",
        "SCAFFOLD, s/round",
        "its files/round",
        "MB/round",
        "memory, MB",
        f"x {REFERENCE}'s",
    )
    notes = f"fedlit's default engine; files and bytes are those at the end, of {rounds} rounds. {machine()}"
    return Sheet("Population: SCAFFOLD, whose clients remember", columns, rows, notes)


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
