"""Finds options, also those of a class that is given for an option, such as ``model.net.attention``."""

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
    """The actions of a parser that set a value of the config, by its key."""
    shown = (each for each in actions if each.help != argparse.SUPPRESS)
    taking = (each for each in shown if kind_of(each) is not None or each.dest == "config")
    return {each.dest: each for each in taking if not each.dest.endswith(".help")}


def options_within(made: Callable[..., Any], key: str, kind: Any = None) -> dict[str, argparse.Action]:
    """The options of a class or function that is given at a key of the config.

    Args:
        made: The class or function.
        key: The key.
        kind: The annotation of the value at the key. The arguments with which a ``Callable`` is called are not options.
    """
    parser = Parser()
    skip: set[str | int] = {count} if (count := _arguments_of_call(kind)) else set()
    add = parser.add_class_arguments if isinstance(made, type) else parser.add_function_arguments
    add(made, key, skip=skip, fail_untyped=False)
    return options_of(parser.actions)


def find(options: Mapping[str, argparse.Action], key: str, given: Mapping[str, Any]) -> argparse.Action:
    """The option of a key, which may belong to a class that the config names.

    Args:
        options: The options outside of such classes.
        key: The key.
        given: The values of the options.

    Raises:
        InputError: If there is no such option.
    """
    if key in options:
        return options[key]
    outer = max((each for each in options if key.startswith(f"{each}.")), key=len, default="")
    value: Any = given.get(outer)
    made = pydoc.locate(value["class_path"]) if is_class(value) else None
    if not callable(made):
        within = f", as {outer} is not a class" if outer else ""
        raise InputError(f"--{key}.help: no such option{within}{near(key, options)}")
    arguments = vars(value.get("init_args") or Namespace())
    inner = {f"{outer}.{name}": argument for name, argument in arguments.items()}
    return find(options_within(made, outer, kind_of(options[outer])), key, inner)


def _arguments_of_call(kind: Any) -> int:
    """How many arguments a ``Callable`` in an annotation is called with; 0 if there is no ``Callable``."""
    if get_origin(kind) is Callable:
        called_with = get_args(kind)[0]
        return len(called_with) if isinstance(called_with, Sequence) else 0
    return max(map(_arguments_of_call, get_args(kind)), default=0)
