"""The answer of a report: one sentence, and the final accuracy of every variant at every partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fedlit.report.analysis import Analysis
from fedlit.report.at_chance import in_words
from fedlit.report.collect import heterogeneity_of
from fedlit.report.document import Element, Lead, Table, Text
from fedlit.report.intervals import LEAST_SEEDS
from fedlit.report.metrics import BY_KEY
from fedlit.report.numbers import count, effect_in_words, fixed, number
from fedlit.report.outlook import seeds_to_show
from fedlit.report.sections.results import cells_of, reading
from fedlit.report.statistics import Comparison

#: The metric of the answer.
ACCURACY = BY_KEY["accuracy"]


def answer(found: Analysis) -> Iterable[Element]:
    """The sentence and the table; only the table for a study that chooses a setting."""
    study = found.study
    if found.measured.empty:
        return
    if not study.select:
        yield Lead(" ".join(filter(None, (said(found), _claims(found)))))
    held_out = [heterogeneity_of(study, partition, short=True) for partition in study.partitions]
    rows = []
    for variant in study.variants:
        cells = [cells_of(found, [ACCURACY], variant, partition) for partition in study.partitions]
        if any(cells):
            rows.append((variant, *(cell[0] if cell else "" for cell in cells)))
    title = f"Final {study.held_out} accuracy, after round {study.horizon}"
    yield Table(("variant", *held_out), {"": rows}, title=title)
    yield Text(reading(found))
    if unlearned := in_words(study):
        yield Text(unlearned)


def said(found: Analysis) -> str:
    """A sentence about the differences in final accuracy."""
    compared = [c for c in found.comparisons if c.metric is ACCURACY]
    tested = [c for c in compared if c.difference.n >= LEAST_SEEDS]
    if not tested:
        return _highest(found, bool(compared))
    study, baseline = found.study, found.baseline
    seeds = count(max(c.difference.n for c in tested), "seed")
    decided = [c for c in tested if c.decided]
    if not decided:
        return _undecided(found, tested, seeds)
    parts = [_told(decided, better, baseline) for better in (True, False) if any(c.better is better for c in decided)]
    rest = len(tested) - len(decided)
    rest_of = f"; the other {rest} of {count(len(tested), 'difference')} may be due to chance" if rest else ""
    return f"In final {study.held_out} accuracy over {seeds}, beyond chance: {'; '.join(parts)}{rest_of}."


def _told(decided: Sequence[Comparison], better: bool, baseline: str) -> str:
    """The variants that are better (or worse) than the baseline, with partitions and differences."""
    by_variant: dict[str, list[str]] = {}
    for c in decided:
        if c.better is better:
            by_variant.setdefault(c.variant, []).append(f"{c.partition} ({fixed(c.difference.mean, 3, '+')})")
    each = "; ".join(f"**{variant}** at {', '.join(places)}" for variant, places in by_variant.items())
    return f"{'better' if better else 'worse'} than {baseline}: {each}"


def _undecided(found: Analysis, tested: Sequence[Comparison], seeds: str) -> str:
    """A sentence for no significant difference, with the largest one and the seeds that would show it."""
    largest = max(tested, key=lambda c: abs(c.difference.mean))
    mean, interval = effect_in_words(ACCURACY, largest.difference.interval)
    enough = seeds_to_show(abs(largest.difference.mean), largest.difference.spread, len(tested)) or 0
    shown = f"; about {enough} seeds would show a difference of this size" if enough > largest.difference.n else ""
    return (
        f"**No variant differs from {found.baseline} beyond chance** in final {found.study.held_out} accuracy, over "
        f"{seeds}. The largest difference is {largest.variant} at {largest.partition}: {mean}, interval "
        f"{interval}{shown}."
    )


def _highest(found: Analysis, compared: bool) -> str:
    """Who has the highest accuracy where, for runs that nothing can be tested on."""
    rows = found.summary[found.summary["metric"] == ACCURACY.key].dropna(subset=["mean"])
    first = rows.loc[rows.groupby("partition", sort=False)["mean"].idxmax()]
    places = {row["partition"]: (row["variant"], number(ACCURACY, row["mean"])) for row in first.to_dict("records")}
    named = len(found.study.partitions) > 1
    told = ", ".join(f"{v} with {x}" + (f" at {p}" if named else "") for p, (v, x) in places.items())
    what = f"final {found.study.held_out} accuracy after round {found.study.horizon}"
    if rows["variant"].nunique() == 1:
        return f"{what[0].upper()}{what[1:]}: {told}."
    seeds = int(found.measured.groupby(["variant", "partition"]).size().max())
    chance = f"; {count(seeds, 'seed')} cannot show whether this is chance" if compared else ""
    return f"Highest {what}: {told}{chance}."


def _claims(found: Analysis) -> str:
    verdicts = Counter(claim.verdict for claim in found.judged)
    seeds = max((part.difference.n for claim in found.judged for part in claim.parts), default=0)
    if seeds < LEAST_SEEDS:
        return ""
    told = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
    return f"Of {count(len(found.judged), 'claim')}: {told}."
