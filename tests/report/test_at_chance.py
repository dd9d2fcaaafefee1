"""Runs that learned nothing are named: by their accuracy against that of always naming one class."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import write_outcome, write_study

from fedlit.report.at_chance import NAMED, at_chance, in_words
from fedlit.report.collect import collect
from fedlit.report.command import report

CELLS = {(variant, partition): (0.8, 0.01) for variant in ("plain", "spatial") for partition in ("dir01", "iid")}


@pytest.mark.parametrize(
    ("classes", "learned"),
    [
        ([1.0, 0.0, 0.0, 0.0], False),  # one class is always named: a quarter is right
        ([0.9, 0.9, 0.0, 0.1], True),  # 0.475 is above 1/4 and 2 errors of sqrt(1/4 * 3/4 / 40), 0.387
        ([0.5, 0.5, 0.2, 0.2], False),  # 0.35 is not
        ([0.0, 0.0, 0.0, 0.0], False),
        ([0.0], True),  # with one class there is no chance to be above of
        ([], True),  # nothing is known
    ],
)
def test_what_is_no_better_than_one_class_has_not_learned(tmp_path: Path, classes: list[float], learned: bool) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    write_outcome(tmp_path / "spatial_dir01/seed_1", [0.5], classes)
    found = [(run.variant, run.partition, run.seed) for run in at_chance(collect(tmp_path))]
    assert found == ([] if learned else [("spatial", "dir01", 1)])


def test_the_report_names_them_beside_the_answer(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    report(tmp_path)
    assert "learned nothing" not in (tmp_path / "report/report.md").read_text()
    write_outcome(tmp_path / "spatial_dir01/seed_1", [0.5], [1.0, 0.0, 0.0])
    report(tmp_path)
    answer = (tmp_path / "report/report.md").read_text().partition("## In short")[2].partition("\n## ")[0]
    assert "**1 run learned nothing**: spatial at dir01, seed 1 ended no better than" in answer


def test_of_many_some_are_named_and_the_others_counted(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    for run in tmp_path.glob("*/seed_*"):
        write_outcome(run, [0.5], [0.0, 1.0])
    words = in_words(collect(tmp_path))
    assert words.startswith("**8 runs learned nothing**: ")
    assert words.count(" at ") == NAMED
    assert "and 2 others" in words
