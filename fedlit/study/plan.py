"""Reads a study file: a base config, axes of named changes, and seeds; a study runs every combination of the axes."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedlit.core.bundled import find
from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError
from fedlit.core.messages import did_you_mean
from fedlit.report.claims import BASELINE, LARGEST, MEAN, SMALLEST, Claims, read_claims
from fedlit.report.record import BASELINE_VARIANT, PARTITION, Cell, cell_of
from fedlit.report.select import check_select, metric_of
from fedlit.report.sequential import Looks
from fedlit.runs.folder import folder_name
from fedlit.study.combination import Combination, combination
from fedlit.study.overrides import as_arguments, dicts_in, flat, setting_names
from fedlit.study.seeds import is_count, read_seeds
from fedlit.study.shared_loggers import refuse_shared

KEYS = ("base", "axes", "seeds", "rounds", "set", "select", "claims", "baseline", "within")
#: The metric that depends on other runs, as the accuracy to reach is a share of the baseline's.
TO_TARGET = "to_target"
#: Keys of a config that a study sets itself, and what to use instead.
SET_BY_STUDY = {
    "seed_everything": "seeds:",
    "name": "the names of the values",
    "version": "seeds:",
    "logs_dir": "--logs_dir",
    "ckpt_path": "the same command again, which resumes runs",
    "config": "base:",
}


@dataclass(frozen=True)
class Plan:
    """A study: ``combinations`` of changes to the config ``base``, each run at all ``seeds``.

    Args:
        base: The config.
        seeds: All seeds that may be run.
        combinations: The combinations of changes.
        common: Changes in all combinations, as pairs of arguments for ``fedlit fit``. The ``arguments`` of each
            combination contain them too.
        select: The metric by which the best combination is chosen, or None.
        claims: The content of the file of claims, or None.
        looks: The numbers of seeds at which claims are tested while seeds are added; None if all seeds are run.
        baseline: The variant with which claims compare others.
        within: The axis at whose values variants are compared.
        tree: The content of the file.
    """

    base: Path
    seeds: tuple[int, ...]
    combinations: tuple[Combination, ...]
    common: tuple[tuple[str, str], ...] = ()
    select: str | None = None
    claims: Claims | None = None
    looks: Looks | None = None
    baseline: str = BASELINE_VARIANT
    within: str = PARTITION
    tree: Mapping[str, Any] = field(default_factory=dict)

    @property
    def axes(self) -> dict[str, list[str]]:
        """The values of each axis, by their names."""
        axes = self.combinations[0].values
        return {axis: list(dict.fromkeys(each.values[axis] for each in self.combinations)) for axis in axes}

    @property
    def cells(self) -> dict[Cell, Combination]:
        """The combination of each variant and partition, as a report names them."""
        return {cell_of(each.name, each.values, self.axes, self.within): each for each in self.combinations}


def read_plan(path: Path) -> Plan:
    """Read a study file and check every combination as ``fedlit fit`` would before its first round.

    Raises:
        InputError: For the first mistake found.
    """
    try:
        return _plan(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _plan(path: Path) -> Plan:
    tree = _read(path)
    base = _base(tree.get("base"), path.parent)
    seeds, rounds = read_seeds(tree.get("seeds", [0])), tree.get("rounds")
    if rounds is not None and not is_count(rounds, 1):
        raise InputError(f"rounds must be a whole number >= 1, got {rounds}; leave it out to take the base's")
    axes = _axes(tree.get("axes"))
    select = None if tree.get("select") is None else check_select(tree["select"])
    claims = _claims(tree["claims"], path.parent) if "claims" in tree else None
    baseline = tree.get("baseline", BASELINE_VARIANT)
    if not isinstance(baseline, str):
        raise InputError(f"baseline must be the name of a variant, got {baseline}; give for example {BASELINE_VARIANT}")
    if seeds.looks:
        _check_decidable(claims, select)
    within = str(tree.get("within", PARTITION))
    if "within" in tree and within not in tree["axes"]:
        raise InputError(f"within: there is no axis {within}; use one of {', '.join(tree['axes'])}")
    common = _common(tree.get("set"), axes)
    first = {"trainer.max_epochs": rounds} if rounds else {}
    given = [("set", common), *((name, each) for values in axes for name, each in values.items())]
    if rounds and any("trainer.max_epochs" in setting_names(each, where) for where, each in given):
        raise InputError(
            "trainer.max_epochs is also set by rounds:, which applies to all runs; leave out one of the two"
        )
    combinations = _combinations(tree, axes, first | common, base, seeds.all[0])
    refuse_shared([each.config for each in combinations], len(seeds.all))
    if select is not None:
        for each in combinations:
            _refuse_test_set(select, each)
    if seeds.looks and len(rounds_of := sorted({each.rounds for each in combinations})) > 1:
        raise InputError(
            f"seeds.until: decided needs the same number of rounds in all runs, got {rounds_of}; give rounds:"
        )
    plan = Plan(
        base, seeds.all, tuple(combinations), as_arguments(common), select, claims, seeds.looks, baseline, within, tree
    )
    _check_claims(plan)
    return plan


def _base(given: Any, folder: Path) -> Path:
    """The config that the study changes."""
    if not isinstance(given, str):
        raise InputError(f"base must be a config file, got {given}; give its path, relative to the study file")
    base = find(given, folder)
    if not base.is_file():
        raise InputError(f"base: config file {base} does not exist; give its path, relative to the study file")
    return base


def _check_decidable(claims: Claims | None, select: str | None) -> None:
    """Refuse to add seeds until claims are decided if there are none, or some that depend on the number of seeds."""
    if claims is None or select is not None:
        raise InputError(
            "seeds.until: decided needs claims: FILE, and cannot be used with select:, which needs all seeds"
        )
    if TO_TARGET in {part.metric.key for claim in claims.claims for part in claim.parts}:
        raise InputError(
            f"seeds.until: decided cannot test the metric {TO_TARGET}, whose target changes as seeds are "
            "added; give a list of seeds"
        )


def _check_claims(plan: Plan) -> None:
    """Refuse a baseline that is not run, and claims that no run can test."""
    variants = dict.fromkeys(variant for variant, _ in plan.cells)
    if (plan.looks or "baseline" in plan.tree) and plan.baseline not in variants:
        raise InputError(f"baseline: there is no variant {plan.baseline}; use one of {', '.join(variants)}")
    if plan.claims and BASELINE in variants and plan.baseline != BASELINE:
        raise InputError(
            f"claims: the name {BASELINE} means the variant {plan.baseline}, but another variant has this name; rename "
            "it"
        )
    for number, claim in enumerate(plan.claims.claims if plan.claims else (), 1):
        if plan.claims and (why := plan.claims.ambiguous(claim, variants, {place for _, place in plan.cells})):
            raise InputError(f"claims: in claim {number} {why}")
    untestable = untestable_claims(plan)
    if plan.looks and plan.claims and len(untestable) == len(plan.claims.claims):
        raise InputError(
            f"seeds.until: decided needs a claim that can be tested, but {untestable[1]}; correct the file of claims"
        )


def _combinations(
    tree: Mapping[str, Any], axes: list[dict[str, dict[str, Any]]], common: dict[str, Any], base: Path, seed: int
) -> list[Combination]:
    """Every combination of the axes' values, checked with a seed.

    Args:
        tree: The content of the study file.
        axes: The result of `_axes`.
        common: Changes in all combinations, by dotted keys.
        base: The config.
        seed: The seed.
    """
    _check_names(["_".join(names) for names in itertools.product(*axes)])
    as_written = [{str(name): changes for name, changes in axis.items()} for axis in tree["axes"].values()]
    found = []
    for names in itertools.product(*axes):
        changes = [axis[name] for axis, name in zip(axes, names, strict=True)]
        values = dict(zip(tree["axes"], names, strict=True))
        every = {key: value for each in (common, *changes) for key, value in each.items()}
        written = [tree.get("set"), *(axis[name] for axis, name in zip(as_written, names, strict=True))]
        dicts: dict[str, dict[str, Any]] = {}
        for key, mapping in itertools.chain.from_iterable(dicts_in(each or {}).items() for each in written):
            dicts[key] = dicts.get(key, {}) | mapping
        found.append(combination("_".join(names), values, base, every, dicts, seed))
    return found


def _check_names(names: Sequence[str]) -> None:
    """Refuse names of combinations that cannot be folders, or would be taken for another one's or for a seed's."""
    for name in names:
        folder_name(name, "the name of a combination, of a value on each axis,")
        if re.fullmatch(r"(seed|version)_\d+", name):
            raise InputError(f"{name}: folders of runs have such names; give the value of the axis another name")
    for folded, times in Counter(map(str.lower, names)).items():
        if times > 1:  # a file system may not tell cases apart
            alike = list(dict.fromkeys(name for name in names if name.lower() == folded))
            how = f"have names that differ in case only, {', '.join(alike)}" if len(alike) > 1 else "have this name"
            raise InputError(f"{alike[0]}: {times} combinations {how}; give the values of an axis other names")


def _claims(given: Any, folder: Path) -> Claims:
    """The checked content of a file of claims."""
    if not isinstance(given, str):
        raise InputError(f"claims must be a file of claims, got {given}; give its path, relative to the study file")
    return read_claims(find(given, folder))


def _common(given: Any, axes: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The changes of ``set``, which apply to all runs, by dotted keys."""
    if not isinstance(given, dict | None):
        raise InputError(
            f"set must be keys of a config, got {given}; write for example {{data.validation_clients: 10}}"
        )
    by_axes = {key for values in axes for name, changes in values.items() for key in setting_names(changes, name)}
    for key in setting_names(given or {}, "set"):
        if (ours := key.split(".")[0]) in SET_BY_STUDY:
            raise InputError(f"set: a study sets {ours} itself; use {SET_BY_STUDY[ours]}")
        if key in by_axes:
            raise InputError(f"set: {key} is also changed by an axis; leave out one of the two")
    return flat(given or {})


def _refuse_test_set(select: str, combination: Combination) -> None:
    """Refuse a metric of the test set as the one by which settings are chosen."""
    data = combination.config["data"].get("init_args", {})
    if metric_of(select).startswith("global/") and not data.get("validation_clients"):
        raise InputError(
            f"select: {select} would choose settings on the test set; write set: {{data.validation_clients: 10}}, or "
            "select: clients/own_accuracy_mean and set: {data.client_holdout: 0.2}"
        )


def untestable_claims(plan: Plan) -> dict[int, str]:
    """The claims that the runs of the study cannot test, by number, with the reason."""
    found: dict[int, str] = {}
    variants, places = {v for v, _ in plan.cells}, {MEAN, SMALLEST, LARGEST, *(p for _, p in plan.cells)}
    for number, claim in enumerate(plan.claims.claims if plan.claims else (), 1):
        assert plan.claims is not None
        meant = {n: plan.claims.variants_of(n, plan.baseline) for part in claim.parts for n in part.names}
        missing = [f"variant {' or '.join(them)}" for them in meant.values() if variants.isdisjoint(them)]
        missing += [f"{plan.within} {at}" for part in claim.parts for at in part.at if at not in places]
        if missing:
            found[number] = f"the study has no {' and no '.join(dict.fromkeys(missing))}"
    return found


# --- the file --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError("the file does not exist; give a study file with --config")
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError("not a study file; write base:, axes: and seeds:")
    for key in tree:
        if key not in KEYS:
            remedy = did_you_mean(str(key), KEYS, f"use {', '.join(KEYS)}")
            raise InputError(f"{key}: no such key; {remedy}")
    return tree


def _axes(given: Any) -> list[dict[str, dict[str, Any]]]:
    """The changes of each axis, with dotted keys, by the name of the value."""
    if not isinstance(given, dict) or not given:
        raise InputError(f"axes must have at least one axis, got {given}; write AXIS: {{NAME: {{KEY: VALUE}}}}")
    setters: dict[str, str] = {}
    for axis, values in given.items():
        if not isinstance(values, dict) or not values:
            raise InputError(
                f"axes.{axis} has no named values, got {values}; write NAME: {{KEY: VALUE}}, or leave it out"
            )
        for name, times in Counter(map(str, values)).items():
            if times > 1:
                raise InputError(f"axes.{axis}: {times} values have the name {name}; write the names in quotes")
        for name, changes in values.items():
            if isinstance(name, bool) or name is None:
                raise InputError(f"axes.{axis}: YAML reads the name {name} not as text; write it in quotes")
            folder_name(str(name), f"axes.{axis}")
            if not isinstance(changes, dict | None):
                raise InputError(
                    f"axes.{axis}.{name} must be keys of a config, got {changes}; write {{}} to change nothing"
                )
            for key in setting_names(changes or {}, f"axes.{axis}.{name}"):
                if (ours := key.split(".")[0]) in SET_BY_STUDY:
                    raise InputError(f"axes.{axis}.{name}: a study sets {ours} itself; use {SET_BY_STUDY[ours]}")
                if setters.setdefault(key, axis) != axis:
                    raise InputError(
                        f"axes.{axis}.{name}: {key} is also set by the axis {setters[key]}; set it in one axis only"
                    )
    return [{str(name): flat(changes or {}) for name, changes in values.items()} for values in given.values()]
