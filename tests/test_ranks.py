"""Two ranks compute what one process computes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

COMMAND = (
    "fit --trainer.max_epochs 2 --trainer.accelerator cpu --model.net.widths [4,8] --model.net.hidden 16 "
    "--model.net.norm batch --model.net.dropout 0.2 --model.server_optimizer Adam --model.server_optimizer.lr 0.01 "
    "--data.partition fedlit.data.Dirichlet --data.partition.alpha 0.3 --data.num_clients 20 --name ranks"
).split()


def run(logs: Path, *more: str) -> Path:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "fedlit", *COMMAND, "--logs", str(logs), *more],
        check=True,
        env=environment,
        cwd=logs,
        timeout=300,
    )
    return logs / "ranks" / "version_0"


@pytest.mark.parametrize("clients", [5, 1])
def test_two_ranks_end_with_the_bits_of_one_process(tmp_path: Path, clients: int):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    cohort = ("--federation.clients_per_round", str(clients))
    alone = run(one, *cohort)
    together = run(two, *cohort, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    a, b = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (alone, together)
    )
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    rows_a, rows_b = (
        list(csv.DictReader((folder / "metrics.csv").read_text().splitlines())) for folder in (alone, together)
    )
    assert [row["round/samples"] for row in rows_a] == [row["round/samples"] for row in rows_b]
    for row_a, row_b in zip(rows_a, rows_b, strict=True):
        assert row_a["global/accuracy"] == row_b["global/accuracy"]
        assert float(row_a["global/loss"]) == pytest.approx(float(row_b["global/loss"]), rel=1e-5)
        assert float(row_a["drift/cosine"]) == pytest.approx(float(row_b["drift/cosine"]), rel=1e-4)
