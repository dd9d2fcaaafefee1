"""Reads the runs in a folder by variant, partition and seed, and finds missing and unfinished runs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from fedlit.core.errors import InputError
from fedlit.report.claims import Claims
from fedlit.report.record import (
    ANY,
    BASELINE_VARIANT,
    PARTITION,
    Cell,
    Key,
    planned_rounds,
    read_record,
    recorded_cells,
    recorded_claims,
    recorded_looks,
)
from fedlit.report.run import Run, find_runs, read_run
from fedlit.report.sequential import Looks
from fedlit.runs.folder import METRICS_CSV, STUDY
from fedlit.runs.words import lookup

#: Arguments that runs on the same data may differ in: how the training set is divided and read.
DIVISION = (
    "partition",
    "num_clients",
    "batch_size",
    "eval_batch_size",
    "seed",
    "client_holdout",
    "augment",
    "root",
    "download",
)


class NoRunsError(InputError):
    """There is no run yet, or none has reached the compared round."""


@dataclass(frozen=True)
class Gap:
    """A run that the report leaves out, because it has not started (``done`` is 0) or has too few rounds."""

    variant: str
    partition: str
    seed: int
    done: int


@dataclass(frozen=True)
class Study:
    """All runs of a folder.

    Args:
        folder: The folder.
        variants: The variants, in the order of the study.
        partitions: The partitions, the most heterogeneous one first.
        alphas: Dirichlet's alpha of each partition; infinity for an even split, NaN for anything else.
        seeds: The seeds in ascending order.
        horizon: The round at which all runs are compared.
        planned: The largest number of rounds that a run should train, 0 if unknown.
        runs: The runs that have started.
        gaps: The runs that are left out of tables and tests.
        validated: Whether ``global/*`` is measured on validation clients instead of the test set.
        select: The metric by which the study chooses a combination; empty if it chooses none.
        claims: The claims that the study names, or None.
        looks: The numbers of seeds at which claims are tested; None if all seeds were fixed in advance.
        baseline: The variant with which the study compares others.
        within: The axis whose values are ``partitions``, at which variants are compared.
        record: The content of ``study.json``; empty if there is none.
        superseded: Folders of runs that are left out, since another one has the same name and seed.
        unplanned: Folders of runs that are left out, since ``study.json`` has no run of their name and seed.
    """

    folder: Path
    variants: tuple[str, ...]
    partitions: tuple[str, ...]
    alphas: Mapping[str, float]
    seeds: tuple[int, ...]
    horizon: int
    planned: int
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...]
    validated: bool = False
    select: str = ""
    claims: Claims | None = None
    looks: Looks | None = None
    baseline: str = BASELINE_VARIANT
    within: str = PARTITION
    record: Mapping[str, Any] = field(default_factory=dict)
    superseded: tuple[Path, ...] = ()
    unplanned: tuple[Path, ...] = ()

    @property
    def held_out(self) -> str:
        """The data on which ``global/*`` is measured: ``validation`` or ``test``."""
        return "validation" if self.validated else "test"

    def searches(self, baseline: str) -> bool:
        """Whether the study searches for a setting and has no baseline."""
        return bool(self.select) and baseline not in self.variants

    @cached_property
    def finished(self) -> tuple[Run, ...]:
        """The runs that have reached the horizon."""
        return tuple(run for run in self.runs if run.rounds >= self.horizon)

    def runs_of(self, variant: str, partition: str) -> list[Run]:
        """The runs of a variant at a partition that have started."""
        return [run for run in self.runs if (run.variant, run.partition) == (variant, partition)]

    def finished_of(self, variant: str, partition: str) -> list[Run]:
        """Those that have reached the horizon."""
        return [run for run in self.finished if (run.variant, run.partition) == (variant, partition)]


def collect(folder: Path, rounds: int | None = None) -> Study:
    """Read a folder of runs: ``NAME/seed_K`` of a study, or ``NAME/version_N``.

    ``study.json`` records the variant and partition of each run, and which runs are planned. Without this file every
    variant is expected at every partition and seed. Names are then split into variant and partition at their last
    underscore, if all names have one and their endings correspond one to one to the partitions in the configs.

    Args:
        folder: The study's folder.
        rounds: Compare at this round; None takes the last round that all ended runs have reached or, if none has ended,
            the last round of any run.

    Raises:
        NoRunsError: If there is no run with a metrics.csv, or none has reached ``rounds`` or was validated until then.
        InputError: If the table of a run is damaged, or runs have different data.
    """
    record = read_record(folder / STUDY)
    plan = recorded_cells(record, folder / STUDY)
    every = find_runs(folder)
    found = {key: places for key, places in every.items() if not plan or key in plan}
    asked = planned_rounds(record)
    read = (
        read_run(*key, places[-1], *plan.get(key, (key[0], ANY)), asked.get(key[0])) for key, places in found.items()
    )
    runs = [run for run in read if run is not None]
    if not runs:
        raise _no_runs(folder, bool(found))
    if not plan and _names_end_in_partition(runs):
        runs = [replace(run, variant=v, partition=p) for run in runs for v, p in [_cell(run.name)]]
    within = str(record.get("within") or PARTITION)
    for group in [runs] if within == PARTITION else _by_partition(runs):
        _check_same_data(group)
    horizon = _horizon(runs, rounds, folder)
    cells = _ordered({(run.variant, run.partition) for run in runs}, plan)
    variants = tuple(dict.fromkeys(variant for variant, _ in cells))
    places = dict.fromkeys(partition for _, partition in cells)
    alphas = {partition: _alpha(partition, runs) if within == PARTITION else math.nan for partition in places}
    seeds = tuple(sorted({seed for _, seed in plan} or {run.seed for run in runs}))
    partitions = tuple(sorted(alphas, key=lambda p: (math.isnan(alphas[p]), alphas[p])))
    done = {(run.variant, run.partition, run.seed): run.rounds for run in runs}
    wanted = [(*cell, seed) for (_, seed), cell in plan.items()] or list(product(variants, alphas, seeds))
    gaps = tuple(Gap(*key, done.get(key, 0)) for key in wanted if done.get(key, 0) < horizon)
    validated = any(lookup(run.config, "data", "init_args", "validation_clients") for run in runs)
    return Study(
        folder,
        variants,
        partitions,
        alphas,
        seeds,
        horizon,
        max(run.asked for run in runs),
        tuple(runs),
        gaps,
        validated,
        select=str(record.get("select") or ""),
        claims=recorded_claims(record, folder / STUDY),
        looks=recorded_looks(record, folder / STUDY),
        baseline=str(record.get("baseline") or BASELINE_VARIANT),
        within=within,
        record=record,
        superseded=tuple(place.folder for places in found.values() for place in places[:-1]),
        unplanned=tuple(places[-1].folder for key, places in every.items() if key not in found),
    )


def _horizon(runs: Sequence[Run], asked: int | None, folder: Path) -> int:
    """The round at which runs are compared, see `collect`.

    Raises:
        NoRunsError: If no run has reached it, or was validated until then.
    """
    furthest = max(run.rounds for run in runs)
    horizon = asked or min((run.rounds for run in runs if run.ended), default=furthest)
    if horizon > furthest:
        raise NoRunsError(f"no run under {folder} has reached round {horizon}; the furthest has reached {furthest}")
    compared = (run.table for run in runs if run.rounds >= horizon)
    if all(table.loc[table["round"] <= horizon, "global/accuracy"].isna().all() for table in compared):
        raise NoRunsError(f"no run under {folder} was validated up to round {horizon}; give a later one by --rounds")
    return horizon


def _no_runs(folder: Path, started: bool) -> NoRunsError:
    if started:
        return NoRunsError(
            f"no run under {folder} has a global/accuracy yet, which reports compare; wait until a round has finished"
        )
    what = f"no NAME/seed_K/{METRICS_CSV} under {folder}" if folder.is_dir() else f"no folder {folder}"
    return NoRunsError(f"there is {what}; start runs with fedlit study or fedlit fit, or give the folder of your runs")


def _check_same_data(runs: Iterable[Run]) -> None:
    """Refuse runs with different test sets.

    Raises:
        InputError: Naming two of the runs and their difference.
    """
    first: tuple[Run, dict[str, Any]] | None = None
    for run in runs:
        if not (facts := _data_of(run.config)):
            continue
        other, known = first = first or (run, facts)
        differing = [key for key in (*known, *facts) if known.get(key) != facts.get(key)]
        if differing:
            key = differing[0]
            raise InputError(
                f"runs of different data cannot be compared: data.{key} is {known.get(key)} in {other.folder} and "
                f"{facts.get(key)} in {run.folder}; make a report for each in its own folder, or name the "
                "axis that changes the data by within: in the study file"
            )


def _by_partition(runs: Sequence[Run]) -> list[list[Run]]:
    return [[run for run in runs if run.partition == p] for p in dict.fromkeys(run.partition for run in runs)]


def _data_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that determine a run's training and test examples; empty if its config is unknown."""
    data = lookup(config, "data")
    if not isinstance(data, Mapping) or "class_path" not in data:
        return {}
    arguments = data.get("init_args") or {}
    kept = {key: value for key, value in arguments.items() if key not in DIVISION and value is not None}
    return {"class_path": data["class_path"], **kept, "validation_clients": kept.get("validation_clients", 0)}


def _ordered(cells: Iterable[Cell], plan: Mapping[Key, Cell]) -> list[Cell]:
    """Cells in the order of the plan; without a plan sorted by name, plain first."""
    return list(dict.fromkeys(plan.values())) if plan else sorted(cells, key=lambda cell: (cell[0] != "plain", cell))


def _alpha(partition: str, runs: Iterable[Run]) -> float:
    """Alpha of a partition, from its runs' configs, else from its name: dir05 is 0.5, dir1 is 1, iid is infinity."""
    for run in runs:
        data = lookup(run.config, "data", "init_args")
        if run.partition == partition and isinstance(data, dict) and "partition" in data:
            return _alpha_of(data["partition"])
    if re.fullmatch(r"iid|uniform|even", partition):
        return math.inf
    if digits := re.fullmatch(r"dir(?:ichlet)?_?(\d+(?:\.\d+)?)", partition):
        text = digits[1]
        return float(text if "." in text or not text.startswith("0") else f"0.{text[1:]}")
    return math.nan


def _alpha_of(partition: Any) -> float:
    if partition is None:
        return math.inf  # FederatedData's default is an even split
    kind = str(lookup(partition, "class_path") or partition).rsplit(".", 1)[-1]
    if kind == "Uniform":
        return math.inf
    alpha = lookup(partition, "init_args", "alpha")
    return float(alpha) if kind == "Dirichlet" and isinstance(alpha, int | float) else math.nan


def _cell(name: str) -> Cell:
    """Variant and partition of a name such as cnn_dir05, or the whole of it as the variant."""
    variant, _, partition = name.rpartition("_")
    return (variant, partition) if variant else (name, ANY)


def _names_end_in_partition(runs: Sequence[Run]) -> bool:
    """Whether all names end in the name of a partition, such as cnn_dir05.

    It is False for names such as lr_01 and lr_03 of runs with the same partition, and for a single name, such as
    channel_mlp, unless its end is the name of a known partition.
    """
    if len({run.name for run in runs}) == 1 and math.isnan(_alpha(runs[0].name.rpartition("_")[2], ())):
        return False
    ends, divisions = [run.name.rpartition("_")[2] for run in runs], [_division(run.config) for run in runs]
    known = {(end, division) for end, division in zip(ends, divisions, strict=True) if division}
    one_to_one = len(known) == len({end for end, _ in known}) == len({division for _, division in known})
    return one_to_one and all("_" in run.name for run in runs)


def _division(config: Mapping[str, Any]) -> str:
    """A text that describes how the data are divided among clients; empty if the config is unknown."""
    arguments = lookup(config, "data", "init_args")
    known = isinstance(arguments, Mapping)
    return repr([arguments.get("partition"), arguments.get("num_clients")]) if known else ""


def heterogeneity_of(study: Study, partition: str, short: bool = False) -> str:
    """A partition's name, with its heterogeneity if known."""
    alpha = study.alphas[partition]
    if math.isnan(alpha):
        return partition
    if short:
        return f"{partition}, even" if math.isinf(alpha) else f"{partition}, \u03b1 = {alpha:g}"
    return f"{partition} (even split)" if math.isinf(alpha) else f"{partition} (Dirichlet, \u03b1 = {alpha:g})"


def outcomes(study: Study, variant: str, partition: str, name: str) -> dict[int, pd.DataFrame]:
    """The tables of the final model's accuracy by seed, for the runs that have them."""
    runs = study.finished_of(variant, partition)
    return {run.seed: table for run in runs if (table := run.outcome(name, study.horizon)) is not None}


def at_one_seed(tables: Mapping[str, Mapping[int, pd.DataFrame]]) -> tuple[int, dict[str, pd.DataFrame]] | None:
    """The first of the seeds that the most variants have a table for, and these tables; None if there is no table.

    Args:
        tables: By variant and seed.
    """
    variants = Counter(seed for by_seed in tables.values() for seed in by_seed)
    if not variants:
        return None
    seed = min(variants, key=lambda seed: (-variants[seed], seed))
    return seed, {variant: by_seed[seed] for variant, by_seed in tables.items() if seed in by_seed}
