"""Loggers of the user's are added to fedlit's, and take nothing away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedlit.cli import main
from fedlit.core.checkpoint import read

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
def test_a_run_is_whole_whatever_its_loggers_are(
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
