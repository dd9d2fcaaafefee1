"""Figures: pure functions from numbers to matplotlib figures, used in TensorBoard, reports and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedlit.core.messages import visible

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which can be distinguished with any kind of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
#: The most clients in a picture of a partition; if there are more, the first ones are shown.
MOST_CLIENTS = 200
#: The most class names along an axis, as each takes time to draw, and the most characters of a name.
MOST_NAMES, LONGEST_NAME = 64, 24


def partition_heatmap(counts: NDArray[np.int64], class_names: Sequence[str], title: str = "") -> Figure:
    """A heatmap of the number of samples of each class at each client.

    Args:
        counts: Numbers of samples, (clients, classes); at most ``MOST_CLIENTS`` rows are shown.
        class_names: One name per class.
        title: A line above the picture.
    """
    shown = counts[:MOST_CLIENTS]
    figure = blank(max(6.0, 0.13 * len(class_names) + 3), max(3.0, min(8.0, 0.07 * len(shown) + 1.5)))
    axes = figure.subplots()
    image = cells(axes, shown, cmap="viridis", vmin=0)
    name_classes(axes.xaxis, class_names)
    axes.set_xlabel("class")
    axes.locator_params(axis="y", integer=True)
    axes.set_ylabel("client" if len(shown) < MOST_CLIENTS else f"client (the first {MOST_CLIENTS})")
    figure.colorbar(image, label="samples")
    axes.set_title(title, fontsize=9)
    return figure


def confusion_heatmap(confusion: NDArray[np.int64], class_names: Sequence[str], title: str = "") -> Figure:
    """A confusion matrix with true classes as rows and predicted ones as columns, as shares of each row.

    Args:
        confusion: Counts, (classes, classes).
        class_names: One name per class.
        title: A line above the picture.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    size = max(4.5, 0.15 * len(class_names) + 1.5)
    figure = blank(size + 0.8, size)
    axes = figure.subplots()
    image = cells(axes, shares, cmap="magma", vmin=0, vmax=1)
    axes.set_aspect("equal")
    name_classes(axes.xaxis, class_names)
    name_classes(axes.yaxis, class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, label="share of the true class")
    axes.set_title(title, fontsize=9)
    return figure


def attention_maps(images: NDArray[np.float32], maps: Mapping[str, NDArray[np.float32]], title: str = "") -> Figure:
    """Test images in the first row, and below them the values of each spatial gate.

    Args:
        images: (B, H, W); for sequences H is time and W the places.
        maps: Gate values (B, h, w) in [0, 1] by the gate's name, drawn in the size of the images.
        title: A line above the picture.
    """
    figure = blank(1.1 * len(images) + 1, 1.2 * (len(maps) + 1) + 0.3)
    grid = figure.subplots(len(maps) + 1, len(images), squeeze=False)
    height, width = images.shape[1:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # the same as an image's
    for column, image in enumerate(images):
        grid[0, column].imshow(image, cmap="gray")
    for row, (name, values) in enumerate(maps.items(), start=1):
        for column, gate in enumerate(values):
            colours = {"cmap": "viridis", "vmin": values.min(), "vmax": values.max()}
            shown = grid[row, column].imshow(gate, extent=extent, **colours)
        grid[row, 0].set_ylabel(name, fontsize=7)
        figure.colorbar(shown, ax=list(grid[row]), fraction=0.02, label="gate")
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(title, fontsize=9)
    return figure


def curves(runs: Mapping[str, pd.DataFrame], metric: str = "global/accuracy") -> Figure:
    """One scalar over the rounds, with one line for each run.

    Args:
        runs: Tables with a column ``round`` by label, as from ``fedlit.runs.read_runs``.
        metric: The column to draw.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank(7, 4)
    axes = figure.subplots()
    for i, (label, table) in enumerate(runs.items()):
        measured = table[["round", metric]].dropna()  # not every round is validated
        axes.plot(measured["round"], measured[metric], label=visible(label), color=COLOURS[i % len(COLOURS)])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # rounds are whole numbers
    axes.set_xlabel("round")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize=8).get_texts():
        text.set_parse_math(False)  # a name with dollar signs is not a formula
    return figure


def cells(axes: Axes, values: NDArray[Any], **style: Any) -> QuadMesh:
    """A matrix as coloured cells of size 1, centred at whole numbers, the first row on top.

    ``imshow`` draws the same, but needs 60 MB for a figure of 1300 pixels, and this 13 MB. The edges of the cells are
    given, as matplotlib would make those of a single row or column 0 wide.
    """
    rows, columns = values.shape
    drawn = axes.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, values, **style)
    axes.invert_yaxis()
    return drawn


def name_classes(axis: Axis, class_names: Sequence[str], fontsize: float | None = None) -> None:
    """Label an axis with class names, only some if there are many; short names are upright, long ones are cut."""
    from matplotlib.axis import YAxis

    step = -(-len(class_names) // MOST_NAMES)
    cut = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..." for name in class_names[::step]]
    names = [visible(name) for name in cut]
    upright = isinstance(axis, YAxis) or max(map(len, names)) <= 2
    fontsize = fontsize or (9 if len(class_names) <= 12 else 7)
    style: dict[str, Any] = {"fontsize": fontsize, "rotation": 0 if upright else 90, "parse_math": False}
    axis.set_ticks(range(0, len(class_names), step), names, **style)


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as (height, width, 3) pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def blank(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, made without pyplot: no global state, no display, nothing to close."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")
