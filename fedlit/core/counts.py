"""Numbers that count something."""

from __future__ import annotations

from operator import index
from typing import Any

from fedlit.core.errors import InputError


def as_int(name: str, value: Any) -> int:
    """A whole number of any kind, NumPy's among them, as Python's, which every library and a checkpoint takes.

    Raises:
        InputError: If it is none, as a float never is.
    """
    try:
        return int(index(value))
    except TypeError as error:
        raise InputError(f"{name} must be a whole number, got {value!r}; give an int") from error
