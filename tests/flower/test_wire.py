"""Tasks and updates are sent without changing a bit, and checked before use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights, is_finite
from fedlit.flower.frame import Frame, WireError, pack, unpack
from fedlit.flower.kinds import TASK, UPDATE
from fedlit.flower.vectors import blob_of, counts, numbers, tensor_of
from fedlit.flower.wire import Receipt, Terms, samples_of, task_frame, task_in, terms_in, update_frame, update_in

TERMS = Terms(4, 0.25, 7, ["a", "b", "c"], 1, 3, 0.1309, [0.308])
LIKE = Weights(torch.arange(6.0), torch.tensor([3]), torch.tensor([True, False]))
SENT = Broadcast(LIKE, (0.1, 0.0), torch.ones(5), round=2, rate=0.3)
ASKED = ClientTask(1, 2, 42, 5, 1.5, 10, 3.0, diagnose=True)


def sent(**changes: Any) -> Frame:
    """The task as a site receives it, with other values or blobs."""
    frame = task_frame(ASKED, SENT, TERMS, "f", "32-true", Receipt(1, 5), [0, 1])
    values = {name: changes.get(name, value) for name, value in frame.values.items()}
    blobs = {name: changes.get(name, blob) for name, blob in frame.blobs.items()}
    return unpack(pack(Frame(frame.kind, values, blobs)), TASK)


def read(frame: Frame) -> tuple[ClientTask, Broadcast]:
    return task_in(frame, LIKE, torch.zeros(5), trainable=2, most_steps=100)


@dataclass
class Answer:
    """A valid answer to ``ASKED``, parts of which may be changed."""

    weights: Weights = LIKE
    squares: list[float] = field(default_factory=lambda: [0.5, 0.1])
    metrics: dict[str, float] = field(
        default_factory=lambda: {"loss": 0.1, "accuracy": 0.5, "proximal": 0.0, "samples": 18.0, "gamma": 0.3}
    )
    task: ClientTask = ASKED
    federation: str = "f"
    data: str = "d"
    crc: int = -1

    def frame(self) -> Frame:
        update = ClientUpdate(self.task, self.weights, self.squares, self.metrics)
        return unpack(pack(update_frame(update, self.federation, self.data, self.crc)), UPDATE)

    def read(self) -> ClientUpdate:
        return update_in(self.frame(), ASKED, SENT, {"federation": "f", "data": "d"}, batch_size=4)


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


@given(arrays.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), st.integers(0, 20)))
def test_a_vector_comes_back_to_the_bit(array):
    tensor = torch.from_numpy(array)
    assert same(tensor_of("v", blob_of(tensor), tensor), tensor)


@given(st.floats(width=32), st.lists(st.floats(0, 1e300), min_size=2, max_size=2), st.floats(1e-300, 1e300))
def test_a_task_comes_to_the_site_to_the_bit(number, mu, rate):
    weights = LIKE._replace(floats=torch.full((6,), number))
    broadcast = SENT._replace(weights=weights, mu=tuple(mu), rate=rate)
    frame = unpack(pack(task_frame(ASKED, broadcast, TERMS, "f", "32-true", Receipt(), [])), TASK)
    task, found = read(frame)
    assert (task.client, task.round, task.seed, task.steps, task.num_examples, task.diagnose) == (1, 2, 42, 5, 10, True)
    assert same(found.weights.floats, weights.floats)
    assert same(found.weights.counts, weights.counts)
    assert same(found.weights.flags, weights.flags)
    assert (found.mu, found.rate, found.round) == (tuple(mu), rate, 2)
    assert terms_in(frame) == TERMS


def test_one_number_for_all_channels_is_not_a_list_of_one():
    # (x - m) with a float is not to the bit what it is with a tensor of one float32.
    assert terms_in(sent()).mean == 0.1309
    assert terms_in(sent()).std == [0.308]


WRONG_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "another network": ({"floats": blob_of(torch.zeros(7))}, "floats has 7 numbers, not 6"),
    "float64 for float32": ({"floats": blob_of(torch.zeros(6, dtype=torch.float64))}, "floats is of type <f8"),
    "another message": ({"message": blob_of(torch.zeros(4))}, "message has 4 numbers, not 5"),
    "mu of other tensors": ({"mu": numbers([0.1])}, "got 1 numbers"),
    "a negative mu": ({"mu": numbers([0.1, -1.0])}, "got 2 numbers"),
    "no steps": ({"steps": 0}, "0 steps"),
    "more steps than the site does": ({"steps": 101}, "101 steps, but this site does at most 100"),
    "a negative round": ({"round": -1}, "round is out of range"),
    "a rate of zero": ({"rate": 0.0}, "rate is out of range"),
    "an infinite rate": ({"rate": math.inf}, "rate is out of range"),
}


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_a_site_refuses_a_task_that_does_not_fit_it(case: str):
    changes, said = WRONG_TASKS[case]
    with pytest.raises(WireError, match=said):
        read(sent(**changes))


WRONG_TERMS: dict[str, tuple[dict[str, Any], str]] = {
    "a batch of none": ({"batch_size": 0}, "batch_size"),
    "all held out": ({"client_holdout": 1.0}, "client_holdout"),
    "one class": ({"classes": ["a"]}, "classes"),
    "no clients": ({"clients": 0}, "clients"),
    "a std of zero": ({"std": numbers([0.0])}, "std"),
    "a mean that is not finite": ({"mean": numbers([math.nan])}, "mean"),
    "means of other channels": ({"mean": numbers([0.1, 0.2])}, "mean"),
}


@pytest.mark.parametrize("case", WRONG_TERMS)
def test_a_site_refuses_terms_that_are_out_of_range(case: str):
    changes, said = WRONG_TERMS[case]
    with pytest.raises(WireError, match=f"{said} is out of range"):
        terms_in(sent(**changes))


def test_an_update_comes_back_to_the_bit():
    found = Answer().read()
    assert found.task is ASKED
    assert same(found.weights.floats, LIKE.floats)
    assert (found.squares, found.metrics, found.kept) == (Answer().squares, Answer().metrics, None)


@given(st.integers(0, 2**24 - 1), st.integers(0, 2**32 - 1))
def test_a_receipt_is_exact_in_float32(round, crc):
    receipt = Receipt(round, crc)
    assert Receipt.read(receipt.vector()) == receipt
    assert Receipt.read(Receipt().vector()) == Receipt()


def test_an_update_has_a_receipt_of_what_the_client_keeps():
    kept = Answer(crc=77).read().kept
    assert kept is not None
    assert Receipt.read(kept) == Receipt(2, 77)


METRICS = Answer().metrics
WRONG_ANSWERS: dict[str, tuple[Answer, str]] = {
    "of another client": (Answer(task=ASKED._replace(client=0)), "client is 0, but the task has 1"),
    "of another round": (Answer(task=ASKED._replace(round=1)), "round is 1, but the task has 2"),
    "of another federation": (Answer(federation="g"), "federation is 'g', but the task has 'f'"),
    "of other data": (Answer(data="e"), "data is 'e', but the task has 'd'"),
    "short": (Answer(weights=LIKE._replace(floats=torch.zeros(5))), "floats has 5 numbers, not 6"),
    "of another type": (Answer(weights=LIKE._replace(floats=torch.zeros(6).double())), "floats is of type <f8"),
    "squares of another number": (Answer(squares=[0.1]), "squares has 1 numbers, not 2"),
    "negative squares": (Answer(squares=[-0.1, 0.1]), "squares are not all finite numbers >= 0"),
    "squares that are NaN": (Answer(squares=[math.nan, 0.1]), "squares are not all"),
    "no metrics": (Answer(metrics={}), "its metrics are none; required are loss"),
    "an accuracy of 2": (Answer(metrics={**METRICS, "accuracy": 2.0}), "its accuracy is 2.0"),
    "a negative proximal term": (Answer(metrics={**METRICS, "proximal": -1.0}), "its proximal is -1.0"),
    "another number of samples": (Answer(metrics={**METRICS, "samples": 1e9}), "1e.09 samples, but the task has 18"),
    "a negative gamma": (Answer(metrics={**METRICS, "gamma": -0.1}), "its gamma is -0.1"),
    "a checksum beyond 32 bits": (Answer(crc=2**40), "crc is out of range"),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_an_impossible_answer_is_refused(case: str):
    answer, said = WRONG_ANSWERS[case]
    with pytest.raises(WireError, match=said):
        answer.read()


def test_metrics_of_odd_names_are_refused():
    frame = Answer().frame()
    odd = Frame(
        frame.kind, {**frame.values, "measured": ["loss", "accuracy", "proximal", "samples", "x" * 999]}, frame.blobs
    )
    with pytest.raises(WireError, match="its metrics are loss, accuracy"):
        update_in(odd, ASKED, SENT, {}, 4)


def test_flags_that_are_neither_true_nor_false_are_refused():
    frame = Answer().frame()
    flags = frame.blobs["flags"]._replace(data=b"\1\2")
    with pytest.raises(WireError, match="neither true nor false"):
        update_in(frame._replace(blobs={**frame.blobs, "flags": flags}), ASKED, SENT, {}, 4)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_update_that_is_not_finite_is_left_to_the_round_which_rejects_it_by_name(number: float):
    answer = Answer(weights=LIKE._replace(floats=torch.full((6,), number)), squares=[math.nan, math.nan])
    assert not is_finite(answer.read())


def test_gamma_of_a_client_without_a_gradient_is_not_a_number():
    assert math.isnan(Answer(metrics={**METRICS, "gamma": math.nan}).read().metrics["gamma"])


@pytest.mark.parametrize(("steps", "samples"), [(1, 4), (2, 8), (3, 10), (4, 14), (6, 20), (7, 24)])
def test_the_number_of_samples_follows_from_the_steps(steps: int, samples: int):
    # 10 examples in batches of 4: a pass is 4 + 4 + 2.
    assert samples_of(ASKED._replace(steps=steps), 4) == samples


def test_counts_are_whole_numbers():
    assert [*map(int, np.frombuffer(counts([1, 2**40]).data, "<i8"))] == [1, 2**40]
