"""In whose code an error came up: a library's, fedlit's or the user's."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import Literal, NamedTuple

import fedlit
from fedlit.core.messages import causes

Owner = Literal["library", "fedlit", "user"]

OURS = str(Path(fedlit.__file__).parent) + os.sep
#: Python's own modules and those that are installed.
INSTALLED = tuple(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
#: Folders of installed packages, also of a user's own installs and of what a virtual environment is based on.
SITES = {"site-packages", "dist-packages"}


class Place(NamedTuple):
    """A line of code, and whose it is."""

    owner: Owner
    file: str
    line: int | None

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def owner_of(file: str) -> Owner:
    """Whose a file is; code without a file of its own, as a dataclass's or a compiled module's, is a library's."""
    if file.startswith(OURS):
        return "fedlit"
    installed = file.startswith(INSTALLED) or not SITES.isdisjoint(Path(file).parts)
    return "user" if Path(file).is_absolute() and not installed else "library"


def places(error: BaseException) -> list[Place]:
    """Where an error passed, the outermost place first; of a file that is no Python, also that file."""
    found = list(_places(error.__traceback__))
    if isinstance(error, SyntaxError) and error.filename:
        found.append(Place(owner_of(error.filename), error.filename, error.lineno))
    return found


def _places(traceback: TracebackType | None) -> Iterator[Place]:
    for frame, line in walk_tb(traceback):
        yield Place(owner_of(frame.f_code.co_filename), frame.f_code.co_filename, line)


def origin(error: BaseException) -> Place | None:
    """The innermost place that is no library's: where the user or fedlit did what came to the error."""
    return next((place for place in reversed(places(error)) if place.owner != "library"), None)


def refused_by_library(error: BaseException) -> bool:
    """For a function that has caught an error of what it called: whether that came up in libraries alone."""
    return all(place.owner == "library" for place in places(error)[1:])


def of_the_user(error: BaseException | None) -> BaseException | None:
    """The error among an error's causes that came up in the user's code; None where there is none."""
    return next((each for each in causes(error) if any(place.owner == "user" for place in places(each))), None)
