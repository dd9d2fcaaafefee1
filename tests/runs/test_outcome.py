"""The tables of a finished run's model by class and by client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from federations import data, fit, net
from lightning.pytorch.callbacks import ModelCheckpoint

from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.runs import Outcome, Participation
from fedlit.runs.evaluation import client_accuracy
from fedlit.runs.participation import draws_of

FILES = ("classes.csv", "clients.csv", "participation.csv", "draws.json")


def run(folder: Path, rounds: int, resume: Path | None = None) -> tuple[FederatedModule, Path]:
    module = FederatedModule(net())
    last = ModelCheckpoint(dirpath=folder / "ckpt", filename="last", enable_version_counter=False)
    callbacks = [Participation(folder), Outcome(folder), last]
    loop = FederatedLoop(4, 2, seed=0)
    fit(module, loop, rounds=rounds, callbacks=callbacks, enable_checkpointing=True, ckpt_path=resume)
    return module, folder


def test_clients_and_classes_are_those_of_the_final_model(tmp_path: Path) -> None:
    module, folder = run(tmp_path, 2)
    federation = data()
    federation.setup()
    clients = pd.read_csv(folder / "clients.csv")
    assert (clients["round"] == 2).all()
    assert clients["samples"].tolist() == federation.partition.sizes.tolist()
    np.testing.assert_allclose(clients["accuracy"], client_accuracy(module.eval(), federation), atol=1e-12)
    classes = pd.read_csv(folder / "classes.csv", dtype={"class": str})
    guesses = module(federation.transform(federation.test.inputs)).argmax(-1)
    for label, row in classes.iterrows():
        of_class = federation.test.targets == label
        assert (row["round"], row["samples"]) == (2, int(of_class.sum()))
        assert row["accuracy"] == pytest.approx((guesses[of_class] == label).double().mean().item())


@pytest.mark.filterwarnings("ignore:.*(is not empty|already exists|Experiment logs directory)")
def test_a_resumed_run_writes_the_same_bytes_even_if_only_the_end_was_missing(tmp_path: Path) -> None:
    _, straight = run(tmp_path / "straight", 3)
    run(tmp_path / "resumed", 2)
    _, resumed = run(tmp_path / "resumed", 3, tmp_path / "resumed/ckpt/last.ckpt")
    first = [(straight / name).read_bytes() for name in FILES]
    assert [(resumed / name).read_bytes() for name in FILES] == first
    for name in FILES:
        (resumed / name).unlink()
    run(tmp_path / "resumed", 3, tmp_path / "resumed/ckpt/last.ckpt")  # no round is left
    assert [(resumed / name).read_bytes() for name in FILES] == first


def test_a_run_without_validation_writes_neither_table(tmp_path: Path) -> None:
    callbacks = [Outcome(tmp_path)]
    fit(
        FederatedModule(net()), FederatedLoop(4, 2, seed=0), rounds=1, callbacks=callbacks,
        limit_val_batches=0,
    )  # fmt: skip
    assert not (tmp_path / "clients.csv").exists()
    assert draws_of(tmp_path) == {}


def test_a_checkpoint_with_a_confusion_matrix_in_place_of_counts_is_still_read() -> None:
    outcome = Outcome(Path())
    outcome.load_state_dict({"confusion": torch.tensor([[3, 1], [2, 6]])})
    assert [counts.tolist() for counts in outcome.state_dict()["counts"]] == [[3, 6], [4, 8]]
    outcome.load_state_dict({"confusion": None})
