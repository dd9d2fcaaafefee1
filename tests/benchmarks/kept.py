"""What clients keep on disk: the store by itself, and rounds of SCAFFOLD that use it.

``python -m tests.benchmarks.kept store`` times the store beside a file for each client and round, as fedlit had before
it packed; ``python -m tests.benchmarks.kept rounds FOLDER`` runs SCAFFOLD on the plan in FOLDER. A JSON line each.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fedlit.algorithms import Scaffold
from fedlit.clients.store import ClientStore
from fedlit.core.files import atomic_write
from fedlit.sampling import uniform_cohort
from tests.benchmarks.api import run
from tests.benchmarks.clock import RoundClock
from tests.benchmarks.workloads import SEED, WARMUP_ROUNDS, Plan

CLIENTS, COHORT, ROUNDS = 20_000, 2_000, 12
#: Of the population's MLP: 16 x 64 + 64 weights and biases, then 64 x 47 + 47.
SCALARS = 4_143


class Keeper(Protocol):
    """Somewhere to keep vectors."""

    def round(self, clients: Sequence[int], round: int, fit: Callable[[Tensor | None], Tensor]) -> None:
        """Read what each client has, keep what its fit makes of that, and drop what is not needed any more."""


class Packs:
    """fedlit's own."""

    def __init__(self, folder: Path) -> None:
        self._store = ClientStore(folder)

    def round(self, clients: Sequence[int], round: int, fit: Callable[[Tensor | None], Tensor]) -> None:
        self._store.begin([round] if round else ())
        with self._store.keeping(round) as keep:
            for client, row in zip(clients, self._store.find(clients, round), strict=True):
                keep(client, fit(row and row.read()))


class FileEach:
    """A file for each client and round, in a folder for each client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def round(self, clients: Sequence[int], round: int, fit: Callable[[Tensor | None], Tensor]) -> None:
        for client in clients:
            newest = max(self._versions(client).items(), default=None)
            kept = fit(torch.from_numpy(np.load(newest[1])) if newest else None)
            with atomic_write(self._folder / str(client) / f"{round:06}.npy", "wb") as file:
                np.save(file, kept.numpy())
        for client in clients:
            for version, path in self._versions(client).items():
                if version < round:
                    path.unlink()

    def _versions(self, client: int) -> dict[int, Path]:
        folder = self._folder / str(client)
        return {int(path.stem): path for path in folder.iterdir()} if folder.is_dir() else {}


def time_store() -> dict[str, dict[str, float]]:
    """Of both ways: seconds a round, the median, and files and bytes at the end."""
    found = {}
    for kind in (FileEach, Packs):
        with tempfile.TemporaryDirectory(prefix="fedlit-benchmark-") as name:
            keeper: Keeper = kind(Path(name))
            seconds = []
            for round in range(ROUNDS):
                cohort = uniform_cohort(CLIENTS, COHORT, SEED, round).tolist()
                started = time.perf_counter()
                keeper.round(cohort, round, lambda kept: torch.ones(SCALARS) if kept is None else kept.add_(1))
                seconds.append(time.perf_counter() - started)
            found[kind.__name__] = {"seconds": median(seconds[WARMUP_ROUNDS:]), **on_disk(Path(name))}
    return found


def on_disk(folder: Path) -> dict[str, float]:
    """How many files there are in a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def run_scaffold(folder: Path) -> dict[str, Any]:
    """SCAFFOLD on a plan with the default engine; what is on disk at the end."""
    with tempfile.TemporaryDirectory(prefix="fedlit-benchmark-") as name:
        run(Plan.load(folder), folder, None, RoundClock(), algorithm=Scaffold(), keeps_in=Path(name))
        return on_disk(Path(name))


if __name__ == "__main__":
    if sys.argv[1] == "store":
        sys.stdout.write(json.dumps(time_store()) + "\n")
    else:
        sys.stdout.write(json.dumps(run_scaffold(Path(sys.argv[2]))) + "\n")
