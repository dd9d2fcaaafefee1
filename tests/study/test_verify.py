"""``fedlit verify`` compares a resumed run bit by bit."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fedlit.cli import main

pytestmark = pytest.mark.trust

TINY = (
    "--trainer.accelerator cpu --trainer.limit_val_batches 1 --federation.clients_per_round 2 "
    "--federation.local_epochs 0.1 --federation.engine fedlit.engines.LoopEngine"
).split()

#: A network that each process scales otherwise: nothing says from where it draws.
UNADDRESSED = """
import os
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(784, 10)
        self.scale = 0.5 + int.from_bytes(os.urandom(4), "big") / 2**32

    def forward(self, inputs):
        flat = inputs.flatten(1)
        return self.head(flat * self.scale) if self.training else self.head(flat)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def test_a_good_config_is_the_same_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("model: {net: {init_args: {widths: [2], hidden: 4, dropout: 0.5}}}\n")
    assert main(["verify", "--config", str(config), "--at_round", "1", "--rounds", "3", *TINY]) == 0
    out = capsys.readouterr().out
    assert "the same: killed in round 2 and resumed, 3 rounds give the same bits as without a stop" in out
    for part in ("weights", "server optimizer", "metrics", "TensorBoard"):
        one, other, word = re.search(rf"^ {part} +(\w+) +(\w+) +(\w+)", out, re.M).groups()  # type: ignore[union-attr]
        assert (len(one), one, word) == (16, other, "same")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_network_with_unseeded_randomness_is_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unaddressed.py").write_text(UNADDRESSED)
    assert main(["verify", *TINY, "--model.net", "unaddressed.Net"]) == 1
    out = capsys.readouterr().out
    assert re.search(
        r"different: killed in round 2 and resumed, 2 rounds give other bits than without a stop; "
        r"weights differ first in "
        r"net\.head\.weight: largest difference [\d.e-]+",
        out,
    )
    (kept,) = (tmp_path / "temporary").iterdir()
    assert f"both runs are in {kept}" in out
    assert (kept / "verify/straight/metrics.csv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--at_round 3 --rounds 3", "--at_round must be at least 1 and less than --rounds, got 3 and 3"),
        ("--at_round 0", "--at_round must be at least 1"),
        ("--at_round one", "invalid int value: 'one'"),
        ("--ckpt_path last", "--ckpt_path has no effect, as fedlit verify starts new runs"),
        ("--ckpt_path=last", "--ckpt_path has no effect, as fedlit verify starts new runs"),
    ],
)
def test_a_mistake_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_failed_run_is_reported_with_its_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--federation.clients_per_round", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the run without a stop failed: exit status 2: " in line
    assert "clients_per_round must be at least 1, got 0" in line
