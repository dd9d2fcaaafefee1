"""Whether an error was raised in the code of a library, of fedlit or of the user."""

from __future__ import annotations

from collections.abc import Iterator
from traceback import walk_tb
from types import TracebackType
from typing import NamedTuple

from fedlit.core.messages import causes
from fedlit.core.origin import Owner, owner_of


class Place(NamedTuple):
    """A line of code, and who owns it."""

    owner: Owner
    file: str
    line: int | None

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def places(error: BaseException) -> list[Place]:
    """The lines that an error passed, the outermost first. For a syntax error, the faulty file comes last."""
    found = list(_places(error.__traceback__))
    if isinstance(error, SyntaxError) and error.filename:
        found.append(Place(owner_of(error.filename), error.filename, error.lineno))
    return found


def _places(traceback: TracebackType | None) -> Iterator[Place]:
    for frame, line in walk_tb(traceback):
        yield Place(owner_of(frame.f_code.co_filename), frame.f_code.co_filename, line)


def origin(error: BaseException) -> Place | None:
    """The innermost line outside of libraries: the line of the user or of fedlit that led to the error."""
    return next((place for place in reversed(places(error)) if place.owner != "library"), None)


def refused_by_library(error: BaseException) -> bool:
    """Whether an error that the calling function has caught was raised by library code alone."""
    return all(place.owner == "library" for place in places(error)[1:])


def error_in_user_code(error: BaseException | None) -> BaseException | None:
    """The first of an error and its causes that passed through the user's code; None if there is none."""
    return next((each for each in causes(error) if any(place.owner == "user" for place in places(each))), None)
