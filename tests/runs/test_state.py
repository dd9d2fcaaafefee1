"""Runs that start at the same time use different folders."""

from __future__ import annotations

import json
from pathlib import Path

import forks
import pytest
import torch

from fedlit.core.errors import InputError
from fedlit.runs.folder import LOCK
from fedlit.runs.state import FolderLock, lock_new

COMMAND = (
    "fit --trainer.max_epochs 1 --trainer.accelerator cpu --trainer.limit_val_batches 1 --model.net.widths [2] "
    "--model.net.hidden 4 --federation.clients_per_round 2 --federation.local_epochs 0.1 "
    "--federation.engine fedlit.engines.LoopEngine --name run"
).split()


def test_four_runs_started_at_once_have_a_folder_and_a_checkpoint_each(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    processes = [
        forks.start([*COMMAND, "--logs_dir", str(logs), "--seed_everything", str(seed)], logs) for seed in range(4)
    ]
    for process in processes:
        process.join(240)
        assert process.exitcode == 0, forks.said(logs)
    runs = sorted((logs / "run").iterdir())
    assert [run.name for run in runs] == [f"version_{number}" for number in range(4)]
    assert all(json.loads((run / "run.json").read_text())["state"] == "finished" for run in runs)
    checkpoints = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    assert {checkpoint["fedlit"]["federation seed"] for checkpoint in checkpoints} == {0, 1, 2, 3}


def test_a_run_that_cannot_start_leaves_no_files(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    too_many = [*COMMAND, "--logs_dir", str(logs), "--federation.clients_per_round", "1000000"]
    process = forks.start(too_many, logs)
    process.join(240)
    assert process.exitcode == 2, forks.said(logs)
    assert not logs.exists()


def test_the_folder_of_a_new_run_has_the_next_number(tmp_path: Path) -> None:
    (tmp_path / "run" / "version_7").mkdir(parents=True)
    assert lock_new(tmp_path / "run", None).folder.name == "version_8"


def test_only_folders_made_for_the_lock_are_removed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lock = FolderLock(tmp_path / "logs" / "run" / "version_0")
    lock.release()
    assert list(tmp_path.iterdir()) == [tmp_path / "logs"]
    assert list((tmp_path / "logs").iterdir()) == []


def test_a_folder_with_other_files_is_kept(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").touch()
    lock.release()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.csv", LOCK]


def test_a_lock_on_a_new_folder_refuses_an_existing_one(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        FolderLock(tmp_path, new=True)


def test_a_named_folder_that_is_taken_is_refused(tmp_path: Path) -> None:
    process = forks.SERVER.Process(target=forks.hold, args=(tmp_path / "run",))
    process.start()
    while not (tmp_path / "run" / "held").exists():
        assert process.exitcode is None
        process.join(0.05)
    with pytest.raises(InputError, match="another process is using"):
        lock_new(tmp_path, "run")
    process.kill()
    process.join()
