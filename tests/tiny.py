"""A run of the command that is over in a second: an attention gate, and clients that keep vectors."""

from __future__ import annotations

from pathlib import Path

from fedlit.cli import main

ROUNDS = 4
TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--model.net.attention=fedlit.attention.Spatial --federation.clients_per_round=3 --federation.local_epochs=0.1 "
    "--federation.engine=fedlit.engines.LoopEngine --federation.algorithm=fedlit.algorithms.Scaffold"
).split()


def fit(logs: Path, rounds: int = ROUNDS, *more: str) -> int:
    """The exit code of a fit in ``logs/run/version_0``."""
    return main(["fit", *TINY, f"--logs_dir={logs}", f"--trainer.max_epochs={rounds}", *more])
