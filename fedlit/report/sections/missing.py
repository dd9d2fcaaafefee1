"""The section on missing runs and on limits of the comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study
from fedlit.report.document import Bullets, Element, Table, Text
from fedlit.report.draws import compare_draws
from fedlit.report.intervals import LEAST_SEEDS
from fedlit.report.numbers import count
from fedlit.report.unlike import changed_code, changed_on_the_way, unlike_settings
from fedlit.runs.outcome import CLASSES_CSV, CLIENTS_CSV

#: At most this many missing runs are listed.
MOST_GAPS = 40


def missing(found: Analysis) -> Iterable[Element]:
    """Missing runs, seeds and tables."""
    study = found.study
    if found.baseline not in set(found.measured["variant"]) and not study.searches(found.baseline):
        yield Text(
            f"**No finished run of `{found.baseline}`**, so there are no differences to it; "
            "give another variant with `--baseline`."
        )
    yield from _unlike(study)
    yield from _diverged(found)
    yield from _seeds(study)
    yield from _lengths(study)
    yield from _gaps(study)
    yield from _outcomes(study)
    yield from _unlike_draws(study)


def _unlike(study: Study) -> Iterable[Element]:
    if lines := tuple(unlike_settings(study)):
        yield Text(
            "**Seeds of one variant have unlike settings**, so that their mean and interval are of no one setting:"
        )
        yield Bullets(lines)
    if lines := tuple(changed_on_the_way(study)):
        yield Text("**Settings were changed on the way**, and the runs went on with others:")
        yield Bullets(lines)
    if lines := tuple(changed_code(study)):
        yield Text("**Code of your own was changed between runs** that are compared; the SHA-256 of its modules:")
        yield Bullets(lines)
    if study.unplanned:
        told = ", ".join(f"`{place.relative_to(study.folder)}`" for place in study.unplanned[:MOST_GAPS])
        yield Text(f"**Left out**, as the study does not plan them: {count(len(study.unplanned), 'run')}, {told}.")
    if study.superseded:
        told = ", ".join(f"`{place.relative_to(study.folder)}`" for place in study.superseded[:MOST_GAPS])
        yield Text(
            f"**Left out**, as there is a newer run of the same name and seed: {count(len(study.superseded), 'run')}, "
            f"{told}. Give runs that are to be compared names of their own."
        )


def _diverged(found: Analysis) -> Iterable[Element]:
    """Runs whose loss is no number any more: the means of the others look better than they are."""
    if "loss" not in found.measured:
        return
    rows = found.measured[np.isinf(found.measured["loss"].astype(float))].to_dict("records")
    if rows:
        told = ", ".join(f"{row['variant']} at {row['partition']}, seed {row['seed']}" for row in rows[:MOST_GAPS])
        yield Text(
            f"**{count(len(rows), 'run')} diverged**: the loss of {told} is not finite. The means of the loss are of "
            "the other seeds, and look better than they are; a difference in the loss with such a run decides nothing."
        )


def _seeds(study: Study) -> Iterable[Element]:
    if len(study.seeds) == 1:
        yield Text("**One seed**: chance cannot be measured, so there are no intervals, no tests and no verdicts.")
    elif len(study.seeds) < LEAST_SEEDS:
        yield Text(
            "**Two seeds** are too few for an interval, so both values are shown and nothing is marked as the best."
        )


def _lengths(study: Study) -> Iterable[Element]:
    lengths = Counter(run.asked or run.rounds for run in study.runs)
    if len(lengths) > 1:
        told = ", ".join(f"{count(n, 'run')} of {rounds}" for rounds, n in sorted(lengths.items()))
        yield Text(
            f"**Runs of different lengths**: {told} rounds. All are compared at round {study.horizon}; `--rounds` sets "
            "another round."
        )


def _gaps(study: Study) -> Iterable[Element]:
    if not study.gaps:
        return
    begun = sum(gap.done > 0 for gap in study.gaps)
    total = len(study.finished) + len(study.gaps)
    yield Text(
        f"{len(study.gaps)} of {total} runs have not reached round {study.horizon}: {begun} started, "
        f"{len(study.gaps) - begun} did not. Tables and tests leave them out; curves show an unfinished run if its "
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
    """How many compared runs lack the final accuracy by client or by class."""
    total = len(study.finished)
    for name, what in ((CLIENTS_CSV, "client"), (CLASSES_CSV, "class")):
        known = sum(run.outcome(name, study.horizon) is not None for run in study.finished)
        if total and known < total:
            yield Text(
                f"**Accuracy by {what}** is known for {known} of {total} compared runs: the others have no "
                f"`{name}` for "
                f"round {study.horizon}, which `fedlit fit` writes after its last round."
            )


def _unlike_draws(study: Study) -> Iterable[Element]:
    draws = compare_draws(study)
    if draws.differing:
        yield Text(
            "**Not all runs are paired**: at one seed and partition the variants have different random draws, so their "
            "differences are not due to the variant alone."
        )
        yield Bullets(tuple(draws.differing))
