"""Reads the YAML file of claims that are tested on runs; ``configs/claims.yaml`` explains every key."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError
from fedlit.core.messages import did_you_mean
from fedlit.report.metrics import BY_KEY, COLUMN, Metric, column_metric

Kind = Literal["lower", "higher", "unchanged", "not lower", "not higher"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: The name that stands for the report's baseline.
BASELINE = "baseline"
#: Places other than a partition's name: the mean over all partitions, and the most and the least heterogeneous one.
MEAN, SMALLEST, LARGEST = "mean", "smallest_alpha", "largest_alpha"


@dataclass(frozen=True)
class Margin:
    """The size below which an effect counts as no effect.

    Args:
        size: In the metric's unit, or a share of a variant's mean.
        of: The variant, the group, or BASELINE, if ``size`` is a share; else empty.
    """

    size: float
    of: str = ""


@dataclass(frozen=True)
class Group:
    """Several variants under one name; variants that were not run are left out.

    Args:
        variants: Their names.
        first: Whether the group stands for its first variant that was run; else for the mean.
    """

    variants: tuple[str, ...]
    first: bool


@dataclass(frozen=True)
class Expectation:
    """A part of a claim: a statement about a weighted sum of a metric over variants and partitions.

    Args:
        metric: The metric.
        kind: How the sum is claimed to differ from 0.
        compare: Weights, which sum to 0, by variant, group or BASELINE.
        at: Weights by place: MEAN, SMALLEST, LARGEST or a partition.
        margin: A smaller effect counts as no effect.
        stands_alone: Whether it counts against the claim even if the presumed claim is contradicted.
    """

    metric: Metric
    kind: Kind
    compare: Mapping[str, float]
    at: Mapping[str, float]
    margin: Margin
    stands_alone: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The variants, groups and BASELINE that it compares, or whose mean its margin is a share of."""
        return (*self.compare, *filter(None, [self.margin.of]))


@dataclass(frozen=True)
class Claim:
    """A claim as its file states it.

    Args:
        text: What is claimed.
        parts: The parts, all of which must hold.
        alpha_at_most: Partitions with a larger alpha, or without alpha, are left out; infinity keeps all.
        presumes: The number, from 1, of an earlier claim without which this one is meaningless; 0 is none.
        because: The reason.
    """

    text: str
    parts: tuple[Expectation, ...]
    alpha_at_most: float = math.inf
    presumes: int = 0
    because: str = ""


@dataclass(frozen=True)
class Claims:
    """A file of claims.

    Args:
        claims: The claims in order.
        groups: Groups of variants, by name.
        beside: Metrics that are shown beside the verdicts.
        unfit_baselines: Variants that cannot be the baseline, and the reason.
        title: Title of the report's section.
        about: First sentences of the section.
        tree: The content of the file.
    """

    claims: tuple[Claim, ...]
    groups: Mapping[str, Group]
    beside: tuple[Metric, ...]
    unfit_baselines: Mapping[str, str]
    title: str
    about: str
    tree: dict[str, Any] = field(repr=False)

    @property
    def without_texts(self) -> Any:
        """All that verdicts depend on: claims without their texts and reasons, groups and unfit baselines."""
        return self.groups, self.unfit_baselines, [replace(each, text="", because="") for each in self.claims]

    @property
    def columns(self) -> list[str]:
        """Columns of ``metrics.csv`` that are compared."""
        metrics = [*self.beside, *(part.metric for claim in self.claims for part in claim.parts)]
        own = (metric.key for metric in metrics if metric.key.startswith(COLUMN))
        return list(dict.fromkeys(key.removeprefix(COLUMN) for key in own))

    def ambiguous(self, claim: Claim, variants: Collection[str], partitions: Collection[str]) -> str:
        """What a name in a claim means besides one of these variants or partitions; empty if all names are clear."""
        for part in claim.parts:
            for name in part.names:
                if name in self.groups and name in variants:
                    return f"the name {name} means a group of variants, but a variant has this name too; rename one"
            for place in part.at:
                if place in (MEAN, SMALLEST, LARGEST) and place in partitions:
                    return f"the place {place} is chosen from all partitions, but one has this name; rename it"
        return ""

    def variants_of(self, name: str, baseline: str) -> tuple[str, ...]:
        """The variants that a name in a claim refers to: those of a group, the baseline, or the variant itself."""
        if name in self.groups:
            return self.groups[name].variants
        return (baseline if name == BASELINE else name,)


def read_claims(path: Path) -> Claims:
    """Read a file of claims.

    Raises:
        InputError: For the first mistake found; names the file and the key.
    """
    try:
        return claims_of(read_yaml(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def claims_of(tree: Any) -> Claims:
    """The claims that a YAML file or a study's record holds.

    Raises:
        InputError: For the first mistake found; names the key.
    """
    keys = ("title", "about", "groups", "margins", "beside", "unfit_baselines", "claims")
    tree = _mapping(tree, "a file of claims", keys)
    groups = {name: _group(group, f"groups.{name}") for name, group in _mapping(tree.get("groups"), "groups").items()}
    margins = {
        _metric(key, f"margins.{key}").key: _margin(margin, f"margins.{key}")
        for key, margin in _mapping(tree.get("margins"), "margins").items()
    }
    given = _list(tree.get("claims"), "claims")
    return Claims(
        claims=tuple(_claim(claim, number, margins) for number, claim in enumerate(given, 1)),
        groups=groups,
        beside=tuple(_metric(key, "beside") for key in _list(tree.get("beside", []), "beside", empty=True)),
        unfit_baselines={
            variant: _text(why, f"unfit_baselines.{variant}")
            for variant, why in _mapping(tree.get("unfit_baselines"), "unfit_baselines").items()
        },
        title=_text(tree.get("title", "Claims"), "title"),
        about=_text(tree.get("about", "Claims, tested on these runs."), "about"),
        tree=tree,
    )


# --- parts of the file; ``where`` names the key for error messages ---------------------------------------------------


def _claim(given: Any, number: int, margins: Mapping[str, Margin]) -> Claim:
    where = f"claim {number}"
    given = _mapping(given, where, ("claim", "parts", "alpha_at_most", "presumes"))
    parts, bound = _list(given.get("parts"), f"{where}: parts"), given.get("alpha_at_most")
    presumes = _mapping(given.get("presumes"), f"{where}: presumes", ("claim", "because"))
    earlier = presumes.get("claim", 0)
    if presumes and earlier not in range(1, number):
        raise InputError(
            f"{where}: presumes.claim must be the number of an earlier claim, got {earlier}; the first claim is 1"
        )
    return Claim(
        text=_text(given.get("claim"), f"{where}: claim"),
        parts=tuple(_expectation(part, f"{where}, part {i}", margins) for i, part in enumerate(parts, 1)),
        alpha_at_most=math.inf if bound is None else _number(bound, f"{where}: alpha_at_most"),
        presumes=earlier,
        because=_text(presumes.get("because"), f"{where}: presumes.because") if presumes else "",
    )


def _expectation(given: Any, where: str, margins: Mapping[str, Margin]) -> Expectation:
    given = _mapping(given, where, ("metric", "is", "compare", "at", "margin", "stands_alone"))
    metric, kind = _metric(given.get("metric"), f"{where}: metric"), given.get("is")
    if kind not in KINDS:
        raise InputError(f"{where}: is must be {_either(KINDS)}, got {kind}")
    compare = _weights(given.get("compare"), f"{where}: compare", "{channel: 1, baseline: -1}")
    if abs(sum(compare.values())) > 1e-9:
        raise InputError(
            f"{where}: compare must have weights that sum to 0, got {given['compare']}; for example {{a: 1, b: -1}}"
        )
    place = given.get("at", MEAN)
    at = {place: 1.0} if isinstance(place, str) else _weights(place, f"{where}: at", f"{MEAN} or {SMALLEST}")
    if "margin" not in given and metric.key not in margins:
        raise InputError(
            f"{where}: {metric.key} has no margin; add margins: {{{metric.key}: 0.01}}, or a margin to this part"
        )
    margin = _margin(given["margin"], f"{where}: margin") if "margin" in given else margins[metric.key]
    alone = given.get("stands_alone", False)
    if not isinstance(alone, bool):
        raise InputError(f"{where}: stands_alone must be true or false, got {alone}; leave it out for false")
    return Expectation(metric, kind, compare, at, margin, alone)


def _group(given: Any, where: str) -> Group:
    given = _mapping(given, where, ("mean_of", "first_of"))
    if len(given) != 1:
        raise InputError(f"{where} must have mean_of or first_of, got {given or 'neither'}; write mean_of: [a, b]")
    ((how, variants),) = given.items()
    return Group(tuple(_text(v, where) for v in _list(variants, f"{where}.{how}")), how == "first_of")


def _margin(given: Any, where: str) -> Margin:
    if not isinstance(given, dict):
        return Margin(_number(given, where))
    share = _mapping(given, where, ("share", "of"))
    return Margin(_number(share.get("share"), f"{where}.share"), _text(share.get("of", BASELINE), f"{where}.of"))


def _metric(key: Any, where: str) -> Metric:
    """A metric of the report, given by its name, or a column of ``metrics.csv``, given by ``{column: NAME}``."""
    if isinstance(key, dict):
        return column_metric(_text(_mapping(key, where, ("column",)).get("column"), f"{where}.column"))
    if key not in BY_KEY:
        remedy = did_you_mean(str(key), BY_KEY, f"use {_either(BY_KEY)}")
        raise InputError(f"{where}: there is no metric {key}; {remedy}")
    return BY_KEY[key]


def _weights(given: Any, where: str, example: str) -> dict[str, float]:
    if not isinstance(given, dict) or not given:
        raise InputError(f"{where} must be names with weights, got {given}; write for example {example}")
    return {_text(name, where): _number(weight, f"{where}.{name}", least=-math.inf) for name, weight in given.items()}


def _mapping(given: Any, where: str, known: Collection[str] = ()) -> dict[str, Any]:
    """A mapping, empty for None; if keys are ``known``, others are refused."""
    if not isinstance(given, dict | None):
        raise InputError(f"{where} must be keys and values, got {given}; write {_either(known) or 'NAME'}: VALUE")
    for key in given or {}:
        if known and key not in known:
            remedy = did_you_mean(str(key), known, f"use {_either(known)}")
            raise InputError(f"{where}: no such key {key}; {remedy}")
    return given or {}


def _list(given: Any, where: str, empty: bool = False) -> list[Any]:
    if not isinstance(given, list) or not (given or empty):
        raise InputError(f"{where} must be a list, got {given}; configs/claims.yaml is an example")
    return given


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise InputError(f"{where} must be text, got {given}; write it in quotes")
    return given


def _number(given: Any, where: str, least: float = 0) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given < math.inf:
        raise InputError(f"{where} must be a number{' >= 0' if least == 0 else ''}, got {given}; write for example 1")
    return float(given)


def _either(words: Collection[str]) -> str:
    *first, last = words or ("",)
    return f"{', '.join(first)} or {last}" if first else last
