"""Finds out whether a class or a source file belongs to fedlit, to a library or to the user."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Literal

Owner = Literal["library", "fedlit", "user"]

OURS = str(Path(__file__).parents[1]) + os.sep
#: Folders of Python's own modules and of installed packages.
INSTALLED = tuple(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
#: Names of package folders, also those of ``pip install --user`` and of the Python below a virtual environment.
SITES = {"site-packages", "dist-packages"}


def is_fedlit_class(piece: object) -> bool:
    """Whether an object's class is fedlit's own; only a user's class is tried out before it is used."""
    return type(piece).__module__.startswith("fedlit.")


def owner_of(file: str) -> Owner:
    """The owner of a file. Code without a file, such as that of a dataclass or a compiled module, is a library's."""
    if file.startswith(OURS):
        return "fedlit"
    path = Path(file)
    installed = file.startswith(INSTALLED) or not SITES.isdisjoint(path.parts) or _is_below_installed(path)
    return "user" if path.is_absolute() and not installed else "library"


def _is_below_installed(path: Path) -> bool:
    """Whether packages were installed into a file's folder of the import path, as by ``pip install --target``."""
    return any(str(folder) in sys.path and _has_installed(folder) for folder in path.parents)


@cache
def _has_installed(folder: Path) -> bool:
    return any(folder.glob("*.dist-info/RECORD"))
