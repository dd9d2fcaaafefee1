"""Tests claims on the runs and gives each a verdict.

A claim is a list of parts. A part is a contrast of runs that share a seed: a weighted sum over variants and partitions,
such as the mean over partitions of (a - baseline). Over the seeds it has a mean, a 95 % t interval and the p of a
two-sided paired t-test, corrected by Holm for the number of parts of its claim. An effect is `clear` if this p is at
most 0.05. The margin m is the size below which an effect counts as no effect.

The parts are of three kinds:

- **lower**, **higher**: for the claim if the effect is clear and in this direction; against it if the effect is clear
  and in the other direction, or if it is not clear and the interval excludes an effect of m in this direction.
- **unchanged**: for the claim if the whole interval is within m of zero; against it if the effect is clear and the mean
  is beyond m.
- **not lower**, **not higher**: for the claim if the interval excludes an effect of m in this direction; against it if
  there is a clear effect in this direction.

In every other case a part is open, also with fewer than two seeds. A claim is **supported** if all its parts are for
it, **contradicted** if any part is against it, and otherwise **undecided** at this number of seeds and rounds.

In a study that adds seeds until its claims are decided, a part is tested after each batch of seeds. The first look that
decides it counts: later seeds, which are run for other parts, do not change it. A look needs all of its seeds: if a run
is missing, the look waits for it. Intervals and p are then those of repeated looks, which share an error rate of 5 %
(`fedlit.report.sequential`), and p is corrected by Bonferroni for the parts of the claim.

The stability of a run that learned nothing is not measured, since a model that always predicts one class looks
perfectly steady. A part about stability leaves out this seed; parts about accuracy and loss do not.

Partitions are left out if fewer than two seeds have all variants that a claim compares there. A margin that is a share
refers to a variant's mean at the compared partition, or over all partitions of the claim if there are several. A claim
that presumes another one is undecided if that one is contradicted, unless a part that stands alone is against it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from fedlit.report.claims import Claim, Claims, Expectation, Kind
from fedlit.report.collect import Study
from fedlit.report.evidence import Evidence, LeftOutError, in_words, product_of, signed
from fedlit.report.intervals import LEVEL, Difference, difference, holm, smallest_p
from fedlit.report.metrics import Metric
from fedlit.report.record import Cell
from fedlit.report.sequential import Looks
from fedlit.report.statistics import contrast

Finding = Literal["for", "against", "open"]
Verdict = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Contrast:
    """The comparison that a part of a claim makes among the runs.

    Args:
        expectation: The part, as in the file.
        text: The contrast in words.
        cells: The weight of each variant at each partition.
        partitions: The partitions to which a margin refers if it is a share.
    """

    expectation: Expectation
    text: str
    cells: Mapping[Cell, float]
    partitions: Sequence[str]

    @classmethod
    def of(cls, part: Expectation, evidence: Evidence, partitions: Sequence[str]) -> Contrast:
        """The contrast of a part at the partitions at which its claim can be judged."""
        at = evidence.places(part.at, partitions)
        text = in_words(evidence.spoken(part), part.at, at)
        return cls(part, text, product_of(evidence.weights(part), at), list(at) if len(at) == 1 else partitions)

    def pairs(self, evidence: Evidence) -> pd.Series[float]:
        """Its value at each seed."""
        return contrast(evidence.measured, self.expectation.metric.key, self.cells)

    def seeds(self, evidence: Evidence) -> pd.Index[int]:
        """The seeds that have all its runs."""
        return contrast(evidence.measured, "accuracy", self.cells).index

    def margin(self, evidence: Evidence) -> float:
        """The margin in the metric's unit."""
        return evidence.margin(self.expectation.margin, self.expectation.metric, self.partitions)

    def part(self, effect: Difference, p: float, margin: float, seeds: int | None = None) -> Part:
        """The result of the part for an effect, after ``seeds`` seeds; None takes the number of its pairs."""
        said = finding(self.expectation.kind, effect, p, margin)
        return Part(self, margin, effect, p, said, effect.n if seeds is None else seeds)


@dataclass(frozen=True)
class Part:
    """The result of a part of a claim.

    Args:
        contrast: The comparison.
        margin: A smaller effect counts as no effect; NaN if it is a share of a mean that is unknown or not finite.
        difference: The paired difference over seeds.
        corrected_p: The p of the paired t-test, corrected for the parts of the claim.
        finding: For or against the claim, or open.
        seeds: The number of seeds tested; seeds whose runs lack the metric are not in the difference.
    """

    contrast: Contrast
    margin: float
    difference: Difference
    corrected_p: float
    finding: Finding
    seeds: int

    @property
    def text(self) -> str:
        return self.contrast.text

    @property
    def metric(self) -> Metric:
        return self.contrast.expectation.metric

    @property
    def kind(self) -> Kind:
        return self.contrast.expectation.kind

    @property
    def stands_alone(self) -> bool:
        return self.contrast.expectation.stands_alone


@dataclass(frozen=True)
class Look:
    """A look at a part of a claim.

    Args:
        seeds: The number of seeds at this look.
        level: Confidence level of the interval.
        correction: The factor by which p is multiplied, for all looks and the parts of the claim, before it is compared
            with 1 - LEVEL.
    """

    seeds: int
    level: float
    correction: float

    def part(self, contrast: Contrast, effect: Difference, margin: float) -> Part:
        """The result of a part for an effect at this look."""
        return contrast.part(effect, min(1.0, effect.p * self.correction), margin, self.seeds)


def looks_at(looks: Looks, parts: int) -> Iterator[Look]:
    """All looks at a part of a claim with ``parts`` parts, which share the level."""
    levels, shared = looks.levels(1 - LEVEL), looks.levels((1 - LEVEL) / parts)
    for n, level, strict in zip(looks.at, levels, shared, strict=True):
        yield Look(n, 1 - level, (1 - LEVEL) / strict)


@dataclass(frozen=True)
class Detail:
    """A number shown beside the verdict, which it does not affect: a contrast at one partition."""

    text: str
    metric: Metric
    difference: Difference


@dataclass(frozen=True)
class Judgement:
    """A claim with its results and verdict.

    Args:
        number: Its position in the file, from 1.
        text: What is claimed.
        parts: The results of its parts; empty if it was left out.
        details: Further numbers.
        verdict: The verdict by the rules of this module.
        reason: The reason, in a sentence.
    """

    number: int
    text: str
    parts: tuple[Part, ...]
    details: tuple[Detail, ...]
    verdict: Verdict
    reason: str


def judge(measured: pd.DataFrame, study: Study, claims: Claims, baseline: str) -> list[Judgement]:
    """All claims with their verdicts.

    Args:
        measured: The result of `measure_all`.
        study: The study, for its partitions and their alphas.
        claims: The claims.
        baseline: The variant for which ``baseline`` stands in the claims.
    """
    evidence = Evidence(measured, study, claims.groups, baseline)
    found: list[Judgement] = []
    for number, claim in enumerate(claims.claims, 1):
        try:
            if why := claims.unfit_baselines.get(baseline):
                raise LeftOutError(f"{baseline}, the baseline, {why}")
            if why := claims.ambiguous(claim, study.variants, study.partitions):
                raise LeftOutError(why)
            found.append(_judged(evidence, claims.beside, number, claim, found))
        except LeftOutError as why_not:
            found.append(Judgement(number, claim.text, (), (), "undecided", f"left out: {why_not}"))
    return found


def _judged(
    evidence: Evidence, beside: Sequence[Metric], number: int, claim: Claim, earlier: Sequence[Judgement]
) -> Judgement:
    """A claim's verdict, given those of the claims before it."""
    presumed = earlier[claim.presumes - 1] if claim.presumes else None
    if presumed and not presumed.parts:
        raise LeftOutError(f"it presumes claim {claim.presumes}, which is {presumed.reason}")
    partitions = evidence.partitions(claim)
    parts = _parts(evidence, claim, partitions)
    details = tuple(detail for detail in _details(evidence, claim, partitions, beside) if detail.difference.n)
    result = verdict([part.finding for part in parts])
    no_margin = _missing_for_margin(evidence, parts) if result == "undecided" else ""
    reason = _unmeasured(evidence, parts) or no_margin or _reason(result, parts)
    against_alone = any(part.finding == "against" and part.stands_alone for part in parts)
    if presumed and presumed.verdict == "contradicted" and not against_alone:
        result, reason = "undecided", f"claim {claim.presumes} is contradicted: {claim.because}"
    return Judgement(number, claim.text, parts, details, result, reason)


def _parts(evidence: Evidence, claim: Claim, partitions: Sequence[str]) -> tuple[Part, ...]:
    """All parts, with p values corrected for their number."""
    contrasts = [Contrast.of(part, evidence, partitions) for part in claim.parts]
    if looks := evidence.study.looks:
        return tuple(_as_seeds_came(each, evidence, looks, len(contrasts)) for each in contrasts)
    found = [difference(each.pairs(evidence)) for each in contrasts]
    corrected = holm([effect.p for effect in found])
    return tuple(
        each.part(effect, p, each.margin(evidence)) for each, effect, p in zip(contrasts, found, corrected, strict=True)
    )


def _as_seeds_came(contrast: Contrast, evidence: Evidence, looks: Looks, parts: int) -> Part:
    def margin(seeds: Iterable[int]) -> float:
        return contrast.margin(evidence.at_seeds(seeds))

    pairs = contrast.pairs(evidence)
    if len(pairs):  # all seeds count for the looks, also those whose runs lack the metric
        pairs = pairs.reindex(_in_turn(evidence.study.seeds, contrast.seeds(evidence)))
    return look_by_look(contrast, pairs, margin, looks, parts)


def _in_turn(planned: Sequence[int], done: Iterable[int]) -> list[int]:
    """The seeds up to the first one that is missing: if later ones took its place, a verdict would depend on which
    runs fail or are removed."""
    return list(itertools.takewhile({*done}.__contains__, planned))


def look_by_look(
    contrast: Contrast, pairs: pd.Series[float], margin: Callable[[Iterable[int]], float], looks: Looks, parts: int
) -> Part:
    """The result of a part at the first look that decides it, else at the last look.

    Before the first look there is a difference, but no p, and the part is open.

    Args:
        contrast: The comparison.
        pairs: Its value at each seed, in the order in which seeds are added; NaN if a run lacks the metric.
        margin: The margin as a function of the seeds.
        looks: The looks.
        parts: The number of parts of the claim, which share the level.
    """
    first = 1 - looks.levels(1 - LEVEL)[0]
    found = contrast.part(difference(pairs.dropna(), first), math.nan, math.nan, len(pairs))
    for look in looks_at(looks, parts):
        if look.seeds > len(pairs):
            break
        seen = pairs[: look.seeds]
        found = look.part(contrast, difference(seen.dropna(), look.level), margin(seen.index))
        if found.finding != "open":
            break
    return found


def _details(evidence: Evidence, claim: Claim, partitions: Sequence[str], beside: Sequence[Metric]) -> Iterator[Detail]:
    """Every difference in the parts, for each variant of a group and each partition."""
    compared = [part.compare for part in claim.parts]
    distinct = [each for i, each in enumerate(compared) if each not in compared[:i]]
    for compare, metric in itertools.product(distinct, beside):
        for variants in itertools.product(*(evidence.ran(name) for name in compare)):
            weights = dict(zip(variants, compare.values(), strict=True))
            for partition in partitions:
                effect = difference(contrast(evidence.measured, metric.key, product_of(weights, {partition: 1.0})))
                yield Detail(f"{signed(weights)}, {partition}", metric, effect)


# --- the rules --------------------------------------------------------------------------------------------------------


def finding(kind: Kind, effect: Difference, p: float, margin: float) -> Finding:
    """Whether an effect is for or against a part of a claim: the rules at the head of this module."""
    low, high = effect.interval.low, effect.interval.high
    if math.isnan(p) or math.isnan(margin):
        return "open"
    clear = p <= 1 - LEVEL
    if kind == "unchanged":
        if -margin <= low and high <= margin:
            return "for"
        return "against" if clear and abs(effect.mean) > margin else "open"
    up = kind in ("higher", "not higher")
    towards = effect.mean if up else -effect.mean
    most = high if up else -low  # the largest effect in the direction of the kind that the interval contains
    if kind in ("lower", "higher"):
        if clear:
            return "for" if towards > 0 else "against"
        return "against" if most < margin else "open"
    if most < margin:
        return "for"
    return "against" if clear and towards > 0 else "open"


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Supported if all parts are for the claim, contradicted if any is against it, else undecided."""
    if "against" in findings:
        return "contradicted"
    return "supported" if findings and set(findings) == {"for"} else "undecided"


def _unmeasured(evidence: Evidence, parts: Sequence[Part]) -> str:
    """Metrics that the runs of a claim lack; empty if they have all."""
    lacking = {
        part.metric
        for part in parts
        if part.difference.n == 0 and len(contrast(evidence.measured, "accuracy", part.contrast.cells))
    }
    return "; ".join(
        f"the runs have no {each.title}" + (f", which needs {each.needs}" if each.needs else "") for each in lacking
    )


def _missing_for_margin(evidence: Evidence, parts: Sequence[Part]) -> str:
    """The variants that a margin refers to and that have no run, or no finite mean; empty if there are none."""
    margins = ((part, part.contrast.expectation.margin.of) for part in parts)
    shares = [(part, variant) for part, of in margins if of for variant in evidence.compared(of)]
    there = set(evidence.measured["variant"])
    if missing := sorted({variant for _, variant in shares} - there):
        return f"a margin is a share of the mean of {' and '.join(missing)}, which has no finished run"
    unknown = dict.fromkeys(
        f"{part.metric.title} of {variant}"
        for part, variant in shares
        if part.finding == "open" and math.isnan(part.contrast.margin(evidence))
    )
    return f"a margin is a share of the mean {' and '.join(unknown)}, which is not finite" if unknown else ""


def _reason(result: Verdict, parts: Sequence[Part]) -> str:
    seeds = min(part.difference.n for part in parts)
    if seeds < 2:
        return f"with {seeds or 'no'} seed in common there is no measure of chance"
    said: dict[Finding, str] = {"for": "for it", "against": "against it", "open": "undecided"}
    found: dict[Finding, list[str]] = {}
    for part in parts:
        found.setdefault(part.finding, []).append(f"{part.metric.title} {part.kind}")
    reason = "; ".join(f"{said[name]}: {', '.join(dict.fromkeys(found[name]))}" for name in said if name in found)
    if result != "undecided" and smallest_p(seeds) > 1 - LEVEL:
        reason += (
            f" (with {seeds} seeds this assumes normal differences: a test without this assumption cannot give less "
            f"than p = {smallest_p(seeds):g})"
        )
    return reason


def rules() -> list[str]:
    """The paragraphs of the rules at the top of this module."""
    return (__doc__ or "").split("\n\n")[1:]
