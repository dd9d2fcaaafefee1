"""Whole numbers that a user gives, or a share of them."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedlit.core.errors import InputError


def as_int(name: str, value: Any) -> int:
    """Convert an integer of any type, such as NumPy's, to a Python ``int``, which a checkpoint can hold.

    Raises:
        InputError: If the value is not of an integer type; every float is refused.
    """
    try:
        return int(index(value))
    except TypeError as error:
        raise InputError(f"{name} must be a whole number, got {value!r}; give an int") from error


def at_least(least: int, name: str, value: Any, hint: str = "") -> int:
    """Convert an integer as ``as_int`` does, if it is not below a bound.

    Raises:
        InputError: If the value is not of an integer type, or below ``least``; it ends with the hint, if any.
    """
    if (number := as_int(name, value)) < least:
        raise InputError(f"{name} must be at least {least}, got {number}; {hint or f'use {least} or more'}")
    return number


def share_of(numbers: ArrayLike, fraction: float) -> NDArray[np.int64]:
    """floor(fraction n) of each number n, of the same shape, for the decimal fraction that the user wrote.

    In floating point 0.29 * 100 is 28.99...; the share is 29.
    """
    return np.floor(np.asarray(numbers) * fraction * (1 + 1e-12)).astype(np.int64)
