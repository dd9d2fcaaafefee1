"""Does a long run grow? ``python -m tests.benchmarks.endurance [ENGINE ...] [--rounds 1000]``

A federation of tiny clients under each engine, checkpoints, TensorBoard and table of scalars included. Every tenth of
the rounds the memory, file handles and threads of the process and of its workers are counted. Growth is measured from
a fifth of the rounds on, when pools and caches have filled.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Callback, LightningModule, Trainer

ENGINES = ("LoopEngine", "TrainerEngine", "VectorizedEngine", "WorkersEngine")
#: What a run may grow by, from a fifth of its rounds to the end: the table of scalars, a float per scalar and round,
#: is kept in memory, so some memory; nothing else.
MAX_MB, MAX_FILES, MAX_THREADS = 8.0, 0, 0


class Usage(NamedTuple):
    """What a process and its children hold after a round: memory of their own, shared among them, in 10^6 bytes; open
    files, threads, processes. Pages of libraries are left out: how many others share them says nothing of the run.
    """

    round: int
    megabytes: float
    files: int
    threads: int
    processes: int

    @classmethod
    def now(cls, round: int) -> Usage:
        """Of this process and its descendants (Linux)."""
        folders = [Path(f"/proc/{pid}") for pid in family(os.getpid())]
        rollups = [(folder / "smaps_rollup").read_text().splitlines() for folder in folders]
        kilobytes = sum(int(line.split()[1]) for lines in rollups for line in lines if line.startswith("Pss_Anon:"))
        files, threads = (sum(len(list((each / part).iterdir())) for each in folders) for part in ("fd", "task"))
        return cls(round, kilobytes * 1024 / 1e6, files, threads, len(folders))


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


class Census(Callback):
    """Counts after every so-manyth round."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[Usage] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch and trainer.current_epoch % self.every == 0:
            self.seen.append(Usage.now(trainer.current_epoch))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(Usage.now(trainer.global_step))


def endure(engine: str, rounds: int, folder: Path) -> list[Usage]:
    """Run that many rounds in this process."""
    import torch
    from torch.optim import SGD

    import fedlit.engines
    from fedlit.data import Synthetic
    from fedlit.federated import FederatedLoop, FederatedModule
    from fedlit.runs import Board, MetricsTable, checkpoints

    torch.set_num_threads(1)
    census = Census(rounds // 10)
    board = Board(folder, name=engine)
    loop = FederatedLoop(clients_per_round=4, local_epochs=0.1, seed=0, engine=getattr(fedlit.engines, engine)())
    settings: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        logger=[board, MetricsTable(Path(board.log_dir) / "metrics.csv")],
        callbacks=[loop, census, *checkpoints()],
        limit_val_batches=1,
        **settings,
    )
    data = Synthetic()
    net = torch.nn.Linear(data.in_channels, data.num_classes)
    trainer.fit(FederatedModule(net, client_optimizer=lambda p: SGD(p, lr=0.01)), datamodule=data)
    return census.seen


def growth(seen: list[Usage]) -> Usage:
    """From a fifth of the rounds to the end."""
    first = next(usage for usage in seen if usage.round >= seen[-1].round / 5)
    return Usage(*(late - early for late, early in zip(seen[-1], first, strict=True)))


def within_bounds(grown: Usage) -> bool:
    """Whether a growth is no more than is allowed."""
    return grown.megabytes <= MAX_MB and grown.files <= MAX_FILES and grown.threads <= MAX_THREADS


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("engines", nargs="*", default=ENGINES)
    options.add_argument("--rounds", type=int, default=1000)
    chosen = options.parse_args()
    if len(chosen.engines) > 1:  # a process each: what one leaves is not counted as another's
        command = [sys.executable, "-m", "tests.benchmarks.endurance", "--rounds", str(chosen.rounds)]
        return max(subprocess.call([*command, engine]) for engine in chosen.engines)
    (engine,) = chosen.engines
    with tempfile.TemporaryDirectory() as folder:
        seen = endure(engine, chosen.rounds, Path(folder))
    for usage in seen:
        sys.stdout.write(
            f"{engine:18} round {usage.round:5}  {usage.megabytes:7.1f} MB  {usage.files:3} files  "
            f"{usage.threads:3} threads  {usage.processes} processes\n"
        )
    grown = growth(seen)
    good = within_bounds(grown)
    sys.stdout.write(
        f"{engine:18} grown: {grown.megabytes:+.1f} MB, {grown.files:+} files, {grown.threads:+} threads from round "
        f"{seen[-1].round - grown.round} on: {'within bounds' if good else 'TOO MUCH'}\n"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
