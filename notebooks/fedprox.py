"""Draws the FedProx paper's runs on synthetic data, after Figures 1 and 2 of Li et al. 2020 (arXiv:1812.06127).

  fedlit study --config configs/fedprox/study_heterogeneity.yaml
  fedlit study --config configs/fedprox/study_stragglers.yaml
  python notebooks/fedprox.py

The figure shows training loss, test accuracy and the variance of the clients' gradients over the rounds: how
heterogeneous data and stragglers harm FedAvg, and what partial work and the proximal term do about it. Runs that have
not ended are drawn as far as they have come.
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

from fedlit import plots
from fedlit.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The folders of the two studies.
STUDIES = (Path("logs/study_heterogeneity"), Path("logs/study_stragglers"))
#: Columns of the figure and lines in them: COLUMN_LINE is a combination of a study.
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


def read(studies: Sequence[Path]) -> pd.DataFrame:
    """The scalars of all runs that have begun, a line a round, with the columns ``run`` and ``seed``.

    Args:
        studies: Folders of studies, with their runs in RUN/seed_K.

    Raises:
        InputError: When there is no run in any of them.
    """
    paths = [path for study in studies for path in sorted(study.glob("*/seed_*/metrics.csv"))]
    if not paths:
        raise InputError(f"no runs in {' or '.join(map(str, studies))}; make them with fedlit study")
    seeds = [int(path.parent.name.removeprefix("seed_")) for path in paths]
    tables = [pd.read_csv(path).assign(run=path.parts[-3], seed=seed) for path, seed in zip(paths, seeds, strict=True)]
    return pd.concat(tables, ignore_index=True)


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
    """Draw the figure.

    Returns:
        0 when it is drawn, 2 where there is nothing to draw.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("studies", type=Path, nargs="*", default=STUDIES, help="folders of the studies")
    parser.add_argument(
        "--out", type=Path, default=Path("logs/fedprox.png"), help="the picture, in a folder that is there"
    )
    options = parser.parse_args(words)
    try:
        figure(read(options.studies)).savefig(options.out)
    except InputError as error:
        sys.stderr.write(f"no figure: {error}\n")
        return 2
    sys.stdout.write(f"figure: {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
