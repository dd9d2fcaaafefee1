"""Regular expressions that a user gives."""

from __future__ import annotations

import re

from fedlit.core.errors import InputError


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression.

    Raises:
        InputError: If it is not one.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{pattern!r} is not a regular expression: {error}; correct it, or give a plain word"
        ) from error
