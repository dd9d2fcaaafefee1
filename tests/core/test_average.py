from fractions import Fraction
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlit.core.average import WeightedMean
from fedlit.core.records import Weights


def state(*floats: float, count: int = 0) -> Weights:
    return Weights(torch.tensor(floats, dtype=torch.float32), torch.tensor([count]))


def mean_of(*pairs: tuple[Weights, float]) -> Weights:
    mean = WeightedMean(pairs[0][0])
    for weights, weight in pairs:
        mean.add_state(weights, weight)
    return mean.mean()


def test_two_clients_by_hand():
    assert torch.equal(mean_of((state(1, 10), 1), (state(4, -2), 2)).floats, torch.tensor([3.0, 2.0]))


def test_integer_buffers_take_the_maximum():
    assert mean_of((state(0, count=3), 5), (state(0, count=2), 1)).counts.tolist() == [3]


def test_equal_models_average_to_themselves_to_the_bit():
    model = state(0.1, 1e-30, -7e20, 1 / 3)
    assert torch.equal(mean_of(*[(model, n) for n in (3, 7, 11, 1)]).floats, model.floats)


def test_the_mean_of_nobody_is_the_model_itself():
    model = state(1, 2)
    assert WeightedMean(model).mean() is model


finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.tuples(finite, st.integers(1, 10_000)), min_size=1, max_size=6))
def test_the_mean_is_the_exact_one_rounded_once(clients: list[tuple[float, int]]):
    exact = sum(Fraction(x) * n for x, n in clients) / sum(n for _, n in clients)
    result = mean_of(*[(state(x), n) for x, n in clients]).floats
    assert result.item() == pytest.approx(float(exact), rel=1e-7, abs=1e-30)


def test_the_mean_does_not_depend_on_the_order_of_clients():
    # Plain float64 keeps or loses the small terms by order: 3e17 has an ulp of 64.
    clients = [(state(1e17), 3), (state(1.1), 1), (state(-1e17), 3), (state(3e-9), 2)]
    results = {mean_of(*order).floats.item() for order in permutations(clients)}
    assert len(results) == 1
    assert results.pop() == pytest.approx((1.1 + 6e-9) / 9, rel=1e-7)
