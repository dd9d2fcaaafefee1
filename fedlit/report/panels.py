"""A chart as numbers: panels of lines, points or shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A variant's values: points (x, y), each with a range, of NaN where there is none.

    Args:
        variant: Whose they are.
        x, y: The points, (P,).
        low, high: The range of each, (P,).
        seeds: What y is the mean of, (P,) by seed; empty where it is no such mean.
    """

    variant: str
    x: Floats
    y: Floats
    low: Floats
    high: Floats
    seeds: Mapping[int, Floats] = field(default_factory=dict)


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


class Curves(Panel):
    """Lines in bands."""


class Points(Panel):
    """Points with bars at named places."""


class Differences(Panel):
    """Points with bars to the left and right of zero, at named places from top to bottom."""


@dataclass(frozen=True)
class Scatter(Panel):
    """Single points, and the straight line of least squares through them.

    Args:
        across: Limits of the x axis, shared by panels that are compared.
        trend: Where the line is at these limits.
        names: What each point of the only line is, (P,).
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
    """The accuracy of each client (columns) of each variant (rows), and what the client has.

    Args:
        samples: How many examples each client has.
        classes: The names of the columns of ``mix``; none where it is not known.
        mix: How many examples of each class each client has, (K, C).
    """

    samples: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    mix: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))


@dataclass(frozen=True)
class Chart:
    """Panels that belong together, one picture in a file and one each on a page.

    How a panel is drawn is chosen by its class: in a file by ``fedlit.report.pictures.draw``, on a page by
    ``fedlit.report.svg.draw``.

    Args:
        name: Of its file.
        title: What it shows.
        caption: What lines and bands are.
        panels: At least one, all of a kind.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel | Heat, ...]
