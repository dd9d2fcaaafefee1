"""Whole numbers that a user gives, and every argument that is one."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlit import algorithms, attention, data, engines, federated, schedules
from fedlit.core.counts import at_least, share_of
from fedlit.core.errors import InputError

PACKAGES: list[ModuleType] = [algorithms, attention, data, engines, federated, schedules]
MADE_BY_FEDLIT = (data.Batches,)
#: Other arguments, without which some classes cannot be made.
NEEDED: dict[str, Any] = {"channels": 8, "attackers": 1, "every": 1}


def whole_arguments() -> list[tuple[type, str]]:
    """Each argument of a public class that is annotated as an ``int``, or as one or None."""
    classes = {made: None for package in PACKAGES for made in vars(package).values() if inspect.isclass(made)}
    return [
        (made, argument.name)
        for made in classes
        if made.__module__.startswith("fedlit.") and not issubclass(made, (tuple, Exception, *MADE_BY_FEDLIT))
        if not inspect.isabstract(made) and not is_dataclass(made)
        for argument in inspect.signature(made).parameters.values()
        if argument.annotation in ("int", "int | None")
    ]


@pytest.mark.parametrize(("made", "argument"), whole_arguments())
def test_a_float_is_refused_where_a_whole_number_is_asked_for(made: type, argument: str) -> None:
    taken = inspect.signature(made).parameters
    needed = {name: value for name, value in NEEDED.items() if name in taken}
    with pytest.raises(InputError, match=rf"{argument}.*(must be a whole number|must be odd).*2\.5"):
        made(**needed | {argument: 2.5})


def test_the_table_of_arguments_is_not_empty() -> None:
    found = {(made.__name__, argument) for made, argument in whole_arguments()}
    assert {("AdaptiveMu", "patience"), ("Dirichlet", "min_samples"), ("Krum", "multi"), ("Step", "every")} <= found


def test_numpys_integers_become_pythons() -> None:
    number = at_least(1, "rounds", np.int16(3))
    assert (number, type(number)) == (3, int)


def test_a_number_below_the_bound_is_named_with_the_hint() -> None:
    with pytest.raises(InputError, match=r"^rounds must be at least 1, got 0; it is a number of rounds$"):
        at_least(1, "rounds", 0, "it is a number of rounds")
    with pytest.raises(InputError, match=r"^size must be at least 2, got 1; use 2 or more$"):
        at_least(2, "size", 1)


@given(number=st.integers(0, 10**9), hundredths=st.integers(0, 99))
@settings(deadline=None)
def test_a_share_is_rounded_down_from_the_decimal_that_the_user_wrote(number: int, hundredths: int) -> None:
    assert share_of(number, hundredths / 100) == number * hundredths // 100
