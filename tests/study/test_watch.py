"""``fedlit watch``: the table of running runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fedlit.cli import main
from fedlit.core.terminal import Terminal
from fedlit.runs.state import RunState
from fedlit.study.listing import Listed
from fedlit.study.watch import ASCII_STEPS, curve, left, view


def run(name: str = "a", state: RunState = "running", done: int = 2, changed: float = 0.0, rejected: int = 0) -> Listed:
    accuracies = tuple(0.1 * round for round in range(1, done + 1))
    return Listed(
        Path("logs") / name, state, done, 10, accuracies, "", changed, seconds=(3.0,) * done, rejected=rejected
    )


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([float("nan")], ""),
        ([0.5], "▁"),
        ([0.0, 0.5, 1.0], "▁▅█"),  # 7 steps up: 0, 3.5 to the even 4, 7
        ([1.0, float("nan"), 0.0], "█▁"),
    ],
)
def test_a_curve_goes_from_the_least_to_the_greatest_value(values: list[float], shown: str) -> None:
    assert curve(values) == shown


def test_if_there_are_too_many_values_the_last_of_each_span_is_shown() -> None:
    assert curve([0, 9, 0, 9, 0, 9, 0, 9], width=4) == "▁▁▁▁"  # 9, 9, 9, 9
    assert len(curve(range(1000), width=20)) == 20


def test_the_time_left_is_estimated_from_the_last_rounds_of_a_running_run() -> None:
    assert left(run(done=2)) == "0:00:24"  # 8 rounds of 3 s
    assert left(run(state="finished")) == ""
    assert left(run(done=0)) == ""


def shown(runs: list[Listed], **options: object) -> list[str]:
    out = io.StringIO()
    console = Terminal(file=out, soft_wrap=False, **options)
    console.print(view(runs, Path("logs"), console))
    return out.getvalue().splitlines()


def test_if_not_all_runs_fit_running_and_latest_ones_are_shown() -> None:
    runs = [
        run("old", "finished"),
        run("trains"),
        run("late", "failed", changed=5.0),
        run("later", "finished", 9, 6.0),
    ]
    lines = shown(runs, force_terminal=True, width=100, height=5)
    assert [line.split()[0] for line in lines[1:-1]] == ["trains", "later"]
    assert lines[-1] == "4 runs: 1 running, 2 finished, 1 failed; 2 are not shown"
    assert len(shown(runs)) == 6  # in a pipe


def test_fits_that_failed_are_counted_and_a_terminal_without_unicode_has_a_curve() -> None:
    heads = "run state rounds accuracy last left failed fits".split()
    assert shown([run(rejected=3)])[0].split() == heads
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Terminal(file=file)
    console.print(view([run()], Path("logs"), console))
    file.seek(0)
    assert f"{ASCII_STEPS[0]}{ASCII_STEPS[-1]}" in file.read()


def test_into_a_pipe_the_table_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "a/version_0"
    made.mkdir(parents=True)
    (made / "config.yaml").write_text("trainer: {max_epochs: 3}")
    (made / "metrics.csv").write_text("round,global/accuracy\n1,0.25\n2,0.5\n")
    assert main(["watch", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["a/version_0", "interrupted", "2/3", "▁█", "0.5000"]
    assert lines[-1] == "1 run: 1 interrupted"
    assert main(["watch", str(tmp_path), "--every", "0"]) == 2
    assert "--every must be from 0.1" in capsys.readouterr().err
