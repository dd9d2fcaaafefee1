"""Draws the report's charts with matplotlib, each into a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import singledispatch
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from fedlit import plots
from fedlit.report.intervals import LEAST_SEEDS
from fedlit.report.panels import Chart, Curves, Differences, Heat, Line, Panel, Points, Scatter

#: Style of points with bars.
MARKS: dict[str, Any] = {"fmt": "o", "markersize": 4, "capsize": 2}
WIDTH, HEIGHT = 4.4, 3.1  # of a panel, in inches
TEXT, GRID, PAPER = "#1f2328", "#c9ced6", "#ffffff"


def colours(variants: Sequence[str], dark: bool = False) -> dict[str, str]:
    """The colour of each variant, from Okabe and Ito's palette in the study's order; on a dark page black is white."""
    palette = [("#F8F9FA" if dark and colour == "#000000" else colour) for colour in plots.COLOURS]
    return {variant: palette[i % len(palette)] for i, variant in enumerate(variants)}


@singledispatch
def draw(panel: Any, axes: Axes, colour: Mapping[str, str]) -> None:
    """Draw a panel on axes; each class of panels registers a function.

    Args:
        panel: The panel.
        axes: Empty axes.
        colour: The colour of each variant.

    Raises:
        TypeError: If the class has no function.
    """
    raise TypeError(f"no function draws a {type(panel).__name__} on axes; register one with draw.register")


@draw.register
def _curves(panel: Curves, axes: Axes, colour: Mapping[str, str]) -> None:
    """Lines with bands, or with dots for two seeds; a point for a single round."""
    for line in panel.lines:
        own = colour[line.variant]
        marker = "o" if len(line.x) == 1 else ""
        axes.plot(line.x, line.y, color=own, linewidth=1.3, marker=marker, markersize=4, label=line.variant)
        if len(line.seeds) >= LEAST_SEEDS:
            axes.fill_between(line.x, line.low, line.high, color=own, alpha=0.18, linewidth=0)
        elif len(line.seeds) > 1:
            axes.scatter(np.tile(line.x, len(line.seeds)), np.concatenate(list(line.seeds.values())), s=4, color=own)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(panel.limits)


@draw.register
def _points(panel: Points, axes: Axes, colour: Mapping[str, str]) -> None:
    """Points with bars at named places, joined by thin lines."""
    for line in panel.lines:
        axes.plot(line.x, line.y, color=colour[line.variant], linewidth=0.7, alpha=0.6)
        axes.errorbar(line.x, line.y, _bars(line), **MARKS, color=colour[line.variant], label=line.variant)
    axes.set_xticks(range(len(panel.ticks)), panel.ticks)


@draw.register
def _differences(panel: Differences, axes: Axes, colour: Mapping[str, str]) -> None:
    """Points with bars to the left and right of zero, partitions from top to bottom."""
    axes.axvline(0, color=matplotlib.rcParams["text.color"], linewidth=0.8)
    for line in panel.lines:
        axes.errorbar(line.y, line.x, xerr=_bars(line), **MARKS, color=colour[line.variant], label=line.variant)
    for between in range(1, len(panel.ticks)):
        axes.axhline(between - 0.5, color=matplotlib.rcParams["grid.color"], linewidth=0.8)
    axes.set_yticks(range(len(panel.ticks)), panel.ticks)
    axes.set_ylim(len(panel.ticks) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)


@draw.register
def _heat(panel: Heat, axes: Axes, colour: Mapping[str, str]) -> None:
    """Rows by columns, with a colour bar."""
    image = axes.imshow(panel.values, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    plots.name_classes(axes.xaxis, panel.columns, fontsize=7)
    axes.set_yticks(range(len(panel.rows)), panel.rows)
    axes.grid(visible=False)
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, label="accuracy", fraction=0.03)


@draw.register
def _scatter(panel: Scatter, axes: Axes, colour: Mapping[str, str]) -> None:
    """Points and their trend."""
    for line in panel.lines:
        own = colour[line.variant]
        axes.scatter(line.x, line.y, s=14, color=own, alpha=0.7, linewidths=0, label=line.variant)
        axes.plot(panel.across, panel.trend, color=own, linewidth=1)
    axes.set_xlim(panel.across)
    axes.set_ylim(panel.limits)


def _bars(line: Line) -> NDArray[np.float64]:
    """Distances from each point down and up to its interval, (2, P); 0 without an interval."""
    return np.nan_to_num(np.stack([line.y - line.low, line.high - line.y]))


def together(chart: Chart, variants: Sequence[str]) -> Figure:
    """All panels in one figure with a legend: side by side, or below each other if they are wide."""
    with _theme():
        stacked = isinstance(chart.panels[0], Heat)
        across = 1 if stacked else 2 if len(chart.panels) == 4 else min(len(chart.panels), 3)
        down = -(-len(chart.panels) // across)
        figure = plots.blank(9.0 if stacked else WIDTH * across, _height(chart) * down + 0.4)
        grid = figure.subplots(down, across, squeeze=False)
        for axes, panel in zip(grid.flat, chart.panels, strict=False):
            _panel(axes, panel, colours(variants))
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


def _panel(axes: Axes, panel: Panel | Heat, colour: Mapping[str, str]) -> None:
    axes.grid(visible=True, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(panel.title, fontsize=10)
    if isinstance(panel, Panel):
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
    draw(panel, axes, colour)


def _height(chart: Chart) -> float:
    first = chart.panels[0]
    if isinstance(first, Heat):
        return 0.28 * len(first.rows) + 1.1
    if isinstance(first, Differences):
        return max(HEIGHT, 0.18 * len(first.ticks) * len(first.lines) + 1)
    return HEIGHT


def _theme() -> AbstractContextManager[None]:
    style: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), TEXT)
    style |= {"axes.edgecolor": GRID, "grid.color": GRID, "axes.facecolor": PAPER, "figure.facecolor": PAPER}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "savefig.facecolor": PAPER}
    style |= {"text.parse_math": False}  # names are not formulas
    return matplotlib.rc_context(style)
