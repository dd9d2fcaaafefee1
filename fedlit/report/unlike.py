"""Finds compared runs with different settings or code, and runs that were resumed with other settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from fedlit.report.collect import Study
from fedlit.report.numbers import count
from fedlit.report.run import Run
from fedlit.runs.changes import AUTO, Change, changes, with_effect
from fedlit.runs.folder import UNTIL_ROUND
from fedlit.runs.read import read_config
from fedlit.runs.setting import own_code_of, precisions_of
from fedlit.runs.words import lookup

#: The name of the file with the config that a run had up to a round.
EARLIER = re.compile(re.escape(UNTIL_ROUND).replace(r"\{\}", r"(\d+)"))
SEEDS = ("seed_everything", "data.seed", "federation.seed")


def differing_settings(study: Study) -> Iterator[str]:
    """A line for each variant and partition whose seeds were run with different settings."""

    def cell(run: Run) -> tuple[int, int]:
        return study.variants.index(run.variant), study.partitions.index(run.partition)

    for _, group in groupby(sorted((run for run in study.runs if run.config), key=cell), cell):
        first, *others = sorted(group, key=lambda run: run.seed)
        found = {str(each): run for run in others for each in _affecting_results(first, run)}
        if found:
            differences = "; ".join(f"{change} at seed {run.seed}" for change, run in found.items())
            yield f"{first.variant} at {first.partition}, compared with seed {first.seed}: {differences}"


def changed_on_resume(study: Study) -> Iterator[str]:
    """A line for each run that was resumed with other settings."""
    for run in study.runs:
        for path in sorted(run.folder.glob(UNTIL_ROUND.format("*"))):
            until = EARLIER.fullmatch(path.name)
            found = _except_seeds([each for each in changes(read_config(path), run.config) if each.affects_results])
            if until and found:
                yield f"{_named(run)}, after round {until[1]}: {'; '.join(map(str, found))}"
        if _leaves_precision_open(run) and len(found_in := precisions_of(run.folder)) > 1:
            yield f"{_named(run)}: trained in {' and in '.join(found_in)}, as trainer.precision is auto"


def differing_precision(study: Study) -> Iterator[str]:
    """A line for each partition and seed at which ``auto`` was not the same precision for all variants."""

    def pair(run: Run) -> tuple[int, int]:
        return study.partitions.index(run.partition), run.seed

    for _, group in groupby(sorted(filter(_leaves_precision_open, study.runs), key=pair), pair):
        users: dict[str, list[str]] = {}
        runs = list(group)
        for run in runs:
            for precision in precisions_of(run.folder):
                users.setdefault(precision, []).append(run.variant)
        if len(users) > 1:
            said = "; ".join(f"{precision} {', '.join(variants)}" for precision, variants in users.items())
            yield f"{runs[0].partition}, seed {runs[0].seed}: {said}"


def _leaves_precision_open(run: Run) -> bool:
    """Whether the machine chose a run's precision."""
    return lookup(run.config, "trainer", "precision") in (None, AUTO)


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


def _affecting_results(first: Run, other: Run) -> list[Change]:
    """Differences of two runs' settings that may affect results, except seeds, which differ on purpose."""
    trained_in = (next(reversed(precisions_of(run.folder)), None) for run in (first, other))
    return _except_seeds(with_effect(first.config, other.config, *trained_in))


def _except_seeds(found: list[Change]) -> list[Change]:
    return [each for each in found if each.key not in SEEDS]
