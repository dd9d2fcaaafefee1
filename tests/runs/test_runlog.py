"""What a run prints at its end, and how it is resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import fit

from fedlit.runs import RunLog
from fedlit.runs.runlog import LEARNED_NOTHING


@pytest.mark.parametrize(
    ("command", "version", "expected"),
    [
        (["fit"], 1, "fedlit fit --ckpt_path last"),
        (["fit", "--config", "a b.yaml"], 1, "fedlit fit --config 'a b.yaml' --ckpt_path last"),
        (["fit", "--ckpt_path", "last", "--name", "x"], 1, "fedlit fit --name x --ckpt_path last"),
        (["fit", "--ckpt_path=best", "--name", "x"], 1, "fedlit fit --name x --ckpt_path last"),
        (["fit", "--name", "x"], 0, "fedlit fit --name x --ckpt_path logs/x/version_0/checkpoints/last.ckpt"),
        (["fit", "--version=version_0"], 0, "fedlit fit --version=version_0 --ckpt_path last"),
        (["fit", "--ckpt_path", "y/old.ckpt"], 1, "fedlit fit --ckpt_path logs/x/version_1/checkpoints/last.ckpt"),
        (["fit", "--ckpt_path=y/old.ckpt"], 1, "fedlit fit --ckpt_path logs/x/version_1/checkpoints/last.ckpt"),
    ],
)
def test_the_command_to_resume_is_the_one_that_started_it(
    command: list[str], version: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the checkpoint's file where ``last`` would be that of a newer run, or of another name."""
    monkeypatch.chdir(tmp_path)
    runs = [tmp_path / "logs" / "x" / f"version_{number}" for number in range(2)]
    for run in runs:
        run.mkdir(parents=True)
    last = runs[version] / "checkpoints" / "last.ckpt"
    assert RunLog("logs", command, {})._resume_command(last) == expected


STOP = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=global/loss"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["", "no round is left, as trainer.max_epochs is 2; give more to train on"]),
        (
            [*STOP.split(), "--trainer.callbacks.stopping_threshold=99"],
            ["stopped after round 1 of 2; EarlyStopping: Stopping threshold reached: global/loss = "] * 2,
        ),
        (
            ["--trainer.max_time={milliseconds: 1}"],
            ["stopped after round 1 of 2; Timer: the run's time is over; to train on, resume with a longer one"] * 2,
        ),
    ],
    ids=["finished", "EarlyStopping", "Timer"],
)
def test_a_run_that_trains_no_more_rounds_says_why(
    words: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, again in zip(expected, ([], ["--ckpt_path=last"]), strict=True):
        assert fit(tmp_path, 2, *words, *again) == 0
        said = capsys.readouterr().out.splitlines()
        found = [each for each in said if each.startswith(("no round", "stopped after"))]
        assert len(found) == bool(line)
        assert all(each.startswith(line) for each in found)


def test_the_best_round_survives_a_resume() -> None:
    log = RunLog("logs", [], {})
    log.load_state_dict({"best": 0.5, "best_round": 3})
    assert log.state_dict() == {"best": 0.5, "best_round": 3}


@pytest.mark.parametrize("learned", [False, True])
def test_a_model_that_learned_nothing_is_reported_at_the_end(learned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True, loggers=[], current_epoch=2, max_epochs=2)
    log = RunLog("logs", [], {})
    for hits in ([100, 0], [100, 90]) if learned else ([100, 90], [100, 0]):  # the last round counts
        scores = SimpleNamespace(hits=torch.tensor(hits), true=torch.tensor([100, 100]))
        module: Any = SimpleNamespace(scores=scores)
        log.on_validation_end(trainer, module)
    log.on_fit_end(trainer, module)
    assert (LEARNED_NOTHING in capsys.readouterr().out.replace("\n", " ")) is not learned
