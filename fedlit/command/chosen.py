"""The settings of a run that differ from the defaults, for tables that compare runs."""

from __future__ import annotations

import pydoc
from collections.abc import Iterator, Mapping
from typing import Any

from fedlit.command.defaults import is_class
from fedlit.command.options import options_within
from fedlit.runs.changes import changes


def chosen(config: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the default config, by their dotted keys.

    For a class that replaces another, they are its name and those of its arguments that differ from its own defaults.

    Args:
        config: The config of the run, as read from YAML.
        usual: The default config.
    """
    return {key: value for change in changes(usual, config) for key, value in _given(change.key, change.now)}


def _given(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The value itself; for a class, its name and those of its arguments that differ from its defaults."""
    if not is_class(value):
        yield key, value
        return
    yield key, value["class_path"].rpartition(".")[2]
    made = pydoc.locate(value["class_path"])
    defaults = {option.dest: option.default for option in options_within(made, key).values()} if callable(made) else {}
    for name, argument in (value.get("init_args") or {}).items():
        if is_class(argument) or _plain(argument) != _plain(defaults.get(f"{key}.{name}")):
            yield from _given(f"{key}.{name}", argument)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
