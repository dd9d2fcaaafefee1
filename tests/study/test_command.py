"""``fedlit study``: its runs, its error messages, and its resume after a kill."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlit.cli import main
from fedlit.runs.state import held, record
from fedlit.study import sweep

BASE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
AXES = """
axes:
  variant:
    plain: {model.net.attention: null}
    spatial: {}
  partition:
    iid: {data.partition: fedlit.data.Uniform}
    dir01: {data.partition: fedlit.data.Dirichlet, data.partition.alpha: 0.1}
"""
STUDY = f"base: {BASE}\nrounds: 2\nseeds: [0, 1]\n{AXES}"
PART = "{metric: loss, is: lower, compare: {spatial: 1, baseline: -1}, margin: 0.1}"
CLAIMS = f"claims: [{{claim: It helps., parts: [{PART}]}}]"
NAMES = [f"{variant}_{partition}" for variant in ("plain", "spatial") for partition in ("iid", "dir01")]

#: Stands in for fedlit: says what it was told, and finishes, or fails where the name has "spatial" and FAIL is set.
STAND_IN = """
import json, os, sys
from pathlib import Path
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = Path(words["--logs_dir"], words["--name"], words["--version"])
resources = {"threads": os.environ["OMP_NUM_THREADS"], "cores": os.environ["FEDLIT_CORES"]}
print(json.dumps({**words, **resources, "leftovers": folder.exists()}))
if os.environ.get("FAIL") and "spatial" in words["--name"]:
    sys.exit("fedlit: error: nothing works; mend it")
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
(folder / "checkpoints" / "last.ckpt").touch()
rounds = int(words["--trainer.max_epochs"])
(folder / "metrics.csv").write_text("round,round/seconds" + "".join(f"\\n{r + 1},30.0" for r in range(rounds)))
(folder / "run.json").write_text(json.dumps({"state": "finished", "rounds": rounds}))
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(STUDY)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(sweep, "FEDLIT", (sys.executable, str(script)))


def study(*words: str) -> int:
    return main(["study", "--config=grid.yaml", "--jobs=2", *words])


def told(name: str, seed: int = 0) -> list[dict[str, Any]]:
    """The arguments of each start of a run."""
    lines = Path(f"logs/grid/{name}/seed_{seed}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


# --- what is run -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stand_in")
def test_every_combination_is_run_at_every_seed_with_one_thread(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    for name in NAMES:
        for seed in (0, 1):
            (words,) = told(name, seed)
            assert words["--config"] == str(BASE)
            assert (words["--name"], words["--version"], words["--seed_everything"]) == (
                name,
                f"seed_{seed}",
                str(seed),
            )
            assert (words["--trainer.max_epochs"], words["threads"]) == ("2", "1")
            assert words["cores"] == "1"
            assert "--federation.engine" not in words  # the same choice as of a run that has all cores
            assert words.get("--data.partition.alpha") == ("0.1" if "dir01" in name else None)
            assert words.get("--model.net.attention") == ("null" if "plain" in name else None)
    done = re.findall(r"seed (\d): finished", capsys.readouterr().out)
    assert len(done) == 8
    assert "1" not in done[:3]  # seed by seed; two runs may end in either order


@pytest.mark.usefixtures("stand_in")
def test_only_a_failed_run_is_tried_again(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    assert study() == 1
    assert "4 of 8 runs failed; the same command tries them again" in capsys.readouterr().out
    monkeypatch.delenv("FAIL")
    assert study() == 0
    assert [len(told(name)) for name in NAMES] == [1, 1, 2, 2]


@pytest.mark.usefixtures("stand_in")
def test_a_run_stopped_before_its_first_checkpoint_begins_again_in_an_empty_folder() -> None:
    left = Path("logs/grid/plain_iid/seed_0/metrics.csv")
    left.parent.mkdir(parents=True)
    left.write_text("round\n1\n")
    record(left.parent, "running", 2)
    assert study() == 0
    (words,) = told("plain_iid")
    assert not words["leftovers"]
    assert "--ckpt_path" not in words


@pytest.mark.usefixtures("stand_in")
def test_a_report_finds_the_axes_and_the_claims_in_the_studys_record(capsys: pytest.CaptureFixture[str]) -> None:
    study()
    for table in Path("logs/grid").glob("*/seed_*/metrics.csv"):
        table.write_text("round,global/accuracy,global/loss\n1,0.5,1.0\n2,0.6,0.9\n")
    assert main(["report", "logs/grid"]) == 0
    assert "claim 1" not in capsys.readouterr().out
    with Path("logs/grid/report/runs.csv").open(newline="") as file:
        found = {(row["variant"], row["partition"], row["seed"]) for row in csv.DictReader(file)}
    assert found == {(v, p, s) for v in ("plain", "spatial") for p in ("iid", "dir01") for s in ("0", "1")}
    Path("mine.yaml").write_text(CLAIMS)
    Path("grid.yaml").write_text(STUDY + "claims: mine.yaml\n")
    assert study() == 0
    Path("mine.yaml").unlink()  # they are kept with the runs
    assert main(["report", "logs/grid"]) == 0
    assert "claim 1 contradicted: It helps." in capsys.readouterr().out


@pytest.mark.usefixtures("stand_in")
def test_a_study_ends_with_its_table_and_the_reports_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    assert "no report: " in capsys.readouterr().out  # the stand-in logs no accuracy
    for place in Path("logs/grid").glob("*/seed_*/metrics.csv"):
        gain = 0.25 if place.parts[-3] == "spatial_dir01" else 0.0
        seed = 0.125 if place.parts[-2] == "seed_1" else 0.0
        place.write_text(f"round,global/accuracy\n1,0.25\n2,{0.5 + gain + seed}\n")
    assert study() == 0
    *_, title, head, plain, spatial, report, board = capsys.readouterr().out.splitlines()
    assert title == "accuracy of the global model on test data at round 2, mean over seeds:"
    assert head.split() == ["variant", "dir01", "iid"]
    assert (plain.split(), spatial.split()) == (["plain", "0.5625", "0.5625"], ["spatial", "0.8125", "0.5625"])
    assert report == "report: logs/grid/report/report.html"
    assert Path(report.removeprefix("report: ")).is_file()
    assert board == "view it: tensorboard --logdir logs/grid"


@pytest.mark.usefixtures("stand_in")
def test_a_damaged_table_is_named_and_the_study_continues(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    damaged = Path("logs/grid/plain_iid/seed_0/metrics.csv")
    damaged.write_text("round\nx\n")
    capsys.readouterr()
    assert study() == 0
    assert f"ignored: {damaged} is not a table" in capsys.readouterr().out


SELECTION = STUDY + "set: {data.validation_clients: 5}\nselect: global/accuracy\n"


@pytest.mark.usefixtures("stand_in")
def test_the_best_combination_is_chosen_by_its_mean_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    Path("grid.yaml").write_text(SELECTION)
    assert study() == 2  # the stand-in logs no accuracy
    assert "select: the runs have no metric global/accuracy; " in capsys.readouterr().err
    best = "spatial_iid"
    for table in Path("logs/grid").glob("*/seed_*/metrics.csv"):
        first, last = (0.9, 0.1) if table.parent.name == "seed_0" else (0.0, 0.1)
        gain = 0.05 if table.parts[-3] == best else 0.0
        table.write_text(f"round,global/accuracy\n1,{first + gain}\n2,{last + gain}\n")
    assert study() == 0
    said = capsys.readouterr().out
    assert f"{BASE} --trainer.max_epochs 2 --data.partition fedlit.data.Uniform" in said.splitlines()[-2]
    assert "validation_clients" not in said
    with Path("logs/grid/selection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["combination"], len(rows)) == (best, 4)
    # Seed 0: mean of 0.95 and 0.15; seed 1: of 0.05 and 0.15.
    assert [float(rows[0][key]) for key in ("seed_0", "seed_1", "mean")] == pytest.approx([0.55, 0.1, 0.325])


def test_nothing_is_chosen_by_the_test_set(capsys: pytest.CaptureFixture[str]) -> None:
    Path("grid.yaml").write_text(STUDY + "select: global/accuracy\n")
    assert study() == 2
    assert "would choose settings on the test set; write set: {data.validation_clients: 10}" in capsys.readouterr().err


@pytest.mark.usefixtures("stand_in")
def test_a_dry_run_shows_what_is_left_and_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert study("--dry_run") == 0
    shown = capsys.readouterr().out
    assert not Path("logs").exists()
    assert "8 runs: 0 done, 0 part-done, 8 to do" in shown
    assert "time unknown until the first rounds have finished" in shown
    assert study() == 0
    for state, seed in (("part-done", 0), ("to do", 1)):
        run = Path(f"logs/grid/plain_iid/seed_{seed}")
        record(run, "interrupted", 2)
        if state == "to do":
            (run / "checkpoints/last.ckpt").unlink()
        else:
            (run / "metrics.csv").write_text("round,round/seconds\n1,30.0\n")
    capsys.readouterr()
    assert study("--dry_run") == 0
    shown = capsys.readouterr().out
    assert "8 runs: 6 done, 1 part-done, 1 to do" in shown
    assert re.search(r"plain_iid +0 +part-done +1/2", shown)
    assert "about 0:00:45 left, 2 side by side" in shown  # three rounds of 30 s, two at a time


@pytest.mark.usefixtures("stand_in")
def test_runs_started_with_other_settings_are_not_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    Path("grid.yaml").write_text(STUDY.replace("alpha: 0.1", "alpha: 0.2"))
    assert study() == 2
    assert (
        "plain_dir01/seed_0 has other settings than the study file (run -> file): data.partition.alpha: 0.1 -> 0.2; "
        in capsys.readouterr().err
    )
    assert study("--name=other") == 0
    Path("grid.yaml").write_text(STUDY.replace("rounds: 2", "rounds: 3"))
    assert study() == 0
    assert told("plain_iid")[1]["--ckpt_path"] == "last"


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("text", ["no", "007", "2026-01-02", "[x"])
def test_a_text_that_looks_like_something_else_stays_that_text(text: str) -> None:
    change = f"{{model.net: strangers.Net, model.net.norm: '{text}', data.seed: 3}}"
    Path("grid.yaml").write_text(f"base: {BASE}\naxes: {{variant: {{plain: {change}}}}}\n")
    assert study() == 0
    (made,) = json.loads(Path("logs/grid/study.json").read_text())["combinations"].values()
    assert made["config"]["model"]["net"]["init_args"]["norm"] == text
    assert told("plain")[0]["--model.net.norm"] == text


# --- mistakes --------------------------------------------------------------------------------------------------------

# Of each: what to replace in the file, by what, the value and the remedy to be named.
MISTAKES = {
    "key": ("seeds:", "seed:", "seed: no such key", "did you mean seeds?"),
    "no base": (str(BASE), "none.yaml", "none.yaml", "give its path"),
    "no axes": (AXES, "", "at least one axis, got None", "write AXIS:"),
    "empty axis": (AXES, "axes: {variant: {}}", "axes.variant has no named values", "leave it out"),
    "list axis": (AXES, "axes: {mu: [0.1]}", "axes.mu has no named values, got [0.1]", "write NAME: {KEY: VALUE}"),
    "no mapping": ("{}", "3", "axes.variant.spatial must be keys of a config, got 3", "{} to change nothing"),
    "no folder name": ("spatial", "a/b", "'a/b'", "give another name"),
    "yes and no": ("spatial", "no", "axes.variant: YAML reads the name False", "in quotes"),
    "twice": ("spatial", "plain", "plain is given 2 times in the mapping at line 7", "keep one of them"),
    "joined twice": (
        AXES,
        "axes: {a: {x: {}, x_y: {}}, b: {y_z: {}, z: {}}}",
        "x_y_z: 2 combinations",
        "other names",
    ),
    "seed twice": ("[0, 1]", "[0, 0]", "0 is listed 2 times", "list it once"),
    "seeds": ("[0, 1]", "3", "got 3", "[0, 1, 2]"),
    "rounds": ("rounds: 2", "rounds: many", "got many", "leave it out"),
    "two axes": ("spatial: {}", "spatial: {data.partition: fedlit.data.Uniform}", "data.partition is also", "one axis"),
    "seed of a run": ("{}", "{seed_everything: 3}", "a study sets seed_everything itself", "use seeds:"),
    "rounds of a run": ("{}", "{trainer.max_epochs: 3}", "trainer.max_epochs", "leave out one of the two"),
    "rounds of all": (
        "axes:",
        "set: {trainer: {max_epochs: 3}}\naxes:",
        "trainer.max_epochs is also set by rounds:, which applies to all runs",
        "leave out one",
    ),
    "two spellings": (
        "spatial: {}",
        "spatial: {data: {init_args: {partition: fedlit.data.Uniform}}}",
        "data.partition is also",
        "one axis",
    ),
    "two spellings in set": (
        "axes:",
        "set: {model.net: {class_path: fedlit.models.EmnistCNN, init_args: {attention: null}}}\naxes:",
        "set: model.net.attention is also changed by an axis",
        "leave out one",
    ),
    "no way": (
        "axes:",
        "select: drift/mean\naxes:",
        "whether low or high values of drift/mean are better",
        "write lowest drift/mean",
    ),
    "option": ("{}", "{model.net.norms: group}", "spatial_iid: model.net.norms", "did you mean norm?"),
    "value": ("alpha: 0.1", "alpha: 0", "plain_dir01: alpha must be a finite number > 0", "use fedlit.data.Uniform"),
    "yaml": ("axes:", "axes: [", "not valid YAML", "correct it there"),
    "claims": ("seeds:", "claims: 3\nseeds:", "claims must be a file of claims, got 3", "give its path"),
    "no claims": ("seeds:", "claims: none.yaml\nseeds:", "none.yaml: cannot be read", "give the path"),
    "name of a seed": (AXES, "\naxes: {v: {seed_1: {}, b: {}}}\n", "seed_1: folders of runs have such", "another name"),
    "case": ("spatial:", "Plain:", "differ in case only, plain_iid, Plain_iid; ", "other names"),
    "long": ("spatial:", f"{'s' * 199}:", "folder name of at most 200 letters", "give another name"),
    "equal numbers": (AXES, "\naxes: {mu: {0.1: {}, 0.10: {}}}\n", "0.1 and 0.10 in the mapping at", "in quotes"),
    "equal names": (AXES, "\naxes: {mu: {0x10: {}, '16': {}}}\n", "2 values have the name 16", "in quotes"),
    "text": (STUDY, "hello", "not a study", "write base:"),
}


@pytest.mark.parametrize(("old", "new", "value", "remedy"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_line_before_anything_runs(
    old: str, new: str, value: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in STUDY
    Path("grid.yaml").write_text(STUDY.replace(old, new))
    assert study() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("fedlit: error: grid.yaml: ")
    assert value in err
    assert remedy in err
    assert not Path("logs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--config none.yaml", "none.yaml: the file does not exist; give a study file"),
        ("--config grid.yaml --jobs 0", "--jobs must be at least 1, got 0"),
        ("--config grid.yaml --job 2", "--job: no such option; did you mean --jobs?"),
        ("--config grid.yaml --name a/b", "'a/b'"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_help_explains_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["study", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "base: plain_iid.yaml" in shown
    assert "--dry_run" in shown
    assert main(["--help"]) == 0
    assert {"fit", "study", "runs"} <= set(re.findall(r"^ {2}(\w+) ", capsys.readouterr().out, re.MULTILINE))


# --- a study that is stopped ------------------------------------------------------------------------------------------

#: Stands in for fedlit: holds a lock while it lives, and ends on SIGTERM unless it is told to be deaf.
ENDLESS = """
import fcntl, os, signal, sys, time
from pathlib import Path
from fedlit.child import end_with_parent
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
if os.environ.get("DEAF"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: (print("stopped in order", flush=True), os._exit(143)))
lock = Path(words["--version"]).open("w")
fcntl.lockf(lock, fcntl.LOCK_EX)
end_with_parent()
Path(words["--version"] + ".started").touch()
time.sleep(300)
"""
DRIVER = """
import signal, sys
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
from fedlit.study import sweep
sweep.FEDLIT = (sys.executable, "endless.py")
from fedlit.cli import main
sys.exit(main(sys.argv[1:]))
"""


def lives(version: str) -> bool:
    import fcntl

    with Path(version).open("r+") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def wait_for(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals and locks")
@pytest.mark.parametrize(
    ("numbers", "deaf", "status"),
    [
        ([signal.SIGTERM], False, 143),
        ([signal.SIGINT], False, 130),
        ([signal.SIGINT, signal.SIGINT], True, 130),
        ([getattr(signal, "SIGHUP", 0)], False, -1),  # the terminal was closed, so nothing can be told
    ],
)
def test_a_study_that_is_stopped_leaves_no_process_and_says_how_to_go_on(
    numbers: list[int], deaf: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("endless.py").write_text(ENDLESS)
    Path("driver.py").write_text(DRIVER)
    Path("grid.yaml").write_text(f"base: {BASE}\nseeds: [0, 1, 2]\naxes: {{mu: {{low: {{model.mu: 0.1}}}}}}")
    if deaf:
        monkeypatch.setenv("DEAF", "1")
    words = [sys.executable, "driver.py", "study", "--config", "grid.yaml", "--jobs", "2"]
    runs = ("seed_0", "seed_1")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(lambda: all(Path(f"{run}.started").exists() for run in runs), 300)
        for number in numbers:
            process.send_signal(number)
            time.sleep(1)
        try:
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status, said
    wait_for(lambda: not any(map(lives, runs)), 20)
    assert not Path("seed_2").exists()
    if status > 0:
        assert said.splitlines()[-1] == "stopped; resume with: fedlit study --config grid.yaml --jobs 2"
        assert "Traceback" not in said
        logs = [Path(f"logs/grid/low/{run}.log").read_text() for run in runs]
        assert all(("stopped in order" in log) == (not deaf) for log in logs)


# --- real runs -------------------------------------------------------------------------------------------------------

ROUNDS = 6
ONE_PARTITION = AXES.replace("    iid: {data.partition: fedlit.data.Uniform}\n", "")
SMALL = f"base: {BASE}\nrounds: {ROUNDS}\nseeds: [3]\n{ONE_PARTITION}"
PAIR = ("plain_dir01", "spatial_dir01")


def start(logs: str) -> subprocess.Popen[bytes]:
    words = ["study", "--config", "grid.yaml", "--jobs", "2", "--logs_dir", logs]
    with Path(f"{logs}.txt").open("ab") as said:
        return subprocess.Popen([sys.executable, "-m", "fedlit", *words], stdout=said, stderr=said, env=os.environ)


def rows(run: Path) -> list[dict[str, str]]:
    path = run / "metrics.csv"
    table = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    return [{key: value for key, value in row.items() if "second" not in key} for row in table]


@pytest.mark.slow
def test_a_study_killed_in_the_middle_ends_with_the_same_bits_and_shares_its_draws() -> None:
    Path("grid.yaml").write_text(SMALL)
    with start("straight") as straight:
        assert straight.wait(300) == 0, Path("straight.txt").read_text()
    runs = [Path("killed/grid") / name / "seed_3" for name in PAIR]
    with start("killed") as process:
        deadline = time.monotonic() + 200
        while not any((run / "checkpoints/last.ckpt").is_file() for run in runs):
            assert process.poll() is None, Path("killed.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(held(run) for run in runs):  # its runs end with it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert any(len(rows(run)) < ROUNDS for run in runs)
    with start("killed") as process:
        assert process.wait(300) == 0, Path("killed.txt").read_text()
    logs = [(run.parent / "seed_3.log").read_text() for run in runs]
    assert any("resuming after round" in log for log in logs)
    for run in runs:
        reference = Path("straight") / run.relative_to("killed")
        ends = [torch.load(each / "checkpoints/last.ckpt", weights_only=True) for each in (run, reference)]
        assert [end["global_step"] for end in ends] == [ROUNDS, ROUNDS]
        for name, weights in ends[1]["state_dict"].items():
            assert torch.equal(ends[0]["state_dict"][name], weights), name
        assert rows(run) == rows(reference)
        for name in ("clients.csv", "classes.csv", "participation.csv", "draws.json"):
            assert (run / name).read_bytes() == (reference / name).read_bytes()
    # A report on it, too, has the same bytes in all tables but that of how long it took.
    for logs in ("straight", "killed"):
        assert main(["report", f"{logs}/grid"]) == 0
    for table in Path("straight/grid/report").glob("*.csv"):
        if table.name != "seconds.csv":
            assert (Path("killed/grid/report") / table.name).read_bytes() == table.read_bytes(), table.name
    # One seed: the same partition, cohorts, stragglers and batch order for both variants.
    hashes = json.loads(Path("killed/grid/study.json").read_text())["hashes"]
    assert hashes["plain_dir01/seed_3"] == hashes["spatial_dir01/seed_3"]
    assert set(hashes["plain_dir01/seed_3"]) == {"partition", "participation", "batch order"}
    assert (runs[0] / "participation.csv").read_bytes() == (runs[1] / "participation.csv").read_bytes()
    partitions = [json.loads((run / "partition.json").read_text()) for run in runs]
    assert partitions[0] == partitions[1]
