"""The user's loggers are added to fedlit's and do not replace them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from federations import table
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from fedlit.cli import main
from fedlit.core.checkpoint import read
from fedlit.core.errors import InputError
from fedlit.runs.own_loggers import check_places, numbering, remove_empty, take_numbers

TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--federation.clients_per_round=2 --federation.local_epochs=0.1 --federation.engine=fedlit.engines.LoopEngine"
).split()
#: What is in every run's folder at its end, whatever its loggers are.
ALWAYS = {
    "checkpoints", "classes.csv", "clients.csv", "config.yaml", "confusion.png", "draws.json", "labels.csv",
    "metrics.csv", "origin.json", "participation.csv", "partition.json", "partition.png", "run.json", "run.lock",
}  # fmt: skip
LOGGERS = "lightning.pytorch.loggers"


def csv_logger(folder: Path) -> list[str]:
    return [f"--trainer.logger={LOGGERS}.CSVLogger", f"--trainer.logger.save_dir={folder / 'theirs'}"]


def csv_logger_here(folder: Path) -> list[str]:
    words = ["save_dir=.", "name=", "version="]
    return [f"--trainer.logger={LOGGERS}.CSVLogger", *(f"--trainer.logger.{word}" for word in words)]


def tensorboard(folder: Path) -> list[str]:
    return [f"--trainer.logger={LOGGERS}.TensorBoardLogger", f"--trainer.logger.save_dir={folder / 'theirs'}"]


def wandb(folder: Path) -> list[str]:
    pytest.importorskip("wandb", reason="wandb is not installed")
    (folder / "theirs").mkdir(exist_ok=True)
    words = ["offline=true", f"save_dir={folder / 'theirs'}", "project=fedlit"]
    return [f"--trainer.logger={LOGGERS}.WandbLogger", *(f"--trainer.logger.{word}" for word in words)]


def mlflow(folder: Path) -> list[str]:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    words = [f"tracking_uri=file:{folder / 'theirs'}", "experiment_name=fedlit"]
    return [f"--trainer.logger={LOGGERS}.MLFlowLogger", *(f"--trainer.logger.{word}" for word in words)]


def two(folder: Path) -> list[str]:
    more = [f"--trainer.logger+={LOGGERS}.TensorBoardLogger", f"--trainer.logger.save_dir={folder / 'theirs' / 'more'}"]
    first, *arguments = csv_logger(folder)
    return [first.replace("logger=", "logger+="), *arguments, *more]


def none(folder: Path) -> list[str]:
    return ["--trainer.logger=false"]


def default(folder: Path) -> list[str]:
    return []


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.mark.filterwarnings("ignore")  # of the loggers' own packages
@pytest.mark.parametrize("logger", [default, none, csv_logger, csv_logger_here, tensorboard, wandb, mlflow, two])
def test_a_run_is_complete_with_any_loggers(
    logger: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    mine = {name: f"{name} of mine" for name in ("config.yaml", "hparams.txt", "run.json", "predictions.csv")}
    for name, text in mine.items():
        Path(name).write_text(text)
    words = [*TINY, *logger(tmp_path)]
    assert main(["fit", *words, "--trainer.max_epochs=1"]) == 0
    assert main(["fit", *words, "--trainer.max_epochs=3", "--ckpt_path=last"]) == 0
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("round ")] == ["1/1", "2/3", "3/3"]
    assert "resuming after round 1 in logs/run/version_0" in said.out
    assert ("tensorboard --logdir" in said.out) == (logger is not none)
    run = Path("logs/run/version_0")
    found = {path.name for path in run.iterdir()}
    assert found >= ALWAYS
    assert any(name.startswith("events.") for name in found) == (logger is not none)
    assert read(run / "checkpoints" / "last.ckpt")["global_step"] == 3
    assert len((run / "metrics.csv").read_text().splitlines()) == 4
    assert [path.name for path in Path("logs/run").iterdir()] == ["version_0"]
    assert {name: Path(name).read_text() for name in mine} == mine
    theirs = [path for path in Path("theirs").rglob("*") if path.is_file()]
    if logger not in (default, none, csv_logger_here):
        assert theirs
    if logger is csv_logger:  # all rounds, those after the resume in a file of its own
        tables = [path for path in theirs if path.name == "metrics.csv"]
        assert sorted(len(path.read_text().splitlines()) for path in tables) == [2, 3]
    assert main(["predict", *words, "--ckpt_path=last"]) == 0
    assert (run / "predictions.csv").is_file()


class Mine(Logger):
    """A minimal logger."""

    name, version = "mine", 0  # type: ignore[assignment]

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, params: Any, *arguments: Any, **named: Any) -> None: ...


class Clears(Mine):
    """Changes the metrics that it receives."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        metrics.clear()


class Nowhere(Mine):
    save_dir = log_dir = name = version = None  # type: ignore[assignment]


class Unreachable(Mine):
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step == 2 and not Path("reached").exists():
            Path("reached").touch()
            raise ConnectionError("no answer")


def metrics(run: Path) -> list[dict[str, str]]:
    """The table of a run without its times."""
    return [{k: v for k, v in row.items() if "second" not in k} for row in table(run / "metrics.csv")]


@pytest.mark.filterwarnings("ignore")
def test_own_loggers_do_not_change_the_runs_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status = {"plain": [0], "Clears": [0], "Nowhere": [0], "Unreachable": [3, 0]}
    for name, expected in status.items():
        words = ["fit", *TINY, f"--name={name}", "--trainer.max_epochs=3"]
        words += [] if name == "plain" else [f"--trainer.logger={__name__}.{name}"]
        assert [main([*words, *resume]) for resume in ([], ["--ckpt_path=last"])[: len(expected)]] == expected
        assert metrics(Path(f"logs/{name}/version_0")) == metrics(Path("logs/plain/version_0"))


def test_a_table_in_the_runs_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["save_dir=logs", "name=run", "version=version_0"]
    chosen = [f"--trainer.logger={LOGGERS}.CSVLogger", *(f"--trainer.logger.{word}" for word in words)]
    with contextlib.chdir(tmp_path):
        assert main(["fit", *TINY, *chosen]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "CSVLogger would write metrics.csv to logs/run/version_0, which has fedlit's own; give the logger "
        "another" in line
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("file", "text"), [("metrics.csv", "round,global/accuracy\n1,0.5\n"), ("run.lock", "")])
def test_a_table_in_another_runs_folder_is_refused(file: str, text: str, tmp_path: Path) -> None:
    """Its own table would be renamed, so that reports would not find the run any more."""
    other = tmp_path / "logs/run/version_0"
    other.mkdir(parents=True)
    (other / file).write_text(text)
    logger = CSVLogger(tmp_path / "logs", "run", "version_0")
    with pytest.raises(InputError, match=r"would write metrics.csv to .*version_0, which has fedlit's own"):
        check_places([logger], tmp_path / "logs/run/version_1")
    check_places([CSVLogger(tmp_path / "logs", "csv", "version_0")], tmp_path / "logs/run/version_1")


@pytest.mark.filterwarnings("ignore")
def test_an_earlier_table_that_a_logger_would_delete_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*TINY, *csv_logger(tmp_path), "--trainer.logger.name=a", "--trainer.logger.version=3"]
    assert main(["fit", *words, "--trainer.max_epochs=1"]) == 0
    assert main(["fit", *words, "--trainer.max_epochs=3", "--ckpt_path=last"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("it is kept as metrics_1.csv")
    theirs = tmp_path / "theirs" / "a" / "version_3"
    assert [[row["step"] for row in table(theirs / f"{name}.csv")] for name in ("metrics_1", "metrics")] == [
        ["1"],
        ["2", "3"],
    ]


# The loggers of a run, made anew for each.
NUMBERED: dict[str, Callable[[Path], list[Any]]] = {
    "table": lambda folder: [CSVLogger(folder, "a")],
    "board": lambda folder: [TensorBoardLogger(folder, "a")],
    "without a name": lambda folder: [CSVLogger(folder, None)],
    "in one folder": lambda folder: [CSVLogger(folder, "a"), TensorBoardLogger(folder, "a")],
    "in two folders": lambda folder: [CSVLogger(folder, "a"), TensorBoardLogger(folder, "b")],
}


@pytest.mark.parametrize("loggers", NUMBERED.values(), ids=list(NUMBERED))
def test_runs_side_by_side_have_folders_of_their_own(loggers: Callable[[Path], list[Any]], tmp_path: Path) -> None:
    runs = [numbering(loggers(tmp_path / "theirs")) for _ in range(3)]
    for run in runs:  # as in processes that are started at the same time
        assert {each.version for each in run} == {0}
    made = [take_numbers(run) for run in runs]
    assert [{each.version for each in run} for run in runs] == [{0}, {1}, {2}]
    assert all(Path(each.log_dir).is_dir() for run in runs for each in run)
    assert len({each.log_dir for each in runs[0]}) == (2 if loggers is NUMBERED["in two folders"] else 1)
    (Path(runs[1][0].log_dir) / "metrics.csv").touch()
    for folders in reversed(made):
        remove_empty(folders)
    assert list(tmp_path.rglob("version_*")) == [Path(runs[1][0].log_dir)]


def test_a_logger_that_was_given_its_place_is_left_alone(tmp_path: Path) -> None:
    remote = TensorBoardLogger("memory://theirs", "a")
    assert numbering([CSVLogger(tmp_path, "a", 3), TensorBoardLogger(tmp_path, "a", "mine"), Mine(), remote]) == []
    remove_empty(take_numbers(numbering([CSVLogger(tmp_path / "theirs", "a")])))
    assert list(tmp_path.iterdir()) == []
