"""The records of a run's versions and machine, and of the labels that each client holds."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from federations import data, fit, net

from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.runs import setting
from fedlit.runs.setting import Setting, origin, origins, own_code


def run(folder: Path) -> None:
    fit(FederatedModule(net()), FederatedLoop(4, 2, seed=0), rounds=1, callbacks=[Setting(folder)])


def test_versions_and_machine_get_another_entry_only_if_they_change(tmp_path: Path) -> None:
    run(tmp_path)
    (first,) = origins(tmp_path)
    assert (first["torch"], first["processor"]) == (version("torch"), origin()["processor"])
    run(tmp_path)
    assert len(origins(tmp_path)) == 1
    (tmp_path / "origin.json").write_text(json.dumps([{"torch": "1.0"}]))
    run(tmp_path)
    assert [each["torch"] for each in origins(tmp_path)] == ["1.0", version("torch")]


@pytest.mark.parametrize("text", ["{", "3", "[3]", "[[]]"])
def test_an_invalid_record_is_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / "origin.json").write_text(text)
    assert origins(tmp_path) == []
    run(tmp_path)
    assert len(origins(tmp_path)) == 1


def test_the_labels_of_each_client_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    federation = data()
    federation.setup()
    table = pd.read_csv(tmp_path / "labels.csv")
    assert table["client"].tolist() == list(range(federation.num_clients))
    assert table.columns.tolist() == ["client", *federation.class_names]
    counts = table.drop(columns="client").to_numpy()
    assert counts.sum(1).tolist() == federation.partition.sizes.tolist()
    own = federation.train.targets.numpy()[federation.partition.client(1)]
    assert counts[1].tolist() == np.bincount(own, minlength=federation.num_classes).tolist()
    monkeypatch.setattr(setting, "MOST_CLIENTS", 2)
    run(tmp_path)
    assert len(pd.read_csv(tmp_path / "labels.csv")) == 2


def test_installed_without_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting, "ROOT", tmp_path)
    assert "commit" not in origin()


def test_modules_of_the_users_are_known_by_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_to_hash.py").write_text("A = 1\n")
    module = importlib.import_module("mine_to_hash")
    assert own_code()["mine_to_hash"] == hashlib.sha256(b"A = 1\n").hexdigest()[:8]
    assert not {"torch", "json", "fedlit.runs.setting"} & own_code().keys()
    assert f"mine_to_hash {own_code()['mine_to_hash']}" in origin()["own code"].split(", ")
    monkeypatch.delitem(sys.modules, module.__name__)
