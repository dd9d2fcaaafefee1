"""Figures of gates over the rounds, in colours from 0 to 1 or more: pure functions from numbers to figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedlit import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[Any]
Frames = Mapping[int, Mapping[str, Floats]]

#: At most this many rounds are shown, as columns of a film or as ticks.
MOST_ROUNDS = 8
#: At most this many inputs are shown in a film: drawing 100 takes ten minutes.
MOST_INPUTS = 12


def map_strip(frames: Frames, labels: Mapping[str, str]) -> Figure:
    """A film of the spatial gate with the highest resolution: columns are rounds, rows are inputs and models.

    Args:
        frames: By round, gates (B, 1, h, w) under ``MODEL/NAME``, and ``images`` (B, H, W) if they can be drawn.
        labels: A description of each model, by its name in the frames.
    """
    rounds = spread_over(sorted(frames), MOST_ROUNDS)
    name = max(_names(frames), key=lambda name: _first(frames, name).size)
    images = next((frame["images"] for frame in frames.values() if "images" in frame), None)
    digits = min(len(_first(frames, name)), MOST_INPUTS)
    models = [model for model in labels if any(f"{model}/{name}" in frame for frame in frames.values())]
    figure = plots.blank(0.95 * (len(rounds) + 1) + 1.4, 0.95 * digits * len(models) + 1.0)
    grid = figure.subplots(digits * len(models), len(rounds) + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    wanted = {f"{model}/{name}" for model in models}
    colours = _colours(gate for frame in frames.values() for key, gate in frame.items() if key in wanted)
    shown = None
    for row, (digit, model) in enumerate((digit, model) for digit in range(digits) for model in models):
        if images is not None and model == models[0]:
            grid[row, 0].imshow(images[digit].astype(np.float32), cmap="gray")
        for column, round in enumerate(rounds, start=1):
            if row == 0:
                grid[row, column].set_title(f"round {round}", fontsize=8)
            gate = frames[round].get(f"{model}/{name}")
            if gate is not None:
                shown = grid[row, column].imshow(gate[digit, 0].astype(np.float32), **colours)
        place = grid[row, 1]
        place.text(-0.06, 0.5, model, transform=place.transAxes, rotation=90, ha="right", va="center", fontsize=7)
    if shown is not None:
        figure.colorbar(shown, ax=grid[:, -1].tolist(), label="gate", fraction=0.15, aspect=40)
    described = "; ".join(f"{model}: {label}" for model, label in labels.items() if model in models)
    figure.suptitle(f"{name} on the same inputs\n{described}", fontsize=9, parse_math=False)
    return figure


def channel_strip(frames: Frames, labels: Mapping[str, str]) -> Figure:
    """Heat maps of channels over the rounds, a row for each gate and a column for each model.

    Args:
        frames: By round, gates (B, C, 1, 1) under ``MODEL/NAME``; the mean over the B inputs is shown.
        labels: A description of each model, by its name in the frames.
    """
    names, rounds = _names(frames), sorted(frames)
    models = [model for model in labels if any(key.startswith(f"{model}/") for f in frames.values() for key in f)]
    figure = plots.blank(3.8 * len(models) + 0.8, 2.3 * len(names) + 0.5)
    grid = figure.subplots(len(names), len(models), squeeze=False)
    colours = _colours(gate for frame in frames.values() for key, gate in frame.items() if "/" in key)
    for row, name in enumerate(names):
        channels = _first(frames, name).shape[1]
        for column, model in enumerate(models):
            missing = np.full((1, channels, 1, 1), np.nan)
            gates = [frames[round].get(f"{model}/{name}", missing).astype(np.float32) for round in rounds]
            heat = np.stack([gate.mean(0).ravel() for gate in gates], axis=1)  # (C, R)
            axes = grid[row, column]
            drawn = plots.cells(axes, heat, **colours)
            ticks = spread_over(range(len(rounds)), MOST_ROUNDS)
            axes.set_xticks(ticks, [str(rounds[tick]) for tick in ticks])
            axes.tick_params(labelsize=8)
            axes.set_ylabel(f"channel of {name}" if column == 0 else "", fontsize=8)
            axes.set_xlabel("round" if row == len(names) - 1 else "", fontsize=8)
            low, high = np.nanmin(heat), np.nanmax(heat)
            axes.set_title(f"{labels[model]}\nfrom {low:.2f} to {high:.2f}", fontsize=8, parse_math=False)
    figure.colorbar(drawn, ax=grid[:, -1].tolist(), label="gate, mean over the inputs", fraction=0.05, aspect=40)
    return figure


def spread_over(values: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of the values, evenly spaced, including the first and the last."""
    places = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[place] for place in places]


def _colours(gates: Iterable[Floats]) -> dict[str, Any]:
    """Colours from 0 to 1, and beyond as far as a gate goes: logits, or a gate that amplifies."""
    low, high = 0.0, 1.0
    for gate in gates:
        finite = gate[np.isfinite(gate)]
        low, high = float(finite.min(initial=low)), float(finite.max(initial=high))
    return {"cmap": "viridis", "vmin": low, "vmax": high}


def _names(frames: Frames) -> list[str]:
    """Names of the gates, in the order of the network."""
    keys = (key for frame in frames.values() for key in frame if "/" in key)
    return list(dict.fromkeys(key.split("/", 1)[1] for key in keys))


def _first(frames: Frames, name: str) -> Floats:
    """A gate of this name from any frame."""
    return next(gate for frame in frames.values() for key, gate in frame.items() if key.endswith(f"/{name}"))
