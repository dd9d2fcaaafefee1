from pathlib import Path

import numpy as np
import pytest
import torch
from federations import data, fit, net, weights
from torch.optim import SGD

from fedlit.core.errors import InputError
from fedlit.data import Partition
from fedlit.federated import (
    ClientUpdate,
    FederatedLoop,
    FederatedModule,
    FixedSlow,
    NoStragglers,
    PartialWork,
    Stragglers,
    Trace,
)

COHORT = np.arange(10, 20)


def trace(tmp_path: Path, text: str) -> Trace:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return Trace(str(path))


def test_without_stragglers_all_work_is_done():
    assert NoStragglers().work(COHORT, 20, 0, 0).tolist() == [20.0] * 10


@pytest.mark.parametrize(("fraction", "slow"), [(0.0, 0), (0.5, 5), (0.9, 9), (1.0, 10)])
def test_a_fraction_of_the_cohort_is_dropped_or_does_whole_epochs(fraction: float, slow: int):
    dropped = PartialWork(fraction, drop=True).work(COHORT, 20, seed=3, round=7)
    assert (dropped == 0).sum() == slow
    partial = PartialWork(fraction).work(COHORT, 20, seed=3, round=7)
    assert set(partial[dropped == 0]) <= set(range(1, 21))  # the same clients, aggregated instead
    assert (partial[dropped > 0] == 20).all()


def test_partial_work_is_uniform_in_1_to_e():
    # 9 of 10 clients in 2,000 rounds: 18,000 draws from 1..5, 3,600 each with deviation sqrt(18000*0.2*0.8) = 54.
    done = np.concatenate([np.sort(PartialWork(0.9).work(COHORT, 5, 0, round))[:-1] for round in range(2000)])
    counts = np.bincount(done.astype(int), minlength=6)[1:6]
    assert np.abs(counts - 3600).max() < 5 * 54 + 2000 * 0.2 * 0.2  # the one left out is the largest of ten


def test_with_one_epoch_partial_work_is_a_fraction_of_it():
    done = np.concatenate([PartialWork(1.0).work(COHORT, 1, 0, round) for round in range(500)])
    assert ((done > 0) & (done <= 1)).all()
    assert done.mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / 5000))


def test_draws_depend_on_seed_and_round_alone():
    model = PartialWork(0.5)
    first = model.work(COHORT, 20, 1, 4)
    model.work(COHORT, 20, 1, 5)
    assert np.array_equal(first, model.work(COHORT, 20, 1, 4))
    assert not np.array_equal(first, model.work(COHORT, 20, 1, 5))
    assert not np.array_equal(first, model.work(COHORT, 20, 2, 4))


def test_slow_clients_are_the_same_in_every_round():
    clients = np.arange(4000)
    work = FixedSlow(0.25, share=0.1).work(clients, 20, seed=0, round=0)
    assert np.array_equal(work, FixedSlow(0.25, share=0.1).work(clients, 20, seed=0, round=9))
    assert set(work) == {2.0, 20.0}
    assert (work == 2).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 4000))


def test_work_follows_the_trace(tmp_path: Path):
    model = trace(tmp_path, "client,round,epochs\n10,1,3.5\n11,1,0\n12,1,99\n10,2,1\n")
    assert model.work(COHORT[:4], 20, seed=0, round=0).tolist() == [3.5, 0, 20, 20]
    assert model.work(COHORT[:4], 20, seed=0, round=1).tolist() == [1, 20, 20, 20]
    model.check(13)
    with pytest.raises(InputError, match="names client 12 but there are 12 clients"):
        model.check(12)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("client,epochs\n1,2\n", "client, round, epochs"),
        ("client,round,epochs\n1,1,2\nx,1,2\n", "line 3: invalid literal"),
        ("client,round,epochs\n1,1,nan\n", "line 2: client 1, round 1, epochs nan"),
        ("client,round,epochs\n1,0,2\n", "rounds from 1"),
        ("client,round,epochs\n1,1\n", "line 2"),
        ("client,round,epochs\n1,1,2\n1,1,3\n", "has a line for round 1 already"),
    ],
)
def test_a_broken_trace_is_refused_by_line(tmp_path: Path, text: str, says: str):
    with pytest.raises(InputError, match=says):
        trace(tmp_path, text)


def test_a_missing_trace_and_a_wrong_share_are_refused():
    with pytest.raises(InputError, match="cannot read the trace nowhere"):
        Trace("nowhere.csv")
    with pytest.raises(InputError, match=r"fraction must be in \[0, 1\], got 1.5"):
        PartialWork(1.5)
    with pytest.raises(InputError, match=r"share must be in \[0, 1\], got -1"):
        FixedSlow(share=-1)


class Given(Stragglers):
    """Work by client."""

    def __init__(self, by_client: dict[int, float]) -> None:
        self.by_client = by_client

    def work(self, clients, epochs, seed, round):
        return np.array([self.by_client.get(int(client), epochs) for client in clients])


def test_partial_work_is_aggregated_dropped_clients_are_not():
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(6, 2, seed=0, stragglers=Given({0: 0.5, 2: 1, 3: 0}))
    loop.on_update.append(sent.append)
    module = fit(loop=loop, rounds=1)
    steps = {update.task.client: update.task.steps for update in sent}
    # Sizes 9, 4, 17, 1, 12, 6 in batches of 4 are 3, 1, 5, 1, 3, 2 steps a pass; half of 3 is 2 steps.
    assert steps == {0: 2, 1: 2, 2: 5, 4: 6, 5: 4}
    metrics = module.round_metrics
    assert (metrics["round/dropped"], metrics["round/partial"], metrics["round/clients"]) == (1, 2, 5)
    assert (metrics["round/epochs_asked"], metrics["round/epochs_done"]) == (12, 2 * 3 + 1 + 0.5)


def test_a_client_without_data_does_no_work():
    federation = data()
    federation.setup()
    some = federation.partition
    federation.partition = Partition(some.order, np.insert(some.offsets, 1, 0))  # client 0 has no examples
    loop = FederatedLoop(7, 2, seed=0)
    tasks = loop.cohort(0, federation)
    assert [task.epochs for task in tasks] == [0, 2, 2, 2, 2, 2, 2]
    assert loop.work_metrics(tasks)["round/epochs_done"] == 12


def test_a_round_whose_clients_are_all_dropped_changes_nothing_and_says_so():
    # Momentum would move the model even on a zero gradient.
    module = FederatedModule(net(), server_optimizer=lambda p: SGD(p, lr=1.0, momentum=0.9))

    class Second(Stragglers):
        def work(self, clients, epochs, seed, round):
            return np.full(len(clients), 0.0 if round == 1 else epochs)

    states: list[torch.Tensor] = []

    class Recorder(FederatedModule):
        def server_step(self, average):
            super().server_step(average)
            states.append(weights(self.net).clone())

    module = Recorder(net(), server_optimizer=lambda p: SGD(p, lr=1.0, momentum=0.9))
    with pytest.warns(UserWarning, match="every client of round 2 was dropped"):
        fit(module, FederatedLoop(4, seed=0, stragglers=Second()), data(), rounds=3)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[1], states[2])
    assert module.trainer.global_step == 3


def test_fedavg_and_fedprox_at_one_seed_have_the_same_stragglers():
    seen = []
    for mu in (0.0, 1.0):
        sent: list[ClientUpdate] = []
        loop = FederatedLoop(4, 3, seed=5, stragglers=PartialWork(0.5))
        loop.on_update.append(sent.append)
        fit(FederatedModule(net(), mu=mu), loop)
        seen.append([update.task for update in sent])
    assert seen[0] == seen[1]
    assert any(task.epochs < 3 for task in seen[0])
