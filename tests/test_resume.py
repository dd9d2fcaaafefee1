"""Real processes, killed and resumed."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROUNDS = 5
COMMAND = (
    f"fit --trainer.max_epochs {ROUNDS} --trainer.accelerator cpu --model.net.widths [4,8] --model.net.hidden 16 "
    "--model.net.norm batch --model.net.dropout 0.2 --model.server_optimizer Adam --model.server_optimizer.lr 0.01 "
    "--data.partition fedlit.data.Dirichlet --data.num_clients 20 --federation.local_epochs 4 --name run"
).split()


def start(logs: Path, *more: str) -> subprocess.Popen[str]:
    logs.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "fedlit", *COMMAND, "--logs_dir", str(logs), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(logs: Path, *more: str) -> str:
    process = start(logs, *more)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def rows(run: Path) -> list[dict[str, str]]:
    path = run / "metrics.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def await_rounds(process: subprocess.Popen[str], run: Path, rounds: int) -> None:
    """Wait until some rounds are logged and one is saved, then a little, so as to be in the middle of the next."""
    deadline = time.monotonic() + 240
    while len(rows(run)) < rounds or not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve as TensorBoard shows it."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"] if not timed(tag)}


def timed(name: str) -> bool:
    return name.endswith(("seconds", "per_second"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    logs = tmp_path_factory.mktemp("straight")
    finish(logs)
    return logs / "run" / "version_0"


def assert_same(run: Path, straight: Path) -> None:
    for which in ("last", "best"):
        a, b = (torch.load(r / "checkpoints" / f"{which}.ckpt", weights_only=True) for r in (run, straight))
        assert a["global_step"] == b["global_step"]
        for name, tensor in b["state_dict"].items():
            assert torch.equal(a["state_dict"][name], tensor), name
        for mine, theirs in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
            for key, moments in theirs["state"].items():
                assert all(torch.equal(mine["state"][key][m], moments[m]) for m in moments)
    mine, theirs = ([{k: v for k, v in row.items() if not timed(k)} for row in rows(r)] for r in (run, straight))
    assert mine == theirs
    assert scalars(run) == scalars(straight)


def test_a_run_killed_in_the_middle_of_a_round_ends_with_the_same_bits(tmp_path: Path, straight: Path):
    run = tmp_path / "run" / "version_0"
    for rounds in (1, 3):  # killed twice
        process = start(tmp_path, *(["--ckpt_path", "last"] if rounds > 1 else []))
        await_rounds(process, run, rounds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(rows(run)) < ROUNDS
    out = finish(tmp_path, "--ckpt_path", "last")
    assert re.search(r"resuming after round \d", out)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["version_0"]
    assert [row["round"] for row in rows(run)] == [str(r + 1) for r in range(ROUNDS)]
    assert_same(run, straight)


def test_ctrl_c_stops_with_a_checkpoint_and_says_how_to_go_on(tmp_path: Path, straight: Path):
    run = tmp_path / "run" / "version_0"
    process = start(tmp_path)
    await_rounds(process, run, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    (line,) = [line for line in out.splitlines() if line.startswith("stopped after round")]
    command = line.partition("resume with: ")[2]
    assert command.startswith("fedlit fit ")
    assert command.endswith("--ckpt_path last")
    finish(tmp_path, "--ckpt_path", "last")
    assert_same(run, straight)


def test_a_finished_run_is_left_as_it_is(straight: Path):
    before = rows(straight)
    finish(straight.parent.parent, "--ckpt_path", "last")
    assert rows(straight) == before
