"""The report's charts: what they show, as numbers, and how they are drawn, in light and in dark."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from fedlit import plots
from fedlit.core.bins import bin_names, bin_width
from fedlit.report.collect import Run, Study, read_outcome
from fedlit.report.metrics import BY_KEY, LAST_ROUNDS, Metric
from fedlit.report.statistics import Comparison, t_interval
from fedlit.runs.outcome import CLASSES_CSV, CLIENTS_CSV

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 4.4, 3.1  # of a panel, in inches
LIGHT = {"text": "#1f2328", "grid": "#c9ced6", "paper": "#ffffff"}
DARK = {"text": "#d5dae1", "grid": "#474d57", "paper": "#1b1f26"}
TESTED_CLASSES = "test_classes.csv"
#: Shares of the clients, worst first, that their accuracies are read at.
SHARES = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Line:
    """A variant's values: points (x, y), each with a range."""

    variant: str
    x: Floats
    y: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        title: Above it.
        x_label, y_label: Along its sides.
        lines: What is in it.
        ticks: Positions and names along the x axis, or the y axis of differences; empty is numbers.
        limits: Of the y axis, shared by panels that are compared; None is its own.
        log: Whether the y axis is logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    ticks: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    log: bool = False


@dataclass(frozen=True)
class Heat:
    """A map of shares: rows by columns, (R, C)."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats


@dataclass(frozen=True)
class Chart:
    """Panels that belong together, one picture in a file and one each on a page.

    Args:
        name: Of its file.
        title: What it shows.
        caption: What lines and bands are.
        panels: At least one, all of a kind.
        draw: Draws a panel.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel | Heat, ...]
    draw: Callable[..., None]


# --- what is shown ----------------------------------------------------------------------------------------------------


def charts(study: Study, measured: pd.DataFrame, comparisons: Sequence[Comparison]) -> list[Chart]:
    """All charts that there are numbers for."""
    found = [
        _curves(study, "accuracy", "Accuracy over the rounds", "global/accuracy", f"{study.held_out} accuracy"),
        _curves(study, "loss", "Loss over the rounds", "global/loss", f"{study.held_out} loss"),
        _curves(
            study,
            "stability",
            "Stability: how much accuracy changes from round to round",
            "global/accuracy",
            "|change of accuracy|",
            _unsteadiness,
            f"Mean of |change| over {LAST_ROUNDS} rounds. ",
        ),
        _curves(study, "drift", "Drift: how far clients move from the server's model", "drift/mean", "mean ||update||"),
        _curves(
            study,
            "agreement",
            "Agreement: the cosine of a client's update with the average one",
            "drift/cosine",
            "mean cosine",
        ),
        _heterogeneity(study, measured),
        _differences(study, comparisons),
        _clients(study),
        _classes(study),
    ]
    return [chart for chart in found if chart is not None]


def _unsteadiness(values: pd.Series[float]) -> pd.Series[float]:
    return values.diff().abs().rolling(LAST_ROUNDS, min_periods=2).mean()


def _curves(
    study: Study,
    name: str,
    title: str,
    column: str,
    label: str,
    of: Callable[[pd.Series[float]], pd.Series[float]] = lambda values: values,
    note: str = "",
) -> Chart | None:
    """A scalar over the rounds, a panel a partition."""
    by_partition = {
        partition: tuple(
            line for variant in study.variants if (line := _line(study, variant, partition, column, of)) is not None
        )
        for partition in study.partitions
    }
    lines = [line for lines in by_partition.values() for line in lines]
    if not lines:
        return None
    low = min(float(np.nanmin(line.low)) for line in lines)
    high = max(float(np.nanmax(line.high)) for line in lines)
    log = low > 0 and high / low > 20 and "accuracy" not in column  # a share is read on a plain axis
    pad = 0.04 * (high - low) or 0.01
    limits = (low / 1.1, high * 1.1) if log else (low - pad, high + pad)
    panels = tuple(
        Panel(heterogeneity_of(study, partition), "round", label, lines, limits=limits, log=log)
        for partition, lines in by_partition.items()
        if lines
    )
    caption = "Lines: mean over seeds; bands: lowest to highest." if len(study.seeds) > 1 else "One seed: no bands."
    return Chart(name, title, note + caption, panels, draw_curves)


def _line(
    study: Study,
    variant: str,
    partition: str,
    column: str,
    of: Callable[[pd.Series[float]], pd.Series[float]],
) -> Line | None:
    """A variant's curve over the rounds that all its runs have; unfinished runs count where none is finished."""

    def these(runs: Sequence[Run]) -> list[pd.DataFrame]:
        tables = [run.table for run in runs if (run.variant, run.partition) == (variant, partition)]
        return [table for table in tables if column in table]

    tables = these(study.finished) or these(study.runs)
    values = [of(table.set_index("round")[column].astype(float).dropna()) for table in tables]
    if not values:
        return None
    joined = pd.DataFrame(pd.concat(values, axis=1)).replace([np.inf, -np.inf], np.nan).dropna()
    joined = joined[joined.index <= study.horizon]
    if joined.empty:
        return None
    table = joined.to_numpy(dtype=float)
    return Line(variant, joined.index.to_numpy(dtype=float), table.mean(1), table.min(1), table.max(1))


def heterogeneity_of(study: Study, partition: str) -> str:
    """A partition's name with what is known of its heterogeneity."""
    alpha = study.alphas[partition]
    if math.isnan(alpha):
        return partition
    return f"{partition} (even split)" if math.isinf(alpha) else f"{partition} (Dirichlet, \u03b1 = {alpha:g})"


def _heterogeneity(study: Study, measured: pd.DataFrame) -> Chart | None:
    """Final accuracy and wobble against alpha, where at least two partitions have one."""
    known = [p for p in study.partitions if not math.isnan(study.alphas[p])]
    if len(known) < 2 or measured.empty:
        return None
    ticks = tuple(f"{'∞ (even)' if math.isinf(study.alphas[p]) else f'{study.alphas[p]:g}'}\n{p}" for p in known)
    panels = []
    for key in ("accuracy", "wobble"):
        lines = []
        variants = [v for v in study.variants if v in set(measured["variant"])]
        for i, variant in enumerate(variants):
            cells = measured[measured["variant"] == variant]
            found = [(float(x), t_interval(cells.loc[cells["partition"] == p, key])) for x, p in enumerate(known)]
            found = [(x + 0.07 * (i - (len(variants) - 1) / 2), t) for x, t in found if t.n and math.isfinite(t.mean)]
            if found:
                columns = np.array([(x, t.mean, t.low, t.high) for x, t in found]).T
                lines.append(Line(variant, *columns))
        panels.append(
            Panel(BY_KEY[key].title, "\u03b1: more alike to the right", BY_KEY[key].title, tuple(lines), ticks)
        )
    single = all(np.isnan(line.low).all() for panel in panels for line in panel.lines)
    caption = "Points: mean over seeds; " + ("one seed, so no intervals." if single else "bars: 95 % t intervals.")
    return Chart("heterogeneity", "Accuracy and stability against heterogeneity", caption, tuple(panels), draw_points)


def _differences(study: Study, comparisons: Sequence[Comparison]) -> Chart | None:
    """Paired differences to the baseline, a panel a metric, partitions below each other."""
    panels = []
    fair = "client_p10" if any(c.metric.key == "client_p10" for c in comparisons) else "clients_p10"
    for key in ("accuracy", "loss", "wobble", fair):
        chosen = [c for c in comparisons if c.metric.key == key]
        if not any(c.difference.n > 1 for c in chosen):
            continue
        partitions = [p for p in study.partitions if any(c.partition == p for c in chosen)]
        variants = [v for v in study.variants if any(c.variant == v for c in chosen)]
        lines = []
        for i, variant in enumerate(variants):
            rows = [
                (partitions.index(c.partition) + 0.8 * ((i + 0.5) / len(variants) - 0.5), c.difference.interval)
                for c in chosen
                if c.variant == variant
            ]
            y, mean, low, high = np.array([(y, t.mean, t.low, t.high) for y, t in rows]).T
            lines.append(Line(variant, y, mean, low, high))
        panels.append(Panel(_title(BY_KEY[key]), "difference", "", tuple(lines), tuple(partitions)))
    if not panels:
        return None
    caption = "Points: mean over pairs of one seed; bars: 95 % t intervals, uncorrected, none for a single pair."
    return Chart("differences", "Paired differences to the baseline", caption, tuple(panels), draw_differences)


def _title(metric: Metric) -> str:
    return metric.title + {1: " (right is better)", -1: " (left is better)", 0: ""}[metric.sign]


def _clients(study: Study) -> Chart | None:
    """The final model's accuracy on each client's data, clients sorted, mean over the seeds that have it."""
    by_partition = {
        partition: tuple(line for v in study.variants if (line := _sorted_clients(study, v, partition)) is not None)
        for partition in study.partitions
    }
    lines = [line for lines in by_partition.values() for line in lines]
    if not lines:
        return None
    low, high = min(float(line.low.min()) for line in lines), max(float(line.high.max()) for line in lines)
    pad = 0.04 * (high - low) or 0.01
    panels = tuple(
        Panel(
            heterogeneity_of(study, partition),
            "clients, worst first (%)",
            "accuracy on the client's data",
            lines,
            limits=(low - pad, high + pad),
        )
        for partition, lines in by_partition.items()
        if lines
    )
    bands = "mean over seeds, in bands from lowest to highest" if len(study.seeds) > 1 else "one seed: no bands"
    caption = (
        f"The final global model on each client's own training data ({CLIENTS_CSV}), each variant sorted; {bands}."
    )
    return Chart("clients", "Accuracy over clients", caption, panels, draw_curves)


def _sorted_clients(study: Study, variant: str, partition: str) -> Line | None:
    """The accuracy that a share of the clients does not exceed: quantiles, so seeds may differ in their clients."""
    tables = _outcomes(study, variant, partition, CLIENTS_CSV)
    if not tables:
        return None
    table = np.stack([np.quantile(t["accuracy"].dropna().to_numpy(dtype=float), SHARES) for t in tables])  # (S, 101)
    return Line(variant, 100 * SHARES, table.mean(0), table.min(0), table.max(0))


def _outcomes(study: Study, variant: str, partition: str, name: str) -> list[pd.DataFrame]:
    runs = (run for run in study.finished if (run.variant, run.partition) == (variant, partition))
    return [table for run in runs if (table := run.outcome(name, study.horizon)) is not None]


def _classes(study: Study) -> Chart | None:
    """Accuracy by class, mean over the seeds that have it: of finished runs, else of runs that were tested."""
    caption = f"The final global model on the {study.held_out} data of each class ({CLASSES_CSV}); mean over seeds."
    panels = _class_panels(study, lambda variant, partition: _outcomes(study, variant, partition, CLASSES_CSV))
    if not panels:
        caption = f"Accuracy on the test set, from {TESTED_CLASSES} of fedlit test; mean over seeds."
        panels = _class_panels(study, lambda variant, partition: _tested(study, variant, partition))
    return Chart("classes", "Accuracy by class", caption, panels, draw_heat) if panels else None


def _class_panels(study: Study, tables_of: Callable[[str, str], list[pd.DataFrame]]) -> tuple[Heat, ...]:
    panels = []
    for partition in study.partitions:
        rows = {
            variant: pd.concat([t.set_index("class")["accuracy"] for t in tables], axis=1).mean(axis=1)
            for variant in study.variants
            if (tables := tables_of(variant, partition))
        }
        if rows:
            table = pd.DataFrame(rows).T
            title = heterogeneity_of(study, partition)
            width = bin_width(len(table.columns))
            values = table.T.groupby(np.arange(len(table.columns)) // width).mean().T.to_numpy(dtype=float)
            panels.append(Heat(title, tuple(table.index), tuple(bin_names(list(table.columns))), values))
    return tuple(panels)


def _tested(study: Study, variant: str, partition: str) -> list[pd.DataFrame]:
    return [
        read_outcome(path)
        for run in study.runs
        if (run.variant, run.partition) == (variant, partition) and (path := run.folder / TESTED_CLASSES).is_file()
    ]


# --- how it is drawn --------------------------------------------------------------------------------------------------


def colours(variants: Sequence[str], dark: bool = False) -> dict[str, str]:
    """The colour of each variant: Okabe and Ito's, in the study's order; on a dark page their black is white."""
    palette = [("#F8F9FA" if dark and colour == "#000000" else colour) for colour in plots.COLOURS]
    return {variant: palette[i % len(palette)] for i, variant in enumerate(variants)}


def draw_curves(axes: Axes, panel: Panel, colour: Mapping[str, str]) -> None:
    """Lines in bands; of a single round, a point."""
    for line in panel.lines:
        marker = "o" if len(line.x) == 1 else ""
        axes.plot(
            line.x, line.y, color=colour[line.variant], linewidth=1.3, marker=marker, markersize=4, label=line.variant
        )
        axes.fill_between(line.x, line.low, line.high, color=colour[line.variant], alpha=0.18, linewidth=0)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(panel.limits)


def draw_points(axes: Axes, panel: Panel, colour: Mapping[str, str]) -> None:
    """Points with bars at named places, joined by thin lines."""
    for line in panel.lines:
        axes.plot(line.x, line.y, color=colour[line.variant], linewidth=0.7, alpha=0.6)
        bars = np.nan_to_num(np.stack([line.y - line.low, line.high - line.y]))
        axes.errorbar(
            line.x, line.y, bars, fmt="o", markersize=4, capsize=2, color=colour[line.variant], label=line.variant
        )
    axes.set_xticks(range(len(panel.ticks)), panel.ticks)


def draw_differences(axes: Axes, panel: Panel, colour: Mapping[str, str]) -> None:
    """Points with bars to the left and right of zero, partitions from top to bottom."""
    axes.axvline(0, color=matplotlib.rcParams["text.color"], linewidth=0.8)
    for line in panel.lines:
        bars = np.nan_to_num(np.stack([line.y - line.low, line.high - line.y]))
        axes.errorbar(
            line.y, line.x, xerr=bars, fmt="o", markersize=4, capsize=2, color=colour[line.variant], label=line.variant
        )
    for between in range(1, len(panel.ticks)):
        axes.axhline(between - 0.5, color=matplotlib.rcParams["grid.color"], linewidth=0.8)
    axes.set_yticks(range(len(panel.ticks)), panel.ticks)
    axes.set_ylim(len(panel.ticks) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)


def draw_heat(axes: Axes, panel: Heat, colour: Mapping[str, str]) -> None:
    """Rows by columns, with a bar of colours."""
    image = axes.imshow(panel.values, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    plots.name_classes(axes.xaxis, panel.columns, fontsize=7)
    axes.set_yticks(range(len(panel.rows)), panel.rows)
    axes.grid(visible=False)
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, label="accuracy", fraction=0.03)


def together(chart: Chart, variants: Sequence[str]) -> Figure:
    """All panels in one figure with a legend, for a file: side by side, or below each other where they are wide."""
    with _theme():
        stacked = isinstance(chart.panels[0], Heat)
        across = 1 if stacked else 2 if len(chart.panels) == 4 else min(len(chart.panels), 3)
        down = -(-len(chart.panels) // across)
        figure = plots.blank(9.0 if stacked else WIDTH * across, _height(chart) * down + 0.4)
        grid = figure.subplots(down, across, squeeze=False)
        for axes, panel in zip(grid.flat, chart.panels, strict=False):
            _panel(axes, chart, panel, colours(variants))
        for axes in grid.flat[len(chart.panels) :]:
            axes.remove()
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        shown = [variant for variant in variants if variant in handles]
        if shown:
            figure.legend(
                [handles[v] for v in shown], shown, loc="outside upper center", ncols=min(len(shown), 6), frameon=False
            )
        return figure


def alone(chart: Chart, variants: Sequence[str]) -> list[str]:
    """Each panel as an SVG picture without a legend, for a light page."""
    pictures = []
    with _theme():
        for panel in chart.panels:
            figure = plots.blank(9.0 if isinstance(panel, Heat) else WIDTH, _height(chart))
            _panel(figure.subplots(), chart, panel, colours(variants))
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            pictures.append(text.getvalue())
    return pictures


def darkened(svg: str) -> str:
    """A picture of `alone` for a dark page: other colours for paper, text and grid, and white for a black line."""
    for light, dark in (*zip(LIGHT.values(), DARK.values(), strict=True), ("#000000", "#f8f9fa")):
        svg = svg.replace(light, dark)
    return svg


def _panel(axes: Axes, chart: Chart, panel: Panel | Heat, colour: Mapping[str, str]) -> None:
    axes.grid(visible=True, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(panel.title, fontsize=10)
    if isinstance(panel, Panel):
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
    chart.draw(axes, panel, colour)


def _height(chart: Chart) -> float:
    first = chart.panels[0]
    if isinstance(first, Heat):
        return 0.28 * len(first.rows) + 1.1
    if chart.draw is draw_differences:
        return max(HEIGHT, 0.18 * len(first.ticks) * len(first.lines) + 1)
    return HEIGHT


def _theme() -> AbstractContextManager[None]:
    text, grid, paper = LIGHT["text"], LIGHT["grid"], LIGHT["paper"]
    style: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), text)
    style |= {"axes.edgecolor": grid, "grid.color": grid, "axes.facecolor": paper, "figure.facecolor": paper}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    style |= {"savefig.facecolor": paper, "svg.hashsalt": "fedlit", "text.parse_math": False}  # names are no formulas
    return matplotlib.rc_context(style)
