"""The FedProx study: what its figure shows, and what its command does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fedlit import plots
from fedlit.errors import InputError
from fedlit.study import fedprox
from fedlit.study.fedprox import COLUMNS, LINES, figure, main, read
from fedlit.study.sweep import Run

CONFIGS = Path(__file__).parents[2] / "configs" / "fedprox"
NAMES = [config.stem for config in sorted(CONFIGS.glob("*.yaml"))]


def scalars(*names: str, seed: int = 0, loss: Sequence[float] = (2.0, 1.0, 0.5)) -> pd.DataFrame:
    """As `read` gives them."""
    columns = {
        "round": np.arange(1, len(loss) + 1),
        "diagnostics/train_loss": loss,
        "global/accuracy": np.linspace(0.2, 0.8, len(loss)),
        "diagnostics/gradient_variance": np.full(len(loss), 0.1),
    }
    return pd.concat([pd.DataFrame(columns).assign(run=name, seed=seed) for name in names], ignore_index=True)


def test_every_config_has_its_place_in_the_figure() -> None:
    assert set(NAMES) <= {f"{column}_{line}" for column in COLUMNS for line in LINES}


def test_columns_are_data_and_stragglers_and_rows_are_metrics() -> None:
    panels = figure(scalars(*NAMES)).axes
    assert [axes.get_title() for axes in panels[:6]] == list(COLUMNS.values())
    assert [axes.get_ylabel() for axes in panels[::6]] == ["training loss", "test accuracy", "variance of gradients"]
    assert [len(axes.lines) for axes in panels] == [2, 2, 2, 2, 3, 3] * 3
    colours = {line.get_label(): line.get_color() for axes in panels for line in axes.lines}
    assert colours == dict(zip(LINES.values(), plots.COLOURS, strict=False))


def test_the_legend_names_each_line_once() -> None:
    (legend,) = figure(scalars(*NAMES)).legends
    assert [text.get_text() for text in legend.get_texts()] == list(LINES.values())


def test_what_is_measured_before_a_round_stands_at_the_round_before() -> None:
    loss, accuracy, variance = figure(scalars("synthetic_1_1_mu1")).axes
    assert loss.lines[0].get_xydata().tolist() == [[0, 2.0], [1, 1.0], [2, 0.5]]
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[1, 0.2], [2, 0.5], [3, 0.8]])
    assert variance.lines[0].get_xdata().tolist() == [0, 1, 2]


def test_a_line_is_the_mean_over_seeds_in_a_band_from_lowest_to_highest() -> None:
    name = "synthetic_0_0_mu0"
    tables = [scalars(name, seed=seed, loss=loss) for seed, loss in enumerate(([1.0, 2.0], [4.0, 2.5], [1.0, 3.0]))]
    result = figure(pd.concat(tables))
    axes = result.axes[0]
    assert axes.lines[0].get_ydata().tolist() == [2.0, 2.5]
    corners = axes.collections[0].get_paths()[0].vertices
    assert {(x, y) for x, y in corners.tolist()} == {(0, 1.0), (0, 4.0), (1, 2.0), (1, 3.0)}
    assert "mean of 3 seeds" in result.get_supxlabel()


def test_rounds_without_a_measurement_make_no_gap() -> None:
    axes = figure(scalars("synthetic_iid_mu0", loss=[2.0, np.nan, 1.0])).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 2.0], [2, 1.0]]


def test_what_there_is_nothing_of_is_left_out() -> None:
    table = scalars("synthetic_iid_mu0", "one_of_mine").drop(columns=["diagnostics/gradient_variance"])
    panels = figure(table).axes
    assert [axes.get_title() for axes in panels] == ["Synthetic-IID", ""]
    assert [axes.get_ylabel() for axes in panels] == ["training loss", "test accuracy"]
    with pytest.raises(InputError, match="no run is one of synthetic_iid_dropped and so on"):
        figure(scalars("one_of_mine"))


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], [f"synthetic_1_1_stragglers90_{line}" for line in LINES]])
def test_nothing_overlaps(names: list[str]) -> None:
    result = figure(pd.concat([scalars(*names, seed=seed) for seed in (0, 1)]))
    canvas = FigureCanvasAgg(result)
    canvas.draw()
    (legend,) = result.legends
    below = next(text for text in result.texts if text.get_text() == result.get_supxlabel())
    boxes = [part.get_tightbbox(canvas.get_renderer()) for part in (legend, below, *result.axes)]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert result.bbox.padded(1).contains(*box.min)
        assert result.bbox.padded(1).contains(*box.max)


def test_runs_that_have_not_begun_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "seed3" / "b" / "version_0"
    folder.mkdir(parents=True)
    folder.joinpath("metrics.csv").write_text("round,global/accuracy\n1,0.25\n2,0.5\n")
    table = read([Run(Path(f"{name}.yaml"), 3, 9, tmp_path) for name in ("a", "b")])
    assert table.to_dict("list") == {
        "round": [1, 2],
        "global/accuracy": [0.25, 0.5],
        "run": ["b", "b"],
        "seed": [3, 3],
    }


# --- the command -----------------------------------------------------------------------------------------------------


def test_it_runs_every_config_at_every_seed_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pretend(runs: Sequence[Run], jobs: int, console: object) -> list[Run]:
        assert jobs == 3
        for run in runs:
            folder = run.logs / run.name / "version_0"
            folder.mkdir(parents=True)
            scalars(run.name).drop(columns=["run", "seed"]).to_csv(folder / "metrics.csv", index=False)
            asked.append((run.name, run.seed, run.rounds))
        return list(runs[:1])

    asked: list[tuple[str, int, int]] = []
    monkeypatch.setattr(fedprox, "run_all", pretend)
    words = f"--rounds 5 --seeds 0 4 --jobs 3 --logs_dir {tmp_path} --configs {CONFIGS}".split()
    assert main(words) == 1
    assert asked == [(name, seed, 5) for seed in (0, 4) for name in NAMES]
    assert (tmp_path / "fedprox.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert f"1 of {2 * len(NAMES)} runs failed" in said
    assert "fedprox.png" in said


def test_without_a_run_to_draw_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fedprox, "run_all", lambda runs, jobs, console: list(runs))
    assert main([f"--logs_dir={tmp_path}", f"--configs={CONFIGS}"]) == 1
    assert "no figure: no run is one of" in capsys.readouterr().out


def test_ctrl_c_ends_it_with_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fedprox, "run_all", interrupted)
    assert main([f"--logs_dir={tmp_path}", f"--configs={CONFIGS}"]) == 130


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--configs nowhere", "no *.yaml in nowhere; give the folder"),
        ("--jobs 0", "--jobs: must be at least 1, got 0"),
        ("--round 5", "unrecognized arguments: --round"),
    ],
)
def test_mistakes_are_told(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    assert told in capsys.readouterr().err
