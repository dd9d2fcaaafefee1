"""The claims of "Attention-Augmented Fedprox for Enhanced Performance on the Emnist Dataset", held against the runs.

Each claim is a list of parts. A part is one number for each seed, a contrast of runs that share the seed: a sum over
variants and partitions, such as the mean over partitions of (channel - plain). Over the seeds it has a mean, a 95 % t
interval and the p of a two-sided paired t-test, corrected by Holm for the number of parts of its claim. An effect
is `clear` where that p is at most 0.05. The margin m is the size below which an effect is taken for none.

The parts are of three kinds:

- **lower**, **higher**: for the claim where the effect is clear and has this direction; against it where it is clear
  and has the other one, or where it is not clear and the interval leaves no room for an effect of m in this direction.
- **unchanged**: for the claim where the whole interval is within m of zero; against it where the effect is clear and
  the mean beyond m.
- **not lower**, **not higher**: for the claim where the interval leaves no room for an effect of m in the direction
  that is ruled out; against it where such an effect is clear.

In every other case a part is open, and so it is with less than two seeds. A claim is **supported** where all its parts
are for it, **contradicted** where any is against it, and else **undecided** at this budget of seeds and rounds.

What is held against the claims, each difference being one of runs at the same seed:

- Claim 1: the mean of channel and channel_mlp, minus plain, mean over partitions: wobble lower, final accuracy
  unchanged, final loss unchanged.
- Claim 2: channel_mlp minus channel, mean over partitions: wobble lower.
- Claim 3: spatial (global_spatial, if there is no other) minus plain at the smallest alpha, which must be at most 1:
  wobble higher, final accuracy lower.
- Claim 4: that difference at the largest alpha, an even split being infinite, minus the one at the smallest: wobble
  lower, final accuracy higher; and at the largest alpha itself: final accuracy not lower. Where claim 3 is contradicted
  and this one is not contradicted at the largest alpha, it is undecided: there was nothing to mend.

The margin is 0.01 of accuracy if not given, 5 % of the plain model's mean loss and 10 % of its mean wobble at the
partitions concerned. Partitions are left out at which less than two seeds have all the variants that are compared.

Stability is `wobble`: the spread of test accuracy about its straight line over the last 10 rounds, so that steady
progress is not taken for unsteadiness. Lower is more stable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from fedlit.report.collect import Study
from fedlit.report.statistics import (
    BY_KEY,
    LEVEL,
    Cell,
    Difference,
    Metric,
    against,
    contrast,
    difference,
    holm,
    smallest_p,
)

Kind = Literal["lower", "higher", "unchanged", "not lower", "not higher"]
Outcome = Literal["for", "against", "open"]
Verdict = Literal["supported", "contradicted", "undecided"]

CHANNEL = ("channel", "channel_mlp")
WITH_MLP, WITHOUT_MLP = "channel_mlp", "channel"
#: The first that was run is the one that the claims are held against.
SPATIAL = ("spatial", "global_spatial")
#: Heterogeneity is called high up to this alpha.
HIGH_ALPHA = 1.0
#: Margins of loss and wobble, as shares of the plain model's mean.
LOSS_MARGIN, WOBBLE_MARGIN = 0.05, 0.1


@dataclass(frozen=True)
class Part:
    """A part of a claim: what it says of a contrast, and what came out.

    Args:
        text: The contrast in words.
        metric: What it is of.
        kind: What the claim says of it.
        margin: An effect smaller than this is none.
        difference: What the seeds say.
        p: Of the paired t-test, corrected for the parts of the claim.
        outcome: For or against the claim, or open.
    """

    text: str
    metric: Metric
    kind: Kind
    margin: float
    difference: Difference
    p: float
    outcome: Outcome


@dataclass(frozen=True)
class Detail:
    """A number beside the verdict: a contrast at one partition; it decides nothing."""

    text: str
    metric: Metric
    difference: Difference


@dataclass(frozen=True)
class Claim:
    """A claim, what was found, and the verdict.

    Args:
        number: Its place in the list.
        text: What is claimed.
        parts: What decides it.
        details: Further numbers.
        verdict: By the rules of this module.
        reason: Why, in a sentence.
    """

    number: int
    text: str
    parts: tuple[Part, ...]
    details: tuple[Detail, ...]
    verdict: Verdict
    reason: str


TEXTS = (
    "Channel attention makes training more stable, with no significant change in accuracy or loss.",
    "It does so above all with a multi-layer perceptron in it.",
    "Spatial attention is unstable and gives poor results when clients differ strongly.",
    "Dividing the data uniformly, or a larger alpha, mitigates that and makes spatial attention work.",
)


@dataclass(frozen=True)
class _Evidence:
    """What the claims are judged from."""

    measured: pd.DataFrame
    study: Study
    baseline: str
    accuracy_margin: float

    def shared(self, variants: Sequence[str]) -> list[str]:
        """Partitions at which at least two seeds have all of these variants, else those at which one has."""
        counts = {
            p: len(contrast(self.measured, "accuracy", {(v, p): 1.0 for v in variants})) for p in self.study.partitions
        }
        enough = [p for p, n in counts.items() if n > 1]
        return enough or [p for p, n in counts.items() if n]

    def margin(self, metric: str, partitions: Iterable[str]) -> float:
        """Below it an effect is none: for loss and wobble a share of the plain model's mean at these partitions."""
        if metric == "accuracy":
            return self.accuracy_margin
        share = {"loss": LOSS_MARGIN, "wobble": WOBBLE_MARGIN}[metric]
        plain = self.measured[
            (self.measured["variant"] == self.baseline) & self.measured["partition"].isin(list(partitions))
        ]
        return share * float(plain[metric].mean()) if metric in plain and len(plain) else math.nan

    def variants(self, names: Sequence[str]) -> list[str]:
        """Those of the names that were run and are not the baseline."""
        there = set(self.measured["variant"]) - {self.baseline}
        return [name for name in names if name in there]


#: text, metric, kind, weights, partitions of the margin
_Wanted = tuple[str, str, Kind, Mapping[Cell, float], Sequence[str]]


def judge(measured: pd.DataFrame, study: Study, baseline: str = "plain", margin: float = 0.01) -> list[Claim]:
    """The four claims with their verdicts.

    Args:
        measured: What `measure_all` gives.
        study: The study, for its partitions and their alphas.
        baseline: The variant without attention.
        margin: The difference in accuracy below which there is none.
    """
    if baseline in SPATIAL:
        return [_unable(number, f"{baseline}, the baseline, has attention itself") for number in (1, 2, 3, 4)]
    evidence = _Evidence(measured, study, baseline, margin)
    third = _spatial_suffers(evidence)
    return [_channel_is_steadier(evidence), _perceptron_helps(evidence), third, _even_data_mend_it(evidence, third)]


def _channel_is_steadier(e: _Evidence) -> Claim:
    variants = e.variants(CHANNEL)
    partitions = e.shared([*variants, e.baseline]) if variants else []
    if not partitions:
        return _unable(1, f"no seed has both a finished {e.baseline} and a finished {' or '.join(CHANNEL)} run")
    weights = _mean([against(v, e.baseline, p) for v in variants for p in partitions])
    what = f"{_mean_of(variants)} - {e.baseline}, {_over(partitions)}"
    parts: list[_Wanted] = [
        (what, "wobble", "lower", weights, partitions),
        (what, "accuracy", "unchanged", weights, partitions),
        (what, "loss", "unchanged", weights, partitions),
    ]
    details = [
        (f"{v} - {e.baseline}, {p}", m, against(v, e.baseline, p))
        for m in ("wobble", "largest_drop", "change", "accuracy", "loss")
        for v in variants
        for p in partitions
    ]
    return _judged(e, 1, parts, details)


def _perceptron_helps(e: _Evidence) -> Claim:
    partitions = e.shared([WITH_MLP, WITHOUT_MLP])
    if not partitions:
        return _unable(2, f"no seed has both a finished {WITH_MLP} and a finished {WITHOUT_MLP} run")
    weights = _mean([against(WITH_MLP, WITHOUT_MLP, p) for p in partitions])
    parts: list[_Wanted] = [
        (f"{WITH_MLP} - {WITHOUT_MLP}, {_over(partitions)}", "wobble", "lower", weights, partitions)
    ]
    details = [
        (f"{WITH_MLP} - {WITHOUT_MLP}, {p}", m, against(WITH_MLP, WITHOUT_MLP, p))
        for m in ("wobble", "largest_drop", "change", "accuracy", "loss")
        for p in partitions
    ]
    return _judged(e, 2, parts, details)


def _spatial_suffers(e: _Evidence) -> Claim:
    spatial = next(iter(e.variants(SPATIAL)), SPATIAL[0])
    skewed = [p for p in e.shared([spatial, e.baseline]) if e.study.alphas[p] <= HIGH_ALPHA]
    if not skewed:
        return _unable(
            3, f"no seed has both {e.baseline} and {spatial} finished at a partition of alpha <= {HIGH_ALPHA:g}"
        )
    most = skewed[0]
    what = f"{spatial} - {e.baseline}, {most}"
    weights = against(spatial, e.baseline, most)
    parts: list[_Wanted] = [(what, "wobble", "higher", weights, [most]), (what, "accuracy", "lower", weights, [most])]
    details = [
        (f"{v} - {e.baseline}, {p}", m, against(v, e.baseline, p))
        for m in ("wobble", "largest_drop", "change", "accuracy", "loss")
        for v in e.variants(SPATIAL)
        for p in skewed
    ]
    return _judged(e, 3, parts, details)


def _even_data_mend_it(e: _Evidence, suffers: Claim) -> Claim:
    """The gap to the plain model shrinks from the most skewed to the most even partition, where accuracy is as good.

    The paper says that even data mitigate instability, not that none is left: what is left decides nothing.
    """
    spatial = next(iter(e.variants(SPATIAL)), SPATIAL[0])
    known = [p for p in e.shared([spatial, e.baseline]) if not math.isnan(e.study.alphas[p])]
    if len(known) < 2 or e.study.alphas[known[0]] > HIGH_ALPHA:
        return _unable(
            4, f"it takes {e.baseline} and {spatial} at two partitions, one of them of alpha <= {HIGH_ALPHA:g}"
        )
    most, evenest = known[0], known[-1]
    gap = f"({spatial} - {e.baseline}, {evenest}) - ({spatial} - {e.baseline}, {most})"
    shrinks = against(spatial, e.baseline, evenest) | {
        cell: -w for cell, w in against(spatial, e.baseline, most).items()
    }
    left, what = against(spatial, e.baseline, evenest), f"{spatial} - {e.baseline}, {evenest}"
    parts: list[_Wanted] = [
        (gap, "wobble", "lower", shrinks, known),
        (gap, "accuracy", "higher", shrinks, known),
        (what, "accuracy", "not lower", left, [evenest]),
    ]
    details = [
        (f"{v} - {e.baseline}, {p}", m, against(v, e.baseline, p))
        for m in ("wobble", "largest_drop", "change", "accuracy", "loss")
        for v in e.variants(SPATIAL)
        for p in known
    ]
    claim = _judged(e, 4, parts, details)
    harm_is_left = any(part.outcome == "against" and part.kind.startswith("not") for part in claim.parts)
    if suffers.verdict == "contradicted" and not harm_is_left:
        reason = "claim 3 is contradicted: there is no harm under high heterogeneity that even data could remove"
        return Claim(4, claim.text, claim.parts, claim.details, "undecided", reason)
    return claim


# --- the rules --------------------------------------------------------------------------------------------------------


def outcome(kind: Kind, effect: Difference, p: float, margin: float) -> Outcome:
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
    most = high if up else -low  # the largest effect that the interval leaves room for, in the direction of the kind
    if kind in ("lower", "higher"):
        if clear:
            return "for" if towards > 0 else "against"
        return "against" if most < margin else "open"
    if most < margin:
        return "for"
    return "against" if clear and towards > 0 else "open"


def verdict(outcomes: Sequence[Outcome]) -> Verdict:
    """Supported where all parts are for the claim, contradicted where any is against it, else undecided."""
    if "against" in outcomes:
        return "contradicted"
    return "supported" if outcomes and set(outcomes) == {"for"} else "undecided"


def _judged(
    e: _Evidence, number: int, wanted: Sequence[_Wanted], details: Sequence[tuple[str, str, Mapping[Cell, float]]]
) -> Claim:
    found = [difference(contrast(e.measured, metric, weights)) for _, metric, _, weights, _ in wanted]
    corrected = holm([d.p_t for d in found])
    parts = []
    for (text, metric, kind, _, partitions), effect, p in zip(wanted, found, corrected, strict=True):
        margin = e.margin(metric, partitions)
        parts.append(Part(text, BY_KEY[metric], kind, margin, effect, p, outcome(kind, effect, p, margin)))
    beside = [Detail(text, BY_KEY[m], difference(contrast(e.measured, m, weights))) for text, m, weights in details]
    shown = tuple(detail for detail in beside if detail.difference.n)
    result = verdict([part.outcome for part in parts])
    return Claim(number, TEXTS[number - 1], tuple(parts), shown, result, _reason(result, parts))


def _reason(result: Verdict, parts: Sequence[Part]) -> str:
    seeds = min(part.difference.n for part in parts)
    if seeds < 2:
        return f"with {seeds or 'no'} seed in common there is no measure of chance"
    said: dict[Outcome, str] = {"for": "for it", "against": "against it", "open": "not settled"}
    found: dict[Outcome, list[str]] = {}
    for part in parts:
        found.setdefault(part.outcome, []).append(f"{part.metric.title} {part.kind}")
    reason = "; ".join(f"{said[name]}: {', '.join(dict.fromkeys(found[name]))}" for name in said if name in found)
    if result != "undecided" and smallest_p(seeds) > 1 - LEVEL:
        reason += (
            f" (with {seeds} seeds this rests on differences being normal: a test without that assumption "
            f"cannot go below p = {smallest_p(seeds):g})"
        )
    return reason


def _unable(number: int, reason: str) -> Claim:
    return Claim(number, TEXTS[number - 1], (), (), "undecided", reason)


def _mean(contrasts: Sequence[Mapping[Cell, float]]) -> dict[Cell, float]:
    """The mean of contrasts, as weights of cells."""
    cells = dict.fromkeys(cell for weights in contrasts for cell in weights)
    return {cell: float(np.sum([weights.get(cell, 0.0) for weights in contrasts])) / len(contrasts) for cell in cells}


def _mean_of(variants: Sequence[str]) -> str:
    return variants[0] if len(variants) == 1 else f"mean of {' and '.join(variants)}"


def _over(partitions: Sequence[str]) -> str:
    return partitions[0] if len(partitions) == 1 else f"mean over {', '.join(partitions)}"


def rules() -> list[str]:
    """The rules at the head of this module, a paragraph each."""
    return (__doc__ or "").split("\n\n")[1:]
