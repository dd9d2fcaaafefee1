"""A study that is gone on with: what must be as it was, and that no result is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from fedlit.cli import main
from fedlit.runs.state import record
from fedlit.study import sweep

BASE = (Path(__file__).parents[2] / "configs" / "smoke.yaml").read_text()
STUDY = """
base: base.yaml
rounds: 2
seeds: [0, 1]
axes:
  partition:
    dir01: {data.partition: fedlit.data.Dirichlet, data.partition.alpha: 0.1}
"""
UNTIL = """
base: base.yaml
rounds: 2
seeds: {at_least: 2, at_most: 4, until: decided}
claims: claims.yaml
baseline: small
axes:
  variant:
    small: {}
    big: {data.batch_size: 50}
"""
CLAIMS = """
margins: {accuracy: 0.01}
claims:
  - claim: It helps.
    parts: [{metric: accuracy, is: higher, compare: {big: 1, baseline: -1}}]
"""
MORE = CLAIMS + CLAIMS.partition("claims:\n")[2].replace("higher", "lower")
TABLE = "round,global/accuracy,round/seconds\n1,0.5,1.0\n2,0.6,1.0\n"
#: Stand in for fedlit: one leaves a finished run, the other runs nothing.
WORKER = f"""
import json
import sys
from pathlib import Path
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
run = Path(words["--logs_dir"], words["--name"], words["--version"])
(run / "checkpoints").mkdir(parents=True)
(run / "checkpoints" / "last.ckpt").touch()
(run / "metrics.csv").write_text({TABLE!r})
(run / "run.json").write_text('{{"state": "finished", "rounds": 2}}')
"""
IDLE = "raise SystemExit('nothing was to be run')"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fit.py").write_text(WORKER)
    monkeypatch.setattr(sweep, "FEDLIT", (sys.executable, "fit.py"))
    Path("base.yaml").write_text(BASE)
    Path("claims.yaml").write_text(CLAIMS)


def study(*words: str) -> int:
    return main(["study", "--config=grid.yaml", "--jobs=1", *words])


def finished(text: str, checkpoints: bool = True) -> list[Path]:
    """The runs of a study at their ends; from then on nothing is run."""
    Path("grid.yaml").write_text(text)
    assert study() == 0
    Path("fit.py").write_text(IDLE)
    combinations = json.loads(Path("logs/grid/study.json").read_text())["combinations"]
    runs = sorted(Path("logs/grid").glob("*/seed_*/"))
    for run in runs:
        config = {**combinations[run.parent.name]["config"], "seed_everything": int(run.name[-1])}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        if not checkpoints:
            (run / "checkpoints/last.ckpt").unlink()
    return runs


def test_finished_runs_without_checkpoints_stay(capsys: pytest.CaptureFixture[str]) -> None:
    runs = finished(STUDY, checkpoints=False)
    capsys.readouterr()
    assert study() == 0
    assert "all runs have finished" in capsys.readouterr().out
    assert all((run / "metrics.csv").read_text() == TABLE for run in runs)


@pytest.mark.parametrize("name", ["previous.ckpt", "best.ckpt"])
def test_a_run_whose_last_checkpoint_is_gone_goes_on_from_another(name: str) -> None:
    run = finished(STUDY)[0]
    record(run, "interrupted", 2)
    (run / "checkpoints/last.ckpt").rename(run / "checkpoints" / name)
    assert study() == 1  # there is nothing here that goes on with it
    assert (run / "checkpoints" / name).is_file()


def test_more_rounds_are_refused_where_there_is_no_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    runs = finished(STUDY, checkpoints=False)
    Path("grid.yaml").write_text(STUDY.replace("rounds: 2", "rounds: 3"))
    assert study() == 2
    assert (
        "seed_0 has finished 2 rounds and has no checkpoint, so it cannot be resumed to reach 3"
        in capsys.readouterr().err
    )
    assert all((run / "metrics.csv").is_file() for run in runs)


def test_files_that_no_run_left_are_not_removed(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Path("logs/grid/dir01/seed_0/notes.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    Path("grid.yaml").write_text(STUDY)
    assert study() == 2
    assert "logs/grid/dir01/seed_0 contains files that are not those of a run" in capsys.readouterr().err
    assert mine.read_text() == "mine"


# Of each: what is changed in the base config or the study file after the runs, and how that is told; "" is allowed.
CHANGES = {
    "trainer": ("max_epochs: 2", "max_epochs: 2\n  precision: bf16-mixed", "trainer.precision: auto -> bf16-mixed"),
    "federation": ("local_epochs: 0.1", "local_epochs: 0.2", "federation.local_epochs: 0.1 -> 0.2"),
    "network": ("hidden: 16", "hidden: 8", "model.net.hidden: 16 -> 8"),
    "axis": ("alpha: 0.1", "alpha: 0.2", "data.partition.alpha: 0.1 -> 0.2"),
    "progress bar": ("max_epochs: 2", "max_epochs: 2\n  enable_progress_bar: false", ""),
    "logger": ("max_epochs: 2", "max_epochs: 2\n  logger: false", ""),
}


@pytest.mark.parametrize(("old", "new", "told"), CHANGES.values(), ids=list(CHANGES))
def test_finished_runs_of_other_settings_are_not_counted_among_new_ones(
    old: str, new: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(STUDY, checkpoints=False)
    Path("logs/grid/study.json").unlink()
    capsys.readouterr()
    for file in (Path("base.yaml"), Path("grid.yaml")):
        file.write_text(file.read_text().replace(old, new))
    assert study("--dry_run") == (2 if told else 0)
    said = capsys.readouterr().err
    assert told in said
    assert ("seed_0 has other settings than the study file" in said) == bool(told)


# Of each: the precision that the runs recorded, "" for none, the accelerator that the file now has, and what is told.
# Where the tests run there is no GPU, and ``auto`` is 32-true.
MACHINES = {
    "the same": ("32-true", "auto", ""),
    "another name of the same": ("32-true", "cpu", ""),
    "trained on a GPU": ("bf16-mixed", "auto", "trainer.precision: bf16-mixed -> 32-true"),
    "unknown, the same accelerator": ("", "auto", ""),
    "unknown, another accelerator": ("", "cpu", "trainer.accelerator: auto -> cpu"),
}


@pytest.mark.parametrize(("precision", "accelerator", "told"), MACHINES.values(), ids=list(MACHINES))
def test_a_precision_that_the_machine_chooses_is_the_same_in_all_runs(
    precision: str, accelerator: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in finished(STUDY, checkpoints=False):
        if precision:
            (run / "origin.json").write_text(json.dumps([{"precision": precision}]))
    Path("base.yaml").write_text(BASE.replace("trainer:", f"trainer:\n  accelerator: {accelerator}"))
    capsys.readouterr()
    assert study("--dry_run") == (2 if told else 0)
    said = capsys.readouterr().err
    assert told in said
    assert said.count("has other settings than the study file") == bool(told)


def test_a_copy_of_a_run_is_not_that_of_another_seed(capsys: pytest.CaptureFixture[str]) -> None:
    runs = finished(STUDY)
    (runs[1] / "config.yaml").write_bytes((runs[0] / "config.yaml").read_bytes())
    assert study() == 2
    assert (
        "seed_1 has other settings than the study file (run -> file): seed_everything: 0 -> 1"
        in capsys.readouterr().err
    )


# Of each: what is changed in the file of claims or of the study between two looks, and whether that is refused.
LATER = {
    "margin": ("0.01", "0.02", True),
    "direction": ("is: higher", "is: lower", True),
    "another claim": (CLAIMS, MORE, True),
    "baseline": ("baseline: small", "baseline: big", True),
    "words": ("It helps.", "It helps, they say.", False),
}


@pytest.mark.parametrize(("old", "new", "refused"), LATER.values(), ids=list(LATER))
def test_claims_stay_as_they_are_between_looks(
    old: str, new: str, refused: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(UNTIL)
    capsys.readouterr()
    for file in (Path("claims.yaml"), Path("grid.yaml")):
        file.write_text(file.read_text().replace(old, new))
    assert study("--dry_run") == (2 if refused else 0)
    assert ("claims: logs/grid was started with other claims" in capsys.readouterr().err) == refused


def test_a_study_of_other_names_has_a_folder_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    finished(STUDY)
    Path("grid.yaml").write_text(STUDY.replace("dir01:", "skewed:"))
    assert study() == 2
    assert "logs/grid contains another study, with dir01; give this study another --name" in capsys.readouterr().err


def test_code_of_ones_own_that_was_changed_since_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(".")
    Path("changing_parts.py").write_text("from fedlit.data import Uniform\n\n\nclass Even(Uniform): ...\n")
    for run in finished(STUDY.replace("fedlit.data.Dirichlet, data.partition.alpha: 0.1", "changing_parts.Even")):
        (run / "origin.json").write_text(json.dumps([{"own code": "changing_parts 00000000"}]))
    capsys.readouterr()
    assert study("--dry_run") == 0
    assert "changing_parts has changed since 2 of the runs were made with it" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "changing_parts")


def test_fewer_rounds_than_were_made_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    finished(STUDY)
    Path("grid.yaml").write_text(STUDY.replace("rounds: 2", "rounds: 1"))
    assert study() == 2
    assert "seed_0 has trained 2 rounds, but the study file asks for 1; give this study" in capsys.readouterr().err
