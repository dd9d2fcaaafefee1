"""What a run prints at its end, and how it is resumed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fedlit.runs import RunLog
from fedlit.runs.runlog import LEARNED_NOTHING


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["fit"], "fedlit fit --ckpt_path last"),
        (["fit", "--config", "a b.yaml"], "fedlit fit --config 'a b.yaml' --ckpt_path last"),
        (["fit", "--ckpt_path", "old.ckpt", "--name", "x"], "fedlit fit --name x --ckpt_path last"),
        (["fit", "--ckpt_path=old.ckpt", "--name", "x"], "fedlit fit --name x --ckpt_path last"),
    ],
)
def test_the_command_to_resume_is_the_one_that_started_it(command: list[str], expected: str) -> None:
    assert RunLog("logs", command, {})._resume_command() == expected


def test_the_best_round_survives_a_resume() -> None:
    log = RunLog("logs", [], {})
    log.load_state_dict({"best": 0.5, "best_round": 3})
    assert log.state_dict() == {"best": 0.5, "best_round": 3}


@pytest.mark.parametrize("learned", [False, True])
def test_a_model_that_learned_nothing_is_reported_at_the_end(learned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True, loggers=[])
    log = RunLog("logs", [], {})
    for hits in ([100, 0], [100, 90]) if learned else ([100, 90], [100, 0]):  # the last round counts
        scores = SimpleNamespace(hits=torch.tensor(hits), true=torch.tensor([100, 100]))
        module: Any = SimpleNamespace(scores=scores)
        log.on_validation_end(trainer, module)
    log.on_fit_end(trainer, module)
    assert (LEARNED_NOTHING in capsys.readouterr().out.replace("\n", " ")) is not learned
