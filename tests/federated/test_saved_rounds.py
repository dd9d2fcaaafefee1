"""Which rounds the checkpoints of a run are of."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import data, net
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fedlit.core.checkpoint import CheckpointFile, read
from fedlit.federated import FederatedLoop, FederatedModule, saved_rounds
from fedlit.federated.saved_rounds import SavedRounds


def test_checkpoints_that_can_be_resumed_from_are_found_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[CheckpointFile()],
        callbacks=[FederatedLoop(2, seed=0), every],
    )
    trainer.fit(FederatedModule(net()), datamodule=data())
    (tmp_path / "broken.ckpt").write_bytes(b"not a checkpoint")

    was_read: list[str] = []
    monkeypatch.setattr(saved_rounds, "read", lambda path: was_read.append(path.stem) or read(path))
    saved = SavedRounds()
    assert sorted(saved.of(trainer)) == [1, 2, 2]  # those of the two files, and the Trainer's own
    assert sorted(was_read) == ["broken", "epoch=0", "epoch=1"]

    was_read.clear()
    assert sorted(saved.of(trainer)) == [1, 2, 2]
    assert was_read == ["broken"]
