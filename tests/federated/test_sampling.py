import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlit.federated.records import ClientTask
from fedlit.federated.sampling import deal, steps_for, uniform_cohort


def test_a_cohort_is_a_function_of_seed_and_round():
    assert np.array_equal(uniform_cohort(100, 10, seed=1, round=5), uniform_cohort(100, 10, seed=1, round=5))
    assert not np.array_equal(uniform_cohort(100, 10, seed=1, round=5), uniform_cohort(100, 10, seed=1, round=6))
    assert not np.array_equal(uniform_cohort(100, 10, seed=1, round=5), uniform_cohort(100, 10, seed=2, round=5))


@given(st.integers(1, 200), st.data())
def test_nobody_is_drawn_twice(clients: int, data: st.DataObject):
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
def test_dealing_loses_nobody_and_doubles_nobody(steps: list[int], ranks: int):
    tasks = [task(i, s) for i, s in enumerate(steps)]
    shares = deal(tasks, ranks)
    assert len(shares) == ranks
    assert sorted(t for share in shares for t in share) == sorted(tasks)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 5))
def test_dealing_is_within_grahams_bound(steps: list[int], ranks: int):
    shares = deal([task(i, s) for i, s in enumerate(steps)], ranks)
    makespan = max(sum(t.steps for t in share) for share in shares)
    # No schedule beats the mean load or the largest task; a list schedule is within mean + (1 - 1/m) largest.
    assert makespan <= sum(steps) / ranks + (1 - 1 / ranks) * max(steps)
