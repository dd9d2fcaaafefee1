"""Name and version of a run, given beside a file of a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from contents import contents

from fedlit.cli import main

COMMANDS = ("fit", "validate", "test", "predict", "export")


def words_of(command: str, checkpoint: Path, *more: str) -> list[str]:
    of_run = ["--to", "pt2"] if command == "export" else ["--config", "logs/run/version_0/config.yaml"]
    return [command, *of_run, "--ckpt_path", str(checkpoint), *more]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--name", "--version"])
def test_a_run_is_not_named_otherwise_than_the_one_that_the_checkpoint_belongs_to(
    command: str, option: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert main(words_of(command, run / "checkpoints" / "best.ckpt", option, "other")) == 2
    said = capsys.readouterr().err
    assert f"{option} is other, but the checkpoint belongs to the run {run.resolve()}, wh" in said
    assert f"leave {option} out" in said
    assert contents(run) == before


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_its_own_name_and_version_may_be_given(command: str, run: Path) -> None:
    assert main(words_of(command, run / "checkpoints" / "best.ckpt", "--name", "run", "--version", "version_0")) == 0


def test_a_resumed_run_says_in_which_folder_of_runs_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of("fit", run / "checkpoints" / "last.ckpt", "--logs_dir", "elsewhere", "--trainer.max_epochs", "2")
    assert main(words) == 0
    assert "view it: tensorboard --logdir logs\n" in capsys.readouterr().out
    assert not Path("elsewhere").exists()
