"""What a run was given that is not the default, for a table in which runs are compared."""

from __future__ import annotations

import pydoc
from collections.abc import Iterator, Mapping
from typing import Any

from fedlit.command.defaults import is_class
from fedlit.command.nested import options_within
from fedlit.runs.changes import changes


def chosen(config: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with another value than they have where nothing is given, by their dotted keys.

    Of a class in another's place they are its name, and those of its arguments that are not its own defaults.

    Args:
        config: The run's, as it is read from YAML.
        usual: That of a run that is given nothing.
    """
    return {key: value for change in changes(usual, config) for key, value in _given(change.key, change.now)}


def _given(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value; of a class its name, and those of its arguments that are not its defaults."""
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
