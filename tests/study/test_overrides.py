"""What a study changes in its base config: each change is made, whatever the order in which they are written."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.study import sweep
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


SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
#: A base config with a dict as the value of an argument, and the names that a study's changes leave of it.
NAMES = {"class_path": "fedlit.mu.MuByName", "init_args": {"names": {"weight": 0.1, "bias": 0.2}}}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, {"weight": 0.1, "bias": 0.2}),
        ({"model.mu.names": {"weight": 0.5}}, {"weight": 0.5}),
        ({"model.mu.init_args.names": {"conv": 0.5, "bias": 1.0}}, {"conv": 0.5, "bias": 1.0}),
        ({"model": {"mu": {"names": {"weight": 0.5}}, "client_clip_norm": 3.0}}, {"weight": 0.5}),
        ({"model": {"mu": {"init_args": {"names": {"weight": 0.5}}}}}, {"weight": 0.5}),
        ({"model.mu.names.weight": 0.5}, {"weight": 0.5, "bias": 0.2}),  # as with fedlit fit, one key of the dict
        ({"model.mu.names": {"weight": 0.5}, "model.mu.names.conv": 2.0}, {"weight": 0.5, "conv": 2.0}),
        ({"model.mu": {"class_path": "MuByName", "init_args": {"names": {"weight": 0.5}}}}, {"weight": 0.5}),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["axis", "set"])
def test_a_dict_that_is_a_value_replaces_that_of_the_base(
    changes: Any, names: dict[str, float], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "FEDLIT", (sys.executable, "-c", "raise SystemExit(1)"))  # runs nothing
    base = yaml.safe_load(SMOKE.read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base | {"model": base.get("model", {}) | {"mu": NAMES}}))
    given = {"axes": {"mu": {"x": changes}}} if place == "axis" else {"set": changes, "axes": {"mu": {"x": {}}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"base": "base.yaml", **given}))
    assert main(["study", "--config", "study.yaml"]) == 1
    config = json.loads(Path("logs/study/study.json").read_text())["combinations"]["x"]["config"]
    assert config["model"]["mu"]["init_args"]["names"] == names


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
