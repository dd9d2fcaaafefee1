"""``python -m tests.benchmarks.prepare FOLDER``: draw the data and cohorts of the workload in ``FOLDER/workload.json``.

A process of its own, so that the benchmark's main process never loads torch and shares no pages with contenders.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fedlit.engines
from fedlit.sampling import uniform_cohort
from tests.benchmarks.workloads import CLASSES, SEED, WARMUP_ROUNDS, Plan, Workload


def write_data(workload: Workload, path: Path) -> None:
    """Noise of uint8, the rows of client 0 first, then those of client 1, and so on, then the held-out ones."""
    rng = np.random.default_rng(SEED)
    num_train = int(workload.sizes.sum())
    rows = num_train + workload.test_size
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (rows, workload.side, workload.side), dtype=np.uint8),
        "labels": rng.integers(0, CLASSES, rows),
        "n_train": np.array(num_train),
        "class_names": np.array([str(label) for label in range(CLASSES)]),
    }
    if workload.partition == "ByGroup":
        owners = np.repeat(np.arange(workload.clients), workload.sizes)
        arrays["writers"] = np.concatenate([owners, np.zeros(workload.test_size, dtype=np.int64)])
    np.savez(path, **arrays)


def engines() -> list[str]:
    """Names of the engines that fedlit exports."""
    exported = inspect.getmembers(fedlit.engines, inspect.isclass)
    return [name for name, cls in exported if issubclass(cls, fedlit.engines.Engine) and not inspect.isabstract(cls)]


def main(folder: Path) -> None:
    """Write ``data.npz`` and ``plan.json``."""
    workload = Workload(**json.loads((folder / "workload.json").read_text()))
    rounds = range(WARMUP_ROUNDS + workload.rounds)
    cohorts = [uniform_cohort(workload.clients, workload.cohort, SEED, round).tolist() for round in rounds]
    write_data(workload, folder / "data.npz")
    Plan(workload, cohorts, engines()).save(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
