"""The changes that a study makes to its base config: their keys and values, and the arguments for ``fedlit fit``."""

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
    """Nested keys as dotted keys, in the same order.

    A mapping with a class path, or whose keys are not all text, is kept as one value. YAML reads a text such as
    2026-01-02 as a date; it is converted back to text.
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if _is_flattened(value):
            found |= flat(value, f"{path}.")
        else:
            found[path] = str(value) if isinstance(value, date) else value
    return found


def _is_flattened(value: Any) -> bool:
    return (
        isinstance(value, dict) and bool(value) and "class_path" not in value and all(isinstance(k, str) for k in value)
    )


def dicts_in(tree: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """The mappings that `flat` writes as dotted keys, by their dotted paths: sections, or dicts that are values."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in tree.items():
        if _is_flattened(value):
            found |= {f"{prefix}{key}": value, **dicts_in(value, f"{prefix}{key}.")}
    return found


def merged(dicts: Mapping[str, dict[str, Any]], config: Any) -> dict[str, dict[str, Any]]:
    """Those of the dicts that are values of arguments and have more keys in a config, as they were merged into others.

    ``fedlit fit`` adds a key by ``--model.mu.names.KEY`` and replaces all by ``--model.mu.names '{...}'``.

    Args:
        dicts: The result of `dicts_in`.
        config: The config that the parser made of them with dotted keys.
    """
    return {path: given for path, given in dicts.items() if names_of_value(config, path) > {*given}}


def as_values(changes: Mapping[str, Any], dicts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The changes, by dotted keys, with each of these dicts as one value."""
    within = {key for path, given in dicts.items() for key in flat(given, f"{path}.")}
    outer = {path: given for path, given in dicts.items() if not any(path.startswith(f"{each}.") for each in dicts)}
    return {key: value for key, value in changes.items() if key not in within} | outer


def names_of_value(config: Any, path: str) -> set[str]:
    """The keys of the dict that is the value of an argument; empty for another value, a section and a class."""
    section, *names = (name for name in path.split(".") if name != "init_args")
    value = config.get(section)
    for name in names:
        inner = value.get("init_args", value) if isinstance(value, dict) else None
        value = inner.get(name) if isinstance(inner, dict) else None
    return {*value} if names and isinstance(value, dict) and "class_path" not in value else set()


def setting_names(changes: Mapping[str, Any], where: str) -> list[str]:
    """The dotted names of the settings that changes set, including the arguments of classes.

    The name of a setting does not depend on how it is written: it has no ``init_args`` and no ``class_path``.

    Args:
        changes: By nested or dotted keys.
        where: The part of the study file, for the error message.

    Raises:
        InputError: If a setting is set twice.
    """
    found = list(_setting_names(changes))
    for key, times in Counter(found).items():
        if times > 1:
            raise InputError(f"{where}: {key} is set {times} times, under different spellings; keep one of them")
    return found


def _setting_names(changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in changes.items():
        path = re.sub(r"\.(init_args|class_path)\b", "", f"{prefix}{key}")
        if isinstance(value, dict) and value:
            yield from _setting_names(value, f"{path}.")
        else:
            yield path


def as_arguments(changes: Mapping[str, Any], quoted: bool = True) -> tuple[tuple[str, str], ...]:
    """The pair ``--key``, value for each change.

    A class comes before its arguments, and a list before its additions (``key+``).

    Args:
        changes: By dotted keys.
        quoted: Whether to quote a text that YAML would read as another type, such as ``no`` or ``007``.
    """
    ordered = sorted(changes, key=lambda key: (re.sub(r"\.init_args\b", "", key).count("."), key.endswith("+")))
    return tuple((f"--{key}", _as_yaml(changes[key], quoted)) for key in ordered)


def ambiguous_texts(changes: Mapping[str, Any]) -> set[str]:
    """The texts among the values that YAML would read as another type."""
    return {value for value in changes.values() if isinstance(value, str) and not _reads_as_itself(value)}


def without_literal_quotes(arguments: Sequence[str], config: Any) -> tuple[str, ...]:
    """The arguments, without quotes that the parser took as part of the text.

    The parser does this for an argument whose type is text only, as it does not read its value as YAML.

    Args:
        arguments: The result of `as_arguments`, quoted and flattened.
        config: The config that the parser made of these arguments.
    """
    texts = set(all_strings(config))
    return tuple(json.loads(each) if each.startswith('"') and each in texts else each for each in arguments)


def _as_yaml(value: Any, quoted: bool) -> str:
    """A value as YAML."""
    if isinstance(value, str) and (not quoted or _reads_as_itself(value)):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(yaml.safe_dump(value)).split()[0]  # .inf, which JSON cannot express
    return json.dumps(value, default=str, ensure_ascii=False)


def _reads_as_itself(text: str) -> bool:
    try:
        return bool(yaml.safe_load(text) == text)
    except (yaml.YAMLError, ValueError):
        return False
