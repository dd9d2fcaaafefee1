"""What the report says: from numbers to sections."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedlit.report.charts import Chart, heterogeneity_of
from fedlit.report.choice import choice
from fedlit.report.claims import Claims
from fedlit.report.collect import Run, Study
from fedlit.report.document import Bullets, Document, Element, JudgedClaim, PictureRow, Section, Table, Tables, Text
from fedlit.report.draws import Draws, compare_draws
from fedlit.report.judge import Judgement, rules
from fedlit.report.metrics import LAST_ROUNDS, METRICS, Metric
from fedlit.report.statistics import LEVEL, Comparison, effect_in_words, smallest_p
from fedlit.runs.outcome import CLASSES_CSV, CLIENTS_CSV

#: Charts that have a section of their own.
APART = ("differences", "heterogeneity", "clients", "classes")
#: Gaps that are listed one by one.
MOST_GAPS = 40


@dataclass(frozen=True)
class Analysis:
    """All that the report is made of.

    Args:
        study: The runs.
        baseline: The variant that others are compared with.
        targets: By partition, the accuracy of ``to_target``.
        measured: A row a run.
        summary: A row a variant, partition and metric.
        comparisons: Against the baseline.
        claims: The claims that are tested on the runs, or None.
        judged: The claims with their verdicts.
        charts: As numbers.
    """

    study: Study
    baseline: str
    targets: Mapping[str, float]
    measured: pd.DataFrame
    summary: pd.DataFrame
    comparisons: Sequence[Comparison]
    claims: Claims | None
    judged: Sequence[Judgement]
    charts: Sequence[Chart]


def document(found: Analysis) -> Document:
    """The report, section by section."""
    study = found.study
    sections = [
        Section("What is missing", (*_missing(found), *_missing_outcomes(study), *_unlike_draws(study))),
        Section("Chosen setting", tuple(choice(study))),
        Section(found.claims.title if found.claims else "", tuple(_claims(found))),
        Section("Results", tuple(_results(found))),
        Section(f"Differences to {found.baseline}", tuple(_differences(found))),
        Section("Curves", tuple(c for c in found.charts if c.name not in APART)),
        Section("Heterogeneity", tuple(c for c in found.charts if c.name == "heterogeneity")),
        Section("Clients", tuple(c for c in found.charts if c.name == "clients")),
        Section("Classes", tuple(_classes(found))),
        Section("Partitions", tuple(_partitions(study))),
        Section("How this was computed", tuple(_method(found))),
    ]
    summary = (
        f"{_count(len(study.variants), 'variant')}, {_count(len(study.partitions), 'partition')}, "
        f"{_count(len(study.seeds), 'seed')}; {_count(len(study.finished), 'run')} compared "
        f"at round {study.horizon}{_of_planned(study)}."
    )
    return Document(
        f"Study {study.folder.resolve().name}", summary, study.variants, tuple(s for s in sections if s.blocks)
    )


def _of_planned(study: Study) -> str:
    return f" of {study.planned}" if study.planned and study.planned != study.horizon else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- sections ---------------------------------------------------------------------------------------------------------


def _missing(found: Analysis) -> Iterable[Element]:
    study = found.study
    if found.baseline not in set(found.measured["variant"]) and not study.searches(found.baseline):
        yield Text(
            f"**No finished run of `{found.baseline}`**: differences to it need one; "
            "name another variant with `--baseline`."
        )
    if len(study.seeds) == 1:
        yield Text("**One seed**: nothing is known of chance, so there are no intervals, no tests and no verdicts.")
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
    hidden = len(rows) - MOST_GAPS
    yield Table(
        ("variant", "partition", "seed", "rounds done"),
        {"": rows[:MOST_GAPS]},
        words=2,
        folded=f"The {len(rows)} runs" if len(rows) > 8 else "",
    )
    if hidden > 0:
        yield Text(f"And {hidden} more.")


def _missing_outcomes(study: Study) -> Iterable[Element]:
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


def _like_draws(study: Study) -> Iterable[Element]:
    yield Text(f"**Shared draws**: {_told(compare_draws(study))}")


def _told(draws: Draws) -> str:
    if not draws.groups:
        return (
            "not shown. Runs that end from now on leave hashes of partition, participation (cohorts and stragglers) "
            "and batch order in `draws.json`; no two variants here have them at one seed and partition."
        )
    of = f"{draws.agreeing} of {draws.groups} combinations of seed and partition"
    unknown = f" {_count(draws.unknown, 'run')} without `draws.json` could not be checked." if draws.unknown else ""
    return (
        f"at {of} all variants have equal hashes of partition, participation (cohorts and stragglers) and batch order "
        f"(`draws.json` of each run).{unknown}"
    )


def _claims(found: Analysis) -> Iterable[Element]:
    if not found.claims:
        return
    yield Text(f"{found.claims.about} The verdicts follow from the numbers by the rules under “How this was computed”.")
    for claim in found.judged:
        yield JudgedClaim(claim.number, claim.text, claim.verdict, claim.reason)
        if claim.parts:
            yield _parts(claim)
        if claim.details:
            rows = [
                (d.text, d.metric.title, *effect_in_words(d.metric, d.difference.interval), _p(d.difference.p))
                for d in claim.details
            ]
            columns = ("paired difference", "of", "mean", f"{LEVEL:.0%} interval", "p, uncorrected")
            yield Table(columns, {"": rows}, words=2, folded=f"{len(rows)} numbers by partition; they decide nothing")


def _parts(claim: Judgement) -> Table:
    rows = [
        (
            part.text,
            f"{part.metric.title} {part.kind}",
            f"**{part.finding}**" if part.finding != "open" else part.finding,
            *effect_in_words(part.metric, part.difference.interval),
            _number(part.metric, part.margin),
            str(part.difference.n),
            _p(part.corrected_p),
        )
        for part in claim.parts
    ]
    columns = (
        "paired difference",
        "claimed",
        "finding",
        "mean",
        f"{LEVEL:.0%} interval",
        "margin",
        "n",
        "p",
    )
    notes = {
        "p": "paired t-test, two-sided, corrected by Holm for the parts of the claim",
        "margin": "a smaller effect is taken for none",
        "n": "seeds in common",
    }
    return Table(columns, {"": rows}, words=3, notes=notes)


def _results(found: Analysis) -> Iterable[Element]:
    study = found.study
    if found.measured.empty:
        return
    counts = found.measured.groupby(["variant", "partition"]).size()
    seeds = (
        "one seed each, so no intervals"
        if counts.max() == 1
        else f"mean ± half of the {LEVEL:.0%} t interval over seeds ({_range(counts)} each)"
    )
    bold = (
        " **Bold**: better than every other variant at that partition beyond chance "
        f"(paired t-tests, Holm, p ≤ {1 - LEVEL:.2g})."
    )
    yield Text(f"{seeds[0].upper()}{seeds[1:]}.{bold if counts.max() > 1 else ''}")
    tables = []
    for topic in dict.fromkeys(metric.topic for metric in METRICS):
        metrics = [m for m in METRICS if m.topic == topic and m.key in found.measured]
        if not metrics:
            continue
        groups = {}
        for partition in study.partitions:
            there = found.summary[found.summary["partition"] == partition]
            rows = []
            for variant in (v for v in study.variants if v in set(there["variant"])):
                cells = {row["metric"]: row for row in there[there["variant"] == variant].to_dict("records")}
                rows.append((variant, *(_cell(metric, cells[metric.key]) for metric in metrics)))
            if rows:
                groups[_group(found, partition, topic)] = rows
        notes = {metric.title: metric.meaning for metric in metrics}
        tables.append(Table(("variant", *(metric.title for metric in metrics)), groups, title=topic, notes=notes))
    yield Tables(tuple(tables))


def _group(found: Analysis, partition: str, topic: str) -> str:
    label = heterogeneity_of(found.study, partition)
    return f"{label}, target {found.targets[partition]:.3f}" if topic == "Cost" else label


def _range(counts: pd.Series[int]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _differences(found: Analysis) -> Iterable[Element]:
    pairs = [c for c in found.comparisons if c.difference.n > 1]
    if not pairs:
        if found.comparisons:
            yield Text("No variant has two seeds in common with the baseline: differences have no measure of chance.")
        return
    yield from (chart for chart in found.charts if chart.name == "differences")
    yield Text(_power(pairs))
    by_metric: dict[str, list[Comparison]] = {}
    for c in pairs:
        by_metric.setdefault(c.metric.key, []).append(c)
    columns = ("partition", "variant", "mean", f"{LEVEL:.0%} interval", "n", "p", "detectable")
    notes = {
        "p": "paired t-test, two-sided, corrected by Holm within the metric; bold where at most 0.05",
        "detectable": "the true difference that these seeds would find 4 times in 5 without a correction",
        "n": "seeds in common",
    }
    for chosen in by_metric.values():
        metric = chosen[0].metric
        rows = [
            (
                c.partition,
                c.variant,
                *effect_in_words(metric, c.difference.interval),
                str(c.difference.n),
                f"**{_p(c.corrected_p)}**" if c.decided else _p(c.corrected_p),
                _number(metric, c.difference.detectable),
            )
            for c in chosen
        ]
        decided = sum(c.decided for c in chosen)
        title = f"{metric.title}: {decided} of {_count(len(chosen), 'difference')} beyond chance"
        yield Table(columns, {"": rows}, words=2, folded=title, notes=notes)


def _power(pairs: Sequence[Comparison]) -> str:
    """Which effects so few seeds can show, in plain words."""
    n = max(c.difference.n for c in pairs)
    family = max(sum(c.metric.key == key for c in pairs) for key in {c.metric.key for c in pairs})
    floor = smallest_p(n)
    text = (
        f"A pair is two runs of one seed: same data, initial weights and cohorts. With {n} pairs a test that assumes "
        f"nothing of their distribution cannot give less than p = {floor:.3g}"
    )
    if floor > 1 - LEVEL:
        text += ", however large the difference: it could confirm nothing here"
    elif floor * family > 1 - LEVEL:
        corrected = min(1.0, floor * family)
        text += f", or {corrected:.3g} when corrected for {family} comparisons, so it could confirm nothing here"
    return (
        f"{text}. The t-test, of which the p values are, can go lower, but takes the differences for "
        f"normal, which {n} of them cannot show. "
        f"p values are corrected by Holm for the {family} comparisons of each metric, not across metrics, which are "
        "related. A large p is no proof of no difference: see what was detectable."
    )


def _classes(found: Analysis) -> Iterable[Element]:
    charts = [chart for chart in found.charts if chart.name == "classes"]
    yield from charts
    study = found.study
    partition = study.partitions[0]
    files = tuple(
        (run.variant, run.folder / "confusion.png")
        for variant in study.variants
        for run in _first(study, variant, partition)
        if (run.folder / "confusion.png").is_file()
    )
    if files:
        remedy = "" if charts else " For accuracy by class run `fedlit test` on the runs."
        yield Text(f"Confusion at {heterogeneity_of(study, partition)} in the best round of the first seed.{remedy}")
        yield PictureRow(files)


def _first(study: Study, variant: str, partition: str) -> list[Run]:
    runs = [run for run in study.runs if (run.variant, run.partition) == (variant, partition)]
    return sorted(runs, key=lambda run: run.seed)[:1]


def _partitions(study: Study) -> Iterable[Element]:
    files: list[tuple[str, Path]] = []
    for partition in study.partitions:
        there = [run for run in study.runs if run.partition == partition]
        runs = sorted(there, key=lambda run: (run.seed, study.variants.index(run.variant)))
        pictures = [run.folder / "partition.png" for run in runs if (run.folder / "partition.png").is_file()]
        files += [(heterogeneity_of(study, partition), picture) for picture in pictures[:1]]
    if files:
        yield Text("Who holds what, at the first seed.")
        yield PictureRow(tuple(files))


def _method(found: Analysis) -> Iterable[Element]:
    for paragraph in ("**Claims.**", *rules()) if found.claims else ():
        if paragraph.startswith("- "):
            yield Bullets(tuple(" ".join(item.split()) for item in paragraph.removeprefix("- ").split("\n- ")))
        else:
            yield Text(" ".join(paragraph.split()))
    yield Text(
        f"**Metrics**, of each run up to round {found.study.horizon}; “last {LAST_ROUNDS} rounds” are fewer in a "
        "shorter run."
    )
    yield Bullets(tuple(f"**{m.title}**: {m.meaning}." for m in METRICS if m.key in found.measured))
    reach = "; ".join(f"{p}: {t:.4f}" for p, t in found.targets.items() if not math.isnan(t))
    yield Text(f"**Target accuracies**: {reach or 'none'}.")
    yield from _like_draws(found.study)


# --- numbers ----------------------------------------------------------------------------------------------------------


def _cell(metric: Metric, row: Mapping[Hashable, Any]) -> str:
    """A mean with its interval, how many seeds it is of where not of all, and whether it is the best."""
    n, of = int(row["n"]), int(row["of"])
    if n == 0:
        return "not reached" if metric.key == "to_target" else "\u2013"
    text = _number(metric, row["mean"])
    half = (row["high"] - row["low"]) / 2
    spread = _number(metric, half)
    if n > 1 and spread.strip("0."):
        text += f" ± {spread}"
    if n < of:
        text += f" ({n} of {of})"
    return f"**{text}**" if row["best"] else text


def _number(metric: Metric, value: float) -> str:
    return "\u2013" if math.isnan(value) else f"{value:,.{metric.digits}f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "\u2013"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
