"""A class that is given in place of a default class has its own defaults."""

from __future__ import annotations

import copy
import pydoc
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace

from fedlit.command.private import OpenParser


class OwnDefaults(OpenParser):
    """A parser that fills in the defaults of a class only after everything that the user gave has been read.

    jsonargparse fills in the arguments of default classes before it reads what the user gave, and passes them on to a
    class that replaces a default one (its issue 460). Here a default class has no arguments until all is read.

    Attributes:
        written: What the user gave, without defaults; None before parsing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.written: Namespace | None = None
        super().__init__(*args, **kwargs)

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """As in jsonargparse, but with only the path of a default class."""
        defaults = super().get_defaults(*args, **kwargs)
        for key, default in self._default_classes():
            defaults[key] = Namespace(class_path=default["class_path"])
        return defaults

    def before_completion(self, config: Namespace) -> None:
        if self.written is None:
            self.written = config.clone()
        self.add_defaults(config)

    def add_defaults(self, config: Namespace) -> None:
        """Add the default classes and their arguments to a config, and to the section of the chosen command."""
        for key, default in self._default_classes():
            config[key] = with_defaults(config[key], default) if key in config else copy.deepcopy(default)
        for name, parser in self.command_parsers.items():
            if isinstance(parser, OwnDefaults) and isinstance(config.get(name), Namespace):
                parser.add_defaults(config[name])

    def _default_classes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The arguments whose default is a class, with that default."""
        for action in self.actions:
            if is_class(action.default):
                yield action.dest, action.default


def is_class(value: Any) -> bool:
    """Whether a value of a config names a class, with or without arguments."""
    return isinstance(value, Namespace | dict) and isinstance(value.get("class_path"), str)


def with_defaults(given: Any, default: Any) -> Any:
    """The given value. If it names the same class as the default, missing arguments are taken from the default."""
    if not (is_class(given) and is_class(default) and _same(given["class_path"], default["class_path"])):
        return given
    arguments, usual = given.get("init_args") or Namespace(), Namespace(default.get("init_args") or {})
    for name, value in vars(usual).items():
        arguments[name] = with_defaults(arguments[name], value) if name in arguments else copy.deepcopy(value)
    if arguments:
        given["init_args"] = arguments
    return given


def _same(path: str, other: str) -> bool:
    found = pydoc.locate(path)
    return path == other or (found is not None and found is pydoc.locate(other))
