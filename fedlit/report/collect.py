"""The runs in a folder, by variant, partition and seed, and which of them are missing or unfinished."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fedlit.core.errors import InputError
from fedlit.core.files import read_object, regular
from fedlit.core.tables import name_of
from fedlit.report.claims import Claims, claims_of
from fedlit.report.sequential import Looks
from fedlit.runs.folder import CONFIG, METRICS_CSV, STUDY
from fedlit.runs.participation import draws_of
from fedlit.runs.read import damaged

#: The variant that others are compared with, where none is named.
BASELINE_VARIANT = "plain"
#: The axis whose values are rows of the report, within which variants are compared, where a study names none.
PARTITION = "partition"
#: The partition of runs whose names do not tell it.
ANY = "all"

#: What runs may differ in and still be of the same data: how the training set is divided and read.
DIVISION = ("partition", "num_clients", "batch_size", "eval_batch_size", "seed", "client_holdout", "root", "download")

Key = tuple[str, int]
#: Variant and partition.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """A run that has begun.

    Args:
        name: As its folder is called.
        variant: What is compared.
        partition: How the data are divided, or the value of another axis that variants are compared within.
        seed: Runs of one seed and partition are pairs: they share data, initial weights and cohorts.
        folder: Where it lies.
        table: Its scalars, a row a round.
        config: Its ``config.yaml``, empty where there is none.
    """

    name: str
    variant: str
    partition: str
    seed: int
    folder: Path
    table: pd.DataFrame
    config: Mapping[str, Any]

    @property
    def rounds(self) -> int:
        """The last round in its table, 0 where there is none."""
        return int(self.table["round"].max()) if len(self.table) else 0

    @property
    def draws(self) -> dict[str, str]:
        """Hashes of its partition, of who took part and of their batch order; empty before its end."""
        return draws_of(self.folder)

    def outcome(self, name: str, round: int) -> pd.DataFrame | None:
        """Its ``classes.csv`` or ``clients.csv``, or None where that is not there or is of another round."""
        try:
            table = read_outcome(self.folder / name)
        except (ValueError, OSError):
            return None
        return table if len(table) and (table["round"] == round).all() else None


def read_outcome(path: Path) -> pd.DataFrame:
    """A table by client or by class, its classes as they are named."""
    path = regular(path)
    table = pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values={"accuracy": ["nan", ""]})
    return table.assign(**{"class": table["class"].map(name_of)}) if "class" in table else table


@dataclass(frozen=True)
class Gap:
    """A run that the report leaves out: it has not begun (``done`` is 0), or has too few rounds."""

    variant: str
    partition: str
    seed: int
    done: int


@dataclass(frozen=True)
class Study:
    """All runs of a folder.

    Args:
        folder: The folder.
        variants: In the order of the study.
        partitions: The most heterogeneous one first.
        alphas: Dirichlet's alpha of each partition; infinity is an even split, NaN is neither.
        seeds: In ascending order.
        horizon: The round that all runs are compared at.
        planned: The round at which the study's runs end, 0 where that is not written anywhere.
        runs: Those that have begun.
        gaps: Those that the tables and tests go without.
        validated: Whether ``global/*`` is measured on validation clients, not on the test set.
        select: The metric that the study chooses a combination by; empty where it chooses none.
        claims: The claims that the study names; None where it names none.
        looks: When claims are looked at while seeds are added; None where all seeds were fixed before.
        baseline: The variant that others are compared with, as the study says.
        within: What `partitions` are the values of: the axis that variants are compared within.
        record: What ``fedlit study`` wrote of it; empty where there is nothing.
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

    @property
    def held_out(self) -> str:
        """What ``global/*`` is measured on, in a word."""
        return "validation" if self.validated else "test"

    def searches(self, baseline: str) -> bool:
        """Whether it looks for a setting rather than compares variants with a baseline, which it then lacks."""
        return bool(self.select) and baseline not in self.variants

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that have come to the horizon."""
        return tuple(run for run in self.runs if run.rounds >= self.horizon)


def collect(folder: Path, rounds: int | None = None) -> Study:
    """Read a folder of runs: ``NAME/seed_K`` of a study, or ``NAME/version_N``.

    ``study.json`` says what is variant and partition, and which runs should be there. Without it names are split at
    their last underscore, if all have one, and every variant is expected at every partition and seed.

    Args:
        folder: The study's folder.
        rounds: Compare at this round; None is where the study ends, or before any run has come there, the last round
            of any.

    Raises:
        InputError: When there is no run with a metrics.csv, none has come to ``rounds``, or they are of different
            data.
    """
    record = _record(folder / STUDY)
    plan = _plan(record, folder / STUDY)
    found = {key: place for key, place in _find(folder).items() if not plan or key in plan}
    split = all("_" in name for name, _ in found)
    cells = {(name, seed): plan.get((name, seed)) or _cell(name, split) for name, seed in found}
    runs = [run for key, place in found.items() if (run := _read(*key, place, *cells[key])) is not None]
    if not runs:
        found_none = f"no NAME/seed_K/{METRICS_CSV} under {folder}" if folder.is_dir() else f"no folder {folder}"
        raise InputError(f"{found_none}; make runs with fedlit study or fedlit fit, or name the folder they are in")
    within = str(record.get("within") or PARTITION)
    for group in [runs] if within == PARTITION else _by_partition(runs):
        _check_same_data(group)
    planned = _planned_rounds(record, runs)
    furthest = max(run.rounds for run in runs)
    horizon = rounds or (planned if 0 < planned <= furthest else furthest)
    if horizon > furthest:
        raise InputError(f"no run under {folder} has come to round {horizon}; the furthest is at {furthest}")
    keys = set(plan.values()) or {(run.variant, run.partition) for run in runs}
    alphas = {partition: _alpha(partition, runs) for partition in dict.fromkeys(p for _, p in _ordered(keys, plan))}
    variants = tuple(dict.fromkeys(variant for variant, _ in _ordered(keys, plan)))
    seeds = tuple(sorted({seed for _, seed in (plan or found)}))
    partitions = tuple(sorted(alphas, key=lambda p: (math.isnan(alphas[p]), alphas[p])))
    done = {(run.variant, run.partition, run.seed): run.rounds for run in runs}
    wanted = (
        [(*plan[key], key[1]) for key in plan] if plan else [(v, p, s) for v, p, s in product(variants, alphas, seeds)]
    )
    gaps = tuple(Gap(*key, done.get(key, 0)) for key in wanted if done.get(key, 0) < horizon)
    validated = any(_within(run.config, "data", "init_args", "validation_clients") for run in runs)
    return Study(
        folder,
        variants,
        partitions,
        alphas,
        seeds,
        horizon,
        planned,
        tuple(runs),
        gaps,
        validated,
        select=str(record.get("select") or ""),
        claims=_claims(record, folder / STUDY),
        looks=_looks(record, folder / STUDY),
        baseline=str(record.get("baseline") or BASELINE_VARIANT),
        within=within,
        record=record,
    )


def _check_same_data(runs: Iterable[Run]) -> None:
    """Refuse runs whose accuracies are of different test sets.

    Raises:
        InputError: Naming two of the runs and what they differ in.
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
                f"{facts.get(key)} in {run.folder}; report on a folder for each, or name the axis that changes the "
                "data by within: in the study file"
            )


def _by_partition(runs: Sequence[Run]) -> list[list[Run]]:
    return [[run for run in runs if run.partition == p] for p in dict.fromkeys(run.partition for run in runs)]


def _data_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What says which examples a run is trained and measured on; empty where its config is unknown."""
    data = _within(config, "data")
    if not isinstance(data, Mapping) or "class_path" not in data:
        return {}
    arguments = data.get("init_args") or {}
    kept = {key: value for key, value in arguments.items() if key not in DIVISION and value is not None}
    return {"class_path": data["class_path"], **kept, "validation_clients": kept.get("validation_clients", 0)}


def _record(path: Path) -> dict[str, Any]:
    """What ``fedlit study`` wrote of a study; empty where there is none."""
    try:
        return read_object(path)
    except InputError as error:
        raise _no_record(path, error) from error


def _no_record(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not a study's record ({error!r}); let fedlit study write it, or remove it")


def _claims(record: Mapping[str, Any], path: Path) -> Claims | None:
    try:
        return claims_of(record["claims"]) if record.get("claims") else None
    except InputError as error:
        raise InputError(f"{path}: claims: {error}") from error


def _looks(record: Mapping[str, Any], path: Path) -> Looks | None:
    if not (found := record.get("looks")):
        return None
    if not isinstance(found, list) or any(type(n) is not int for n in found) or [1, *found] != sorted({1, *found}):
        raise _no_record(path, ValueError(f"looks must be ascending numbers of seeds from 2 up, got {found}"))
    return Looks(tuple(found))


def _ordered(cells: Iterable[tuple[str, str]], plan: Mapping[Key, tuple[str, str]]) -> list[tuple[str, str]]:
    """Cells in the order of the plan; without one by name, plain first."""
    return list(dict.fromkeys(plan.values())) if plan else sorted(cells, key=lambda cell: (cell[0] != "plain", cell))


def _plan(record: Mapping[str, Any], path: Path) -> dict[Key, tuple[str, str]]:
    """From name and seed to variant and partition, in the study's order; empty without a record."""
    if not record:
        return {}
    try:
        within = str(record.get("within") or PARTITION)
        kept = _axes_of_variant(record["axes"], within)
        cells = {
            (str(run["name"]), int(run["seed"])): cell_of(str(run["name"]), run["axes"], record["axes"], within)
            for run in record["runs"]
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_record(path, error) from error
    orders = [[str(value) for value in record["axes"].get(axis, [])] for axis in (*kept[:1], within)]
    return dict(sorted(cells.items(), key=lambda item: [_index(o, v) for o, v in zip(orders, item[1], strict=False)]))


def cell_of(name: str, values: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], within: str = PARTITION) -> Cell:
    """Variant and partition of a study's runs of this name, with these values of the study's axes.

    Axes other than ``within`` that take several values make up the variant.
    """
    variant = " ".join(str(values[axis]) for axis in _axes_of_variant(axes, within))
    return variant or name, str(values.get(within, ANY))


def _axes_of_variant(axes: Mapping[str, Sequence[Any]], within: str) -> list[str]:
    others = [axis for axis in axes if axis != within]
    return [axis for axis in others if len(axes[axis]) > 1] or others


def _index(order: list[str], value: str) -> int:
    return order.index(value) if value in order else len(order)


def _find(folder: Path) -> dict[Key, Path]:
    """The folder of each run, by name and seed; of several versions of one seed the newest.

    A part ``seed_K`` of the path is the seed; else the config's ``seed_everything``, else the version.
    """
    found: dict[Key, tuple[int, Path]] = {}
    for path in sorted(folder.glob(f"**/{METRICS_CSV}")):
        parts = path.parent.relative_to(folder).parts
        seeds = [int(m[1]) for part in parts if (m := re.fullmatch(r"seed_(\d+)", part))]
        versions = [int(m[1]) for part in parts if (m := re.fullmatch(r"version_(\d+)", part))]
        names = [part for part in parts if not re.fullmatch(r"seed_\d+|version_\d+", part)]
        name = "/".join(names) or folder.resolve().name
        version = versions[-1] if versions else 0
        if seeds:
            seed = seeds[-1]
        else:
            written = _config(path.parent).get("seed_everything")
            seed = written if isinstance(written, int) and not isinstance(written, bool) else version
        if (name, seed) not in found or found[name, seed][0] <= version:
            found[name, seed] = (version, path.parent)
    return {key: place for key, (_, place) in found.items()}


def _read(name: str, seed: int, folder: Path, variant: str, partition: str) -> Run | None:
    """A run, or None where no round of it that was validated is on disk."""
    try:
        table = pd.read_csv(regular(folder / METRICS_CSV))
    except (ValueError, OSError):  # an empty file, or half a line
        return None
    if "round" not in table or "global/accuracy" not in table or table.empty:
        return None
    try:
        table = table.apply(pd.to_numeric)
        if (table["round"].astype("int64") != table["round"]).any() or table["round"].min() < 1:
            raise ValueError("rounds are whole numbers from 1 up")
    except (ValueError, TypeError) as error:
        raise damaged(folder / METRICS_CSV, error) from error
    if table["global/accuracy"].isna().all():
        return None
    return Run(name, variant, partition, seed, folder, table, _config(folder))


def _cell(name: str, split: bool) -> tuple[str, str]:
    """Variant and partition of a name such as cnn_dir05, or the whole of it as the variant."""
    variant, _, partition = name.rpartition("_")
    return (variant, partition) if split and variant else (name, ANY)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = yaml.safe_load(path.read_text()) if path.is_file() else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _planned_rounds(record: Mapping[str, Any], runs: Iterable[Run]) -> int:
    """Rounds of a finished run: as the study's record says, else the most that a config does; 0 where none says it."""
    if isinstance(rounds := record.get("rounds"), int):
        return rounds
    written = (_within(run.config, "trainer", "max_epochs") for run in runs)
    return max((rounds for rounds in written if isinstance(rounds, int)), default=0)


def _alpha(partition: str, runs: Iterable[Run]) -> float:
    """Alpha of a partition, from its runs' configs, else from its name: dir05 is 0.5, dir1 is 1, iid infinity."""
    for run in runs:
        data = _within(run.config, "data", "init_args")
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
    kind = str(_within(partition, "class_path") or partition).rsplit(".", 1)[-1]
    if kind == "Uniform":
        return math.inf
    alpha = _within(partition, "init_args", "alpha")
    return float(alpha) if kind == "Dirichlet" and isinstance(alpha, int | float) else math.nan


def _within(tree: Any, *keys: str) -> Any:
    """What lies at a path in nested mappings, or None."""
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree
