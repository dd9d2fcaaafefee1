"""Clients by the skew of their labels, and films of attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from studies import write_study

from fedlit.report.collect import collect
from fedlit.report.command import report
from fedlit.report.left_behind import ends, ends_by_seed, skewed_clients, skewed_over_rounds
from fedlit.report.panels import Curves, Scatter
from fedlit.report.run import read_outcome

CELLS = {(variant, partition): (0.8, 0.01) for variant in ("plain", "spatial") for partition in ("dir01", "iid")}
#: Eight clients; their accuracy falls by 0.1 for each 0.1 of skew.
SKEW = np.array([0.3, 0.1, 0.8, 0.5, 0.7, 0.2, 0.6, 0.4])


def clients(round: int, shift: float = 0.0, falls: float = 1.0) -> pd.DataFrame:
    columns = {"round": round, "client": range(8), "samples": range(10, 18), "accuracy": 0.9 - falls * SKEW + shift}
    return pd.DataFrame(columns | {"skew": SKEW})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    for number, run in enumerate(sorted(tmp_path.glob("*/seed_*"))):
        clients(20, 0.01 * number).to_csv(run / "clients.csv", index=False)
    return tmp_path


def test_the_ends_are_the_least_and_the_most_skewed_quarter() -> None:
    assert ends(clients(20)) == pytest.approx((0.9 - (0.1 + 0.2) / 2, 0.9 - (0.7 + 0.8) / 2))


def test_each_client_is_a_point_on_axes_that_variants_share(folder: Path) -> None:
    chart = skewed_clients(collect(folder))
    assert chart is not None
    assert "at dir01 (Dirichlet, \u03b1 = 0.1), seed 0" in chart.caption
    first, second = chart.panels
    assert isinstance(first, Scatter)
    assert isinstance(second, Scatter)
    assert (first.title, second.title) == ("plain", "spatial")
    assert (first.limits, first.across) == (second.limits, second.across)
    np.testing.assert_allclose(first.lines[0].x, SKEW)
    np.testing.assert_allclose(first.lines[0].y, 0.9 - SKEW)
    assert first.names[2] == "client 2: 12 examples"
    np.testing.assert_allclose(first.trend, 0.9 - np.array(first.across))  # all points lie on the line


def test_clients_with_equal_skew_have_a_level_line(folder: Path) -> None:
    for run in folder.glob("*/seed_*"):
        clients(20).assign(skew=0.25).to_csv(run / "clients.csv", index=False)
    chart = skewed_clients(collect(folder))
    assert chart is not None
    assert isinstance(chart.panels[0], Scatter)
    assert chart.panels[0].trend == pytest.approx((0.9 - SKEW.mean(), 0.9 - SKEW.mean()))


def test_each_table_is_read_once_for_each_of_its_uses_however_many_seeds_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> pd.DataFrame:
        read.append(path)
        return read_outcome(path)

    monkeypatch.setattr("fedlit.report.run.read_outcome", reading)
    most = {}
    for seeds in (2, 4):
        folder = write_study(tmp_path / str(seeds), CELLS, seeds=range(seeds))
        for place in folder.glob("*/seed_*"):
            clients(20).to_csv(place / "clients.csv", index=False)
        read.clear()
        study = collect(folder)
        assert skewed_clients(study) is not None
        assert all(ends_by_seed(study, variant, partition) for variant, partition in CELLS)
        most[seeds] = max(map(read.count, read))
    assert most == {2: 2, 4: 2}


@pytest.mark.parametrize("without", [0, 1])
def test_a_seed_without_the_table_is_left_out(without: int, folder: Path) -> None:
    (folder / f"spatial_dir01/seed_{without}/clients.csv").unlink()
    study = collect(folder)
    assert list(ends_by_seed(study, "spatial", "dir01")) == [1 - without]
    assert list(ends_by_seed(study, "plain", "dir01")) == [0, 1]
    chart = skewed_clients(study)
    assert chart is not None
    assert f"seed {1 - without}:" in chart.caption  # the one with both variants
    assert [panel.title for panel in chart.panels] == ["plain", "spatial"]


def test_runs_without_a_skew_have_no_such_chart(folder: Path) -> None:
    for run in folder.glob("*/seed_*"):
        clients(20).drop(columns="skew").to_csv(run / "clients.csv", index=False)
    assert skewed_clients(collect(folder)) is None
    assert skewed_over_rounds(collect(folder)) is None


def test_the_most_skewed_are_followed_over_the_rounds_that_were_asked_for(folder: Path) -> None:
    for seed in (0, 1):
        rounds = folder / f"plain_dir01/seed_{seed}" / "rounds"
        rounds.mkdir()
        for round in (10, 20):
            clients(round, 0.01 * round + 0.02 * seed).to_csv(rounds / f"clients_{round:04}.csv", index=False)
        (rounds / "clients_0015.csv").write_text("half a")
    chart = skewed_over_rounds(collect(folder))
    assert chart is not None
    (panel,) = chart.panels
    assert isinstance(panel, Curves)
    (line,) = panel.lines
    assert line.x.tolist() == [10, 20]
    np.testing.assert_allclose(line.y, [0.15 + 0.1 + 0.01, 0.15 + 0.2 + 0.01])  # 0.9 less 0.75, mean of two seeds
    np.testing.assert_allclose(line.low, line.seeds[0])


def test_the_report_has_the_points_the_ends_and_the_films(folder: Path) -> None:
    film = folder / "spatial_dir01/seed_0/attention_film.png"
    Image.new("RGB", (8, 8)).save(film)
    report(folder)
    out = folder / "report"
    text = (out / "report.md").read_text()
    assert "## Who is left behind" in text
    assert "| dir01 (Dirichlet, \u03b1 = 0.1) | plain | 0.755 | 0.155 | \u22120.600 | 2 |" in text  # runs 0 and 1
    assert "## Attention over the rounds" in text
    assert "![spatial](../spatial_dir01/seed_0/attention_film.png)" in text
    page = (out / "report.html").read_text()
    assert "client 2: 12 examples: 0.8, 0.1" in page
    assert (out / "skewed_clients.png").is_file()
