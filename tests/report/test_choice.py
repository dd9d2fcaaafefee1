"""The report of a study that searches for a setting names it and the data of the choice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import write_study

from fedlit.core.errors import InputError
from fedlit.report.collect import collect
from fedlit.report.command import main
from fedlit.report.sections.choice import ranking
from fedlit.report.select import check_select, order, score

CELLS = {("lr01", "dir05"): (0.8, 0.0), ("lr03", "dir05"): (0.7, 0.0), ("lr1", "dir05"): (0.9, 0.0)}


def search(folder: Path, metric: str, validation_clients: int) -> Path:
    write_study(folder, CELLS, seeds=(0, 1))
    record = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**record, "select": metric}))
    data = f"{{class_path: E, init_args: {{validation_clients: {validation_clients}}}}}"
    for path in folder.glob("*/*/config.yaml"):
        path.write_text(f"trainer: {{max_epochs: 20}}\ndata: {data}\n")
    return folder


def report(folder: Path) -> str:
    assert main([str(folder)]) == 0
    return (folder / "report/report.md").read_text()


def test_the_score_is_the_mean_of_the_last_five_rounds() -> None:
    assert score([9, 1, 2, 3, 4, 5]) == 3
    assert score([2.0]) == 2
    assert score([]) != score([])


def test_for_a_loss_the_lowest_is_best() -> None:
    assert (order("global/loss"), order("global/accuracy")) == (1, -1)


@pytest.mark.parametrize("metric", ["global/accuracy", "global/loss"])
def test_the_best_setting_comes_first(metric: str, tmp_path: Path) -> None:
    study = collect(search(tmp_path, metric, 10))
    assert [variant for variant, *_ in ranking(study)] == ["lr1", "lr01", "lr03"]  # the loss falls as accuracy rises
    mean = [score(run.table[metric].tolist()) for run in study.runs if run.variant == "lr1"]
    assert ranking(study)[0][2] == pytest.approx(mean)


def test_it_names_the_chosen_setting_and_says_that_the_test_set_was_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = report(search(tmp_path, "global/accuracy", 10))
    assert "## Chosen setting\n\n**lr1** is best by `global/accuracy`" in text
    assert "validation clients, which never train; the test set was not used" in text
    assert "No finished run of `plain`" not in text
    assert "## The paper's claims" not in text
    assert "claim " not in capsys.readouterr().out


def test_a_choice_on_the_test_set_is_reported_as_biased(tmp_path: Path) -> None:
    assert "is biased upwards" in report(search(tmp_path, "global/accuracy", 0))


def test_a_setting_without_all_its_seeds_is_not_ranked(tmp_path: Path) -> None:
    search(tmp_path, "global/accuracy", 10)
    (tmp_path / "lr1_dir05/seed_1/metrics.csv").unlink()
    text = report(tmp_path)
    assert "**lr01** is best" in text
    assert "1 run still missing, so this may change" in text


def test_what_is_said_to_be_best_comes_first(tmp_path: Path) -> None:
    study = collect(search(tmp_path / "lowest", "lowest global/f1_macro", 10))
    assert [variant for variant, *_ in ranking(study)] == ["lr03", "lr01", "lr1"]
    study = collect(search(tmp_path / "highest", "highest global/loss", 10))
    assert [variant for variant, *_ in ranking(study)] == ["lr03", "lr01", "lr1"]


@pytest.mark.parametrize("lost", ["nan", "inf", "-inf"])
def test_a_setting_that_diverged_at_any_seed_comes_last(lost: str, tmp_path: Path) -> None:
    search(tmp_path, "global/loss", 10)
    path = tmp_path / "lr1_dir05/seed_1/metrics.csv"
    path.write_text(pd.read_csv(path).assign(**{"global/loss": float(lost)}).to_csv(index=False, na_rep="nan"))
    assert [variant for variant, *_ in ranking(collect(tmp_path))] == ["lr01", "lr03", "lr1"]
    assert "**lr01** is best" in report(tmp_path)


@pytest.mark.parametrize("metric", ["global/accuracy", "clients/own_accuracy_mean", "global/f1_macro", "global/loss"])
def test_of_well_known_metrics_the_way_is_known(metric: str) -> None:
    assert check_select(metric) == metric


@pytest.mark.parametrize("given", ["drift/mean", "clients/accuracy_std", "least drift/mean", 3, ""])
def test_of_other_metrics_the_way_must_be_said(given: object) -> None:
    with pytest.raises(InputError, match=r"select"):
        check_select(given)
    assert check_select("lowest drift/mean") == "lowest drift/mean"


def test_rounds_that_were_not_validated_are_no_divergence(tmp_path: Path) -> None:
    for path in search(tmp_path, "global/loss", 10).glob("*/seed_*/metrics.csv"):
        table = pd.read_csv(path)
        table.loc[table["round"] % 5 > 0, ["global/loss", "global/accuracy"]] = np.nan
        table.to_csv(path, index=False)
    assert [variant for variant, *_ in ranking(collect(tmp_path))] == ["lr1", "lr01", "lr03"]
