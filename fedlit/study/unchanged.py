"""Checks what must stay the same from one call of a study to the next: settings of its runs, looks and claims."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlit.command.trainer import best_precision
from fedlit.core.errors import InputError
from fedlit.core.files import read_object
from fedlit.report.claims import LARGEST, MEAN, SMALLEST, Claims
from fedlit.report.record import BASELINE_VARIANT, PARTITION, Cell, cell_of, recorded_claims
from fedlit.runs.changes import in_words, with_effect
from fedlit.runs.folder import METRICS_CSV, STUDY
from fedlit.runs.read import config_of
from fedlit.runs.setting import own_code, own_code_of, precisions_of
from fedlit.runs.words import lookup
from fedlit.study.plan import Plan
from fedlit.study.run import StudyRun

#: At most this many names of combinations are shown in a message.
SHOWN = 3


def check_plan(plan: Plan, folder: Path) -> None:
    """Refuse to continue a study that is another one, or whose looks, claims or compared runs have changed.

    Raises:
        InputError: Naming what differs.
    """
    record, known = _record(folder)
    if not any(any((folder / name).glob(f"*/{METRICS_CSV}")) for name in known):
        return
    if known.keys().isdisjoint(each.name for each in plan.combinations):
        raise InputError(
            f"{folder} contains another study, with {', '.join(list(known)[:SHOWN])}; give this study another --name"
        )
    _same_looks(plan, record, folder)


def check_runs(runs: Sequence[StudyRun], folder: Path) -> None:
    """Refuse to continue a study if existing runs have other settings than its file gives now.

    Raises:
        InputError: Naming a run and the settings that differ; or by `StudyRun.check`.
    """
    _, known = _record(folder)
    for run in runs:
        if run.begun or run.finished:
            _same_settings(run, config_of(run.folder) or known.get(run.combination.name, {}))
    for run in runs:
        run.check()


def changed_code(runs: Sequence[StudyRun]) -> Iterator[str]:
    """A line for each of the user's modules that has changed since runs were made with it."""
    made_with: dict[tuple[str, str], int] = {}
    for run in runs:
        for module in dict.fromkeys(own_code_of(run.folder)):
            made_with[module] = made_with.get(module, 0) + 1
    now = own_code()
    for (name, digest), times in made_with.items():
        if now.get(name, digest) != digest:
            yield (
                f"{name} has changed since {times} of the runs were made with it; if this change affects results, give "
                "this study another --name"
            )


def _record(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record of a study, and the config of each of its combinations by name; empty if there is none."""
    record = read_object(folder / STUDY)
    combinations = record.get("combinations", {})
    known = isinstance(combinations, dict) and {name: _config_of(each) for name, each in combinations.items()}
    if not isinstance(known, dict) or not all(isinstance(config, dict) for config in known.values()):
        raise InputError(f"{folder / STUDY} is not the record of a study; remove it, or give this study another --name")
    return record, known


def _config_of(combination: Any) -> Any:
    return combination.get("config") if isinstance(combination, dict) else None


def _same_settings(run: StudyRun, before: Mapping[str, Any]) -> None:
    """Refuse a run with other settings, finished or not, as it would be compared with runs with the new settings."""
    seed = {"seed_everything": run.seed} if "seed_everything" in before else {}
    now = {**run.combination.config, **seed}
    here = str(best_precision(lookup(now, "trainer", "accelerator")))
    trained_in = precisions_of(run.folder)
    other = next((each for each in trained_in if each != here), here) if trained_in else None
    if found := with_effect(before, now, other, here):
        raise InputError(
            f"the run in {run.folder} has other settings than the study file (run -> file): {in_words(found)}; give "
            "this study another --name, or remove that folder"
        )


def _same_looks(plan: Plan, record: Mapping[str, Any], folder: Path) -> None:
    """Refuse other looks, and if there are looks, other claims or runs that they compare: their error rate holds only
    for a fixed plan."""
    before, now = record.get("looks"), list(plan.looks.at) if plan.looks else None
    remedy = "this would invalidate the error rate of verdicts; give this study another --name, and new seeds by first:"
    if now != before:
        was, given = (f"looks at {looks} seeds" if looks else "a list of seeds" for looks in (before, now))
        raise InputError(f"seeds: {folder} was started with {was}, but the file now has {given}; {remedy}")
    claims = recorded_claims(record, folder / STUDY)
    before_claims = (
        claims and claims.without_texts,
        record.get("baseline", BASELINE_VARIANT),
        record.get("within", PARTITION),
    )
    if now and plan.claims and before_claims != (plan.claims.without_texts, plan.baseline, plan.within):
        raise InputError(
            f"claims: {folder} was started with other claims, another baseline or another within; {remedy}"
        )
    if now and plan.claims and isinstance(axes := record.get("axes"), dict):
        cells = _cells(axes, plan.within), plan.cells
        earlier, present = (_compared(plan.claims, plan.baseline, each) for each in cells)
        if differ := [f"{' at '.join(c)} is {'missing' if c in earlier else 'new'}" for c in sorted(earlier ^ present)]:
            raise InputError(
                f"axes: {folder} was started with other runs that the claims compare: {', '.join(differ[:SHOWN])}; "
                f"{remedy}"
            )


def _cells(axes: Mapping[str, Sequence[Any]], within: str) -> set[Cell]:
    """Variant and partition of each combination of the values of a study's axes."""
    named = ([str(value) for value in values] for values in axes.values())
    return {
        cell_of("_".join(names), dict(zip(axes, names, strict=True)), axes, within)
        for names in itertools.product(*named)
    }


def _compared(claims: Claims, baseline: str, cells: Iterable[Cell]) -> set[Cell]:
    """Those of the variants and partitions that the claims compare."""
    every, found = set(cells), set[Cell]()
    for part in itertools.chain.from_iterable(claim.parts for claim in claims.claims):
        variants = {variant for name in part.names for variant in claims.variants_of(name, baseline)}
        is_over_all = not {MEAN, SMALLEST, LARGEST}.isdisjoint(part.at)
        found |= {(variant, at) for variant, at in every if variant in variants and (is_over_all or at in part.at)}
    return found
