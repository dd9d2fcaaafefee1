"""A class has its own defaults, whichever class would be there without it."""

from __future__ import annotations

import copy
import logging
import pydoc
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser


class OwnDefaults(LightningArgumentParser):
    """A parser that judges what was written, and completes it by the defaults of the classes that were chosen.

    jsonargparse completes its default classes before it reads what was written, and gives a class that takes their
    place those of their arguments that it has, too (its issue 460). Here a default class stands alone until all is
    read; only then are arguments laid beneath it.

    Attributes:
        written: What the user gave, before defaults of classes complete it; None before a parse.
        changes: Which arguments did not outlive a change of class; a command's parser has them in its parent's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.written: Namespace | None = None
        self.changes = ChangesOfClass()
        super().__init__(*args, **{"logger": self.changes, **kwargs})

    def parse_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None, env: Any = None, defaults: Any = True, **kwargs: Any
    ) -> Namespace:
        """As jsonargparse's, which of ``True`` itself, and of no other truth, writes out a base class that is named."""
        return super().parse_args(args, namespace, env, int(defaults), **kwargs)  # type: ignore[arg-type]

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """As jsonargparse's, but of a default class its path alone."""
        defaults = super().get_defaults(*args, **kwargs)
        for key, default in self._default_classes():
            defaults[key] = Namespace(class_path=default["class_path"])
        return defaults

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> list[str]:
        """As jsonargparse's, which cannot take the arguments that links set; that they are not required, it clears."""
        return super().add_function_arguments(*args, **kwargs)

    def _parse_common(  # type: ignore[override]
        self, cfg: Namespace, env: bool | None, defaults: bool, skip_validation: bool, **kwargs: Any
    ) -> Namespace:
        """Where jsonargparse has read everything, and completes it."""
        if defaults:
            if self.written is None:
                self.written = cfg.clone()
            self._lay_beneath(cfg)
        return super()._parse_common(cfg, env, defaults, skip_validation, **kwargs)

    def _lay_beneath(self, config: Namespace) -> None:
        """Lay the default classes with their arguments beneath a config, and the chosen command's beneath its."""
        for key, default in self._default_classes():
            config[key] = beneath(config[key], default) if key in config else copy.deepcopy(default)
        commands = self._subcommands_action.choices if self._subcommands_action else {}
        for name, parser in commands.items():
            if isinstance(parser, OwnDefaults) and isinstance(config.get(name), Namespace):
                parser._lay_beneath(config[name])

    def _default_classes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Arguments whose default is a class with what it is made of."""
        for action in self._actions:
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


class ChangesOfClass(logging.Logger):
    """Of all that jsonargparse logs, this keeps which arguments a change of class leaves out.

    Attributes:
        left_out: A line for each such change.
    """

    CHANGED = re.compile(r"Due to class_path change from '(.+)' to '(.+)', discarding init_args: (\{.*\})", re.DOTALL)

    def __init__(self) -> None:
        super().__init__("fedlit.changes_of_class", logging.DEBUG)
        self.left_out: list[str] = []

    def __reduce__(self) -> Any:  # parsers are copied with their logger
        return ChangesOfClass, ()

    def handle(self, record: logging.LogRecord) -> None:
        if changed := self.CHANGED.match(record.getMessage()):
            before, now, arguments = changed.groups()
            line = (
                f"{now} does without {', '.join(_names(arguments))}, which was given for {before}: it has no such "
                "argument, or not for such a value"
            )
            self.left_out += [line] if line not in self.left_out else []


def _names(arguments: str) -> list[str]:
    """The names in a mapping that was printed, without those of the mappings within."""
    flat = re.sub(r"'(?:[^'\\]|\\.)*'(?!:)", "", arguments[1:-1])  # no text that is a value
    while (less := re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "", flat)) != flat:
        flat = less
    return re.findall(r"'(\w+)':", flat)
