from fractions import Fraction
from itertools import permutations
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlit.federated import aggregate
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.records import Weights
from fedlit.native import library
from fedlit.native.versions import PYTORCH


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


@pytest.mark.skipif(not library("exact_sum"), reason="fedlit was installed without a C compiler")
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.lists(st.floats(1e-3, 2**40), min_size=1, max_size=8))
def test_the_compiled_sum_is_pytorchs_to_the_bit(seed: int, weights: list[float]):
    """Whatever the sizes of terms and weights, of numbers and of what is none."""
    generator = torch.Generator().manual_seed(seed)

    def terms() -> torch.Tensor:
        floats = torch.randn(70_001, generator=generator) * 10 ** (20 * torch.rand(70_001, generator=generator) - 10)
        floats[seed % 1000] = (float("nan"), float("inf"), -float("inf"), 0.0)[seed % 4]
        return floats

    states = [Weights(terms(), torch.zeros(0, dtype=torch.int64)) for _ in weights]
    means = []
    for name in ("any", PYTORCH):
        with patch.object(aggregate, "version", lambda name=name: name):
            mean = WeightedMean(states[0])
            for one, weight in zip(states, weights, strict=True):
                mean.add_state(one, weight)
            means.append((mean._high, mean._low))
    for compiled, of_pytorch in zip(*means, strict=True):
        torch.testing.assert_close(compiled, of_pytorch, rtol=0, atol=0, equal_nan=True)
