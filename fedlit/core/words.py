"""Words that a user gives, of which only some are known."""

from __future__ import annotations

from typing import Any, get_args

from fedlit.core.errors import InputError


def check_word(name: str, value: Any, words: Any) -> None:
    """Refuse a value that is not one of the words of a ``Literal``; only the command line checks annotations.

    Raises:
        InputError: Naming the words.
    """
    if value not in get_args(words):
        raise InputError(f"{name} must be {' or '.join(get_args(words))}, got {value!r}; leave it out for the default")
