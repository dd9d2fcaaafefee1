"""The record of who took part, against cohorts counted one by one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from federations import SIZES, data, fit, net
from torch.optim import SGD

from fedlit.federated import ClientUpdate, FederatedLoop, FederatedModule, FixedSlow, PartialWork, SizeSampling
from fedlit.runs import Participation
from fedlit.runs.participation import participation

ROUNDS = 7


def run(**kwargs: object) -> tuple[pd.DataFrame, list[ClientUpdate], FederatedLoop]:
    updates: list[ClientUpdate] = []
    loop = FederatedLoop(4, 2, seed=0, **kwargs)
    loop.on_update.append(updates.append)
    fit(FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1)), loop, data(), rounds=ROUNDS)
    return participation(loop, ROUNDS), updates, loop


def test_it_counts_what_each_client_did():
    table, updates, _ = run()
    assert table["drawn"].sum() == ROUNDS * 4
    for client, size in enumerate(SIZES):
        mine = [u for u in updates if u.task.client == client]
        row = table.loc[client]
        assert (row["samples"], row["p_k"]) == (size, pytest.approx(size / sum(SIZES)))
        assert (row["drawn"], row["epochs_asked"], row["epochs_done"]) == (len(mine), 2 * len(mine), 2 * len(mine))
        work = sum(u.metrics["samples"] for u in mine) / sum(u.metrics["samples"] for u in updates)
        assert row["share_of_work"] == pytest.approx(work)


def test_dropped_and_partial_work_is_told_apart():
    dropped, updates, _ = run(stragglers=FixedSlow(0.5, share=0.0))
    assert dropped["drawn"].sum() - dropped["dropped"].sum() == len(updates)
    assert dropped["dropped"].sum() > 0
    assert (dropped["epochs_done"] == 2 * (dropped["drawn"] - dropped["dropped"])).all()
    partial, updates, _ = run(stragglers=PartialWork(0.5))
    assert partial["epochs_done"].sum() == sum(u.task.epochs for u in updates)
    assert partial["partial"].sum() == sum(u.task.epochs < 2 for u in updates)


def test_drawing_by_size_brings_work_in_line_with_size():
    loop = FederatedLoop(4, 1, seed=0, sampling=SizeSampling())
    loop.data = data()
    loop.data.setup()
    drawn = participation(loop, 2000)["drawn"]
    chance = 1 - (1 - pd.Series(SIZES) / sum(SIZES)) ** 4  # of being in a cohort
    assert (drawn / 2000).to_numpy() == pytest.approx(chance.to_numpy(), abs=0.05)


def test_it_is_written_into_the_run_folder(tmp_path: Path):
    from lightning.pytorch.loggers import CSVLogger

    loop = FederatedLoop(4, 2, seed=0)
    logger = CSVLogger(tmp_path, name="run")
    fit(FederatedModule(net()), loop, rounds=2, logger=logger, callbacks=[Participation()])
    table = pd.read_csv(Path(logger.log_dir) / "participation.csv")
    assert table["drawn"].sum() == 8
    assert len(table) == len(SIZES)
