"""Rounds without validation: other metrics are logged, and all readers accept the gaps."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlit.cli import main
from fedlit.core.checkpoint import read
from fedlit.plots import curves
from fedlit.report.statistics import measure
from fedlit.runs import read_runs
from fedlit.study.listing import list_runs

ROUNDS = 5
TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--federation.clients_per_round=3 --federation.local_epochs=0.2 --federation.engine=fedlit.engines.LoopEngine"
).split()


def fit(logs: Path, *more: str, rounds: int = ROUNDS) -> Path:
    assert main(["fit", *TINY, f"--logs_dir={logs}", f"--trainer.max_epochs={rounds}", *more]) == 0
    return logs / "run" / "version_0"


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def untimed(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if not k.endswith(("seconds", "per_second"))} for row in rows(run)]


@pytest.fixture(scope="module")
def every_second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five rounds of which the second and the fourth are validated."""
    return fit(tmp_path_factory.mktemp("every"), "--trainer.check_val_every_n_epoch=2")


@pytest.fixture(scope="module")
def each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with every round validated."""
    return fit(tmp_path_factory.mktemp("each"))


def test_each_round_has_a_row_and_validated_ones_the_global_columns(every_second: Path, each: Path) -> None:
    assert [row["round"] for row in rows(every_second)] == ["1", "2", "3", "4", "5"]
    for row, whole in zip(untimed(every_second), untimed(each), strict=True):
        validated = row["round"] in "24"
        for name, value in whole.items():
            assert row[name] == (value if validated or not name.startswith("global/") else ""), name
    assert any(name.startswith("drift/") for name in rows(every_second)[0])


def test_tensorboard_has_all_points(every_second: Path) -> None:
    events = EventAccumulator(str(every_second), size_guidance={"scalars": 0})
    events.Reload()
    assert [point.step for point in events.Scalars("drift/mean")] == [1, 2, 3, 4, 5]
    assert [point.step for point in events.Scalars("Global/accuracy")] == [2, 4]


def test_the_tables_and_checkpoints_at_the_end_name_their_rounds(every_second: Path, each: Path) -> None:
    accuracies = {int(row["round"]): float(row["global/accuracy"]) for row in rows(each)}
    best = max((2, 4), key=lambda round: (accuracies[round], -round))
    assert read(every_second / "checkpoints" / "best.ckpt")["global_step"] == best
    assert read(every_second / "checkpoints" / "last.ckpt")["global_step"] == ROUNDS
    classes, clients = (pd.read_csv(every_second / name) for name in ("classes.csv", "clients.csv"))
    assert set(classes["round"]) == {4}
    assert np.average(classes["accuracy"], weights=classes["samples"]) == pytest.approx(accuracies[4])
    assert set(clients["round"]) == {ROUNDS}


def test_the_progress_lines_show_accuracy_where_it_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, "--trainer.check_val_every_n_epoch=2", rounds=3)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]
    assert ["accuracy" in line for line in lines] == [False, True, False]
    assert all(line.endswith(" s") for line in lines)


def test_a_resumed_run_has_the_same_rows(every_second: Path, tmp_path: Path) -> None:
    every = "--trainer.check_val_every_n_epoch=2"
    fit(tmp_path, every, rounds=3)
    assert untimed(fit(tmp_path, every, "--ckpt_path=last")) == untimed(every_second)


def test_a_run_without_validation_has_rounds_but_no_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(tmp_path, "--trainer.limit_val_batches=0", rounds=2)
    assert [row["round"] for row in rows(run)] == ["1", "2"]
    assert not any(name.startswith("global/") for name in rows(run)[0])
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert "best round" not in capsys.readouterr().out
    fit(tmp_path, "--trainer.limit_val_batches=0", "--ckpt_path=last", rounds=3)
    assert len(rows(run)) == 3


# --- readers ---------------------------------------------------------------------------------------------------------


def test_metrics_of_accuracy_are_of_the_validated_rounds(every_second: Path) -> None:
    table = pd.read_csv(every_second / "metrics.csv")
    second, fourth = (float(rows(every_second)[i]["global/accuracy"]) for i in (1, 3))
    measured = measure(table, target=max(second, fourth))
    assert measured["accuracy"] == fourth
    assert measured["best_accuracy"] == max(second, fourth)
    assert measured["change"] == pytest.approx(abs(fourth - second))
    assert measured["to_target"] == (2 if second >= fourth else 4)
    assert measured["loss"] == float(rows(every_second)[3]["global/loss"])
    assert measure(table[table["round"] < 2]) == {}


def test_list_of_runs_curves_and_verify_work_without_validation(every_second: Path) -> None:
    (listed,) = list_runs(every_second.parents[1])
    assert (listed.state, listed.done, len(listed.accuracies)) == ("finished", ROUNDS, 2)
    figure = curves(read_runs(every_second.parents[1]))
    assert figure.axes[0].lines[0].get_xdata().tolist() == [2, 4]


@pytest.mark.parametrize("validate", ["--trainer.check_val_every_n_epoch=2", "--trainer.limit_val_batches=0"])
def test_a_report_works_without_validation_in_every_round(validate: str, every_second: Path, tmp_path: Path) -> None:
    source = every_second if "every" in validate else fit(tmp_path / "logs", validate, rounds=2)
    for seed in (0, 1):
        for variant in ("plain", "spatial"):
            shutil.copytree(source, tmp_path / "study" / f"{variant}_iid" / f"seed_{seed}")
    status = main(["report", str(tmp_path / "study")])
    assert status == (0 if "every" in validate else 2)
    assert (tmp_path / "study" / "report" / "report.md").exists() == ("every" in validate)


@pytest.mark.slow
def test_verify_compares_runs_without_validation(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY[:-5], "--trainer.check_val_every_n_epoch=2", "--federation.local_epochs=0.1"]
    assert main(["verify", *words, "--federation.clients_per_round=2", "--at_round=1", "--rounds=3"]) == 0
    assert "the same: killed in round 2" in capsys.readouterr().out


def test_a_finished_runs_record_is_untouched_by_gaps(every_second: Path) -> None:
    assert json.loads((every_second / "run.json").read_text())["state"] == "finished"
