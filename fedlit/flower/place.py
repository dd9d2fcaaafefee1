"""What a site's owner decides: its name, its data, and what it is ready to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError

#: The sections of a site's file, and their types; those without a default must be there.
SECTIONS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "data": dict,
    "state": str,
    "max_epochs": (int, float),
    "threads": int,
    "accelerator": str,
    "keep_alive_s": (int, float),
}


class Place(NamedTuple):
    """A site's own file.

    Attributes:
        path: Where it lies; what is relative in it is so from its folder.
        name: Of the site.
        data: Class and arguments of the data, as in a config of ``fedlit fit``.
        state: Folder of what the client keeps from round to round.
        max_epochs: The most passes over its data that the site makes in a round.
        threads: Threads of a fit. One gives the bits of the simulation.
        accelerator: ``cpu``, or ``auto`` for a GPU where there is one.
        keep_alive_s: How many seconds the process that trains waits for another task; with 0 each task starts its own.
    """

    path: Path
    name: str
    data: Mapping[str, Any]
    state: Path
    max_epochs: float = 100.0
    threads: int = 1
    accelerator: str = "auto"
    keep_alive_s: float = 3600.0


def read_place(path: Path) -> Place:
    """Read a site's file.

    Raises:
        InputError: Naming what is wrong in it.
    """
    try:
        found = read_yaml(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(found, dict) or not {"name", "data"} <= found.keys() <= SECTIONS.keys():
        raise InputError(
            f"{path} must have name and data, and may have {', '.join(list(SECTIONS)[2:])}; it has "
            f"{', '.join(map(str, found)) if isinstance(found, dict) else 'no keys'}"
        )
    for key, value in found.items():
        if not isinstance(value, SECTIONS[key]) or isinstance(value, bool):
            raise InputError(f"{path}: {key} is {value!r}, and cannot be of that type; see the example that came along")
    state = path.parent / found.pop("state", f"{path.stem}_state")
    place = Place(path.absolute(), found.pop("name"), found.pop("data"), state.absolute(), **found)
    for key, least in (("max_epochs", 0), ("threads", 1), ("keep_alive_s", 0)):
        if not least <= getattr(place, key) < 1e9:
            raise InputError(f"{path}: {key} is {getattr(place, key)}, and must be at least {least}")
    if place.accelerator not in ("auto", "cpu"):
        raise InputError(f"{path}: accelerator is {place.accelerator!r}; it is auto or cpu")
    if place.threads > (cores := os.cpu_count() or 1):
        raise InputError(f"{path}: threads is {place.threads}, and there are {cores} cores")
    return place
