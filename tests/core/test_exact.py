"""Sums that do not depend on the order of their terms."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fedlit.core import exact
from fedlit.core.exact import ExactSum, dot, exact_sum
from fedlit.native import library
from fedlit.native.versions import PYTORCH


@pytest.mark.parametrize(
    ("terms", "total"),
    [
        ([], 0.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([0.1] * 10, 1.0),
        ([1.0, math.inf], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1.0, math.nan], math.nan),
        ([1e308, 1e308], math.inf),
    ],
)
def test_a_sum_is_rounded_once_and_nan_and_infinity_propagate(terms: list[float], total: float):
    for order in permutations(terms[:4]):
        assert exact_sum([*order, *terms[4:]]) == pytest.approx(total, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_product_does_not_depend_on_the_number_of_threads(threads: int):
    x, y = torch.randn(2, 300_001, generator=torch.Generator().manual_seed(0))
    expected = float(sum(Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)))
    one = dot(x, y)
    torch.set_num_threads(threads)
    try:
        assert dot(x, y) == one == pytest.approx(expected, rel=1e-12)
    finally:
        torch.set_num_threads(1)
    assert dot(x[:0], y[:0]) == 0.0


def test_a_running_sum_does_not_depend_on_the_order_of_vectors():
    # Shares of unit vectors, as the meter adds them: plain float32 keeps an order's rounding.
    vectors = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    results = set()
    for order in permutations(vectors):
        total = ExactSum(100, torch.device("cpu"))
        for vector in order:
            total.add(vector, 1 / float(vector.norm()))
        results.add(total.value().numpy().tobytes())
    assert len(results) == 1
    expected = sum(v.double().numpy() / float(v.norm()) for v in vectors)
    np.testing.assert_allclose(np.frombuffer(results.pop()), expected, rtol=1e-12)


@pytest.mark.skipif(not library("exact_sum"), reason="fedlit was installed without a C compiler")
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.lists(st.floats(1e-3, 2**40), min_size=1, max_size=8))
def test_the_compiled_sum_is_pytorchs_to_the_bit(seed: int, weights: list[float]):
    """For terms and weights of any size, finite or not."""
    generator = torch.Generator().manual_seed(seed)

    def vector() -> torch.Tensor:
        floats = torch.randn(70_001, generator=generator) * 10 ** (20 * torch.rand(70_001, generator=generator) - 10)
        floats[seed % 1000] = (float("nan"), float("inf"), -float("inf"), 0.0)[seed % 4]
        return floats

    vectors = [vector() for _ in weights]
    sums = []
    for name in ("any", PYTORCH):
        with patch.object(exact, "version", lambda name=name: name):
            total = ExactSum(70_001, torch.device("cpu"))
            for one, weight in zip(vectors, weights, strict=True):
                total.add(one, weight)
            sums.append((total.high, total.low))
    for compiled, of_pytorch in zip(*sums, strict=True):
        torch.testing.assert_close(compiled, of_pytorch, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [0, 1, exact.THREADED_CHUNK, 2 * exact.THREADED_CHUNK + 3])
def test_the_mean_is_the_rounded_sum_over_the_total_to_the_bit(size: int, dtype: torch.dtype):
    draw = torch.Generator().manual_seed(size)
    running = ExactSum(size, torch.device("cpu"))
    for weight in (3.0, 0.1, 1e-9, 1e9):
        running.add(torch.randn(size, generator=draw) * 10 ** torch.randint(-9, 9, (size,), generator=draw), weight)
    running.high[:1] = math.inf
    mean = running.mean(7.3, torch.zeros(size, dtype=dtype))
    assert mean.dtype == dtype
    assert torch.equal(mean, (running.value() / 7.3).to(dtype))


class Largest(TorchDispatchMode):
    """Notes the size of the largest new tensor, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.nbytes)
        return result


def test_the_mean_takes_no_memory_of_the_sums_size_but_its_own():
    like = torch.ones(10 * exact.THREADED_CHUNK)
    running = ExactSum(len(like), like.device)
    with Largest() as largest:
        running.mean(2.0, like)
    assert largest.bytes == like.nbytes  # the float64 of all of the sum would be twice that
