"""Many ranks compute what one process computes, on one machine or several, and a lost rank ends the run."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

COMMAND = (
    "fit --trainer.max_epochs 2 --trainer.accelerator cpu --model.net.widths [4,8] --model.net.hidden 16 "
    "--model.net.norm batch --model.net.dropout 0.2 --model.server_optimizer Adam --model.server_optimizer.lr 0.01 "
    "--data.partition fedlit.data.Dirichlet --data.partition.alpha 0.3 --data.num_clients 20 --name ranks"
).split()


def start(logs: Path, *more: str, through: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A real ``fedlit fit`` with one thread a rank, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *through, "-m", "fedlit", *COMMAND, "--logs_dir", str(logs), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=logs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err


def assert_same(one: Path, other: Path) -> None:
    """The same bits in the weights, and in all that was logged but times."""
    runs = [logs / "ranks" / "version_0" for logs in (one, other)]
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    tables = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in runs]
    for row_a, row_b in zip(*tables, strict=True):
        for row in (row_a, row_b):
            del row["round/seconds"], row["round/samples_per_second"]
        assert row_a == row_b


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("clients", [5, 1])
def test_two_ranks_end_with_the_bits_of_one_process(tmp_path: Path, clients: int):
    one, two = tmp_path / "one", tmp_path / "two"
    for logs in (one, two):
        logs.mkdir()
    cohort = ("--federation.clients_per_round", str(clients))
    finish(start(one, *cohort))
    finish(start(two, *cohort, "--trainer.devices", "2", "--trainer.strategy", "ddp"))
    assert_same(one, two)


@pytest.mark.parametrize(
    "algorithm",
    [
        "--federation.algorithm fedlit.algorithms.Scaffold --data.batch_size 1000 --model.net.norm group",
        "--federation.algorithm fedlit.algorithms.AttentiveAggregation --federation.algorithm.by similarity",
        "--federation.algorithm fedlit.algorithms.CoordinateMedian --federation.clients_per_round 5",
        "--federation.algorithm fedlit.algorithms.Krum --federation.algorithm.attackers 2 "
        "--federation.algorithm.multi 3",
        "--federation.algorithm fedlit.algorithms.ClippedMean",
        "--federation.algorithm fedlit.algorithms.PrivateMean --federation.algorithm.clip 0.5 "
        "--federation.algorithm.noise_multiplier 0.1 --federation.averaging uniform --model.net.norm group",
        "--federation.algorithm fedlit.algorithms.BatchNormPolicy --data.client_holdout 0.2 "
        "--federation.diagnostics fedlit.federated.Diagnostics --federation.diagnostics.every 1",
    ],
)
def test_two_ranks_share_what_an_algorithm_sees_and_remembers(tmp_path: Path, algorithm: str):
    one, two = tmp_path / "one", tmp_path / "two"
    for logs in (one, two):
        logs.mkdir()
    finish(start(one, *algorithm.split()))
    finish(start(two, *algorithm.split(), "--trainer.devices", "2", "--trainer.strategy", "ddp"))
    assert_same(one, two)


def test_two_ranks_stop_alike_when_too_many_clients_diverge(tmp_path: Path):
    diverging = ("--model.client_optimizer", "SGD", "--model.client_optimizer.lr", "1e38")
    process = start(tmp_path, *diverging, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "10 of 10 updates of round 1 are not finite" in err
    assert "Traceback" not in err


FAULTY = """
import fedlit.data

class Faulty(fedlit.data.MNIST5k):
    def client_batches(self, client, round, seed):
        if client % 7 == 0:
            raise OSError(f"sample 3 of {client} cannot be read")
        return super().client_batches(client, round, seed)
"""


@pytest.mark.trust
def test_two_ranks_leave_out_the_same_clients_whose_fits_fail(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    faulty = ("--data", "faulty.Faulty", "--federation.clients_per_round", "20")
    more = {one: (), two: ("--trainer.devices", "2", "--trainer.strategy", "ddp")}
    for logs, ranks in more.items():
        logs.mkdir()
        (logs / "faulty.py").write_text(FAULTY)
        process = start(logs, *faulty, *ranks)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "client 0: OSError: sample 3 of 0 cannot be read; client 7: OSError: sample 3 of 7 cannot be read" in err
    assert_same(one, two)


def test_two_machines_end_with_the_bits_of_one_process(tmp_path: Path):
    """Two agents of torchrun on loopback stand for two machines."""
    one, two = tmp_path / "one", tmp_path / "two"
    for logs in (one, two):
        logs.mkdir()
    finish(start(one))
    torchrun = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1")
    meet = ("--master_addr", "127.0.0.1", "--master_port", str(free_port()))
    ranks = ("--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp")
    finish(*[start(two, *ranks, through=(*torchrun, *meet, "--node_rank", str(node))) for node in range(2)])
    assert_same(one, two)


def test_a_lost_rank_ends_the_run_with_an_error_and_an_intact_checkpoint(tmp_path: Path):
    process = start(tmp_path, "--trainer.max_epochs", "500", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    checkpoint = tmp_path / "ranks" / "version_0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (rank_1,) = children_of(process.pid)
    os.kill(rank_1, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert "rank" in err
    assert torch.load(checkpoint, weights_only=True)["global_step"] >= 1


@pytest.mark.trust
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_in_the_middle_of_long_fits_is_named_within_seconds(tmp_path: Path, victim: int):
    process = start(
        tmp_path, "--federation.local_epochs", "100000", "--trainer.devices", "2", "--trainer.strategy", "ddp"
    )
    rank_1 = await_fits(process, tmp_path)
    killed_at = time.monotonic()
    os.kill((process.pid, rank_1)[victim], signal.SIGKILL)
    _, err = process.communicate(timeout=60)  # both hold the pipe: its end is the end of both
    assert time.monotonic() - killed_at < 30
    assert f"rank {1 - victim} lost contact with another rank: rank {victim} " in err
    assert "Traceback" not in err
    if victim == 1:
        assert "rank 1 was killed by SIGKILL; " in err
        assert process.returncode == 1
        said = json.loads((tmp_path / "ranks" / "version_0" / "run.json").read_text())
        assert said == {"state": "failed", "rounds": 2, "error": "rank 1 was killed by SIGKILL"}


@pytest.mark.trust
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_before_training_ends_the_other(tmp_path: Path, victim: int):
    """Rank 1 is still importing when it loses its parent, and rank 0 waits for rank 1 to join."""
    process = start(tmp_path, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    deadline = time.monotonic() + 240
    while not (ranks := children_of(process.pid)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill((process.pid, *ranks)[victim], signal.SIGKILL)
    _, err = process.communicate(timeout=120)  # both hold the pipe: its end is the end of both
    assert f"fedlit: error: rank {victim} " in err
    assert "; no round had started; run the command again" in err
    assert "Traceback" not in err


@pytest.mark.trust
def test_sigterm_ends_all_ranks_at_once(tmp_path: Path):
    process = start(
        tmp_path, "--federation.local_epochs", "100000", "--trainer.devices", "2", "--trainer.strategy", "ddp"
    )
    await_fits(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert json.loads((tmp_path / "ranks" / "version_0" / "run.json").read_text())["state"] == "interrupted"


def await_fits(process: subprocess.Popen[str], logs: Path) -> int:
    """Wait until training has begun; the process of rank 1."""
    deadline = time.monotonic() + 240
    while not (logs / "ranks" / "version_0" / "run.json").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)  # into the fits
    (rank_1,) = children_of(process.pid)
    return rank_1


def children_of(pid: int) -> list[int]:
    """Ranks that a rank has started: children that run fedlit, not its forked workers, which have its command line."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            environment = (stat.parent / "environ").read_bytes()
        except OSError:
            continue
        if parent == pid and b"LOCAL_RANK=1" in environment:
            found.append(int(stat.parent.name))
    return found
