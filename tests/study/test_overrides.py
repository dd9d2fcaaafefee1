"""What a study changes in its base config: each change is made, whatever the order in which they are written."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
import yaml

from fedlit.core.errors import InputError
from fedlit.study.overrides import as_arguments, flat, setting_names, without_literal_quotes


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"data.partition.alpha": 0.1, "data.partition": "A"}, ["data.partition", "data.partition.alpha"]),
        ({"data.init_args.partition": "A", "data": "B"}, ["data", "data.init_args.partition"]),
        ({"trainer.callbacks+": ["A"], "trainer.callbacks": ["B"]}, ["trainer.callbacks", "trainer.callbacks+"]),
        ({"model.mu": 0, "data.batch_size": 4}, ["model.mu", "data.batch_size"]),
    ],
)
def test_a_class_goes_before_its_arguments_and_a_list_before_what_is_added(changes: Any, keys: list[str]) -> None:
    assert [key for key, _ in as_arguments(changes)] == [f"--{key}" for key in keys]


TEXTS = ("plain", "no", "1", "a: b: c", "[x", "@home", "%d", "*", "", "two\nlines", "\U0001f600: naïve")


@pytest.mark.parametrize("value", [*TEXTS, 0.5, None, True, [1, "a"]])
def test_a_value_is_read_as_what_it_is(value: Any) -> None:
    ((_, word),) = as_arguments({"key": value})
    assert yaml.safe_load(word) == value


def test_values_that_json_cannot_express_are_written_in_yaml() -> None:
    ((_, infinite),) = as_arguments({"a": float("inf")})
    assert yaml.safe_load(infinite) == float("inf")
    assert flat({"a": {"b": date(2026, 1, 2)}}) == {"a.b": "2026-01-02"}


@pytest.mark.parametrize(
    "changes",
    [
        {"data.batch_size": 4},
        {"data.init_args.batch_size": 4},
        {"data": {"batch_size": 4}},
        {"data": {"init_args": {"batch_size": 4}}},
    ],
)
def test_a_setting_has_one_name_however_it_is_written(changes: Any) -> None:
    assert setting_names(changes, "set") == setting_names(flat(changes), "set") == ["data.batch_size"]


def test_a_class_sets_its_arguments() -> None:
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    assert setting_names({"model.client_optimizer": optimizer}, "set") == [
        "model.client_optimizer",
        "model.client_optimizer.lr",
    ]


def test_a_setting_that_is_written_in_two_ways_is_refused() -> None:
    with pytest.raises(InputError, match=r"axes.a.b: data.batch_size is set 2 times, under different spellings; keep"):
        setting_names({"data.batch_size": 4, "data.init_args.batch_size": 8}, "axes.a.b")


def test_numbers_for_keys_are_those_of_a_value() -> None:
    assert flat({"model": {"net": {"table": {1: 0.5}, "width": 2}}}) == {
        "model.net.table": {1: 0.5},
        "model.net.width": 2,
    }


def test_quotes_that_an_argument_took_as_text_are_removed() -> None:
    given = ("--a", '"no"', "--b", '"1"', "--c", "x")
    assert without_literal_quotes(given, {"a": '"no"', "b": "1", "c": "x"}) == (
        "--a",
        "no",
        "--b",
        '"1"',
        "--c",
        "x",
    )
