"""Charts as numbers: panels of lines, points or shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A variant's values: points (x, y), each with a range, which is NaN if there is none.

    Args:
        variant: The variant.
        x, y: The points, (P,).
        low, high: The range of each point, (P,).
        seeds: The values whose mean is y, (P,) by seed; empty if y is no mean over seeds.
    """

    variant: str
    x: Floats
    y: Floats
    low: Floats
    high: Floats
    seeds: Mapping[int, Floats] = field(default_factory=dict)

    @classmethod
    def mean_of(cls, variant: str, by_seed: pd.DataFrame) -> Line:
        """The mean over seeds (columns) of each row, with the lowest and highest value; x is the index."""
        table = by_seed.to_numpy(dtype=float)
        seeds = dict(zip(map(int, by_seed.columns), table.T, strict=True))
        return cls(variant, by_seed.index.to_numpy(dtype=float), table.mean(1), table.min(1), table.max(1), seeds)


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        title: Title above the panel.
        x_label, y_label: Labels of the axes.
        lines: Its lines.
        ticks: Names along the x axis, or along the y axis of differences; empty for a numeric axis.
        limits: Limits of the y axis that compared panels share; None chooses them for this panel.
        log: Whether the y axis is logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    ticks: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    log: bool = False


class Curves(Panel):
    """Lines with bands."""


class Points(Panel):
    """Points with bars at named places."""


class Differences(Panel):
    """Points with bars to the left and right of zero, at named places from top to bottom."""


@dataclass(frozen=True)
class Scatter(Panel):
    """Points and their least-squares line.

    Args:
        across: Limits of the x axis, which compared panels share.
        trend: Values of the line at these limits.
        names: A description of each point, (P,).
    """

    across: tuple[float, float] = (0.0, 1.0)
    trend: tuple[float, float] = (0.0, 0.0)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heat:
    """A map of shares: rows by columns, (R, C)."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats


@dataclass(frozen=True)
class Clients(Heat):
    """The accuracy of each client (columns) in each variant (rows), and the client's data.

    Args:
        samples: How many examples each client has.
        classes: The class names, the columns of ``mix``; empty if unknown.
        mix: How many examples of each class each client has, (K, C).
    """

    samples: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    mix: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))


@dataclass(frozen=True)
class Chart:
    """Panels that belong together: one picture file for all, and one SVG for each on a page.

    The class of a panel determines how it is drawn: ``fedlit.report.pictures.draw`` for a file,
    ``fedlit.report.svg.draw`` for a page.

    Args:
        name: Name of the file.
        title: The title.
        caption: An explanation of lines and bands.
        panels: At least one panel, all of one class.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel | Heat, ...]


def padded(values: ArrayLike, share: float = 0.04) -> tuple[float, float]:
    """Limits of an axis: the range of the values that are known, and a share of it as a margin on each side."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = share * (high - low) or 0.01
    return low - margin, high + margin
