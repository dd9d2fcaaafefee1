"""Charts have the numbers of their runs, and a variant has the same colour in all charts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from studies import made_up, scalars, shapes, study_of, write_outcome, write_study

from fedlit.plots import COLOURS
from fedlit.report.charts import charts
from fedlit.report.collect import Study, collect
from fedlit.report.panels import Heat, Panel
from fedlit.report.pictures import colours, together
from fedlit.report.statistics import compare, measure_all, targets


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return collect(write_study(tmp_path_factory.mktemp("study"), shapes(), seeds=(0, 1), rounds=12))


def test_a_curve_is_the_mean_over_seeds_in_a_band_from_lowest_to_highest(study: Study) -> None:
    chart = charts(study, made_up().iloc[:0], [])[0]
    tables = [run.table["global/accuracy"] for run in study.runs if run.name == "channel_iid"]
    panel = chart.panels[2]
    assert isinstance(panel, Panel)
    line = panel.lines[1]
    assert (chart.name, panel.title, line.variant) == ("accuracy", "iid (even split)", "channel")
    assert np.allclose(line.y, np.mean(tables, axis=0))
    assert np.allclose(line.low, np.min(tables, axis=0))
    assert np.allclose(line.high, np.max(tables, axis=0))
    assert len({p.limits for p in chart.panels if isinstance(p, Panel)}) == 1  # comparable


def test_an_unfinished_run_is_drawn_where_its_variant_has_no_finished_one(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}, seeds=(0, 1))
    for name, rounds in (("plain_iid/seed_0", 5), ("spatial_iid/seed_0", 6), ("spatial_iid/seed_1", 9)):
        scalars(0.8, 0, rounds).to_csv(tmp_path / name / "metrics.csv", index=False)
    panel = charts(collect(tmp_path), made_up().iloc[:0], [])[0].panels[0]
    assert isinstance(panel, Panel)
    assert {line.variant: len(line.x) for line in panel.lines} == {"plain": 20, "spatial": 6}


def test_heterogeneity_goes_from_the_smallest_alpha_to_an_even_split(study: Study) -> None:
    measured = measure_all(study, targets(study, "plain"))
    chart = next(c for c in charts(study, measured, []) if c.name == "heterogeneity")
    panel = chart.panels[0]
    assert isinstance(panel, Panel)
    assert panel.ticks == ("0.1\ndir01", "0.5\ndir05", "\u221e (even)\niid")
    finals = measured.query("variant == 'spatial' and partition == 'dir05'")["accuracy"]
    assert panel.lines[3].y[1] == pytest.approx(finals.mean())


def test_differences_are_points_with_intervals(study: Study) -> None:
    measured = made_up(spatial={"accuracy": -0.1})
    comparisons = compare(measured, study_of(measured), "plain")
    chart = next(c for c in charts(study_of(measured), measured, comparisons) if c.name == "differences")
    panel = chart.panels[0]
    assert isinstance(panel, Panel)
    assert {line.variant for line in panel.lines} == {"channel", "channel_mlp", "spatial"}
    assert np.allclose(panel.lines[2].y, -0.1, atol=0.01)


def test_a_variant_has_one_colour_wherever_it_is_drawn(study: Study) -> None:
    measured = measure_all(study, targets(study, "plain"))
    expected = dict(zip(study.variants, COLOURS, strict=False))
    assert colours(study.variants) == expected
    drawn = charts(study, measured, compare(measured, study, "plain"))
    for chart in (chart for chart in drawn if chart.name in ("accuracy", "heterogeneity", "differences")):
        for axes in together(chart, study.variants).axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                artist = handle if hasattr(handle, "get_color") else handle[0]
                assert to_hex(artist.get_color()).upper() == expected[label]


def test_black_is_nearly_white_on_a_dark_page() -> None:
    eight = [str(i) for i in range(8)]
    assert colours(eight)["7"] == "#000000"
    assert colours(eight, dark=True)["7"] == "#F8F9FA"


def test_accuracy_by_class_is_shown_where_runs_were_tested(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, seeds=(0, 1))
    for seed, values in enumerate([(0.5, 1.0), (0.7, 0.8)]):
        table = pd.DataFrame({"class": ["0", "N"], "accuracy": values})
        table.to_csv(tmp_path / f"plain_iid/seed_{seed}/test_classes.csv", index=False)
    study = collect(tmp_path)
    (panel,) = next(c for c in charts(study, made_up().iloc[:0], []) if c.name == "classes").panels
    assert isinstance(panel, Heat)
    assert (panel.rows, panel.columns) == (("plain",), ("0", "N"))
    assert np.allclose(panel.values, [[0.6, 0.9]])


def test_accuracy_over_clients_is_sorted_and_a_mean_over_seeds(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}, seeds=(0, 1))
    for seed, clients in enumerate([(0.9, 0.1, 0.5), (0.7, 0.9, 0.3)]):
        write_outcome(tmp_path / f"plain_iid/seed_{seed}", clients)
    write_outcome(tmp_path / "spatial_iid/seed_0", (0.5, 0.5), rounds=7)  # of another round than the runs are
    study = collect(tmp_path)
    chart = next(c for c in charts(study, made_up().iloc[:0], []) if c.name == "clients")
    (panel,) = chart.panels
    assert isinstance(panel, Panel)
    (line,) = panel.lines
    assert (line.variant, len(line.x)) == ("plain", 101)
    assert np.allclose(line.x[[0, 50, 100]], [0, 50, 100])
    assert np.allclose(line.y[[0, 50, 100]], [0.2, 0.6, 0.9])
    assert np.allclose(line.low[[0, 50]], [0.1, 0.5])
    assert np.allclose(line.high[[0, 50]], [0.3, 0.7])
    handles, labels = together(chart, study.variants).axes[0].get_legend_handles_labels()
    assert labels == ["plain"]
    assert to_hex(handles[0].get_color()).upper() == COLOURS[0]


def test_accuracy_by_class_of_the_final_model_is_preferred_to_that_of_a_test(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, seeds=(0, 1))
    for seed, values in enumerate([(0.5, 1.0), (0.7, 0.8)]):
        run = tmp_path / f"plain_iid/seed_{seed}"
        write_outcome(run, (0.5,), values)
        pd.DataFrame({"class": ["x"], "accuracy": 0.0}).to_csv(run / "test_classes.csv", index=False)
    chart = next(c for c in charts(collect(tmp_path), made_up().iloc[:0], []) if c.name == "classes")
    (panel,) = chart.panels
    assert isinstance(panel, Heat)
    assert panel.columns == ("N/A", "1")
    assert np.allclose(panel.values, [[0.6, 0.9]])


def test_a_curve_of_one_round_is_a_point(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, seeds=(0,), rounds=1)
    (line,) = together(charts(collect(tmp_path), made_up().iloc[:0], [])[0], ("plain",)).axes[0].lines
    assert (line.get_marker(), line.get_xdata().tolist()) == ("o", [1])


def test_accuracy_by_many_classes_is_a_mean_over_each_bin(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, seeds=(0,))
    table = pd.DataFrame({"class": [f"c{i}" for i in range(250)], "accuracy": np.arange(250) / 250})
    table.to_csv(tmp_path / "plain_iid/seed_0/test_classes.csv", index=False)
    (panel,) = next(c for c in charts(collect(tmp_path), made_up().iloc[:0], []) if c.name == "classes").panels
    assert isinstance(panel, Heat)
    assert panel.columns[:2] == ("c0 to c2", "c3 to c5")
    assert np.allclose(panel.values[0, :2], [1 / 250, 4 / 250])
    assert panel.values.shape == (1, 84)
