"""Regular expressions that a user gives."""

from __future__ import annotations

import pytest

from fedlit.core.errors import InputError
from fedlit.core.patterns import compile_pattern


def test_a_pattern_is_compiled() -> None:
    assert compile_pattern(r"\bhead\b").search("net.head.weight")


def test_a_text_that_is_not_a_pattern_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"'\(head' is not a regular expression: .*; correct it, or give a plain word"):
        compile_pattern("(head")
