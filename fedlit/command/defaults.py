"""A class has its own defaults, whichever class would be there without it."""

from __future__ import annotations

import copy
import pydoc
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace

from fedlit.command.private import OpenParser


class OwnDefaults(OpenParser):
    """A parser that judges what was written, and completes it by the defaults of the classes that were chosen.

    jsonargparse completes its default classes before it reads what was written, and gives a class that takes their
    place those of their arguments that it has, too (its issue 460). Here a default class stands alone until all is
    read; only then are arguments laid beneath it.

    Attributes:
        written: What the user gave, before defaults of classes complete it; None before a parse.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.written: Namespace | None = None
        super().__init__(*args, **kwargs)

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """As jsonargparse's, but of a default class its path alone."""
        defaults = super().get_defaults(*args, **kwargs)
        for key, default in self._default_classes():
            defaults[key] = Namespace(class_path=default["class_path"])
        return defaults

    def before_completion(self, config: Namespace) -> None:
        if self.written is None:
            self.written = config.clone()
        self.lay_beneath(config)

    def lay_beneath(self, config: Namespace) -> None:
        """Lay the default classes with their arguments beneath a config, and the chosen command's beneath its."""
        for key, default in self._default_classes():
            config[key] = beneath(config[key], default) if key in config else copy.deepcopy(default)
        for name, parser in self.command_parsers.items():
            if isinstance(parser, OwnDefaults) and isinstance(config.get(name), Namespace):
                parser.lay_beneath(config[name])

    def _default_classes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Arguments whose default is a class with what it is made of."""
        for action in self.actions:
            if is_class(action.default):
                yield action.dest, action.default


def is_class(value: Any) -> bool:
    """Whether a value of a config names a class and what it is made of."""
    return isinstance(value, Namespace | dict) and isinstance(value.get("class_path"), str)


def beneath(given: Any, default: Any) -> Any:
    """What was given, completed by a default: where both are of one class, by the arguments that were not given."""
    if not (is_class(given) and is_class(default) and _same(given["class_path"], default["class_path"])):
        return given
    arguments, usual = given.get("init_args") or Namespace(), Namespace(default.get("init_args") or {})
    for name, value in vars(usual).items():
        arguments[name] = beneath(arguments[name], value) if name in arguments else copy.deepcopy(value)
    if arguments:
        given["init_args"] = arguments
    return given


def _same(path: str, other: str) -> bool:
    found = pydoc.locate(path)
    return path == other or (found is not None and found is pydoc.locate(other))
