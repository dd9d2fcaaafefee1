"""Runs that learned nothing, which numbers over seeds hide: one of them is steady, and widens every interval."""

from __future__ import annotations

from fedlit.report.collect import Study
from fedlit.report.numbers import count
from fedlit.report.run import Run
from fedlit.runs.evaluation import is_chance
from fedlit.runs.outcome import CLASSES_CSV

#: Runs that are named one by one.
NAMED = 6


def at_chance(study: Study) -> list[Run]:
    """The finished runs whose final model is no better than always naming the most frequent class of the test set."""
    return [run for run in study.finished if _at_chance(run, study.horizon)]


def _at_chance(run: Run, round: int) -> bool:
    table = run.outcome(CLASSES_CSV, round)
    if table is None:
        return False
    samples, accuracies = (table[name].fillna(0.0).to_numpy(dtype=float) for name in ("samples", "accuracy"))
    return is_chance(samples * accuracies, samples)


def in_words(study: Study) -> str:
    """Which runs these are and what they do to the numbers; empty where there are none."""
    if not (runs := at_chance(study)):
        return ""
    named = ", ".join(f"{run.variant} at {run.partition}, seed {run.seed}" for run in runs[:NAMED])
    rest = f", and {len(runs) - NAMED} others" if len(runs) > NAMED else ""
    such = "It is" if len(runs) == 1 else "They are"
    return (
        f"**{count(len(runs), 'run')} learned nothing**: {named}{rest} ended no better than always naming the most "
        f"frequent class. {such} counted in all numbers: steady by any measure of stability, and making intervals wide."
    )
