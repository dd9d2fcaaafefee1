"""Damaged folders of runs: data are recovered if possible, and losses are reported."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from contents import contents
from tiny import ROUNDS, TINY, fit

from fedlit.cli import main
from fedlit.core.packs import read_pack
from fedlit.runs.pictures import round_of
from fedlit.runs.salvage import in_spans, whole_rows

pytestmark = pytest.mark.trust


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the folder of a run that was stopped a round before its end."""
    return Path(shutil.copytree(stopped, tmp_path / "logs")) / "run" / "version_0"


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 9)


def spoil_a_number(path: Path) -> None:
    path.write_text(path.read_text().replace("\n2,", "\n2,x", 1))


DAMAGES = [remove, empty, halve, fill_with_noise, spoil_a_number]


def rounded(run: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [{k: float(v or "nan") for k, v in row.items() if not k.endswith(("seconds", "per_second"))} for row in rows]


@pytest.mark.parametrize("damage", DAMAGES)
def test_rounds_missing_in_a_damaged_table_are_taken_from_tensorboard_with_a_warning(
    damage: Callable[[Path], None], run: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run / "metrics.csv")
    before = (run / "metrics.csv").read_bytes() if damage is not remove else None
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedlit: warning: {run / 'metrics.csv'} is damaged or lacks rounds: rounds ")
    assert "were taken from TensorBoard's files" in line
    assert "lost" not in line
    assert ("the damaged file is kept as metrics.damaged.csv" in line) == (damage is not remove)
    if damage is not remove:
        assert (run / "metrics.damaged.csv").read_bytes() == before
    ours, theirs = rounded(run), rounded(straight)
    assert [row["round"] for row in ours] == [1, 2, 3, 4]
    assert ours == [pytest.approx(row, rel=1e-6, nan_ok=True) for row in theirs]  # float32 has seven digits


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_curves_lost_rounds_are_named(
    damage: Callable[[Path], None], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for events in run.glob("events.*"):
        events.unlink()
    damage(run / "metrics.csv")
    kept = set(whole_rows(run / "metrics.csv")[0])
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    lost = in_spans({1, 2, 3} - kept)
    assert f"rounds {lost} are lost" in capsys.readouterr().err
    assert [row["round"] for row in rounded(run)] == sorted(kept | {4})


def test_an_intact_table_is_kept_unchanged(straight: Path, tmp_path: Path) -> None:
    rows, is_whole = whole_rows(straight / "metrics.csv")
    assert is_whole
    assert [list(row.values()) for row in rows.values()] == [
        line.split(",") for line in (straight / "metrics.csv").read_text().splitlines()[1:]
    ]


def test_spans() -> None:
    assert in_spans([7, 1, 2, 3]) == "1 to 3, 7"
    assert in_spans([]) == ""


# --- what clients keep -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [empty, fill_with_noise, halve])
def test_a_damaged_record_of_what_clients_keep_is_reported_and_the_run_ends_the_same(
    damage: Callable[[Path], None], run: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run / "clients" / "checkpoints.json")
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedlit: warning: {run / 'clients' / 'checkpoints.json'} is damaged")
    assert contents(run) == contents(straight)


def last_file(run: Path) -> Path:
    """The kept vectors of the clients of the last finished round."""
    return run / "clients" / f"{ROUNDS - 2:06}-0.pack"


def test_clients_whose_file_was_removed_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clients = sorted(read_pack(last_file(run)).entries["client"].tolist())
    last_file(run).unlink()
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedlit: warning: clients {', '.join(map(str, clients))}: the vector of their last round")


@pytest.mark.parametrize("damage", [empty, fill_with_noise, halve])
def test_a_damaged_file_of_what_clients_keep_is_named_and_a_copy_repairs_it(
    damage: Callable[[Path], None], run: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = last_file(run).read_bytes()
    damage(last_file(run))
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{last_file(run)} is not a complete file of client states" in line
    last_file(run).write_bytes(whole)
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    assert contents(run) == contents(straight)


def test_a_run_whose_clients_have_a_file_for_each_round_ends_the_same(run: Path, straight: Path) -> None:
    """Files as an earlier version wrote them."""
    for path in (run / "clients").glob("*.pack"):
        pack = read_pack(path)
        for index, (client, round, _) in enumerate(pack.entries.tolist()):
            (run / "clients" / str(client)).mkdir(exist_ok=True)
            np.save(run / "clients" / str(client) / f"{round:06}.npy", pack.row(index).read().numpy())
        path.unlink()
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    assert contents(run) == contents(straight)
    assert not [path for path in (run / "clients").iterdir() if path.is_dir()]


# --- pictures and missing checkpoints --------------------------------------------------------------------------------


def test_pictures_missing_after_a_kill_are_drawn_on_resume_even_if_no_round_is_left(
    straight: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(straight.parents[1], tmp_path / "logs")) / "run" / "version_0"
    for name in ("confusion.png", "clients.csv", "classes.csv", "draws.json"):
        (run / name).unlink()
    shutil.copyfile(run / "partition.png", run / "attention.png")  # of an earlier round than the last
    before = {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    assert round_of(run / "attention.png") == ROUNDS
    assert contents(run) == contents(straight)
    assert {path: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before


def test_if_last_is_missing_the_run_resumes_from_previous_with_the_same_files(
    run: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()
    assert fit(run.parents[1], ROUNDS, "--ckpt_path=last") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"{run / 'checkpoints' / 'last.ckpt'} cannot be read: No such file or directory; resuming after round" in line
    )
    assert contents(run) == contents(straight)


# --- results of a checkpoint that lies in no run's folder -------------------------------------------------------------


def test_results_of_a_checkpoint_outside_of_a_run_do_not_overwrite_files(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    project = tmp_path / "project" / "checkpoints"
    project.mkdir(parents=True)
    checkpoint = shutil.copyfile(straight / "checkpoints" / "last.ckpt", project / "last.ckpt")
    (project.parent / "config.yaml").write_text("mine")
    for command, name in (("predict", "predictions.csv"), ("test", "test.json")):
        assert main([command, *TINY, f"--ckpt_path={checkpoint}"]) == 0
        Path(name).write_text("mine")
        capsys.readouterr()
        assert main([command, *TINY, f"--ckpt_path={checkpoint}"]) == 2
        assert f"{tmp_path / name} exists" in capsys.readouterr().err
        assert Path(name).read_text() == "mine"
    assert fit(tmp_path / "logs", ROUNDS, f"--ckpt_path={checkpoint}", "--federation.algorithm=null") == 2
    assert [path.name for path in project.parent.iterdir()] == ["checkpoints", "config.yaml"]
    assert (project.parent / "config.yaml").read_text() == "mine"


def test_fewer_rounds_than_were_made_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(run.parents[1], 1, "--ckpt_path=last") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"trainer.max_epochs is 1, but the checkpoint has {ROUNDS - 1} finished rounds; give at least {ROUNDS - 1}"
        in line
    )
