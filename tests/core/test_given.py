"""Checks of what a user gives: texts that name a choice, and objects of a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from fedlit.algorithms import AttentiveAggregation, BatchNormPolicy, KeepLocal, Mean
from fedlit.attention import CBAM, SpatioTemporal
from fedlit.core.errors import InputError
from fedlit.core.given import Checked, is_same, object_of, one_of
from fedlit.data import EMNIST, Synthetic
from fedlit.federated import FederatedLoop
from fedlit.models import EmnistCNN

#: Every argument of ours that is one of several texts; a wrong one would stand for one of them.
CHOICES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda text: FederatedLoop(averaging=text), "averaging"),
    (lambda text: Mean(text), "missing"),
    (lambda text: BatchNormPolicy(text), "local"),
    (lambda text: AttentiveAggregation(text), "by"),
    (lambda text: EMNIST(split=text), "split"),
    (lambda text: Synthetic(reading=text), "reading"),
    (lambda text: EmnistCNN(norm=text), "norm"),
    (lambda text: EmnistCNN(attention_at=text), "attention_at"),
    (lambda text: SpatioTemporal(8, first=text), "first"),
    (lambda text: CBAM(8, norm=text), "norm"),
]


@pytest.mark.parametrize(("make", "name"), CHOICES)
def test_a_text_that_is_none_of_the_choices_is_refused(make: Callable[[str], Any], name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.* must be .*got '?bogus"):
        make("bogus")


def test_one_text_is_no_list_of_patterns() -> None:
    with pytest.raises(InputError, match=r"got the text 'attention'; give \['attention'\]"):
        KeepLocal("attention")


def test_one_of_the_choices_is_returned() -> None:
    assert one_of("side", "left", ["left", "right"]) == "left"
    with pytest.raises(InputError, match="side must be one of 'left', 'right', got 'up'; use 'left'"):
        one_of("side", "up", ["left", "right"])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (bool, r"number is the class bool; make an object of it: bool\(\.\.\.\)"),
        (str, "number is the class str; give 1"),
        ("one", "number must be of the class int, got 'one'; give 1"),
        (one_of, "number must be of the class int, got the function one_of; give 1"),
        ("a" * 1000, "number must be of the class int, got 'a{50,60}; give 1"),
    ],
)
def test_what_is_no_object_of_the_class_is_refused(value: Any, says: str) -> None:
    assert object_of("number", 3, int, "1") == 3
    with pytest.raises(InputError, match=says):
        object_of("number", value, int, "1")


class Positive(Checked):
    _checks: ClassVar = {"value": abs}

    def __init__(self, value: int) -> None:
        self.value, self.other = value, value


def test_an_attribute_is_checked_whenever_it_is_set() -> None:
    made = Positive(-1)
    assert (made.value, made.other) == (1, -1)
    made.value = -2
    assert made.value == 2


def test_plain_values_are_the_same_if_equal_and_others_if_they_are_one_object() -> None:
    number = float("1.5")
    assert is_same(number, float("1.5"))
    assert not is_same(1, True)
    assert not is_same([1], [1])
    one: list[int] = []
    assert is_same(one, one)
