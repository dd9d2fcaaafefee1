"""A trace gives the function's results, or there is no trace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from fedlit.engines import traced as module
from fedlit.engines.traced import Program, plain, traced

ROWS, BATCH, FEATURES, CLASSES = 3, 4, 5, 2


def regression(weight: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Gradients (K, C, F) of the cross-entropy of K linear models, and logits (K, B, C)."""

    def loss(w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = x @ w.T
        return F.cross_entropy(logits, y), logits

    return vmap(grad(loss, has_aux=True))(weight, x, y)


def state(seed: int = 0) -> Tensor:
    return torch.randn(ROWS, CLASSES, FEATURES, generator=torch.Generator().manual_seed(seed))


def batches(steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, ROWS, BATCH, FEATURES, generator=generator)
    return x, torch.randint(0, CLASSES, (steps, ROWS, BATCH), generator=generator)


def trace(step) -> Program | None:
    return traced(step, [state()], [column[0] for column in batches(1)])


def test_a_trace_holds_for_other_weights_and_batches():
    program = trace(regression)
    assert program is not None
    x, y = batches(6, seed=1)
    prepared = program.prepare(x, y)
    for step in range(6):
        results = program.step(state(seed=step), *(column[step] for column in prepared))
        expected = regression(state(seed=step), x[step], y[step])
        torch.testing.assert_close(results, tuple(expected))


def test_kernels_that_need_only_the_batch_are_not_part_of_the_step():
    program = trace(regression)
    assert program is not None
    kernels = {node.name for node in program.step.__self__.graph.nodes}
    assert "bmm" in kernels
    assert not [name for name in kernels if name.startswith(("scatter", "where", "ne", "full", "gather"))]


def test_a_traced_softmax_regression_is_few_kernels():
    program = trace(regression)
    assert program is not None
    nodes = program.step.__self__.graph.nodes
    kernels = [node for node in nodes if node.op == "call_function" and "transpose" not in node.name]
    assert len(kernels) <= 6  # logits, log-softmax, its gradient, the weights', and views


def test_a_constant_that_a_function_holds_is_read_when_it_is_used():
    scale = torch.ones(FEATURES)
    program = trace(lambda w, x, y: regression(w, x * scale, y))
    assert program is not None
    scale.fill_(3.0)
    x, y = batches(1)
    results = program.step(state(), *(column[0] for column in program.prepare(x, y)))
    torch.testing.assert_close(results, tuple(regression(state(), 3 * x[0], y[0])))


def test_writing_in_place_to_what_the_step_made_itself_is_traced():
    assert trace(lambda w, x, y: regression(w, (x + 1).relu_(), y)) is not None


def writes_to_its_weights(w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    w.mul_(1.0)
    return regression(w, x, y)


def writes_to_its_batch(w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    x.mul_(1.0)
    return regression(w, x, y)


def looks_at_values(w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return regression(w if x.sum() > 0 else -w, x, y)


def fails(w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    raise RuntimeError("no")


class Counting:
    """Does something else each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return regression(self.calls * w, x, y)


class Writing:
    """Counts its calls in a tensor of its own."""

    def __init__(self) -> None:
        self.calls = torch.zeros(())

    def __call__(self, w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        self.calls.add_(1)
        return regression(w, x, y)


@pytest.mark.parametrize(
    "step", [writes_to_its_weights, writes_to_its_batch, looks_at_values, fails, Counting(), Writing()]
)
def test_a_step_whose_trace_would_be_wrong_has_none(step):
    assert trace(step) is None


def test_few_bytes_are_prepared_at_a_time(monkeypatch):
    x_bytes = ROWS * BATCH * FEATURES * 4
    monkeypatch.setattr(module, "PREPARED_BYTES", 10 * x_bytes)
    program = trace(regression)
    assert program is not None
    assert 1 <= program.span < 10
    monkeypatch.setattr(module, "PREPARED_BYTES", 1)
    assert trace(regression).span == 1


def test_a_plain_program_prepares_nothing():
    x, y = batches(1)
    program = plain(regression)
    assert program.span == 1
    assert program.prepare(x, y) == (x, y)
    torch.testing.assert_close(program.step(state(), x[0], y[0]), regression(state(), x[0], y[0]))
