"""What a study changes in its base config: keys and values, and the words that say them to ``fedlit fit``."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import yaml

from fedlit.core.configs import all_strings
from fedlit.core.errors import InputError


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones, in their order; what has a class path or numbers for keys stays whole.

    A date, which YAML makes of a text such as 2026-01-02, is that text again.
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and "class_path" not in value and all(isinstance(k, str) for k in value):
            found |= flat(value, f"{path}.")
        else:
            found[path] = str(value) if isinstance(value, date) else value
    return found


def settings(changes: Mapping[str, Any], where: str) -> list[str]:
    """The settings that changes set, each by its one name, however it is written: also those within a class's.

    Raises:
        InputError: When one is set twice; ``where`` says for what.
    """
    found = list(_settings(changes))
    for key, times in Counter(found).items():
        if times > 1:
            raise InputError(f"{where}: {key} is set {times} times, written in several ways; leave one of them")
    return found


def _settings(changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in changes.items():
        path = re.sub(r"\.(init_args|class_path)\b", "", f"{prefix}{key}")
        if isinstance(value, dict) and value:
            yield from _settings(value, f"{path}.")
        else:
            yield path


def words(changes: Mapping[str, Any], quoted: bool = True) -> tuple[tuple[str, str], ...]:
    """``--key`` and its value, for each change: a class before its arguments, and a list before what is added to it.

    Args:
        changes: By dotted keys.
        quoted: Whether a text that YAML would read as something else is in quotes.
    """
    ordered = sorted(changes, key=lambda key: (re.sub(r"\.init_args\b", "", key).count("."), key.endswith("+")))
    return tuple((f"--{key}", _word(changes[key], quoted)) for key in ordered)


def misread(changes: Mapping[str, Any]) -> set[str]:
    """The texts among the values that YAML would read as something else."""
    return {value for value in changes.values() if isinstance(value, str) and not _reads_as_itself(value)}


def as_taken(given: Sequence[str], config: Any) -> tuple[str, ...]:
    """The words, without quotes where an argument took them for text, as one that can be nothing else does.

    Args:
        given: Of `words`.
        config: What came of them, as it is read from YAML.
    """
    taken = set(all_strings(config))
    return tuple(json.loads(word) if word.startswith('"') and word in taken else word for word in given)


def _word(value: Any, quoted: bool) -> str:
    """A value as YAML."""
    if isinstance(value, str) and (not quoted or _reads_as_itself(value)):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(yaml.safe_dump(value)).split()[0]  # .inf, which JSON has no word for
    return json.dumps(value, default=str, ensure_ascii=False)


def _reads_as_itself(text: str) -> bool:
    try:
        return bool(yaml.safe_load(text) == text)
    except (yaml.YAMLError, ValueError):
        return False
