"""Reads runs from their folders for a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fedlit.core.errors import InputError
from fedlit.core.files import read_object, require_regular
from fedlit.core.tables import unescape_cell
from fedlit.report.record import Key
from fedlit.runs.folder import METRICS_CSV, files_below
from fedlit.runs.participation import draws_of
from fedlit.runs.read import config_of, damaged, is_table_of_rounds
from fedlit.runs.state import recorded
from fedlit.runs.words import lookup

#: A run's file about its partition.
PARTITION_FACTS = "partition.json"


@dataclass(frozen=True)
class Run:
    """A run that has started.

    Args:
        name: Its name, from its folder.
        variant: Its variant.
        partition: Its partition, or its value on another axis within which variants are compared.
        seed: Its seed; runs with the same seed and partition are paired: they share data, initial weights and cohorts.
        folder: Its folder.
        table: Its scalars, a row for each round.
        config: Its ``config.yaml``, empty if there is none.
        asked: The planned number of rounds, 0 if unknown.
    """

    name: str
    variant: str
    partition: str
    seed: int
    folder: Path
    table: pd.DataFrame
    config: Mapping[str, Any]
    asked: int = 0

    @cached_property
    def rounds(self) -> int:
        """The last round in its table, 0 if there is none."""
        return int(self.table["round"].max()) if len(self.table) else 0

    @property
    def ended(self) -> bool:
        """Whether it has trained all planned rounds, or stopped early by itself."""
        return 0 < self.asked <= self.rounds or (_state(self.folder) == ("finished", self.asked) and self.asked > 0)

    @property
    def clients(self) -> int:
        """The number of clients, 0 if unknown."""
        with suppress(InputError):
            found = read_object(self.folder / PARTITION_FACTS).get("num_clients")
            return found if isinstance(found, int) else 0
        return 0

    @property
    def draws(self) -> dict[str, str]:
        """Hashes of its partition, participation and batch order; empty before its end."""
        return draws_of(self.folder)

    def outcome(self, name: str, round: int) -> pd.DataFrame | None:
        """Its ``classes.csv`` or ``clients.csv``; None if the file is missing or belongs to another round."""
        try:
            table = read_outcome(self.folder / name)
        except (ValueError, OSError):
            return None
        return table if len(table) and (table["round"] == round).all() else None


def read_outcome(path: Path) -> pd.DataFrame:
    """A table by client or by class, with the original class names."""
    path = require_regular(path)
    table = pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values={"accuracy": ["nan", ""]})
    return table.assign(**{"class": table["class"].map(unescape_cell)}) if "class" in table else table


class Found(NamedTuple):
    """The folder of a run, and its ``config.yaml``, empty if there is none."""

    folder: Path
    config: Mapping[str, Any]


def find_runs(folder: Path) -> dict[Key, list[Found]]:
    """The runs in a folder, by name and seed; if a seed has several, the one to use is the last.

    The seed is ``seed_everything`` of the config, else the part ``seed_K`` of the path, else the version. So a copy of
    a run in the folder of another seed, or a run in ``seed_1`` that was not given this seed, is not a seed more. The
    run to use is one in the folder of its seed, else the newest version.
    """
    found: dict[Key, list[tuple[bool, int, Found]]] = {}
    for path in filter(is_table_of_rounds, files_below(folder, METRICS_CSV)):
        run = Found(path.parent, config_of(path.parent))
        parts = run.folder.relative_to(folder).parts
        seeds = [int(m[1]) for part in parts if (m := re.fullmatch(r"seed_(\d+)", part))]
        versions = [int(m[1]) for part in parts if (m := re.fullmatch(r"version_(\d+)", part))]
        names = [part for part in parts if not re.fullmatch(r"seed_\d+|version_\d+", part)]
        name = "/".join(names) or folder.resolve().name
        version = versions[-1] if versions else 0
        configured = run.config.get("seed_everything")
        if isinstance(configured, int) and not isinstance(configured, bool):
            seed = configured
        else:
            seed = seeds[-1] if seeds else version
        found.setdefault((name, seed), []).append((seeds[-1:] == [seed], version, run))
    return {key: [run for *_, run in sorted(runs, key=_in_order)] for key, runs in found.items()}


def _in_order(place: tuple[bool, int, Found]) -> tuple[bool, int, Path]:
    """By whether the folder is that of the seed, by version, and by name; configs have no order."""
    return (*place[:2], place[2].folder)


def read_run(
    name: str, seed: int, found: Found, variant: str, partition: str, planned: int | None = None
) -> Run | None:
    """A run, or None if it has no validated round on disk.

    Args:
        name: Its name.
        seed: Its seed.
        found: Its folder and config.
        variant: Its variant.
        partition: Its partition.
        planned: The number of rounds planned by its study; None takes what the run recorded.

    Raises:
        InputError: If its table is damaged.
    """
    folder, config = found
    try:
        table = pd.read_csv(require_regular(folder / METRICS_CSV))
    except (ValueError, OSError):  # an empty file, or half a line
        return None
    if "round" not in table or "global/accuracy" not in table or table.empty:
        return None
    try:
        table = table.apply(pd.to_numeric)
        if (table["round"].astype("int64") != table["round"]).any() or table["round"].min() < 0:
            raise ValueError("rounds must be whole numbers >= 0")
    except (ValueError, TypeError) as error:
        raise damaged(folder / METRICS_CSV, error) from error
    table = table[table["round"] > 0]  # row 0 has only metrics that the user's callbacks log before the first round
    if table["global/accuracy"].isna().all():
        return None
    asked = planned or _state(folder)[1] or lookup(config, "trainer", "max_epochs")
    return Run(name, variant, partition, seed, folder, table, config, max(asked, 0) if isinstance(asked, int) else 0)


def _state(folder: Path) -> tuple[str, int]:
    """The recorded state of a run and its planned rounds; empty and 0 if unknown."""
    with suppress(InputError):
        record = recorded(folder)
        return record.get("state", ""), record.get("rounds") or 0
    return "", 0
