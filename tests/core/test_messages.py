"""From jsonargparse's texts to one line. What a user sees is tested in test_cli; here are the corners."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest
import torch

from fedlit.core.errors import InputError
from fedlit.core.messages import KeyedError, explain, missing_package, mistake, one_line, out_of_memory


def parser(*options: str) -> ArgumentParser:
    made = ArgumentParser(add_help=False)
    for option in options:
        made.add_argument(f"--{option}")
    return made


def test_our_own_error_is_taken_as_it_is_however_deep() -> None:
    error = TypeError("outer")
    error.__cause__ = ValueError("middle")
    error.__cause__.__cause__ = InputError("alpha must be > 0, got 0; use 0.5")
    assert mistake(error) is error.__cause__.__cause__
    assert str(explain("outer", error)) == "alpha must be > 0, got 0; use 0.5"


def test_other_errors_are_not_the_users() -> None:
    assert mistake(ZeroDivisionError("ours")) is None


def test_an_outer_parser_puts_its_key_in_front() -> None:
    inner = KeyedError("alpha must be a number, got big")
    error = TypeError("outer")
    error.__cause__ = inner
    assert str(explain('Parser key "data.partition":\n  anything', error)).startswith("data.partition.alpha must be")


def test_few_options_are_all_named_where_none_is_near() -> None:
    said = str(explain("Option 'zzz' is not accepted", None, parser("alpha", "min_samples")))
    assert said == "zzz: no such option; there are alpha, min_samples"


def test_many_options_are_left_to_help() -> None:
    many = parser(*(f"option{letter}" for letter in "abcdefghijklmnop"))
    assert str(explain("Option 'zzz' is not accepted", None, many)) == "zzz: no such option; --help lists what there is"


def test_an_unknown_message_keeps_its_words() -> None:
    assert (
        str(explain('Parser key "model":\n  something new')) == "model: something new; --help explains every argument"
    )


def test_a_long_message_is_cut() -> None:
    assert one_line("a\n  b" + "c" * 600, limit=10) == "a bcccc..."


def test_a_long_word_is_cut_before_the_line_is() -> None:
    assert one_line(f"--{'x' * 600}: no such option") == f"--{'x' * 58}... no such option"


def test_no_memory_left_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as none_left:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(none_left.value)
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes differ"))


def test_a_package_that_is_missing_is_said_unless_the_mistake_is_said_already() -> None:
    absent = ValueError("many lines")
    absent.__cause__ = ModuleNotFoundError("No module named 'comet_ml'")
    assert str(missing_package(absent)) == "No module named 'comet_ml'; install it, or leave out what needs it"
    said = InputError("said")
    said.__context__ = ModuleNotFoundError("another")
    assert missing_package(said) is missing_package(ValueError("other")) is None


def test_an_argument_that_is_missing_is_named_without_its_command() -> None:
    said = str(explain("the following arguments are required: fit.model.net"))
    assert said == "model.net must be given, and not null; --help explains it"
