"""How to go on with a run."""

from __future__ import annotations

import pytest

from fedlit.runs import RunLog


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
