"""Options, and those within the class that stands at an option: ``model.net.attention`` where the net takes one."""

from __future__ import annotations

import argparse
import pydoc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from jsonargparse import Namespace

from fedlit.command.defaults import is_class
from fedlit.command.explain import near
from fedlit.command.parser import Parser
from fedlit.command.private import kind_of
from fedlit.core.errors import InputError


def options_of(actions: Iterable[argparse.Action]) -> dict[str, argparse.Action]:
    """Of a parser's actions those that take a value of a config, by its key."""
    shown = (each for each in actions if each.help != argparse.SUPPRESS)
    taking = (each for each in shown if kind_of(each) is not None or each.dest == "config")
    return {each.dest: each for each in taking if not each.dest.endswith(".help")}


def options_within(made: Callable[..., Any], key: str, kind: Any = None) -> dict[str, argparse.Action]:
    """The options of a class, or of a function that returns an object, that stands at a key.

    Args:
        made: The class.
        key: Where it stands.
        kind: The annotation of what stands there: arguments that a ``Callable`` is called with are no options.
    """
    parser = Parser()
    skip: set[str | int] = {count} if (count := _arguments_of_call(kind)) else set()
    add = parser.add_class_arguments if isinstance(made, type) else parser.add_function_arguments
    add(made, key, skip=skip)
    return options_of(parser.actions)


def find(options: Mapping[str, argparse.Action], key: str, given: Mapping[str, Any]) -> argparse.Action:
    """The option of a key, which may be one of a class that a config names.

    Args:
        options: Those that there are without looking into classes.
        key: The option's.
        given: The values of the options.

    Raises:
        InputError: When there is none.
    """
    if key in options:
        return options[key]
    outer = max((each for each in options if key.startswith(f"{each}.")), key=len, default="")
    value: Any = given.get(outer)
    made = pydoc.locate(value["class_path"]) if is_class(value) else None
    if not callable(made):
        within = f" where {outer} is no class" if outer else ""
        raise InputError(f"--{key}.help: no such option{within}{near(key, options)}")
    arguments = vars(value.get("init_args") or Namespace())
    inner = {f"{outer}.{name}": argument for name, argument in arguments.items()}
    return find(options_within(made, outer, kind_of(options[outer])), key, inner)


def _arguments_of_call(kind: Any) -> int:
    """How many arguments a ``Callable`` in an annotation is called with; 0 where there is none."""
    if get_origin(kind) is Callable:
        called_with = get_args(kind)[0]
        return len(called_with) if isinstance(called_with, Sequence) else 0
    return max(map(_arguments_of_call, get_args(kind)), default=0)
