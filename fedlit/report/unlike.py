"""Finds compared runs with different settings or code, and runs that were resumed with other settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from fedlit.report.collect import Study
from fedlit.report.numbers import count
from fedlit.report.run import Run
from fedlit.runs.changes import Change, changes
from fedlit.runs.folder import UNTIL_ROUND
from fedlit.runs.read import read_config
from fedlit.runs.setting import own_code_of

#: The name of the file with the config that a run had up to a round.
EARLIER = re.compile(re.escape(UNTIL_ROUND).replace(r"\{\}", r"(\d+)"))
SEEDS = ("seed_everything", "data.seed", "federation.seed")


def differing_settings(study: Study) -> Iterator[str]:
    """A line for each variant and partition whose seeds were run with different settings."""

    def cell(run: Run) -> tuple[int, int]:
        return study.variants.index(run.variant), study.partitions.index(run.partition)

    for _, group in groupby(sorted((run for run in study.runs if run.config), key=cell), cell):
        first, *others = sorted(group, key=lambda run: run.seed)
        found = {str(each): run for run in others for each in _affecting_results(first.config, run.config)}
        if found:
            differences = "; ".join(f"{change} at seed {run.seed}" for change, run in found.items())
            yield f"{first.variant} at {first.partition}, compared with seed {first.seed}: {differences}"


def changed_on_resume(study: Study) -> Iterator[str]:
    """A line for each run that was resumed with other settings."""
    for run in study.runs:
        for path in sorted(run.folder.glob(UNTIL_ROUND.format("*"))):
            until = EARLIER.fullmatch(path.name)
            found = _affecting_results(read_config(path), run.config)
            if until and found:
                yield f"{_named(run)}, after round {until[1]}: {'; '.join(map(str, found))}"


def changed_code(study: Study) -> Iterator[str]:
    """A line for each of the user's modules that was not the same in all runs that used it."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in study.runs:
        for module, digest in dict.fromkeys(own_code_of(run.folder)):
            found.setdefault(module, {}).setdefault(digest, []).append(run)
    for module, versions in found.items():
        if len(versions) > 1:
            users = [
                f"{digest} in {count(len(runs), 'run')}, first {_named(runs[0])}" for digest, runs in versions.items()
            ]
            yield f"`{module}`: {'; '.join(users)}"


def _named(run: Run) -> str:
    return f"{run.variant} at {run.partition}, seed {run.seed}"


def _affecting_results(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Changes of settings that may affect results, except seeds, which differ on purpose."""
    return [each for each in changes(before, now) if each.affects_results and each.key not in SEEDS]
