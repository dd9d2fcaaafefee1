"""``fedlit validate``, ``test`` and ``predict`` say where results are not those of the checkpoint's run."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import pytest
import yaml

from fedlit.cli import main

CONFIG = {
    "data": {"class_path": "fedlit.data.Synthetic", "init_args": {"num_clients": 4}},
    "model": {"net": {"class_path": "ownnet.Net"}},
    "federation": {"clients_per_round": 2, "engine": "fedlit.engines.LoopEngine"},
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
}
NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, num_classes: int, factor: float = {factor}) -> None:
        super().__init__()
        self.layer, self.factor = torch.nn.LazyLinear(num_classes), factor
        self.layer(torch.zeros(1, 60))

    def forward(self, x):
        return self.factor * self.layer(x)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run, in a current folder that has its config and its network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "ownnet", raising=False)
    Path("ownnet.py").write_text(NET.format(factor=1.0))
    Path("run.yaml").write_text(yaml.safe_dump(CONFIG))
    assert main("fit --config run.yaml".split()) == 0
    return Path("logs/run/version_0")


#: Words after a command, and what is said of them.
OTHER = {
    "": "",
    "--data.eval_batch_size 7": "",
    "--model.mu 1": "",
    "--model.net.factor 3": "model.net.factor: 1.0 -> 3.0",
    "--model.loss torch.nn.MultiMarginLoss": "model.loss: null -> torch.nn.MultiMarginLoss",
}


def test_settings_that_change_results_are_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in OTHER.items():
        for command in ("validate", "test", "predict"):
            capsys.readouterr()
            assert main([command, *"--config run.yaml --ckpt_path best".split(), *words.split()]) == 0
            err = capsys.readouterr().err
            assert ("the checkpoint was trained with other settings" in err) is bool(said), words
            assert said in err


def test_a_limit_of_nothing_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, stage in (("validate", "val"), ("test", "test"), ("predict", "predict")):
        words = f"{command} --config run.yaml --ckpt_path best --trainer.limit_{stage}_batches 0".split()
        assert main(words) == 2
        assert f"trainer.limit_{stage}_batches is 0, so there would be no results" in capsys.readouterr().err


def test_a_limit_is_said_and_what_was_predicted_is_there(run: Path) -> None:
    words = "--config run.yaml --ckpt_path best --data.eval_batch_size 10".split()
    for command, stage in (("validate", "val"), ("test", "test"), ("predict", "predict")):
        with pytest.warns(UserWarning, match=rf"limit_{stage}_batches is 2: .* 2 of \d+ batches of the held-out data"):
            assert main([command, *words, f"--trainer.limit_{stage}_batches", "2"]) == 0
    with (run / "predictions.csv").open(newline="") as file:
        limited = list(csv.DictReader(file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["predict", *words]) == 0
    with (run / "predictions.csv").open(newline="") as file:
        assert limited == list(csv.DictReader(file))[:20]
    assert len(limited) == 20
