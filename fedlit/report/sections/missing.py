"""The section on missing runs and on limits of the comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study
from fedlit.report.document import Bullets, Element, Table, Text
from fedlit.report.draws import compare_draws
from fedlit.report.intervals import LEAST_SEEDS
from fedlit.report.metrics import COLUMN
from fedlit.report.numbers import count
from fedlit.report.unlike import changed_code, changed_on_resume, differing_precision, differing_settings
from fedlit.runs.outcome import CLASSES_CSV, CLIENTS_CSV

#: At most this many missing runs are listed.
MOST_GAPS = 40


def missing(found: Analysis) -> Iterable[Element]:
    """Missing runs, seeds and tables."""
    study = found.study
    if found.baseline not in set(found.measured["variant"]) and not study.searches(found.baseline):
        yield Text(
            f"**No finished run of `{found.baseline}`**, so there are no differences to it; give another variant with "
            "`--baseline`."
        )
    yield from _different_runs(study)
    yield from _left_out(study)
    yield from _diverged(found)
    yield from _seeds(study)
    yield from _lengths(study)
    yield from _gaps(study)
    yield from _outcomes(study)
    yield from _unlike_draws(study)


def _different_runs(study: Study) -> Iterable[Element]:
    """Compared runs with different settings or code."""
    if lines := tuple(differing_settings(study)):
        yield Text(
            "**Seeds of one variant have different settings**, so their mean and interval do not describe one setting:"
        )
        yield Bullets(lines)
    if lines := tuple(changed_on_resume(study)):
        yield Text("**Runs were resumed with other settings**:")
        yield Bullets(lines)
    if lines := tuple(differing_precision(study)):
        yield Text(
            "**Variants were trained in different precision**, which `trainer.precision: auto` leaves to the machine, "
            "so their differences are not due to the variant alone:"
        )
        yield Bullets(lines)
    if lines := tuple(changed_code(study)):
        yield Text(
            "**Your own code changed between runs** that are compared. Its modules, by the SHA-256 of their files:"
        )
        yield Bullets(lines)


def _left_out(study: Study) -> Iterable[Element]:
    """Runs in the folder that are not compared."""
    if study.unplanned:
        number, folders = count(len(study.unplanned), "run"), _folders(study, study.unplanned)
        yield Text(f"**Left out**, as the study does not plan them: {number}, {folders}.")
    if study.superseded:
        number, folders = count(len(study.superseded), "run"), _folders(study, study.superseded)
        yield Text(
            f"**Left out**, as another run has the same name and the same `seed_everything` in its config: {number}, "
            f"{folders}. Of such runs the one in the folder of its seed is used, else the newest. To compare them, "
            "give them different names; to count them as seeds, run them with different seeds."
        )


def _folders(study: Study, places: Sequence[Path]) -> str:
    return ", ".join(f"`{place.relative_to(study.folder)}`" for place in places[:MOST_GAPS])


def _diverged(found: Analysis) -> Iterable[Element]:
    """Runs whose loss is not finite, without which the means of the loss look better than they are; and runs whose last
    value of a claimed column is not finite."""
    if names := _not_finite(found, "loss"):
        yield Text(
            f"**{count(len(names), 'run')} diverged**: the loss of {_few(names)} is not finite. The means of the loss "
            "contain only the other seeds, so they look better than they are. A difference in the loss is not tested "
            "if it contains such a run."
        )
    for column in found.claims.columns if found.claims else ():
        if names := _not_finite(found, f"{COLUMN}{column}"):
            yield Text(
                f"**The last value of `{column}` is not a finite number** in {count(len(names), 'run')}: "
                f"{_few(names)}. A difference in it is not tested if it contains such a run."
            )


def _not_finite(found: Analysis, key: str) -> list[str]:
    """The runs in which a metric is infinite."""
    if key not in found.measured:
        return []
    rows = found.measured[np.isinf(found.measured[key].astype(float))].to_dict("records")
    return [f"{row['variant']} at {row['partition']}, seed {row['seed']}" for row in rows]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_GAPS])


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
        numbers = ", ".join(f"{count(n, 'run')} of {rounds}" for rounds, n in sorted(lengths.items()))
        yield Text(
            f"**Runs of different lengths**: {numbers} rounds. All are compared at round {study.horizon}; `--rounds` "
            "sets another round."
        )
    early = [run for run in study.runs if run.ended and run.rounds < run.asked]
    if early and study.horizon == min(run.rounds for run in early):
        named = ", ".join(f"{run.variant} at {run.partition}, seed {run.seed}" for run in early[:MOST_GAPS])
        yield Text(
            f"**{count(len(early), 'run')} stopped early**, the first after round {study.horizon}: {named}. All runs "
            "are compared at this round; `--rounds` sets another one, and leaves out runs that have not reached it."
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
                f"**Accuracy by {what}** is known for {known} of {total} compared runs: the others have no `{name}` "
                f"for round {study.horizon}, which `fedlit fit` writes after its last round."
            )


def _unlike_draws(study: Study) -> Iterable[Element]:
    """Runs at one seed and partition that do not share their random draws."""
    draws = compare_draws(study)
    if draws.differing:
        yield Text(
            "**Not all runs are paired**: at one seed and partition the variants have different random draws, so their "
            "differences are not due to the variant alone."
        )
        yield Bullets(tuple(draws.differing))
