"""Finds runs that learned nothing, which widen intervals and look perfectly steady."""

from __future__ import annotations

import numpy as np

from fedlit.report.collect import Study
from fedlit.report.numbers import count
from fedlit.report.run import Run, read_outcome
from fedlit.runs.evaluation import is_chance
from fedlit.runs.outcome import CLASSES_CSV

#: At most this many runs are named.
NAMED = 6


def at_chance(study: Study) -> list[Run]:
    """The finished runs that, at the compared round, are no better than always predicting the most frequent class.

    The class frequencies are taken from a run's ``classes.csv``; a run without it counts as one that learned.
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
    """A paragraph about these runs and their effect on the numbers; empty if there are none."""
    if not (runs := at_chance(study)):
        return ""
    named = ", ".join(f"{run.variant} at {run.partition}, seed {run.seed}" for run in runs[:NAMED])
    rest = f", and {len(runs) - NAMED} others" if len(runs) > NAMED else ""
    such = "It is" if len(runs) == 1 else "They are"
    return (
        f"**{count(len(runs), 'run')} learned nothing**: {named}{rest} ended no better than a model that always "
        f"predicts the most frequent class. {such} left out of the measures of stability, since such a model looks "
        "perfectly steady. All other numbers include such runs, so intervals are wide there."
    )
