"""Panels drawn as SVG for a page: colours, and what is shown, are left to its style sheet and its script.

A shape of a variant has the class ``vN``, N being the variant's place, which sets its colour. A panel of curves names
its place in the page's numbers by ``data-panel`` and its scales by ``data-frame``, for the script to draw it anew.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_hex
from matplotlib.ticker import LogLocator, MaxNLocator

from fedlit.report.intervals import LEAST_SEEDS
from fedlit.report.numbers import MINUS
from fedlit.report.panels import Curves, Differences, Floats, Heat, Line, Panel, Points, Scatter, padded

#: Sizes of a panel and of a wide panel, in SVG units.
WIDTH, WIDE, HEIGHT = 370, 1200, 255
#: Assumed width of a letter, to leave room for names.
LETTER = 6.4


@dataclass(frozen=True)
class Frame:
    """The coordinates of a panel's data in the SVG.

    Args:
        left, top, right, bottom: Position of the axes, in the panel's units.
        x, y: The data values at left and right, and at bottom and top.
        log: Whether the y axis is logarithmic.
    """

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def across(self, x: float) -> float:
        low, high = self.x
        return self.left + (x - low) / (high - low) * (self.right - self.left)

    def up(self, y: float) -> float:
        low, high, y = (math.log(v) for v in (*self.y, y)) if self.log else (*self.y, y)
        return self.bottom - (y - low) / (high - low) * (self.bottom - self.top)

    def points(self, x: Floats, y: Floats) -> list[str]:
        return [f"{self.across(a):.1f} {self.up(b):.1f}" for a, b in zip(x, y, strict=True)]

    @property
    def data(self) -> str:
        """The frame as text for the script."""
        return " ".join(f"{v:.6g}" for v in (self.left, self.top, self.right, self.bottom, *self.x, *self.y, self.log))


@singledispatch
def draw(panel: object, variants: Sequence[str], number: int) -> Markup:
    """A panel as an ``svg`` element; each class of panels registers a function.

    Args:
        panel: The panel.
        variants: The variants, in the order of their colours.
        number: The panel's index among the page's numbers.

    Raises:
        TypeError: If the class has no function.
    """
    raise TypeError(f"no function draws a {type(panel).__name__} on a page; register one with draw.register")


@draw.register
def _curves(panel: Curves, variants: Sequence[str], number: int) -> Markup:
    """Lines with bands, or with dots for two seeds."""
    ends = np.concatenate([line.x for line in panel.lines])
    x = (float(ends.min()), float(ends.max()))
    x = x if x[0] < x[1] else (x[0] - 0.5, x[1] + 0.5)
    frame = Frame(58, 28, WIDTH - 12, HEIGHT - 40, x, panel.limits or _limits(panel.lines), panel.log)
    parts = [*_down(frame, _ticks(frame.x, 6, whole=True)), *_up(frame), *_names(panel, frame)]
    for line in panel.lines:
        parts.append(f'<g class="series v{variants.index(line.variant)}">{"".join(_series(frame, line))}</g>')
    return _svg(panel.title, "".join(parts), WIDTH, HEIGHT, f'data-panel="{number}" data-frame="{frame.data}"')


def _series(frame: Frame, line: Line) -> Iterable[str]:
    there = frame.points(line.x, line.y)
    if len(line.seeds) >= LEAST_SEEDS:
        back = frame.points(line.x[::-1], line.high[::-1])
        yield f'<path class="band" d="M{"L".join(frame.points(line.x, line.low) + back)}Z"/>'
    elif len(line.seeds) > 1:
        dots = (point for values in line.seeds.values() for point in frame.points(line.x, values))
        yield f'<path class="dots" d="{"".join(f"M{point}h0" for point in dots)}"/>'
    kind = "line" if len(there) > 1 else "mark"
    yield f'<path class="{kind}" d="M{"L".join(there)}{"" if len(there) > 1 else "h0"}"/>'


@draw.register
def _points(panel: Points, variants: Sequence[str], number: int) -> Markup:
    """Points with bars at named places, joined by thin lines."""
    frame = Frame(58, 28, WIDTH - 12, HEIGHT - 54, (-0.5, len(panel.ticks) - 0.5), _limits(panel.lines))
    parts = [*_down(frame, dict(enumerate(panel.ticks))), *_up(frame), *_names(panel, frame)]
    for line in panel.lines:
        joined = f'<path class="thin" d="M{"L".join(frame.points(line.x, line.y))}"/>'
        parts.append(f'<g class="series v{variants.index(line.variant)}">{joined}{_marks(frame, line)}</g>')
    return _svg(panel.title, "".join(parts), WIDTH, HEIGHT)


@draw.register
def _differences(panel: Differences, variants: Sequence[str], number: int) -> Markup:
    """Points with bars to the left and right of zero, places from top to bottom."""
    height = max(HEIGHT, 74 + 13 * len(panel.ticks) * max(2, len(panel.lines)))
    left = 16 + LETTER * max(map(len, panel.ticks))
    frame = Frame(left, 28, WIDTH - 14, height - 40, _limits(panel.lines, 0.0), (len(panel.ticks) - 0.5, -0.5))
    zero = f"M{frame.across(0):.1f} {frame.top}V{frame.bottom}"
    between = "".join(f"M{frame.left:.1f} {frame.up(i - 0.5):.1f}H{frame.right}" for i in range(1, len(panel.ticks)))
    names = [_text(frame.left - 8, frame.up(i) + 4, name, "end") for i, name in enumerate(panel.ticks)]
    lines = (f'<path class="grid" d="{between}"/>', f'<path class="axis" d="{zero}"/>')
    parts = [*_down(frame, _ticks(frame.x, 5)), *lines, *names, *_names(panel, frame)]
    for line in panel.lines:
        parts.append(f'<g class="series v{variants.index(line.variant)}">{_marks(frame, line, sideways=True)}</g>')
    return _svg(panel.title, "".join(parts), WIDTH, height)


@draw.register
def _scatter(panel: Scatter, variants: Sequence[str], number: int) -> Markup:
    """Points with their names as tooltips, and their trend."""
    frame = Frame(58, 28, WIDTH - 12, HEIGHT - 40, panel.across, panel.limits or _limits(panel.lines))
    parts = [*_down(frame, _ticks(frame.x, 5)), *_up(frame), *_names(panel, frame)]
    for line in panel.lines:
        ends = frame.points(np.array(panel.across), np.array(panel.trend))
        marks = "".join(
            f'<circle cx="{frame.across(x):.1f}" cy="{frame.up(y):.1f}" r="3"><title>'
            f"{html.escape(f'{name}: {_short(x)}, {_short(y)}')}</title></circle>"
            for x, y, name in zip(line.x, line.y, panel.names, strict=True)
        )
        trend = f'<path class="thin" d="M{"L".join(ends)}"/>'
        parts.append(f'<g class="series v{variants.index(line.variant)}">{trend}{marks}</g>')
    return _svg(panel.title, "".join(parts), WIDTH, HEIGHT)


@draw.register
def _heat(panel: Heat, variants: Sequence[str], number: int) -> Markup:
    """Rows by columns, each cell with its value; 0 is dark and 1 is bright."""
    row, left = 18, 16 + LETTER * max(map(len, panel.rows))
    width = (WIDE - left - 8) / len(panel.columns)
    shades = matplotlib.colormaps["viridis"](np.clip(panel.values, 0, 1))  # (R, C, 4)
    parts = []
    for r, name in enumerate(panel.rows):
        cells = "".join(
            f'<rect x="{left + c * width:.1f}" y="{28 + r * row}" width="{width + 0.3:.1f}" height="{row}" '
            f'fill="{"none" if math.isnan(value) else to_hex(shades[r, c])}" data-column="{c}">'
            f"<title>{html.escape(f'{name}, {column}: {value:.3g}')}</title></rect>"
            for c, (column, value) in enumerate(zip(panel.columns, panel.values[r], strict=True))
        )
        own = f" v{variants.index(name)}" if name in variants else ""
        parts.append(f'<g class="series{own}">{_text(left - 8, 41 + r * row, name, "end")}{cells}</g>')
    bottom = 28 + row * len(panel.rows)
    step = -(-len(panel.columns) // max(1, int((WIDE - left) / (LETTER * max(map(len, panel.columns)) + 6))))
    named = range(0, len(panel.columns), step)
    parts += [_text(left + (c + 0.5) * width, bottom + 14, panel.columns[c], "middle") for c in named]
    parts += [_text(left, 18, panel.title, "start", "title"), *_scale(WIDE - 190, 8)]
    return _svg(panel.title, "".join(parts), WIDE, bottom + 22, f'data-panel="{number}"')


def _scale(x: float, y: float) -> Iterable[str]:
    """The legend of the colours."""
    for i in range(10):
        colour = to_hex(matplotlib.colormaps["viridis"]((i + 0.5) / 10))
        yield f'<rect x="{x + 26 + 12 * i}" y="{y}" width="12" height="11" fill="{colour}"/>'
    yield _text(x + 20, y + 10, "0", "end")
    yield _text(x + 152, y + 10, "1", "start")


# --- parts ------------------------------------------------------------------------------------------------------------


def _svg(title: str, inner: str, width: float, height: float, more: str = "") -> Markup:
    label = html.escape(title)
    return Markup(f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{label}" {more}>{inner}</svg>')


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{html.escape(text)}</text>'


def _names(panel: Panel, frame: Frame) -> Iterable[str]:
    """The panel's title and axis labels."""
    middle, height = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    yield _text(middle, 16, panel.title, "middle", "title")
    yield _text(middle, frame.bottom + (48 if isinstance(panel, Points) else 34), panel.x_label, "middle")
    if panel.y_label:
        upright = f'<text transform="translate(13 {height:.0f}) rotate(-90)"'
        yield _text(0, 0, panel.y_label, "middle").replace("<text", upright, 1)


def _down(frame: Frame, ticks: dict[float, str] | dict[int, str]) -> Iterable[str]:
    """Vertical grid lines with their names below; a name may have several lines."""
    lines = "".join(f"M{frame.across(x):.1f} {frame.top}V{frame.bottom}" for x in ticks)
    yield f'<path class="grid" d="{lines}"/>'
    for x, name in ticks.items():
        for i, part in enumerate(name.split("\n")):
            yield _text(frame.across(x), frame.bottom + 16 + 14 * i, part, "middle")


def _up(frame: Frame) -> Iterable[str]:
    """Horizontal grid lines with their values."""
    if frame.log:
        inside = [v for v in LogLocator(subs=(1, 2, 5)).tick_values(*frame.y) if frame.y[0] <= v <= frame.y[1]]
        ticks = {float(v): _plain(v) for v in inside}
    else:
        ticks = _ticks(frame.y, 6)
    lines = "".join(f"M{frame.left} {frame.up(y):.1f}H{frame.right}" for y in ticks)
    yield f'<path class="grid" d="{lines}"/>'
    yield from (_text(frame.left - 6, frame.up(y) + 4, name, "end") for y, name in ticks.items())


def _ticks(ends: tuple[float, float], most: int, whole: bool = False) -> dict[float, str]:
    low, high = min(ends), max(ends)
    fewest = 1 if whole else 2  # else there would be parts of a round
    values = MaxNLocator(most, integer=whole, steps=[1, 2, 2.5, 5, 10], min_n_ticks=fewest).tick_values(low, high)
    return {float(v): _plain(v) for v in values if low <= v <= high}


def _plain(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.8g}".replace("-", MINUS)


def _limits(lines: Sequence[Line], *shown: float) -> tuple[float, float]:
    """Limits of an axis for the points of lines with their ranges, and for single values."""
    return padded(np.concatenate([*(each for line in lines for each in (line.y, line.low, line.high)), shown]), 0.05)


def _marks(frame: Frame, line: Line, sideways: bool = False) -> str:
    """The bars of a line's ranges, and its points with their values as tooltips; ``sideways`` exchanges the axes."""
    bars, circles = [], []
    for place, value, low, high in zip(line.x, line.y, line.low, line.high, strict=True):
        x, y = (value, place) if sideways else (place, value)
        said = f"{line.variant}: {_short(value)}"
        if not math.isnan(low):
            start = (frame.across(low), frame.up(y)) if sideways else (frame.across(x), frame.up(low))
            end = f"H{frame.across(high):.1f}" if sideways else f"V{frame.up(high):.1f}"
            bars.append(f'<path class="bar" d="M{start[0]:.1f} {start[1]:.1f}{end}"/>')
            said += f", interval {_short(low)} … {_short(high)}"
        title = f"<title>{html.escape(said)}</title>"
        circles.append(f'<circle cx="{frame.across(x):.1f}" cy="{frame.up(y):.1f}" r="4">{title}</circle>')
    return "".join(bars + circles)


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS)
