"""Regular expressions that a user gives."""

from __future__ import annotations

import re

from fedlit.core.errors import InputError


def compile_pattern(pattern: str, where: str = "") -> re.Pattern[str]:
    """Compile a regular expression.

    Args:
        pattern: The expression.
        where: The argument that it comes from, which the message then names.

    Raises:
        InputError: If it is not a regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{where}{where and ': '}{pattern!r} is not a regular expression: {error}; correct it, or give a plain word"
        ) from error
