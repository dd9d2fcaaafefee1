"""Reads a site's own file: its name, its data, and its limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError

#: The keys of a site's file, and their types; ``name`` and ``data`` are required.
SECTIONS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "data": dict,
    "state": str,
    "max_epochs": (int, float),
    "threads": int,
    "accelerator": str,
    "keep_alive_s": (int, float),
}


class SiteFile(NamedTuple):
    """A site's own file.

    Attributes:
        path: Its path; relative paths in it are relative to its folder.
        name: The site's name.
        data: Class and arguments of the data, as in a config of ``fedlit fit``.
        state: Folder for what the client keeps from round to round.
        max_epochs: The largest number of passes over its data in a round.
        threads: Threads of the training. One gives the bits of the simulation.
        accelerator: ``cpu``, or ``auto`` for a GPU if there is one.
        keep_alive_s: Seconds that the training process waits for another task; with 0 each task starts its own.
    """

    path: Path
    name: str
    data: Mapping[str, Any]
    state: Path
    max_epochs: float = 100.0
    threads: int = 1
    accelerator: str = "auto"
    keep_alive_s: float = 3600.0


def read_site_file(path: Path) -> SiteFile:
    """Read a site's file.

    Raises:
        InputError: Naming the mistake.
    """
    try:
        found = read_yaml(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(found, dict) or not {"name", "data"} <= found.keys() <= SECTIONS.keys():
        raise InputError(
            f"{path} must have name and data, and may have {', '.join(list(SECTIONS)[2:])}, but has "
            f"{', '.join(map(str, found)) if isinstance(found, dict) else 'no keys'}; see the example site.yaml"
        )
    for key, value in found.items():
        if not isinstance(value, SECTIONS[key]) or isinstance(value, bool):
            raise InputError(f"{path}: {key} has a value of a wrong type, {value!r}; see the example site.yaml")
    state = path.parent / found.pop("state", f"{path.stem}_state")
    file = SiteFile(path.absolute(), found.pop("name"), found.pop("data"), state.absolute(), **found)
    for key, least in (("max_epochs", 0), ("threads", 1), ("keep_alive_s", 0)):
        if not least <= getattr(file, key) < 1e9:
            raise InputError(f"{path}: {key} must be at least {least}, got {getattr(file, key)}")
    if file.accelerator not in ("auto", "cpu"):
        raise InputError(f"{path}: accelerator must be auto or cpu, got {file.accelerator!r}")
    if file.threads > (cores := os.cpu_count() or 1):
        raise InputError(f"{path}: threads must be at most the number of cores, {cores}, got {file.threads}")
    return file
