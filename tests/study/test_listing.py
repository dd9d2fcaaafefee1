"""``fedlit runs``: the list of runs from their files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.core.terminal import Terminal
from fedlit.runs.state import RunState, record
from fedlit.study.listing import age, list_runs, table

HOLD = "import sys, time; from pathlib import Path; from fedlit.runs.state import FolderLock; "
HOLD += "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def make(run: Path, *accuracies: float, asked: int = 3, state: RunState | None = None, error: str = "") -> Path:
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/last.ckpt").touch()
    (run / "config.yaml").write_text(f"trainer:\n  max_epochs: {asked}\n")
    lines = [f"{round},{accuracy}" for round, accuracy in enumerate(accuracies, 1)]
    (run / "metrics.csv").write_text("\n".join(["round,global/accuracy", *lines]) + "\n")
    if state:
        record(run, state, asked, error)
    return run


def test_a_run_is_listed_with_progress_and_accuracy(tmp_path: Path) -> None:
    make(tmp_path / "study/plain_iid/seed_0", 0.2, 0.9, 0.8, state="finished")
    make(tmp_path / "a/version_0", 0.1)
    a, plain = list_runs(tmp_path)
    assert (a.folder.name, a.state, a.done, a.asked) == ("version_0", "interrupted", 1, 3)
    assert (plain.state, plain.done, max(plain.accuracies), plain.accuracies[-1]) == ("finished", 3, 0.9, 0.8)


@pytest.mark.parametrize("here", [".", "logs", "logs/s", "logs/s/plain_iid", "logs/s/plain_iid/seed_0"])
def test_runs_are_listed_from_any_folder_above_them_or_their_own(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "logs/s/plain_iid/seed_0", 0.2, state="interrupted")
    record = {"command": ["fedlit", "study", "--config", "s.yaml"], "started_in": str(tmp_path)}
    (tmp_path / "logs/s/study.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path / here)
    assert main(["runs", "."]) == 0
    go_there = "" if here == "." else f"cd {tmp_path} && "
    assert f"\n  {go_there}fedlit study --config s.yaml\n" in capsys.readouterr().out


# Of each: the words of the command, the study's folder now, and the words that continue it there.
MOVED = {
    "as it was": ("--config s.yaml --jobs 2", "logs/s", "--config s.yaml --jobs 2"),
    "with a name": ("--config=s.yaml --name=n --logs_dir=l", "l/n", "--config=s.yaml --name=n --logs_dir=l"),
    "renamed": ("--config s.yaml --jobs 2", "logs/new", "--config s.yaml --jobs 2 --logs_dir {}/logs --name new"),
    "renamed, of a name": ("--name n --config=s.yaml", "logs/m", "--config s.yaml --logs_dir {}/logs --name m"),
    "moved": ("--config s.yaml", "old/s", "--config s.yaml --logs_dir {}/old --name s"),
    "moved with all logs": ("--logs_dir=a --config s.yaml", "b/s", "--config s.yaml --logs_dir {}/b --name s"),
}


@pytest.mark.parametrize("says_where", [True, False])
@pytest.mark.parametrize(("words", "folder", "now"), MOVED.values(), ids=list(MOVED))
def test_the_command_of_a_study_continues_it_in_its_present_folder(
    words: str, folder: str, now: str, says_where: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make(tmp_path / folder / "plain_iid/seed_0", 0.2, state="interrupted")
    record = {"command": ["fedlit", "study", *words.split()]} | ({"started_in": str(tmp_path)} if says_where else {})
    (tmp_path / folder / "study.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "."]) == 0
    assert capsys.readouterr().out.endswith(f"\n  fedlit study {now.format(tmp_path)}\n")


def test_a_run_that_was_replaced_by_a_link_is_listed(tmp_path: Path) -> None:
    make(tmp_path / "disk/seed_0", 0.2)
    (tmp_path / "logs/plain").mkdir(parents=True)
    (tmp_path / "logs/plain/seed_0").symlink_to(tmp_path / "disk/seed_0")
    assert [run.folder for run in list_runs(tmp_path / "logs")] == [tmp_path / "logs/plain/seed_0"]


@pytest.mark.parametrize(
    ("said", "rounds", "expected"),
    [
        (None, 3, "finished"),
        (None, 2, "interrupted"),
        ("finished", 2, "finished"),  # it stopped early
        ("failed", 2, "failed"),
        ("interrupted", 2, "interrupted"),
        ("running", 2, "interrupted"),  # nobody holds it: it was killed
    ],
)
def test_the_state_is_the_recorded_one_unless_the_run_was_killed(
    said: RunState | None, rounds: int, expected: RunState, tmp_path: Path
) -> None:
    make(tmp_path / "a/version_0", *[0.5] * rounds, state=said)
    assert list_runs(tmp_path)[0].state == expected


@pytest.mark.skipif(sys.platform == "win32", reason="no such lock")
def test_a_run_is_running_while_its_process_lives_and_interrupted_once_it_is_killed(tmp_path: Path) -> None:
    run = make(tmp_path / "a/version_0", 0.5, state="running")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert list_runs(tmp_path)[0].state == "running"
        process.kill()
    assert list_runs(tmp_path)[0].state == "interrupted"


def test_the_command_resumes_exactly_this_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = (
        "--trainer.max_epochs=1 --trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --name=x "
        "--federation.clients_per_round=2 --federation.local_epochs=0.1 --version=mine"
    )
    assert main(["fit", *tiny.split()]) == 0
    (run,) = list_runs("logs")
    assert (run.folder, run.state, run.command) == (Path("logs/x/mine"), "finished", "")
    record(run.folder, "interrupted", 2)
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs: 1", "max_epochs: 2"))
    (run,) = list_runs("logs")
    assert main(run.command.split()[1:]) == 0
    (run,) = list_runs("logs")
    assert (run.folder, run.state, run.done) == (Path("logs/x/mine"), "finished", 2)


def test_the_table_is_followed_by_the_commands_with_a_studys_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        make(tmp_path / f"grid/plain/seed_{seed}", 0.5, state="interrupted")
    command = ["fedlit", "study", "--config", "grid.yaml", "--logs_dir", str(tmp_path)]
    (tmp_path / "grid/study.json").write_text(json.dumps({"command": command}))
    alone = make(tmp_path / "b/version_0", 0.25, 0.125, state="failed", error="out of memory")
    os.utime(alone / "metrics.csv", (0, 0))
    assert main(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "rounds", "best", "last", "age"]
    assert lines[1].split()[:5] == ["b/version_0", "failed", "2/3", "0.2500", "0.1250"]
    assert lines[4:] == [
        "b/version_0 failed: out of memory",
        "resume with:",
        f"  fedlit fit --config {alone}/config.yaml --ckpt_path {alone}/checkpoints/last.ckpt",
        f"  {' '.join(command)}",
    ]


def test_a_folder_without_runs_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no runs under"):
        list_runs(tmp_path)
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert "does not exist; give the folder of all runs" in capsys.readouterr().err


def test_an_age_is_in_the_largest_unit_that_it_fills() -> None:
    assert [age(seconds) for seconds in (0.5, 59, 60, 7199, 86400 * 3)] == ["0 s", "59 s", "1 min", "1 h", "3 d"]
    assert age(time.time() - time.time() - 5) == "0 s"  # a clock that was set back


def test_a_version_is_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--version", "../x"]) == 2
    assert "--version must be a folder name" in capsys.readouterr().err
    run = make(tmp_path / "logs/default/mine")
    assert main(["fit", "--version", "mine"]) == 2
    assert "resume it by --ckpt_path last" in capsys.readouterr().err
    (run / "checkpoints/last.ckpt").unlink()
    assert main(["fit", "--version", "mine", "--ckpt_path", "last"]) == 2
    assert "'last' of a run named 'default'" in capsys.readouterr().err


@pytest.mark.parametrize("record", ["null", "[1]", "x", '{"state": "odd", "rounds": 1, "error": ""}', "[" * 100_000])
def test_an_invalid_record_of_a_run_is_ignored_with_a_message(
    record: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path / "a/version_0", 0.5, 0.5, 0.5)
    (run / "run.json").write_text(record)
    (listed,) = list_runs(tmp_path)
    assert (listed.state, listed.done) == ("finished", 3)  # as of a run that left none
    assert main(["runs", str(tmp_path)]) == 0
    assert f"ignored: {run}/run.json is not a record" in capsys.readouterr().out


def test_escape_sequences_and_markup_of_a_folders_name_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "m[bold]x\x1b[2J/version_0", 0.5, state="failed", error="\x1b]0;x\x07 [/b]")
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert r"m[bold]x\x1b[2J/version_0" in out
    assert r"failed: \x1b]0;x\x07 [/b]" in out
    assert "\x1b" not in out


def test_a_damaged_table_is_named_and_the_other_runs_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = make(tmp_path / "bad/version_0", 0.5, state="finished")
    (bad / "metrics.csv").write_text("round,global/accuracy\nx,y\n")
    make(tmp_path / "good/version_0", 0.25, 0.5)
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"good/version_0 +interrupted +2/3 +0\.5000 +0\.5000", out)
    assert f"ignored: {bad}/metrics.csv is not a table of a run's rounds" in out


def test_columns_that_do_not_fit_are_dropped_but_never_digits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path / "a/version_0", 0.1234, 0.5678)
    config = "seed_everything: 7\nmodel: {mu: 0.01, net: {class_path: x.Net, init_args: {attention: a.Spatial}}}\n"
    (run / "config.yaml").write_text(config)
    heads = {}
    for width in (200, 60, 45):
        console = Terminal(width=width)
        console.print(table(list_runs(tmp_path), tmp_path, time.time(), console))
        head, row = capsys.readouterr().out.splitlines()
        heads[width] = head.split()
        assert "0.5678" in row
    assert heads[200] == ["run", "state", "rounds", "best", "last", "attention", "mu", "seed", "age"]
    assert heads[60] == ["run", "state", "rounds", "best", "last"]
    assert heads[45] == ["run", "state", "rounds", "last"]


def test_a_config_of_another_program_is_no_run(tmp_path: Path) -> None:
    make(tmp_path / "a/version_0", 0.1)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/config.yaml").write_text("title: A page\n")
    assert [run.folder.name for run in list_runs(tmp_path)] == ["version_0"]
