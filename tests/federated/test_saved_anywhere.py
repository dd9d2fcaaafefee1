"""A checkpoint saved in any hook of a round is resumed with complete rounds and all of their hooks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from federations import data, fit, net, weights
from lightning import Callback, LightningModule, Trainer
from torch.optim import SGD

from fedlit.engines import LoopEngine
from fedlit.federated import AdaptiveMu, FederatedLoop, FederatedModule

#: Of each hook how many rounds are finished when it is called in the third.
HOOKS = {
    "on_train_epoch_start": 2,
    "on_train_batch_start": 2,
    "on_train_batch_end": 3,
    "on_validation_start": 3,
    "on_validation_batch_start": 3,
    "on_validation_end": 3,
    "on_train_epoch_end": 3,
}


class Records(Callback):
    """Records the hooks that a fit calls, and on request saves a checkpoint in one hook of the third round."""

    def __init__(self, save_in: str = "", path: Path | None = None) -> None:
        self.called: list[tuple[str, int]] = []
        for name in HOOKS:
            setattr(self, name, self.hook(name, path if name == save_in else None))

    def hook(self, name: str, path: Path | None):  # type: ignore[no-untyped-def]
        def called(trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
            self.called.append((name, trainer.current_epoch))
            if path and trainer.current_epoch == 2:
                trainer.save_checkpoint(path)

        return called


def run(rounds: int, records: Records, resumed: Path | None = None) -> FederatedModule:
    module = FederatedModule(net(), AdaptiveMu(0.1), lambda p: SGD(p, lr=0.1), lambda p: SGD(p, lr=1.0, momentum=0.5))
    loop = FederatedLoop(4, seed=0, engine=LoopEngine())
    return fit(module, loop, data(), rounds, ckpt_path=resumed, callbacks=[records])


@pytest.mark.parametrize(("hook", "finished"), HOOKS.items())
def test_a_resume_from_a_save_in_any_hook_runs_complete_rounds(hook: str, finished: int, tmp_path: Path) -> None:
    straight, records = Records(hook, tmp_path / "a.ckpt"), Records()
    expected = run(5, straight)
    resumed = run(5, records, tmp_path / "a.ckpt")
    assert torch.equal(weights(resumed), weights(expected))
    assert resumed.mu.value == expected.mu.value
    assert records.called == [(name, round) for name, round in straight.called if round >= finished]
    assert resumed.trainer.global_step == 5
