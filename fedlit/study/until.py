"""Decides which runs a study needs next if it adds seeds until its claims are decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from fedlit.report.collect import NoRunsError, collect
from fedlit.report.judge import Judgement, Part, judge
from fedlit.report.numbers import effect_in_words
from fedlit.report.outlook import Open, open_parts
from fedlit.report.record import Cell
from fedlit.report.statistics import measure_all, targets
from fedlit.study.combination import Combination
from fedlit.study.plan import Plan

#: A combination at a seed.
Asked = tuple[Combination, int]


@dataclass(frozen=True)
class Status:
    """How far the claims of a study are decided.

    Args:
        judged: The claims with their verdicts; empty before there are runs.
        undecided: The parts that are not decided.
        cells: The combination of each variant and partition.
    """

    judged: Sequence[Judgement]
    undecided: Sequence[Open]
    cells: dict[Cell, Combination]


def status(plan: Plan, folder: Path) -> Status:
    """Judge the claims by the existing runs; the result does not depend on the order in which they were made.

    Raises:
        InputError: If a run's table is damaged, since without it other seeds might be added.
    """
    assert plan.claims is not None
    assert plan.looks is not None
    cells = plan.cells
    try:
        study = collect(folder, plan.combinations[0].rounds)
    except NoRunsError:  # no run has finished yet
        return Status((), (), cells)
    measured = measure_all(study, targets(study, plan.baseline), plan.claims.columns)
    judged = judge(measured, study, plan.claims, plan.baseline)
    return Status(judged, tuple(open_parts(judged, plan.looks)), cells)


def asked_for(plan: Plan, now: Status) -> list[Asked]:
    """The runs that are needed at this point, seed by seed, including finished ones.

    The first seeds are needed for all combinations. After that, an open part of a claim needs the seeds of its next
    look for the combinations that it compares; a decided part needs no more seeds.
    """
    looks = plan.looks
    assert looks is not None
    return _runs(plan, now, lambda part: looks.after(part.seeds) if _can_be_decided(part) else None)


def _can_be_decided(part: Part) -> bool:
    """Whether more seeds can decide a part.

    They cannot if a run diverged, as the difference is then not finite, nor if there is a p but no margin, as that is
    then a share of a mean that is unknown or not finite.
    """
    has_no_margin = math.isnan(part.margin) and not math.isnan(part.corrected_p)
    return part.finding == "open" and math.isfinite(part.difference.mean) and not has_no_margin


def likely(plan: Plan, now: Status) -> list[Asked]:
    """The runs that the finished study will have if the means and the scatter of the differences stay as they are."""
    needed = {id(each.part): each.seeds or len(plan.seeds) for each in now.undecided if _can_be_decided(each.part)}
    return _runs(plan, now, lambda part: needed.get(id(part)))


def _runs(plan: Plan, now: Status, wanted: Callable[[Part], int | None]) -> list[Asked]:
    """All runs up to the number of seeds with which a part was judged, or the number it needs if that is larger."""
    assert plan.looks is not None
    seeds = dict.fromkeys(plan.combinations, plan.looks.at[0])
    for part in (part for claim in now.judged for part in claim.parts):
        for each in (now.cells[cell] for cell in part.contrast.cells):
            seeds[each] = max(seeds[each], wanted(part) or part.seeds)
    return [(each, seed) for k, seed in enumerate(plan.seeds) for each in plan.combinations if k < seeds[each]]


def table(plan: Plan, now: Status) -> Table:
    """The parts of the claims: the finding of each, its seeds, and how many seeds are likely to decide it."""
    shown = Table("claim", "part", "seeds", "found", "mean", "interval", "likely seeds", box=None)
    expected = {id(each.part): each.seeds for each in now.undecided}
    for claim in now.judged:
        for part in claim.parts:
            seeds = expected.get(id(part), 0)
            left = "" if seeds == 0 else f"more than {len(plan.seeds)}" if seeds is None else str(seeds)
            what = f"{part.metric.title} {part.kind}: {part.text}"
            effect = effect_in_words(part.metric, part.difference.interval)
            shown.add_row(str(claim.number), what, str(part.difference.n), part.finding, *effect, left)
    return shown
