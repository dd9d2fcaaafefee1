"""The FedProx paper's runs on synthetic data, drawn and counted: Figures 1 and 2 of Li et al. 2020 (arXiv:1812.06127).

  fedlit study --config configs/fedprox/study_heterogeneity.yaml
  fedlit study --config configs/fedprox/study_stragglers.yaml
  python notebooks/fedprox.py

The figure shows training loss, test accuracy and the variance of the clients' gradients over the rounds: how
heterogeneous data and stragglers harm FedAvg, and what partial work and the proximal term do about it. Runs that have
not ended are drawn as far as they have come.

Beside the figure are two tables of the runs that have ended: NAME.csv, a row a run, and NAME.md, mean and range over
seeds and in how many seeds one method is above another. Means over all rounds are what the seeds agree in. The loss of
the last rounds differs several-fold between seeds, and where stragglers are dropped it depends on the client with the
most data: with one that holds half of them, or hardly any, the order of the methods is another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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


#: Rounds of a run that has ended, and those of its end that are looked at apart.
ROUNDS, LAST = 200, 20


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


# --- tables ----------------------------------------------------------------------------------------------------------

#: What is measured of a run: a column of ``metrics.csv``, and of how many of the last rounds the mean is taken.
MEASURES = {
    "loss": ("diagnostics/train_loss", None),
    "loss_last": ("diagnostics/train_loss", LAST),
    "accuracy": ("global/accuracy", None),
    "accuracy_last": ("global/accuracy", LAST),
}
#: Comparisons that are counted: a measure, and the methods of which the first is said to have more of it.
PAIRS = (
    ("loss", "dropped", "mu1"),
    ("loss", "mu0", "mu1"),
    ("accuracy", "mu0", "dropped"),
    ("loss_last", "dropped", "mu0"),
    ("loss_last", "mu0", "mu1"),
)


def measured(table: pd.DataFrame, rounds: int = ROUNDS) -> pd.DataFrame:
    """A row for each run that has come to ``rounds``: its column and line of the figure, seed and MEASURES."""
    rows = []
    for (run, seed), of_run in table.groupby(["run", "seed"]):
        column, _, line = str(run).rpartition("_")
        if column not in COLUMNS or line not in LINES or of_run["round"].max() < rounds:
            continue
        ordered = of_run[of_run["round"] <= rounds].sort_values("round")
        means = {
            name: ordered[metric].dropna().iloc[-(last or rounds) :].mean() for name, (metric, last) in MEASURES.items()
        }
        rows.append({"data": column, "method": line, "seed": seed, **means})
    return pd.DataFrame(rows, columns=["data", "method", "seed", *MEASURES])


class Count(NamedTuple):
    """At how many seeds, of those that have both, a measure of one method is above that of another."""

    data: str
    measure: str
    above: str
    below: str
    seeds: int
    of: int


def counts(runs: pd.DataFrame) -> list[Count]:
    """Of each data set and pair of methods."""
    found = []
    for measure, above, below in PAIRS:
        values = runs.pivot_table(index=["data", "seed"], columns="method", values=measure)
        if {above, below} <= set(values):
            pairs = values[[above, below]].dropna()
            for column in (column for column in COLUMNS if column in pairs.index):
                there = pairs.loc[column]
                found.append(Count(column, measure, above, below, int((there[above] > there[below]).sum()), len(there)))
    return found


def to_markdown(runs: pd.DataFrame) -> str:
    """Both tables: mean and range over seeds of each measure, and the counts."""
    lines = [
        f"Mean (lowest to highest) over seeds. Loss is f(w) before a round; last: mean of the last {LAST} rounds.",
        "",
        "| data | method | seeds | loss, all rounds | loss, last | accuracy, all rounds | accuracy, last |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for column, line in ((column, line) for column in COLUMNS for line in LINES):
        there = runs[(runs["data"] == column) & (runs["method"] == line)]
        if len(there):
            cells = (f"{v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for v in (there[name] for name in MEASURES))
            lines.append(f"| {_plain(COLUMNS[column])} | {LINES[line]} | {len(there)} | {' | '.join(cells)} |")
    lines += ["", "| data | | at so many seeds |", "| --- | --- | ---: |"]
    for count in counts(runs):
        said = f"{count.measure.replace('_', ', ')}: {LINES[count.above]} > {LINES[count.below]}"
        lines.append(f"| {_plain(COLUMNS[count.data])} | {said} | {count.seeds} of {count.of} |")
    return "\n".join(lines) + "\n"


def _plain(title: str) -> str:
    return ", ".join(title.split("\n"))


# --- the figure ------------------------------------------------------------------------------------------------------


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
        table = read(options.studies)
        figure(table).savefig(options.out)
    except InputError as error:
        sys.stderr.write(f"no figure: {error}\n")
        return 2
    runs = measured(table)
    runs.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.6g")
    options.out.with_suffix(".md").write_text(to_markdown(runs), encoding="utf-8")
    sys.stdout.write(f"figure: {options.out}; tables: {options.out.with_suffix('.md')}, .csv\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
