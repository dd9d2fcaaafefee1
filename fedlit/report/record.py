"""Reads ``study.json``, the record that ``fedlit study`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlit.core.errors import InputError
from fedlit.core.files import read_object
from fedlit.report.claims import Claims, claims_of
from fedlit.report.sequential import Looks

#: The default baseline, with which other variants are compared.
BASELINE_VARIANT = "plain"
#: The default axis within which variants are compared.
PARTITION = "partition"
#: The partition of runs whose names have none.
ANY = "all"

#: Name and seed of a run.
Key = tuple[str, int]
#: Variant and partition.
Cell = tuple[str, str]


def read_record(path: Path) -> dict[str, Any]:
    """The content of ``study.json``; empty if there is no such file."""
    try:
        return read_object(path)
    except InputError as error:
        raise _no_record(path, error) from error


def _no_record(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not the record of a study ({error!r}); run fedlit study again to write it, or remove it"
    )


def recorded_claims(record: Mapping[str, Any], path: Path) -> Claims | None:
    """The claims that the study names, or None; ``path`` is named by errors."""
    try:
        return claims_of(record["claims"]) if record.get("claims") else None
    except InputError as error:
        raise InputError(f"{path}: claims: {error}") from error


def recorded_looks(record: Mapping[str, Any], path: Path) -> Looks | None:
    """The numbers of seeds at which claims are tested; None if all seeds were fixed in advance."""
    if not (found := record.get("looks")):
        return None
    if not isinstance(found, list) or any(type(n) is not int for n in found) or [1, *found] != sorted({1, *found}):
        raise _no_record(path, ValueError(f"looks must be ascending numbers of seeds >= 2, got {found}"))
    return Looks(tuple(found))


def recorded_cells(record: Mapping[str, Any], path: Path) -> dict[Key, Cell]:
    """Variant and partition by name and seed, in the study's order; empty without a record."""
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


def planned_rounds(record: Mapping[str, Any]) -> dict[str, int]:
    """The planned number of rounds by the runs' name; empty if unknown."""
    combinations = record.get("combinations")
    if not isinstance(combinations, Mapping):
        return {}
    asked = {name: each.get("rounds") for name, each in combinations.items() if isinstance(each, Mapping)}
    return {name: rounds for name, rounds in asked.items() if isinstance(rounds, int)}
