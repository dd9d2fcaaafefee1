"""Many runs side by side: commands, environment and failures."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fedlit.cli import main as fedlit
from fedlit.study import sweep
from fedlit.study.combination import Combination
from fedlit.study.plan import read_plan
from fedlit.study.run import StudyRun
from fedlit.study.sweep import FEDLIT, fit, run_all

#: Stands in for fedlit: finishes a run, fails if its name begins with "broken", or ends if it begins with "quits".
STAND_IN = """
import json, os, sys
from pathlib import Path
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
name, rounds = words["--name"], int(words["--trainer.max_epochs"])
print("threads:", os.environ.get("OMP_NUM_THREADS"))
if name.startswith("broken"):
    sys.exit("fedlit: error: nothing works; mend it")
if name.startswith("quits"):
    sys.exit()
folder = Path(words["--logs_dir"]) / name / words["--version"]
folder.mkdir(parents=True)
for round in range(1, rounds + 1):
    print(f"round {round}/{rounds}  accuracy 0.5")
folder.joinpath("metrics.csv").write_text("round,global/accuracy" + "".join(f"\\n{r + 1},0.5" for r in range(rounds)))
folder.joinpath("run.json").write_text(json.dumps({"state": "finished", "rounds": rounds}))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(sweep, "FEDLIT", (sys.executable, str(script)))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")


def made(folder: Path, *names: str, rounds: int = 2) -> list[StudyRun]:
    config = {"federation": {"engine": None}}
    return [StudyRun(Path("a.yaml"), Combination(name, {}, (), rounds, config), 0, folder) for name in names]


def finish(runs: list[StudyRun], jobs: int = 2) -> tuple[list[StudyRun], str]:
    """The failed runs, and the output."""
    text = io.StringIO()
    return run_all(runs, jobs, Console(file=text, soft_wrap=True)), text.getvalue()


@pytest.mark.usefixtures("stand_in")
def test_a_process_that_ends_without_an_error_before_its_run_has_finished_counts_as_failed(tmp_path: Path) -> None:
    """A study would start it again for ever."""
    runs = made(tmp_path, "quits")
    failed, said = finish(runs)
    assert failed == runs
    assert "quits, seed 0: failed: its process ended without an error, but the run has not finished" in said


@pytest.mark.usefixtures("stand_in")
def test_a_failure_is_reported_and_stops_no_other_run(tmp_path: Path) -> None:
    runs = made(tmp_path, "a", "broken", "c")
    failed, said = finish(runs)
    assert failed == [runs[1]]
    assert "broken, seed 0: failed: exit status 1: fedlit: error: nothing works; mend it; full output in" in said
    assert [len(run.round_seconds()) for run in runs] == [2, 0, 2]
    assert "c, seed 0: finished" in said


@pytest.mark.usefixtures("stand_in")
def test_finished_runs_are_left_alone_and_failed_ones_tried_again(tmp_path: Path) -> None:
    runs = made(tmp_path, "a", "broken")
    finish(runs)
    assert finish(runs)[0] == [runs[1]]
    assert [run.output.read_text().count("threads") for run in runs] == [1, 2]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("jobs", "threads"), [(1, "7"), (2, "1")])
def test_runs_side_by_side_have_one_thread_each(jobs: int, threads: str, tmp_path: Path) -> None:
    runs = made(tmp_path, "a")
    finish(runs, jobs)
    assert runs[0].output.read_text().startswith(f"threads: {threads}\n")


@pytest.mark.usefixtures("stand_in")
def test_rounds_are_reported_as_they_end(tmp_path: Path) -> None:
    rounds: list[int] = []
    (run,) = made(tmp_path, "a", rounds=3)
    assert fit(run, dict(os.environ), rounds.append) is None
    assert rounds == [1, 2, 3]


@pytest.mark.usefixtures("stand_in")
def test_after_ctrl_c_no_further_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(futures: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "as_completed", interrupted)
    runs = made(tmp_path, "a", "b", "c")
    with pytest.raises(KeyboardInterrupt):
        finish(runs, jobs=1)
    assert not runs[1].folder.exists()
    assert not runs[2].folder.exists()


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
def test_the_command_of_a_run_starts_it_and_later_resumes_it(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(
        """
        trainer: {accelerator: cpu}
        model: {net: {class_path: fedlit.models.SoftmaxRegression, init_args: {image_size: 1}}}
        data: {class_path: fedlit.data.Synthetic, init_args: {num_clients: 2}}
        federation: {clients_per_round: 2, local_epochs: 0.1, engine: fedlit.engines.LoopEngine}
        """
    )
    (tmp_path / "study.yaml").write_text("base: tiny.yaml\naxes: {mu: {mu1: {model.mu: 1.0}}}\n")
    (combination,) = read_plan(tmp_path / "study.yaml").combinations
    first, both = (
        StudyRun(config, dataclasses.replace(combination, rounds=rounds), 5, tmp_path / "logs") for rounds in (1, 2)
    )
    assert first.state == "to do"
    assert "--ckpt_path" not in first.command()
    for run in (first, both):
        assert fedlit(run.command()[len(FEDLIT) :]) == 0
    assert both.command()[-2:] == ["--ckpt_path", "last"]
    assert (both.state, both.rounds_done, len(both.round_seconds())) == ("done", 2, 2)
    assert "seed_everything: 5" in (tmp_path / "logs/mu1/seed_5/config.yaml").read_text()


def test_bytes_that_are_no_text_in_a_runs_output_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "FEDLIT", (sys.executable, "-c", "import os; os.write(1, b'caf\\xe9\\n')"))
    (run,) = made(tmp_path, "a")
    assert fit(run, dict(os.environ), lambda round: None) is None
    assert run.output.read_text(encoding="utf-8") == "caf\ufffd\n"
