"""The section on how the numbers of a report were computed."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fedlit.report.analysis import Analysis
from fedlit.report.document import Bullets, Element, Text
from fedlit.report.draws import Draws, compare_draws
from fedlit.report.intervals import LEAST_SEEDS, LEVEL
from fedlit.report.judge import rules
from fedlit.report.metrics import LAST_ROUNDS, METRICS
from fedlit.report.numbers import count


def method(found: Analysis) -> Iterable[Element]:
    """The rules of verdicts, intervals, metrics and targets, and whether runs shared their random draws."""
    for paragraph in ("**Claims.**", *rules()) if found.claims else ():
        if paragraph.startswith("- "):
            yield Bullets(tuple(" ".join(item.split()) for item in paragraph.removeprefix("- ").split("\n- ")))
        else:
            yield Text(" ".join(paragraph.split()))
    if found.claims:
        yield Text(
            "**Seeds that would decide a claim** are rough estimates from the mean and spread of its differences so "
            "far. Two are given: the seeds of the look that would decide it if both stayed as they are, in a study "
            f"that stops when it is decided; and the seeds at which one test at {1 - LEVEL:.0%} would find an effect "
            "of the margin 4 times in 5."
        )
    yield Text(
        f"**Intervals** of a metric are {LEVEL:.0%} intervals for its mean over seeds, within the range of the metric: "
        "0 to 1 for a share, >= 0 for others. They are score intervals like Wilson's for a share, with Student's t and "
        "the variance between seeds instead of the binomial one: all means within t standard errors of the measured "
        "mean, where the error shrinks towards a bound like that of a share. Far from a bound they agree with "
        f"Student's interval. Paired differences have Student's interval. With fewer than {LEAST_SEEDS} seeds there is "
        "none: with two it would be 12.7 standard errors to each side. Times depend on the load of the machine and are "
        "never marked as the best."
    )
    yield Text(
        f"**Metrics** of each run up to round {found.study.horizon}; in a shorter run, “last {LAST_ROUNDS} rounds” are "
        "fewer."
    )
    yield Bullets(tuple(f"**{m.title}**: {m.meaning}." for m in METRICS if m.key in found.measured))
    reach = "; ".join(f"{p}: {t:.4f}" for p, t in found.targets.items() if not math.isnan(t))
    yield Text(f"**Target accuracies**: {reach or 'none'}.")
    yield Text(f"**Shared draws**: {_told(compare_draws(found.study))}")


def _told(draws: Draws) -> str:
    if not draws.groups:
        return (
            "unknown. No two variants have `draws.json`, with hashes of partition, participation (cohorts and "
            "stragglers) and batch order, at one seed and partition; runs write it at their end."
        )
    of = f"{draws.agreeing} of {draws.groups} combinations of seed and partition"
    unknown = f" {count(draws.unknown, 'run')} without `draws.json` could not be checked." if draws.unknown else ""
    return (
        f"at {of} all variants have equal hashes of partition, participation (cohorts and stragglers) and batch order "
        f"(`draws.json` of each run).{unknown}"
    )
