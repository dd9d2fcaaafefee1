"""The table of participation, compared with cohorts counted one by one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from federations import SIZES, data, fit, net
from torch.optim import SGD

from fedlit.data import Batches
from fedlit.engines import LoopEngine
from fedlit.federated import ClientUpdate, FederatedLoop, FederatedModule, FixedSlow, PartialWork, SizeSampling
from fedlit.runs import Participation
from fedlit.runs.participation import batch_order, draws_of, participation

ROUNDS = 7


def run(**kwargs: object) -> tuple[pd.DataFrame, list[ClientUpdate], FederatedLoop]:
    updates: list[ClientUpdate] = []
    loop = FederatedLoop(4, 2, seed=0, **kwargs)
    loop.on_update.append(updates.append)
    federation = data()
    fit(FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1)), loop, federation, rounds=ROUNDS)
    return pd.DataFrame(participation(loop, federation, ROUNDS)), updates, loop


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


def test_sampling_by_size_makes_work_proportional_to_size():
    loop = FederatedLoop(4, 1, seed=0, sampling=SizeSampling())
    federation = data()
    federation.setup()
    drawn = participation(loop, federation, 2000)["drawn"]
    chance = 1 - (1 - pd.Series(SIZES) / sum(SIZES)) ** 4  # of being in a cohort
    assert drawn / 2000 == pytest.approx(chance.to_numpy(), abs=0.05)


def test_it_is_written_into_the_run_folder(tmp_path: Path):
    loop = FederatedLoop(4, 2, seed=0)
    fit(FederatedModule(net()), loop, rounds=2, callbacks=[Participation(tmp_path)])
    table = pd.read_csv(tmp_path / "participation.csv")
    assert table["drawn"].sum() == 8
    assert len(table) == len(SIZES)
    assert set(draws_of(tmp_path)) == {"partition", "participation", "batch order"}


@pytest.mark.parametrize("epochs", [2, 0.5])
def test_the_batch_order_is_that_in_which_the_clients_trained(epochs: float, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[tuple[Batches, int]] = []
    rows = Batches.rows

    def watched(self: Batches, number: int) -> object:
        if self.order is not None:  # a fit, not an evaluation
            passes.append((self, number))
        return rows(self, number)

    updates: list[ClientUpdate] = []
    federation = data()
    loop = FederatedLoop(4, epochs, seed=0, engine=LoopEngine())
    loop.on_update.append(updates.append)
    monkeypatch.setattr(Batches, "rows", watched)
    fit(FederatedModule(net()), loop, federation, rounds=3)
    monkeypatch.undo()
    met: dict[tuple[int, int], bytes] = {}
    for task in (update.task for update in updates):
        met[task.round, task.client] = b""
        left = task.steps
        while left:
            batches, number = passes.pop(0)
            order = rows(batches, number)
            assert order is not None
            met[task.round, task.client] += order[: left * 4].numpy().astype(np.int64).tobytes()
            left -= min(left, len(batches))
    assert not passes
    digest = hashlib.blake2b(digest_size=8)
    for task in (task for round in range(3) for task in loop.cohort(round, federation)):
        digest.update(f"{task.round}/{task.client}/{task.steps}/4/".encode() + met[task.round, task.client])
    assert batch_order(loop, federation, 3) == digest.hexdigest()


def test_the_batch_order_depends_on_seed_and_work_and_not_on_the_model() -> None:
    def hashed(**settings: object) -> str:
        loop = FederatedLoop(**({"clients_per_round": 4, "local_epochs": 2, "seed": 0} | settings))
        federation = data()
        federation.setup()
        return batch_order(loop, federation, 3)

    assert hashed() == hashed()
    assert len({hashed(), hashed(seed=1), hashed(local_epochs=1), hashed(stragglers=PartialWork(0.5))}) == 4
