"""Scalars on disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedlit.core.errors import InputError
from fedlit.runs import Board, MetricsTable
from fedlit.runs.salvage import whole_rows


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_row_for_each_round_and_a_column_for_each_scalar(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "run" / "metrics.csv")
    table.log_metrics({"a": 1.0}, step=1)
    table.log_metrics({"a": 2.0, "late": 0.5}, step=2)
    assert rows(tmp_path / "run" / "metrics.csv") == [
        {"round": "1", "a": "1.0", "late": ""},
        {"round": "2", "a": "2.0", "late": "0.5"},
    ]


def test_the_file_is_complete_after_every_round(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    for round in (1, 2, 3):
        table.log_metrics({"a": float(round)}, step=round)
        assert [row["round"] for row in rows(tmp_path / "metrics.csv")] == [str(r + 1) for r in range(round)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_two_calls_in_a_round_share_its_row(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"a": 1.0}, step=1)
    table.log_metrics({"b": 2.0}, step=1)
    assert rows(tmp_path / "metrics.csv") == [{"round": "1", "a": "1.0", "b": "2.0"}]


#: Calls of log_metrics: round, and metrics by name.
CALLS: dict[str, list[tuple[int, dict[str, float]]]] = {
    "the same columns in each round": [(1, {"a": 1.0, "b": 2.0}), (2, {"a": 3.0, "b": 4.0}), (3, {"a": 5.0, "b": 6.0})],
    "several calls in a round": [(1, {"a": 1.0}), (1, {"b": 2.0}), (2, {"a": 3.0}), (2, {"b": 4.0}), (2, {"b": 5.0})],
    "a column only in some rounds": [(1, {"a": 1.0}), (2, {"a": 1.0, "b": 2.0}), (3, {"a": 3.0}), (4, {"b": 4.0})],
    "an earlier round, later": [(1, {"a": 1.0}), (2, {"a": 2.0, "b": 3.0, "c": 4.0}), (1, {"c": 5.0}), (1, {"a": 6.0})],
    "rounds in another order": [(2, {"a": 1.0}), (1, {"b": 2.0}), (3, {"c": 3.0}), (0, {"a": 4.0})],
    "names that have to be quoted": [(1, {"a,b": 1.0, 'c"d': 2.0}), (2, {"a,b": 3.0, "e\nf": 4.0})],
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_each_call_leaves_the_whole_table_on_disk(calls: list[tuple[int, dict[str, float]]], tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    merged: dict[int, dict[str, float]] = {}
    for round, metrics in calls:
        table.log_metrics(metrics, step=round)
        merged.setdefault(round, {"round": round}).update(metrics)
        with (tmp_path / "expected.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, dict.fromkeys(name for row in merged.values() for name in row))
            writer.writeheader()
            writer.writerows(merged[each] for each in sorted(merged))
        assert (tmp_path / "metrics.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_a_row_becomes_text_only_when_it_or_a_column_changes(tmp_path: Path) -> None:
    made: list[int] = []

    class Told(int):
        def __str__(self) -> str:
            made.append(int(self))
            return super().__repr__()

    table = MetricsTable(tmp_path / "metrics.csv")
    for round in (1, 2, 3):
        table.log_metrics({"a": Told(round)}, step=round)
    assert made == [1, 2, 3]  # all rows in each call would be 1, 1, 2, 1, 2, 3
    table.log_metrics({"late": 0.5}, step=3)
    assert sorted(made) == [1, 1, 2, 2, 3, 3]
    assert [row["a"] for row in rows(tmp_path / "metrics.csv")] == ["1", "2", "3"]


def test_a_resumed_run_drops_the_rounds_after_its_checkpoint(tmp_path: Path) -> None:
    killed = MetricsTable(tmp_path / "metrics.csv")
    for round in (1, 2, 3):
        killed.log_metrics({"a": round / 10}, step=round)
    resumed = MetricsTable(tmp_path / "metrics.csv", resume_round=2)
    resumed.log_metrics({"a": 0.9}, step=3)
    assert [(row["round"], row["a"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("1", "0.1"),
        ("2", "0.2"),
        ("3", "0.9"),
    ]


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    MetricsTable(tmp_path / "metrics.csv").log_metrics({"a": 1.0}, step=1)
    MetricsTable(tmp_path / "metrics.csv").log_metrics({"a": 2.0}, step=5)
    assert [row["round"] for row in rows(tmp_path / "metrics.csv")] == ["5"]


def test_the_board_makes_no_file_before_the_run_begins(tmp_path: Path) -> None:
    board = Board(tmp_path, name="run")
    assert not hasattr(board, "experiment")
    assert list(tmp_path.iterdir()) == []
    board.save()
    assert [path.name.split(".")[0] for path in Path(board.log_dir).iterdir()] == ["events"]
    board.finalize("success")


def test_a_board_that_never_began_ends_quietly(tmp_path: Path) -> None:
    Board(tmp_path, name="run").finalize("failed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [None, 0])
def test_scalars_before_the_first_round_are_in_row_zero(step: int | None, tmp_path: Path) -> None:
    MetricsTable(tmp_path / "metrics.csv").log_metrics({"a": 1.0}, step=step)
    assert rows(tmp_path / "metrics.csv") == [{"round": "0", "a": "1.0"}]


def test_numbers_of_any_kind_are_kept_as_numbers(tmp_path: Path) -> None:
    numbers = {
        "float": 0.1, "int": 2, "bool": True, "float64": np.float64(0.5), "float32": np.float32(0.25),
        "bool_": np.bool_(False), "tensor": torch.tensor(2.5), "of one": torch.ones(1), "array": np.array([3]),
        "nan": float("nan"),
    }  # fmt: skip
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics(numbers, step=1)
    kept = ["1", "0.1", "2", "1", "0.5", "0.25", "0", "2.5", "1.0", "3", "nan"]
    assert list(rows(tmp_path / "metrics.csv")[0].values()) == kept
    assert whole_rows(tmp_path / "metrics.csv")[1]  # it is read again by a resumed run


@pytest.mark.parametrize("value", ["abc", None, torch.ones(2), np.ones(2), {"a": 1.0}, 1j], ids=repr)
def test_a_value_that_is_not_a_number_is_refused_by_name(value: Any, tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"a": 1.0}, step=1)
    with pytest.raises(InputError, match=r"^mine was logged as .*, but metrics.csv holds numbers; log a number$"):
        table.log_metrics({"mine": value}, step=2)
    assert rows(tmp_path / "metrics.csv") == [{"round": "1", "a": "1.0"}]


def test_a_metric_may_not_use_the_name_of_the_row_number(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"round": 1.0, "a": 2.0}, step=1)
    with pytest.raises(
        InputError, match=r"'round' with the value 7.0 was logged in round 2, .*; give the metric another"
    ):
        table.log_metrics({"round": 7.0}, step=2)
    assert rows(tmp_path / "metrics.csv") == [{"round": "1", "a": "2.0"}]


@pytest.mark.parametrize("step", [30, 1.5, -1])
def test_a_metric_logged_at_another_step_is_left_out_with_one_warning(
    step: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    for table.round in (1, 2):
        table.log_metrics({"a": 1.0}, step=table.round)
        table.log_metrics({"mine": 1.0}, step=step)
    assert [list(row) for row in rows(tmp_path / "metrics.csv")] == [["round", "a"]] * 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedlit: warning: mine was logged at step {step} in round ")


def test_a_metric_without_a_step_belongs_to_the_current_round(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    for table.round in (1, 2):
        table.log_metrics({"mine": float(table.round)})
    assert rows(tmp_path / "metrics.csv") == [{"round": "1", "mine": "1.0"}, {"round": "2", "mine": "2.0"}]
