"""Messages for the user, and the classification of errors."""

from __future__ import annotations

import pytest
import torch

from fedlit.core.errors import InputError
from fedlit.core.messages import causes, find_input_error, missing_package, one_line, out_of_memory


def test_an_input_error_is_found_at_any_depth_of_causes() -> None:
    error = TypeError("outer")
    error.__cause__ = ValueError("middle")
    error.__cause__.__cause__ = InputError("alpha must be > 0, got 0; use 0.5")
    assert find_input_error(error) is error.__cause__.__cause__


def test_other_errors_are_not_input_errors() -> None:
    assert find_input_error(ZeroDivisionError("ours")) is None


def test_circular_causes_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    assert list(causes(first)) == [first, second]
    assert find_input_error(first) is missing_package(first) is None


def test_a_long_message_is_cut() -> None:
    assert one_line("a\n  b" + "c" * 600, limit=10) == "a bcccc..."


def test_a_long_word_is_cut_before_the_line_is() -> None:
    assert one_line(f"--{'x' * 600}: no such option") == f"--{'x' * 58}... no such option"


def test_out_of_memory_is_distinguished_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as none_left:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(none_left.value)
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes differ"))


def test_a_missing_package_is_reported_unless_there_is_an_input_error() -> None:
    absent = ValueError("many lines")
    absent.__cause__ = ModuleNotFoundError("No module named 'comet_ml'")
    assert str(missing_package(absent)) == "No module named 'comet_ml'; install it, or remove the setting that needs it"
    said = InputError("said")
    said.__context__ = ModuleNotFoundError("another")
    assert missing_package(said) is missing_package(ValueError("other")) is None
