"""What makes runs under one name unlike each other: settings, and changes of settings on the way."""

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

#: The config that a run had up to a round.
EARLIER = re.compile(re.escape(UNTIL_ROUND).replace(r"\{\}", r"(\d+)"))
SEEDS = ("seed_everything", "data.seed", "federation.seed")


def unlike_settings(study: Study) -> Iterator[str]:
    """A line for each variant and partition whose seeds were run with unlike settings."""

    def cell(run: Run) -> tuple[int, int]:
        return study.variants.index(run.variant), study.partitions.index(run.partition)

    for _, group in groupby(sorted((run for run in study.runs if run.config), key=cell), cell):
        first, *others = sorted(group, key=lambda run: run.seed)
        found = {str(each): run for run in others for each in _that_matter(first.config, run.config)}
        if found:
            told = "; ".join(f"{change} at seed {run.seed}" for change, run in found.items())
            yield f"{first.variant} at {first.partition}, from seed {first.seed} to others: {told}"


def changed_on_the_way(study: Study) -> Iterator[str]:
    """A line for each run that was gone on with after a setting was changed."""
    for run in study.runs:
        for path in sorted(run.folder.glob(UNTIL_ROUND.format("*"))):
            until = EARLIER.fullmatch(path.name)
            found = _that_matter(read_config(path), run.config)
            if until and found:
                what = "; ".join(map(str, found))
                yield f"{_named(run)}, after round {until[1]}: {what}"


def changed_code(study: Study) -> Iterator[str]:
    """A line for each module of the user's that was not the same in all runs that used it."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in study.runs:
        for module, digest in dict.fromkeys(own_code_of(run.folder)):
            found.setdefault(module, {}).setdefault(digest, []).append(run)
    for module, versions in found.items():
        if len(versions) > 1:
            told = [
                f"{digest} in {count(len(runs), 'run')}, first {_named(runs[0])}" for digest, runs in versions.items()
            ]
            yield f"`{module}`: {'; '.join(told)}"


def _named(run: Run) -> str:
    return f"{run.variant} at {run.partition}, seed {run.seed}"


def _that_matter(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Changes by which results may differ; seeds are others anyway."""
    return [each for each in changes(before, now) if each.matters and each.key not in SEEDS]
