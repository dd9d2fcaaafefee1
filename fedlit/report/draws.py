"""Checks whether paired runs shared partition, participation and batch order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from fedlit.report.collect import Run, Study


@dataclass(frozen=True)
class Draws:
    """Whether the runs' hashes agree.

    Args:
        groups: Number of combinations of seed and partition at which two or more variants have hashes.
        differing: A line for each combination and kind of draw that differs, with the hashes.
        agreeing: Number of combinations at which all hashes are equal.
        unknown: Number of compared runs without hashes.
    """

    groups: int
    differing: tuple[str, ...]
    agreeing: int
    unknown: int


def compare_draws(study: Study) -> Draws:
    """Compare the hashes of all variants at one seed and partition."""
    runs = sorted(study.finished, key=lambda run: (*_pair(run), study.variants.index(run.variant)))
    known = [[run for run in group if run.draws] for _, group in groupby(runs, _pair)]
    groups = [group for group in known if len(group) > 1]
    differences = [_differences(group) for group in groups]
    return Draws(
        groups=len(groups),
        differing=tuple(line for lines in differences for line in lines),
        agreeing=sum(not lines for lines in differences),
        unknown=len(runs) - sum(map(len, known)),
    )


def _pair(run: Run) -> tuple[str, int]:
    return run.partition, run.seed


def _differences(runs: list[Run]) -> list[str]:
    """A line for each kind of draw that the runs do not share."""
    lines = []
    for kind in dict.fromkeys(kind for run in runs for kind in run.draws):
        owners: dict[str, list[str]] = {}
        for run in runs:
            owners.setdefault(run.draws.get(kind, "none"), []).append(run.variant)
        if len(owners) > 1:
            told = "; ".join(f"`{found}` {', '.join(variants)}" for found, variants in owners.items())
            lines.append(f"{kind} at {runs[0].partition}, seed {runs[0].seed}: {told}")
    return lines
