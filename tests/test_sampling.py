import copy

import numpy as np
import pytest
import torch
from federations import SIZES, data, fit, net, weights
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD

from fedlit.core.errors import InputError
from fedlit.data import Partition
from fedlit.federated import (
    ClientTask,
    ClientUpdate,
    FederatedLoop,
    FederatedModule,
    Sampling,
    SizeSampling,
    UniformSampling,
)
from fedlit.sampling import Draw, distribute, steps_for, uniform_cohort


def test_a_cohort_is_a_function_of_seed_and_round():
    assert np.array_equal(uniform_cohort(100, 10, seed=1, round=5), uniform_cohort(100, 10, seed=1, round=5))
    assert not np.array_equal(uniform_cohort(100, 10, seed=1, round=5), uniform_cohort(100, 10, seed=1, round=6))
    assert not np.array_equal(uniform_cohort(100, 10, seed=1, round=5), uniform_cohort(100, 10, seed=2, round=5))


@given(st.integers(1, 200), st.data())
def test_no_client_is_drawn_twice(clients: int, data: st.DataObject):
    k = data.draw(st.integers(1, clients))
    cohort = uniform_cohort(clients, k, seed=0, round=0)
    assert len(set(cohort.tolist())) == k
    assert 0 <= cohort.min() <= cohort.max() < clients


def test_every_client_is_drawn_equally_often():
    # 4,000 rounds of 3 of 10: each client's count is Binomial(4000, 0.3), of deviation sqrt(4000*0.3*0.7) = 29.
    counts = np.zeros(10)
    for round in range(4000):
        counts[uniform_cohort(10, 3, seed=0, round=round)] += 1
    assert np.abs(counts - 1200).max() < 5 * 29


@pytest.mark.parametrize(
    ("examples", "batch", "epochs", "steps"),
    [(10, 4, 1, 3), (10, 4, 2, 6), (10, 4, 0.5, 2), (10, 4, 0.01, 1), (1, 32, 1, 1), (100, 10, 0.3, 3), (8, 4, 1, 2)],
)
def test_steps_are_epochs_times_batches_rounded_up(examples: int, batch: int, epochs: float, steps: int):
    assert steps_for(examples, batch, epochs) == steps


def task(client: int, steps: int) -> ClientTask:
    return ClientTask(client, 0, 0, steps, 1.0, steps, 1.0)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 5))
def test_every_client_is_on_exactly_one_rank(steps: list[int], ranks: int):
    tasks = [task(i, s) for i, s in enumerate(steps)]
    shares = distribute(tasks, ranks)
    assert len(shares) == ranks
    assert sorted(t for share in shares for t in share) == sorted(tasks)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 5))
def test_distribution_is_within_grahams_bound(steps: list[int], ranks: int):
    shares = distribute([task(i, s) for i, s in enumerate(steps)], ranks)
    makespan = max(sum(t.steps for t in share) for share in shares)
    # No schedule beats the mean load or the largest task; a list schedule is within mean + (1 - 1/m) largest.
    assert makespan <= sum(steps) / ranks + (1 - 1 / ranks) * max(steps)


def split(*sizes: int) -> Partition:
    """Clients of these sizes, their samples dealt in turns rather than one client after the other."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return Partition.from_assignment(np.random.default_rng(0).permutation(owners), len(sizes))


def counts(sampling: Sampling, partition: Partition, clients_per_round: int, rounds: int) -> np.ndarray:
    """How often each client was drawn in some rounds, (K,)."""
    total = np.zeros(partition.num_clients, dtype=int)
    for round in range(rounds):
        draw = sampling.draw(partition, clients_per_round, seed=0, round=round)
        total[draw.clients] += draw.times
    return total


def test_a_client_is_drawn_by_size_as_often_as_its_share_of_the_samples():
    # 20,000 independent draws with p_k = n_k / n: Pearson's statistic has a chi-square distribution with K - 1 = 5
    # degrees of freedom, of mean 5 and deviation sqrt(10); 20.5 is its 99.9 % quantile.
    sizes = (9, 4, 17, 1, 12, 57)
    drawn = counts(SizeSampling(), split(*sizes), clients_per_round=10, rounds=2000)
    expected = 20_000 * np.array(sizes) / 100
    assert drawn.sum() == 20_000
    assert ((drawn - expected) ** 2 / expected).sum() < 20.5


def test_draws_by_size_in_one_round_are_independent():
    # Two clients of 3 and 1 samples, two draws: both are client 1's with probability 1/16, with replacement; without,
    # that would never happen. 8,000 rounds give 500 with deviation sqrt(8000/16 * 15/16) = 22.
    partition = split(3, 1)
    both = sum(SizeSampling().draw(partition, 2, seed=0, round=round).clients.tolist() == [1] for round in range(8000))
    assert abs(both - 500) < 5 * 22


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(any), st.integers(1, 60), st.integers(0, 99))
def test_a_draw_by_size_names_each_client_once_and_none_that_is_empty(sizes: list[int], k: int, round: int):
    draw = SizeSampling().draw(split(*sizes), k, seed=0, round=round)
    assert draw.clients.tolist() == sorted(set(draw.clients.tolist()))
    assert draw.times.sum() == k
    assert draw.times.min() >= 1
    assert all(sizes[client] > 0 for client in draw.clients)


def test_a_client_with_all_the_samples_is_every_draw():
    draw = SizeSampling().draw(split(0, 7, 0), 5, seed=0, round=0)
    assert (draw.clients.tolist(), draw.times.tolist()) == ([1], [5])


@pytest.mark.parametrize("sampling", [SizeSampling(), UniformSampling()])
def test_a_draw_is_a_function_of_seed_and_round(sampling: Sampling):
    partition = split(*range(1, 40))

    def drawn(seed: int, round: int) -> tuple[list[int], list[int]]:
        draw = sampling.draw(partition, 10, seed, round)
        return draw.clients.tolist(), draw.times.tolist()

    first = drawn(1, 5)
    drawn(1, 6)
    assert drawn(1, 5) == first
    assert drawn(1, 6) != first
    assert drawn(2, 5) != first


def test_a_uniform_draw_takes_each_client_once_whatever_its_size():
    drawn = counts(UniformSampling(), split(1, 1, 1, 1, 996), clients_per_round=2, rounds=4000)
    # Binomial(4000, 2/5) each, of deviation sqrt(4000*0.4*0.6) = 31.
    assert np.abs(drawn - 1600).max() < 5 * 31
    draw = UniformSampling().draw(split(1, 2, 3), 3, seed=0, round=0)
    assert (draw.clients.tolist(), draw.times.tolist()) == ([0, 1, 2], [1, 1, 1])


def test_clients_of_one_size_are_drawn_alike_by_either():
    for sampling in (SizeSampling(), UniformSampling()):
        drawn = counts(sampling, split(*[3] * 10), clients_per_round=3, rounds=4000)
        assert np.abs(drawn - 1200).max() < 5 * np.sqrt(12_000 * 0.1 * 0.9)  # the wider of the two: with replacement


class Given(Sampling):
    """Each of these clients, as often as it is named."""

    def __init__(self, *clients: int, by_size: bool = False) -> None:
        self.draws = clients
        self.by_size = by_size

    def draw(self, partition, clients_per_round, seed, round):
        return Draw(*np.unique(self.draws, return_counts=True))


def tasks(loop: FederatedLoop, sizes: tuple[int, ...] = SIZES, round: int = 0) -> list[ClientTask]:
    d = data(sizes)
    d.setup()
    return loop.cohort(round, d)


@pytest.mark.parametrize(
    ("sampling", "averaging", "expected"),
    [
        (None, None, "size"),
        (UniformSampling(), None, "size"),
        (UniformSampling(), "size", "size"),
        (UniformSampling(), "uniform", "uniform"),
        (SizeSampling(), None, "uniform"),
        (SizeSampling(), "uniform", "uniform"),
    ],
)
def test_the_average_weights_clients_as_the_draw_calls_for(sampling, averaging, expected: str):
    loop = FederatedLoop(4, seed=0, sampling=sampling, averaging=averaging)
    assert loop.averaging == expected
    for round in range(5):
        for task in tasks(loop, round=round):
            assert task.num_examples == SIZES[task.client]
            if expected == "size":
                assert task.weight == SIZES[task.client]
    if expected == "uniform":  # four draws in each round, whoever was drawn
        assert [sum(task.weight for task in tasks(loop, round=round)) for round in range(5)] == [4] * 5


def test_size_is_not_counted_twice():
    with pytest.raises(InputError) as refusal:
        FederatedLoop(4, sampling=SizeSampling(), averaging="size")
    assert str(refusal.value) == (
        "SizeSampling with averaging by size counts a client's size twice, in its probability and in its weight; "
        "leave federation.averaging out, or use fedlit.federated.UniformSampling"
    )


def test_any_draw_by_size_is_refused_with_weights_by_size():
    FederatedLoop(4, sampling=Given(0), averaging="size")
    with pytest.raises(InputError, match="Given with averaging by size counts a client's size twice"):
        FederatedLoop(4, sampling=Given(0, by_size=True), averaging="size")


def test_a_client_drawn_twice_trains_once_and_counts_twice():
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(3, 2, seed=0, sampling=Given(2, 0, 2), averaging="uniform")
    loop.on_update.append(sent.append)
    start = net()
    module = fit(FederatedModule(copy.deepcopy(start)), loop, rounds=1)
    assert sorted((update.task.client, update.task.weight) for update in sent) == [(0, 1), (2, 2)]
    once = {update.task.client: update for update in sent}
    assert once[2].task.steps == 2 * 5  # 17 samples in batches of 4, two passes
    a, b = (once[client].weights.floats.double() for client in (0, 2))
    torch.testing.assert_close(weights(module.net), (a + 2 * b) / 3, rtol=1e-6, atol=1e-7)
    assert module.round_metrics["round/clients"] == 2
    losses = once[0].metrics["loss"] + 2 * once[2].metrics["loss"]
    assert module.round_metrics["clients/train_loss"] == pytest.approx(losses / 3)


def test_a_federation_of_one_client_draws_it_every_time():
    (task,) = tasks(FederatedLoop(5, seed=0, sampling=SizeSampling()), sizes=(7,))
    assert (task.weight, task.num_examples, task.steps) == (5, 7, 4)


@pytest.mark.parametrize("sizes", [(8, 8, 8, 8), (6, 6, 6, 6, 6)])
def test_clients_of_one_size_make_both_weightings_agree_for_one_draw(sizes: tuple[int, ...]):
    models, cohorts = [], []
    for averaging in ("size", "uniform"):
        sent: list[ClientUpdate] = []
        loop = FederatedLoop(3, seed=0, sampling=UniformSampling(), averaging=averaging)
        loop.on_update.append(sent.append)
        models.append(weights(fit(FederatedModule(net()), loop, data(sizes), rounds=3).net))
        cohorts.append(sorted((update.task.round, update.task.client) for update in sent))
    assert cohorts[0] == cohorts[1]
    # A common factor of all weights drops out of the mean: exactly where it is a power of two, else to rounding.
    torch.testing.assert_close(
        models[0], models[1], rtol=0 if sizes[0] == 8 else 1e-5, atol=0 if sizes[0] == 8 else 1e-6
    )


def test_clients_of_unlike_sizes_do_not():
    by_size, alike = (
        weights(fit(FederatedModule(net()), FederatedLoop(4, seed=0, averaging=averaging), rounds=1).net)
        for averaging in ("size", "uniform")
    )
    assert not torch.allclose(by_size, alike, atol=1e-4)


def test_uniform_averaging_is_the_plain_mean_of_the_clients_models():
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(4, seed=0, averaging="uniform")
    loop.on_update.append(sent.append)
    module = fit(FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1)), loop, rounds=1)
    mean = torch.stack([update.weights.floats.double() for update in sent]).mean(0)
    torch.testing.assert_close(weights(module.net), mean, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sampling", [UniformSampling(), SizeSampling()])
def test_as_many_clients_a_round_as_there_are(sampling: Sampling):
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(len(SIZES), seed=0, sampling=sampling)
    loop.on_update.append(sent.append)
    fit(loop=loop, rounds=2)
    for round in range(2):
        cohort = [update.task for update in sent if update.task.round == round]
        if sampling.by_size:
            assert sum(task.weight for task in cohort) == len(SIZES)
        else:
            assert {task.client: task.weight for task in cohort} == dict(enumerate(SIZES))


def test_more_draws_than_clients_need_draws_by_size():
    with pytest.raises(
        InputError, match=r"clients_per_round is 50 but there are 6 clients; lower federation\.clients_p"
    ):
        fit(loop=FederatedLoop(50, seed=0))
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(50, seed=0, sampling=SizeSampling())
    loop.on_update.append(sent.append)
    fit(loop=loop, rounds=1)
    assert len(sent) <= len(SIZES)
    assert sum(update.task.weight for update in sent) == 50


def test_draws_by_size_with_equal_weights_are_unbiased():
    # A client's expected share of the average is p_k: 17/49 for client 2, here over 3,000 rounds of 4 draws.
    loop = FederatedLoop(4, seed=0, sampling=SizeSampling())
    d = data()
    d.setup()
    shares = [sum(task.weight for task in loop.cohort(round, d) if task.client == 2) / 4 for round in range(3000)]
    p = 17 / 49
    assert np.mean(shares) == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 12_000))
