"""Reads runs from their folders."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedlit.core.errors import InputError
from fedlit.core.files import require_regular
from fedlit.core.messages import one_line
from fedlit.runs.folder import CONFIG, METRICS_CSV, versions

if TYPE_CHECKING:
    import pandas as pd

#: Reads YAML; the loader in C is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def rows_of(run: Path) -> list[dict[str, str]]:
    """The scalars of a run's finished rounds as text, without importing pandas."""
    try:
        with require_regular(run / METRICS_CSV).open(newline="") as file:
            rows = [{k: v for k, v in row.items() if k and v is not None} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise damaged(run / METRICS_CSV, error) from error
    try:
        for row in rows:
            for value in row.values():
                float(value or "nan")
            int(row["round"])
    except (ValueError, LookupError) as error:
        raise damaged(run / METRICS_CSV, error) from error
    return rows


def is_table_of_rounds(table: Path) -> bool:
    """Whether a ``metrics.csv`` can be a run's: it is empty, or has a column ``round``.

    The tables of Lightning's ``CSVLogger`` have the same name and a column ``step``.
    """
    try:
        with require_regular(table).open(encoding="utf-8", errors="replace") as file:
            columns = file.readline().strip().split(",")
    except OSError:
        return False
    return columns == [""] or ("round" in columns and "step" not in columns)


def config_of(run: Path) -> dict[str, Any]:
    """The ``config.yaml`` of a run; empty if it does not exist or cannot be read."""
    return read_config(run / CONFIG)


def read_config(path: Path) -> dict[str, Any]:
    """A config file of a run; empty if it does not exist or cannot be read."""
    config = None
    with suppress(yaml.YAMLError, OSError, ValueError, RecursionError):
        config = yaml.load(require_regular(path).read_text(encoding="utf-8"), LOADER)
    return config if isinstance(config, dict) else {}


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a table that cannot be read."""
    reason = one_line(f"{type(error).__name__}: {error}", 200)
    return InputError(f"{path} is not a table of a run's rounds ({reason}); remove it, or its run's folder")


def read_runs(logs: str | Path = "logs", *names: str) -> dict[str, pd.DataFrame]:
    """The scalars of the newest run of each name, by name.

    Args:
        logs: The folder of all runs.
        names: The names of the runs to read; none means all.

    Raises:
        InputError: If there is no run, or no run of a given name.
    """
    import pandas as pd

    wanted = names or tuple(sorted(path.name for path in Path(logs).glob("*") if path.is_dir()))
    found = {
        name: runs[-1] / METRICS_CSV
        for name in wanted
        if (runs := [v for v in versions(logs, name) if is_table_of_rounds(v / METRICS_CSV)])
    }
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise InputError(f"no runs of {', '.join(missing) or 'any name'} under {logs}; make them with fedlit fit")
    return {name: pd.read_csv(require_regular(path)) for name, path in found.items()}
