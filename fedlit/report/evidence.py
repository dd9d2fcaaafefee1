"""Finds the variants and partitions among the runs that a claim compares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fedlit.report.claims import BASELINE, LARGEST, MEAN, SMALLEST, Claim, Expectation, Group, Margin
from fedlit.report.collect import Study
from fedlit.report.metrics import Metric
from fedlit.report.record import Cell
from fedlit.report.statistics import contrast


class LeftOutError(Exception):
    """A claim cannot be judged on these runs; the message says why."""


@dataclass(frozen=True)
class Evidence:
    """The runs that claims are tested on.

    Args:
        measured: The result of `measure_all`.
        study: The study, for its partitions and their alphas.
        groups: Names for several variants.
        baseline: The variant for which BASELINE stands.
    """

    measured: pd.DataFrame
    study: Study
    groups: Mapping[str, Group]
    baseline: str

    def at_seeds(self, seeds: Iterable[int]) -> Evidence:
        """The evidence of these seeds only."""
        return replace(self, measured=self.measured[self.measured["seed"].isin(list(seeds))])

    # --- variants -----------------------------------------------------------------------------------------------------

    def ran(self, name: str) -> list[str]:
        """The variants for which a name stands; for a group those that were run, or its first if none was."""
        if name not in self.groups:
            return [self.baseline if name == BASELINE else name]
        there = set(self.measured["variant"]) - {self.baseline}
        variants = self.groups[name].variants
        return [variant for variant in variants if variant in there] or [variants[0]]

    def compared(self, name: str) -> list[str]:
        """Those variants over which a contrast takes the mean."""
        return self.ran(name)[:1] if name in self.groups and self.groups[name].first else self.ran(name)

    def weights(self, part: Expectation) -> dict[str, float]:
        """The weight of each variant in a contrast.

        Raises:
            LeftOutError: If a variant is compared with itself.
        """
        weights: dict[str, float] = {}
        for name, weight in part.compare.items():
            variants = self.compared(name)
            for variant in variants:
                weights[variant] = weights.get(variant, 0.0) + weight / len(variants)
        if not any(weights.values()):
            raise LeftOutError(f"it compares {' and '.join(weights)} with itself")
        return weights

    def spoken(self, part: Expectation) -> str:
        """A contrast in words."""
        names = {name: self.compared(name) for name in part.compare}
        said = {name: v[0] if len(v) == 1 else f"mean of {' and '.join(v)}" for name, v in names.items()}
        return signed({said[name]: weight for name, weight in part.compare.items()})

    # --- partitions ---------------------------------------------------------------------------------------------------

    def partitions(self, claim: Claim) -> list[str]:
        """The partitions, in order, at which a claim can be judged: at least two seeds have all its variants.

        If there is no such partition, those at which one seed has all variants.

        Raises:
            LeftOutError: If there is none.
        """
        variants = dict.fromkeys(variant for part in claim.parts for variant in self.weights(part))
        bounded = math.isfinite(claim.alpha_at_most)
        by_alpha = bounded or any({SMALLEST, LARGEST} & set(part.at) for part in claim.parts)
        seeds = {
            p: len(contrast(self.measured, "accuracy", {(variant, p): 1.0 for variant in variants}))
            for p in self.study.partitions
            if not by_alpha or self.study.alphas[p] <= claim.alpha_at_most  # False for NaN, an unknown alpha
        }
        found = [p for p, n in seeds.items() if n > 1] or [p for p, n in seeds.items() if n]
        if not found:
            kind = f" of alpha <= {claim.alpha_at_most:g}" if bounded else " of known alpha" if by_alpha else ""
            names = dict.fromkeys(name for part in claim.parts for name in part.compare)
            told = (" or ".join(self.groups[n].variants) if n in self.groups else self.ran(n)[0] for n in names)
            raise LeftOutError(f"no seed has finished runs of {' and of '.join(told)} at one partition{kind}")
        return found

    def places(self, at: Mapping[str, float], partitions: Sequence[str]) -> dict[str, float]:
        """The weight of each partition in a contrast, among those at which its claim can be judged.

        Raises:
            LeftOutError: If a partition is missing, or is compared with itself.
        """
        weights: dict[str, float] = {}
        for place, weight in at.items():
            found = self._named(place, partitions)
            for partition in found:
                weights[partition] = weights.get(partition, 0.0) + weight / len(found)
        if not any(weights.values()):
            raise LeftOutError(
                f"it needs runs at two partitions, but there are only runs at {' and '.join(partitions)}"
            )
        return weights

    def _named(self, place: str, partitions: Sequence[str]) -> Sequence[str]:
        if place == MEAN:
            return partitions
        if place in (SMALLEST, LARGEST):
            alphas = self.study.alphas
            chosen = (min if place == SMALLEST else max)(alphas[p] for p in partitions)
            return [p for p in partitions if alphas[p] == chosen]
        if place not in partitions:
            raise LeftOutError(
                f"partition {place} does not have runs of all its variants; only {', '.join(partitions)}"
            )
        return [place]

    def margin(self, margin: Margin, metric: Metric, partitions: Sequence[str]) -> float:
        """A margin in the metric's unit, >= 0.

        A share of a group is one of the mean over its variants. It is NaN if it is a share of the mean of a variant
        that was not run, or of a mean that is not finite, as that of a loss is if a run diverged: any effect would be
        smaller than an infinite margin.
        """
        if not margin.of:
            return margin.size
        there = self.measured["variant"].isin(self.compared(margin.of))
        runs = self.measured[there & self.measured["partition"].isin(list(partitions))]
        known = metric.key in runs and len(runs)
        mean = abs(float(runs.groupby("variant")[metric.key].mean().mean())) if known else math.nan
        return margin.size * mean if math.isfinite(mean) else math.nan


def product_of(variants: Mapping[str, float], places: Mapping[str, float]) -> dict[Cell, float]:
    """The weights of all variants at all partitions."""
    return {(v, p): weight * share for v, weight in variants.items() for p, share in places.items()}


def signed(weights: Mapping[str, float]) -> str:
    """A weighted sum in words: ``a - b``, ``a - 0.5 b - 0.5 c``."""
    terms = [f"{'-' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):g} '}{name}" for name, w in weights.items()]
    return " ".join(terms).removeprefix("+ ")


def in_words(compared: str, at: Mapping[str, float], places: Mapping[str, float]) -> str:
    """A contrast of variants and its partitions, in words."""
    if list(places.values()) == [1.0]:
        return f"{compared}, {next(iter(places))}"
    if list(at.values()) == [1.0]:
        return f"{compared}, mean over {', '.join(places)}"
    return signed({f"({compared}, {partition})": weight for partition, weight in places.items()})
