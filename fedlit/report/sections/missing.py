"""What a report goes without, and what makes its comparisons less than they seem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study
from fedlit.report.document import Bullets, Element, Table, Text
from fedlit.report.draws import compare_draws
from fedlit.report.intervals import LEAST_SEEDS
from fedlit.report.numbers import count
from fedlit.runs.outcome import CLASSES_CSV, CLIENTS_CSV

#: Gaps that are listed one by one.
MOST_GAPS = 40


def missing(found: Analysis) -> Iterable[Element]:
    """Runs, seeds and tables that are not there."""
    study = found.study
    if found.baseline not in set(found.measured["variant"]) and not study.searches(found.baseline):
        yield Text(
            f"**No finished run of `{found.baseline}`**: differences to it need one; "
            "name another variant with `--baseline`."
        )
    yield from _seeds(study)
    yield from _lengths(study)
    yield from _gaps(study)
    yield from _outcomes(study)
    yield from _unlike_draws(study)


def _seeds(study: Study) -> Iterable[Element]:
    if len(study.seeds) == 1:
        yield Text("**One seed**: nothing is known of chance, so there are no intervals, no tests and no verdicts.")
    elif len(study.seeds) < LEAST_SEEDS:
        yield Text(
            "**Two seeds** say too little of chance for an interval, so values are shown one by one and nothing "
            "is marked as the best."
        )


def _lengths(study: Study) -> Iterable[Element]:
    lengths = Counter(run.asked or run.rounds for run in study.runs)
    if len(lengths) > 1:
        told = ", ".join(f"{count(n, 'run')} of {rounds}" for rounds, n in sorted(lengths.items()))
        yield Text(
            f"**Runs of unlike lengths**: {told} rounds. All are compared at round {study.horizon}; longer runs are "
            "looked at up to there, and `--rounds` names another round."
        )


def _gaps(study: Study) -> Iterable[Element]:
    if not study.gaps:
        return
    begun = sum(gap.done > 0 for gap in study.gaps)
    total = len(study.finished) + len(study.gaps)
    yield Text(
        f"{len(study.gaps)} of {total} runs have not come to round {study.horizon}: {begun} begun, "
        f"{len(study.gaps) - begun} not. Tables and tests go without them; curves show an unfinished run where its "
        "variant has no finished one."
    )
    rows = [(g.variant, g.partition, str(g.seed), str(g.done)) for g in study.gaps]
    listed = f"The {len(rows)} runs" if len(rows) <= MOST_GAPS else f"The first {MOST_GAPS} of the {len(rows)} runs"
    yield Table(
        ("variant", study.within, "seed", "rounds done"),
        {"": rows[:MOST_GAPS]},
        words=2,
        folded=listed if len(rows) > 8 else "",
    )


def _outcomes(study: Study) -> Iterable[Element]:
    """Which of the compared runs lack their final model's accuracy by client or by class."""
    total = len(study.finished)
    for name, what in ((CLIENTS_CSV, "client"), (CLASSES_CSV, "class")):
        known = sum(run.outcome(name, study.horizon) is not None for run in study.finished)
        if total and known < total:
            yield Text(
                f"**Accuracy by {what}** is known of {known} of {total} runs compared: the others have no `{name}` of "
                f"round {study.horizon}, which `fedlit fit` writes after its last round."
            )


def _unlike_draws(study: Study) -> Iterable[Element]:
    draws = compare_draws(study)
    if draws.differing:
        yield Text(
            "**Not all pairs are pairs**: at one seed and partition the variants differ in what was drawn for them, so "
            "that differences between them are not of the variant alone."
        )
        yield Bullets(tuple(draws.differing))
