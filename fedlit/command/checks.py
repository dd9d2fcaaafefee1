"""Checks of a command's config that go beyond those of the parser."""

from __future__ import annotations

import inspect
import math
import pydoc
import re
from collections.abc import Mapping
from typing import Any

from fedlit.command.sections import OWNERS, flat
from fedlit.core.configs import all_strings
from fedlit.core.errors import InputError

#: More devices or machines than this are taken for a typing mistake.
MAX_RANKS = 10_000


def check_section(section: Mapping[str, Any]) -> None:
    """Refuse nulls, NaN, texts that are not UTF-8, and remote folders.

    Args:
        section: The whole config of a command, as nested mappings.

    Raises:
        InputError: Naming the key, the value and what to give.
    """
    for name in (*OWNERS, "seed_everything"):
        if section[name] is None:
            raise InputError(f"{name} must not be null; leave it out for the default")
    _refuse_null(section)
    seed = section["seed_everything"]
    if not isinstance(seed, bool) and not 0 <= seed < 2**32:
        raise InputError(f"seed_everything must be from 0 to {2**32 - 1}, got {seed}; 0 is the default")
    for name in ("devices", "num_nodes"):
        number = str(section["trainer"][name])
        if number.isdecimal() and float(number) > MAX_RANKS:
            raise InputError(f"trainer.{name} must be at most {MAX_RANKS}, got {number}; leave it out for the default")
    if re.match(r"[A-Za-z][\w+.-]*://", section["logs_dir"]):
        raise InputError(
            f"--logs_dir must be a folder on this machine, got {section['logs_dir']}; copy the runs there afterwards"
        )
    for key, value in flat(section).items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and math.isnan(number):
                raise InputError(f"{key} must be a number, got nan; leave it out for the default")
        for text in all_strings(value):
            if not _is_unicode(text):
                raise InputError(f"{key} must be UTF-8 text, got {text[:60]!r}; change it")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, or bytes of the command line that are not text
        return False
    return True


def _refuse_null(tree: Mapping[str, Any], path: str = "", owner: Any = None) -> None:
    """Refuse a null for an argument that does not allow it; jsonargparse would treat it as not given.

    Args:
        tree: Arguments by name; classes among them are checked too.
        path: Their place in the config.
        owner: The class or function that has these arguments, or None.
    """
    for name, value in tree.items():
        where = f"{path}.{name}".strip(".")
        if value is None and owner is not None and (usual := _usual(owner, name)) is not None:
            raise InputError(f"{where} must not be null; leave it out for the default, {usual}")
        if isinstance(value, dict):
            path_of_class = value.get("class_path")
            within = pydoc.locate(path_of_class) if isinstance(path_of_class, str) else OWNERS.get(where)
            _refuse_null(value.get("init_args") or {} if "class_path" in value else value, where, within)


def _usual(owner: Any, argument: str) -> Any:
    """The default of an argument, from its owner or a base class, if the argument does not allow null; else None."""
    makers = [vars(each).get("__init__") for each in inspect.getmro(owner)] if isinstance(owner, type) else [owner]
    for maker in filter(inspect.isroutine, makers):
        parameter = _parameters(maker).get(argument)
        if parameter is not None and parameter.default is not parameter.empty:
            return None if re.search("None|Optional", str(parameter.annotation)) else parameter.default
    return None


def _parameters(maker: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function; empty if it has no signature, as some C functions."""
    try:
        return inspect.signature(maker).parameters
    except ValueError:
        return {}
