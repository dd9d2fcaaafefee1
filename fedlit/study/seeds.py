"""The seeds of a study: a list, or as many as its claims need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedlit.core.errors import InputError
from fedlit.report.sequential import BATCH, Looks

UNTIL_KEYS = ("at_least", "at_most", "batch", "first", "until")
EXAMPLE = "{at_least: 5, at_most: 60, until: decided}"


@dataclass(frozen=True)
class Seeds:
    """Seeds, in the order in which they are run.

    Args:
        all: All seeds that may be run.
        looks: When claims are tested if seeds are added until they are decided; None if all seeds are run.
    """

    all: tuple[int, ...]
    looks: Looks | None = None


def read_seeds(given: Any) -> Seeds:
    """The seeds of a study file.

    Raises:
        InputError: If the value is neither a list of seeds nor a mapping with ``until: decided``.
    """
    return _until(given) if isinstance(given, Mapping) else Seeds(_listed(given))


def _listed(given: Any) -> tuple[int, ...]:
    if not isinstance(given, list) or not given or not all(is_count(seed, 0) for seed in given):
        raise InputError(
            f"seeds must be a list of whole numbers >= 0, got {given}; write for example [0, 1, 2], or {EXAMPLE}"
        )
    for seed, times in Counter(given).items():
        if times > 1:
            raise InputError(f"seeds: {seed} is listed {times} times, but gives the same run each time; list it once")
    return tuple(given)


def _until(given: Mapping[str, Any]) -> Seeds:
    for key in given:
        if key not in UNTIL_KEYS:
            raise InputError(f"seeds: no such key {key}; use {', '.join(UNTIL_KEYS)}")
    if given.get("until") != "decided":
        raise InputError(f"seeds.until must be decided, got {given.get('until')}; write {EXAMPLE}")
    numbers = {"batch": BATCH, "first": 0, **given}
    for key, least in (("at_least", 2), ("at_most", 2), ("batch", 1), ("first", 0)):
        if not is_count(numbers.get(key), least):
            raise InputError(f"seeds.{key} must be a whole number >= {least}, got {numbers.get(key)}; write {EXAMPLE}")
    at_least, at_most, batch, first = (numbers[key] for key in ("at_least", "at_most", "batch", "first"))
    if at_most < at_least:
        raise InputError(f"seeds.at_most must be >= at_least ({at_least}), got {at_most}; write {EXAMPLE}")
    return Seeds(tuple(range(first, first + at_most)), Looks.every(batch, at_least, at_most))


def is_count(value: Any, least: int) -> bool:
    """Whether a value of a YAML file is a whole number >= ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
