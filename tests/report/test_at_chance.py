"""Runs that learned nothing are recognised by their accuracy, and left out of the measures of stability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import write_outcome, write_study

from fedlit.report.at_chance import NAMED, at_chance, in_words
from fedlit.report.collect import collect
from fedlit.report.command import report
from fedlit.report.statistics import measure_all, targets

CELLS = {(variant, partition): (0.8, 0.01) for variant in ("plain", "spatial") for partition in ("dir01", "iid")}


def ends_at(run: Path, accuracy: float, classes: int = 4) -> None:
    """Write a run that ends at an accuracy, with ``classes`` classes of ten examples each."""
    table = pd.read_csv(run / "metrics.csv")
    pd.DataFrame(table.assign(**{"global/accuracy": accuracy})).to_csv(run / "metrics.csv", index=False)
    if classes:
        write_outcome(run, [0.5], [accuracy] * classes)


@pytest.mark.parametrize(
    ("accuracy", "classes", "learned"),
    [
        (0.25, 4, False),  # one of four classes is always named
        (0.38, 4, False),  # 1/4 and 2 errors of sqrt(1/4 * 3/4 / 40) are 0.387
        (0.39, 4, True),
        (0.0, 4, False),
        (0.0, 1, True),  # with one class there is no chance to be above of
        (0.0, 0, True),  # how many classes there are is not known
    ],
)
def test_a_run_no_better_than_one_class_has_learned_nothing(
    tmp_path: Path, accuracy: float, classes: int, learned: bool
) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    ends_at(tmp_path / "spatial_dir01/seed_1", accuracy, classes)
    found = [(run.variant, run.partition, run.seed) for run in at_chance(collect(tmp_path))]
    assert found == ([] if learned else [("spatial", "dir01", 1)])


def test_a_run_is_judged_at_the_compared_round(tmp_path: Path) -> None:
    """Its classes.csv belongs to the last round; only the class frequencies are used."""
    write_study(tmp_path, CELLS, seeds=(0,))
    run = tmp_path / "spatial_dir01/seed_0"
    write_outcome(run, [0.5], [0.8] * 4)
    table = pd.read_csv(run / "metrics.csv")
    table.loc[table["round"] <= 10, "global/accuracy"] = 0.25
    table.to_csv(run / "metrics.csv", index=False)
    assert [len(at_chance(collect(tmp_path, rounds))) for rounds in (10, 20)] == [1, 0]


def test_a_run_that_learned_nothing_has_no_stability(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    ends_at(tmp_path / "spatial_dir01/seed_1", 0.25)
    study = collect(tmp_path)
    measured = measure_all(study, targets(study, "plain")).set_index(["variant", "partition", "seed"])
    of_it = measured.loc[("spatial", "dir01", 1)]
    assert np.isnan(of_it[["wobble", "std", "largest_drop", "change"]].to_numpy(dtype=float)).all()
    assert of_it["accuracy"] == 0.25
    assert measured.drop(("spatial", "dir01", 1))["wobble"].notna().all()


def told(folder: Path) -> str:
    report(folder)
    return (folder / "report/report.md").read_text().partition("## In short")[2].partition("\n## ")[0]


def test_the_report_names_runs_that_learned_nothing_beside_the_answer(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    assert "learned nothing" not in told(tmp_path)
    ends_at(tmp_path / "spatial_dir01/seed_1", 0.25)
    assert "**1 run learned nothing**: spatial at dir01, seed 1 ended no better than" in told(tmp_path)


def test_of_many_such_runs_some_are_named_and_the_others_counted(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    for run in tmp_path.glob("*/seed_*"):
        ends_at(run, 0.25)
    words = in_words(collect(tmp_path))
    assert words.startswith("**8 runs learned nothing**: ")
    assert words.count(", seed ") == NAMED
    assert "and 2 others" in words
