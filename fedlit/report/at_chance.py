"""Runs that learned nothing: one of them widens every interval, and is perfectly steady, which is no stability."""

from __future__ import annotations

import numpy as np

from fedlit.report.collect import Study
from fedlit.report.numbers import count
from fedlit.report.run import Run, read_outcome
from fedlit.runs.evaluation import is_chance
from fedlit.runs.outcome import CLASSES_CSV

#: Runs that are named one by one.
NAMED = 6


def at_chance(study: Study) -> list[Run]:
    """The finished runs whose model is no better, at the round compared, than always naming the most frequent class.

    How frequent the classes are among the held-out examples is known from a run's ``classes.csv``; a run without it
    counts as one that learned.
    """
    return [run for run in study.finished if learned_nothing(run, study.horizon)]


def learned_nothing(run: Run, horizon: int) -> bool:
    """Whether a run is one of `at_chance`."""
    try:
        samples = read_outcome(run.folder / CLASSES_CSV)["samples"].to_numpy(dtype=float)
    except (ValueError, OSError, KeyError):
        return False
    accuracies = run.table.loc[run.table["round"] <= horizon, "global/accuracy"].dropna()
    return len(accuracies) > 0 and is_chance(np.array([accuracies.iloc[-1] * samples.sum()]), samples)


def in_words(study: Study) -> str:
    """Which runs these are and what they do to the numbers; empty where there are none."""
    if not (runs := at_chance(study)):
        return ""
    named = ", ".join(f"{run.variant} at {run.partition}, seed {run.seed}" for run in runs[:NAMED])
    rest = f", and {len(runs) - NAMED} others" if len(runs) > NAMED else ""
    such = "It has" if len(runs) == 1 else "They have"
    return (
        f"**{count(len(runs), 'run')} learned nothing**: {named}{rest} ended no better than always naming the most "
        f"frequent class. {such} no part in the measures of stability, as a model that names one class is always "
        "steady, and in all other numbers counts as any run, so intervals are wide there."
    )
