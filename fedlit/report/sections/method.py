"""How the numbers of a report were computed."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study
from fedlit.report.document import Bullets, Element, Text
from fedlit.report.draws import Draws, compare_draws
from fedlit.report.intervals import LEAST_SEEDS, LEVEL
from fedlit.report.judge import rules
from fedlit.report.metrics import LAST_ROUNDS, METRICS
from fedlit.report.numbers import count


def method(found: Analysis) -> Iterable[Element]:
    """The rules of verdicts, intervals, metrics, targets, and whether runs shared what was drawn."""
    for paragraph in ("**Claims.**", *rules()) if found.claims else ():
        if paragraph.startswith("- "):
            yield Bullets(tuple(" ".join(item.split()) for item in paragraph.removeprefix("- ").split("\n- ")))
        else:
            yield Text(" ".join(paragraph.split()))
    yield from _seeds_needed(found)
    yield Text(
        f"**Intervals** of a metric over seeds hold its mean at {LEVEL:.0%} and stay where the metric can be: in 0 to "
        "1 for a share, from 0 up for others. They are score intervals, as Wilson's for a share, with the scatter "
        "between seeds in place of the binomial one and at Student's t: the means whose distance to the measured one "
        "is within t standard errors, where the error shrinks towards a bound as that of a share does. Far from a "
        "bound they are Student's. Paired differences have Student's. "
        f"Below {LEAST_SEEDS} seeds there is none: with two it would be 12.7 standard errors to each side. Times "
        "depend on what else the machine did and are never marked as the best."
    )
    yield Text(
        f"**Metrics**, of each run up to round {found.study.horizon}; “last {LAST_ROUNDS} rounds” are fewer in a "
        "shorter run."
    )
    yield Bullets(tuple(f"**{m.title}**: {m.meaning}." for m in METRICS if m.key in found.measured))
    reach = "; ".join(f"{p}: {t:.4f}" for p, t in found.targets.items() if not math.isnan(t))
    yield Text(f"**Target accuracies**: {reach or 'none'}.")
    yield from _like_draws(found.study)


def _seeds_needed(found: Analysis) -> Iterable[Element]:
    if found.claims:
        yield Text(
            "**Seeds that would settle a claim** are estimates from the mean and the scatter of its differences so "
            "far, both of which are known to chance only. Two are given: the seeds of the look that would settle it if "
            "both stayed as they are, in a study that stops when it is decided; and those at which an effect of the "
            f"margin would be found 4 times in 5 by one test at {1 - LEVEL:.0%}."
        )


def _like_draws(study: Study) -> Iterable[Element]:
    yield Text(f"**Shared draws**: {_told(compare_draws(study))}")


def _told(draws: Draws) -> str:
    if not draws.groups:
        return (
            "not shown. Runs that end from now on leave hashes of partition, participation (cohorts and stragglers) "
            "and batch order in `draws.json`; no two variants here have them at one seed and partition."
        )
    of = f"{draws.agreeing} of {draws.groups} combinations of seed and partition"
    unknown = f" {count(draws.unknown, 'run')} without `draws.json` could not be checked." if draws.unknown else ""
    return (
        f"at {of} all variants have equal hashes of partition, participation (cohorts and stragglers) and batch order "
        f"(`draws.json` of each run).{unknown}"
    )
