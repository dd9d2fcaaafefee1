"""``python -m tests.benchmarks.profile FOLDER [ENGINE]``: where a round's time goes, by operator and by function."""

from __future__ import annotations

import cProfile
import pstats
import sys
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

import fedlit.engines
from tests.benchmarks.api import run
from tests.benchmarks.workloads import WARMUP_ROUNDS, Plan

TOP = 20


class RoundProfile(Callback):
    """Profiles two rounds after the warm-up: one by torch's operators, the next by Python's functions."""

    def __init__(self) -> None:
        self._operators = profile(activities=[ProfilerActivity.CPU])
        self._functions = cProfile.Profile()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == WARMUP_ROUNDS:
            self._operators.__enter__()
        elif trainer.current_epoch == WARMUP_ROUNDS + 1:
            self._functions.enable()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == WARMUP_ROUNDS:
            self._operators.__exit__(None, None, None)
        elif trainer.current_epoch == WARMUP_ROUNDS + 1:
            self._functions.disable()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        operators = self._operators.key_averages()
        sys.stdout.write(operators.table(sort_by="self_cpu_time_total", row_limit=TOP, max_name_column_width=60) + "\n")
        pstats.Stats(self._functions, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(TOP)


def main(folder: Path, engine: str | None = None) -> None:
    """Profile an engine on the plan in FOLDER; no engine is fedlit's choice."""
    run(Plan.load(folder), folder, getattr(fedlit.engines, engine)() if engine else None, RoundProfile())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
