"""FedProx on synthetic data, after Figures 1 and 2 of Li et al. 2020 (arXiv:1812.06127): run it all, then draw it.

Every config in a folder is run at every seed, as a process of its own. Finished runs are left alone and stopped ones go
on after their last checkpoint, so the same command can be given again at any time. The figure shows training loss, test
accuracy and the variance of the clients' gradients over the rounds: how heterogeneous data and stragglers harm FedAvg,
and what partial work and the proximal term do about it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Console

from fedlit import plots
from fedlit.errors import InputError
from fedlit.study.sweep import Run, run_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

#: Columns of the figure and lines in them: the run COLUMN_LINE is the config COLUMN_LINE.yaml.
COLUMNS = {
    "synthetic_iid": "Synthetic-IID",
    "synthetic_0_0": "Synthetic(0, 0)",
    "synthetic_05_05": "Synthetic(0.5, 0.5)",
    "synthetic_1_1": "Synthetic(1, 1)",
    "synthetic_1_1_stragglers50": "Synthetic(1, 1)\n50 % stragglers",
    "synthetic_1_1_stragglers90": "Synthetic(1, 1)\n90 % stragglers",
}
LINES = {
    "dropped": "FedAvg, stragglers dropped",
    "mu0": "FedProx, \u03bc = 0 (FedAvg where none straggles)",
    "mu1": "FedProx, \u03bc = 1",
}


@dataclass(frozen=True)
class Row:
    """A row of the figure.

    Args:
        metric: Column of ``metrics.csv``.
        label: What it is.
        lag: Rounds by which the model measured is older than the round that it is logged with.
        log: Whether its axis is logarithmic.
    """

    metric: str
    label: str
    lag: int = 0
    log: bool = False


ROWS = (
    Row("diagnostics/train_loss", "training loss", lag=1, log=True),
    Row("global/accuracy", "test accuracy"),
    Row("diagnostics/gradient_variance", "variance of gradients", lag=1, log=True),
)


def read(runs: Sequence[Run]) -> pd.DataFrame:
    """The scalars of all runs that have begun, a line a round, with the columns ``run`` and ``seed``."""
    return pd.concat([run.metrics().assign(run=run.name, seed=run.seed) for run in runs], ignore_index=True)


def figure(table: pd.DataFrame) -> Figure:
    """Data sets and stragglers side by side, metrics below each other; what the table has nothing of is left out.

    Args:
        table: What `read` gives. A line is the mean over seeds, in a band from the lowest to the highest.

    Raises:
        InputError: When none of its runs has a place in the figure.
    """
    names = set(table["run"])
    columns = [column for column in COLUMNS if any(f"{column}_{line}" in names for line in LINES)]
    rows = [row for row in ROWS if row.metric in table]
    if not columns or not rows:
        raise InputError(f"no run is one of {next(iter(COLUMNS))}_{next(iter(LINES))} and so on; nothing to draw")
    result = plots.blank(max(9.0, 2.2 * len(columns) + 1), 2.0 * len(rows) + 1)
    grid = result.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    for i, row in enumerate(rows):
        grid[i, 0].set_ylabel(row.label)
        for j, column in enumerate(columns):
            _draw(grid[i, j], table, column, row)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(COLUMNS[column], fontsize=10)
    legend = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = [label for label in LINES.values() if label in legend]
    result.legend(
        [legend[label] for label in shown], shown, loc="outside upper center", ncols=len(shown), frameon=False
    )
    seeds = table["seed"].nunique()
    result.align_ylabels()
    result.supxlabel(
        "round" if seeds == 1 else f"round (lines: mean of {seeds} seeds; bands: lowest to highest)", fontsize=10
    )
    return result


def _draw(axes: Axes, table: pd.DataFrame, column: str, row: Row) -> None:
    """One panel: a line for each method that was run."""
    for line, colour in zip(LINES, plots.COLOURS, strict=False):
        values = table[table["run"] == f"{column}_{line}"].dropna(subset=row.metric)
        if values.empty:
            continue
        over_seeds = values.groupby("round")[row.metric].agg(["mean", "min", "max"])
        rounds = over_seeds.index - row.lag
        axes.plot(rounds, over_seeds["mean"], color=colour, linewidth=1, label=LINES[line])
        axes.fill_between(rounds, over_seeds["min"], over_seeds["max"], color=colour, alpha=0.2, linewidth=0)
    if row.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def main(words: Sequence[str] | None = None) -> int:
    """Run the study and draw its figure.

    Returns:
        0 when all runs are finished, 1 when some failed, 130 when stopped by Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(words)
    configs = sorted(options.configs.glob("*.yaml"))
    if not configs:
        parser.error(f"no *.yaml in {options.configs}; give the folder of the runs' configs with --configs")
    runs = [Run(config, seed, options.rounds, options.logs_dir) for seed in options.seeds for config in configs]
    console = Console(highlight=False, soft_wrap=True)
    try:
        failed = run_all(runs, options.jobs, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on")
        return INTERRUPTED
    if failed:
        console.print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again")
    try:
        path = options.logs_dir / "fedprox.png"
        plots.save(figure(read(runs)), path)
        console.print(f"figure: {path}")
    except InputError as error:
        console.print(f"no figure: {error}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fedlit.study.fedprox",
        description=__doc__,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=_count, default=200, help="rounds of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="every config is run at each of these")
    parser.add_argument(
        "--jobs", type=_count, default=2, help="runs side by side, a core each; a single one may use all cores"
    )
    parser.add_argument(
        "--logs_dir", type=Path, default=Path("logs/fedprox"), help="for the runs, seedS/NAME, and for fedprox.png"
    )
    parser.add_argument(
        "--configs", type=Path, default=Path("configs/fedprox"), help="folder of the configs, all of which are run"
    )
    return parser


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults after each explanation; the description as it was written."""


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
