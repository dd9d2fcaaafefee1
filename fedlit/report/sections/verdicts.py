"""The section of claims with their verdicts, and what would decide open ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedlit.report.analysis import Analysis
from fedlit.report.document import Element, JudgedClaim, Table, Text
from fedlit.report.intervals import LEAST_SEEDS, LEVEL
from fedlit.report.judge import Detail, Judgement, Part
from fedlit.report.numbers import effect_in_words, fixed, minus_signs, number, p_value
from fedlit.report.outlook import MOST_SEEDS, Open, fresh_looks, open_parts, seeds_to_show


def verdicts(found: Analysis) -> Iterable[Element]:
    """Every claim with its verdict; nothing without claims."""
    if not found.claims:
        return
    yield Text(f"{found.claims.about} The verdicts follow from the numbers by the rules under “How this was computed”.")
    looks = found.study.looks
    undecided = list(open_parts(found.judged, looks or fresh_looks(), anew=looks is None))
    most = looks.at[-1] if looks else MOST_SEEDS
    for claim in found.judged:
        known = (each for each in undecided if each.claim == claim.number and each.part.difference.n >= LEAST_SEEDS)
        outlook = tuple(would_decide(each, most) for each in known)
        yield JudgedClaim(claim.number, claim.text, claim.verdict, claim.reason, outlook)
        if claim.parts:
            yield _parts(claim)
        if claim.details:
            yield _details(claim.details)


def would_decide(still: Open, most: int) -> str:
    """The present result of an open part, and how many seeds are likely to decide it."""
    part = still.part
    mean, interval = effect_in_words(part.metric, part.difference.interval)
    text = f"{part.metric.title} {part.kind}, {minus_signs(part.text)}: {mean}"
    settled = f"about {still.seeds} seeds would decide it" if still.seeds else f"more than {most} seeds would decide it"
    shown = seeds_to_show(part.margin, part.difference.spread)
    more = shown is not None and shown > part.difference.n
    at_margin = f", about {shown} would show {number(part.metric, part.margin)}" if more else ""
    return f"{text}, interval {interval}; {settled}{at_margin}"


def _parts(claim: Judgement) -> Table:
    columns = ("paired difference", "claimed", "finding", "mean", "interval", "margin", "n", "p")
    notes = {
        "interval": f"{LEVEL:.0%}; if seeds are added until claims are decided, that of repeated looks, which is wider",
        "p": "paired t-test, two-sided, corrected by Holm for the parts of the claim",
        "margin": "a smaller effect counts as no effect",
        "n": "seeds in common",
    }
    return Table(columns, {"": [_row(part) for part in claim.parts]}, words=3, notes=notes)


def _row(part: Part) -> tuple[str, ...]:
    settled = part.finding != "open" and part.difference.n >= LEAST_SEEDS
    return (
        minus_signs(part.text),
        f"{part.metric.title} {part.kind}",
        f"**{part.finding}**" if settled else part.finding,
        *effect_in_words(part.metric, part.difference.interval),
        fixed(part.margin, max(part.metric.digits, 3)),
        str(part.difference.n),
        p_value(part.corrected_p),
    )


def _details(details: Sequence[Detail]) -> Table:
    rows = [
        (
            minus_signs(d.text),
            d.metric.title,
            *effect_in_words(d.metric, d.difference.interval),
            p_value(d.difference.p if d.difference.n >= LEAST_SEEDS else float("nan")),
        )
        for d in details
    ]
    columns = ("paired difference", "of", "mean", f"{LEVEL:.0%} interval", "p, uncorrected")
    return Table(
        columns, {"": rows}, words=2, folded=f"{len(rows)} numbers by partition, which do not affect the verdict"
    )
