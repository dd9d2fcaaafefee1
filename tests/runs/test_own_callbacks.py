"""The user's callbacks on the command line: a run that one of them ends resumes to the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import table
from lightning import Callback, LightningModule, Trainer

from fedlit.cli import main

TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --trainer.max_epochs=3 "
    "--federation.clients_per_round=2 --federation.local_epochs=0.1 --federation.engine=fedlit.engines.LoopEngine"
).split()


class Once(Callback):
    """Does something in the second round, once."""

    def act(self, trainer: Trainer) -> None: ...

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.current_epoch == 1 and not Path("done").exists():
            Path("done").touch()
            self.act(trainer)


class Interrupts(Once):
    def act(self, trainer: Trainer) -> None:
        raise KeyboardInterrupt


class Stops(Once):
    def act(self, trainer: Trainer) -> None:
        trainer.should_stop = True


class Saves(Once):
    def act(self, trainer: Trainer) -> None:
        trainer.save_checkpoint("mine/inside.ckpt")
        raise KeyboardInterrupt


class KeepsArrays(Once):
    kept: Any = None

    def act(self, trainer: Trainer) -> None:
        self.kept = [np.ones(2)]

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}


class FailsToLoad(Interrupts):
    def state_dict(self) -> dict[str, Any]:
        return {"a": 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not Path("tried").exists():
            Path("tried").touch()
            raise ValueError("cannot load")


ARRAY = "callbacks / KeepsArrays / kept[0] is a numpy.ndarray, which a checkpoint cannot hold"
#: Of each callback the statuses of a run and of what goes on with it, and a part of what is said.
CASES: list[tuple[type[Callback], list[int], str]] = [
    (Interrupts, [130, 0], "stopped after round 1; resume with"),
    (Stops, [0, 0], "resuming after round 2"),
    (Saves, [130, 0], "resuming after round 1"),
    (KeepsArrays, [2, 0], ARRAY),
    (FailsToLoad, [130, 3, 0], f"error in {__file__}, line"),
]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The numbers of a run without such callbacks."""
    logs = tmp_path_factory.mktemp("straight")
    assert main(["fit", *TINY, f"--logs_dir={logs}", "--name=run"]) == 0
    return figures(logs)


def figures(logs: Path) -> list[dict[str, str]]:
    """A run's table without its times."""
    rows = table(logs / "run" / "version_0" / "metrics.csv")
    return [{column: value for column, value in row.items() if "second" not in column} for row in rows]


@pytest.mark.parametrize(("kind", "statuses", "says"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_run_that_ended_early_resumes_to_the_same_numbers(
    kind: type[Callback], statuses: list[int], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], straight: list[dict[str, str]],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["fit", *TINY, "--name=run", f"--trainer.callbacks+={__name__}.{kind.__name__}"]
    assert [main([*words, *(["--ckpt_path=last"] if again else [])]) for again in range(len(statuses))] == statuses
    assert says in "".join(capsys.readouterr())
    assert figures(Path("logs")) == straight
