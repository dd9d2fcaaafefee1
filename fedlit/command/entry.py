"""How help shows one option: its key, its values, its purpose, and the classes that it can take."""

from __future__ import annotations

import argparse
import inspect
import pydoc
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from fedlit.command.classes import classes_for, clause_ends, plain, summary
from fedlit.command.defaults import is_class
from fedlit.command.explain import near
from fedlit.command.options import options_within
from fedlit.command.private import kind_of
from fedlit.core.errors import InputError

#: Placeholders for values by type; any other type is a class.
VALUES = {bool: "true|false", int: "N", float: "X", str: "TEXT", Path: "PATH", list: "LIST", dict: "MAPPING"}
NARROWEST, WIDEST = 60, 120
INDENT, COLUMN = 6, 36


def wrapped(text: str, indent: int = 0) -> list[str]:
    """A text wrapped to the width of the terminal."""
    space = " " * indent
    text = text if re.match(r"``", text) else f"{text[:1].upper()}{text[1:]}"
    return textwrap.wrap(plain(text), _width(), initial_indent=space, subsequent_indent=space, break_on_hyphens=False)


def entry(action: argparse.Action, says: str = "", value: str = "", whole: bool = False) -> Iterator[str]:
    """The lines about an option, without the classes that it can take.

    Args:
        action: The option.
        says: A description that replaces the first sentence of its docstring.
        value: A placeholder for its value that replaces its types.
        whole: Whether to show its whole docstring.
    """
    kind, text = kind_of(action), action.help or ""
    flags = ", ".join(flag for flag in action.option_strings if not flag.endswith("+"))
    head, default = f"  {flags} {value or _value(kind)}", _default(action.default, text)
    said = f"{says or (text if whole else _first_sentence(text))}{f' [{default}]' if default else ''}"
    lines = wrapped(said, COLUMN)
    if len(head) < COLUMN - 1 and len(lines) == 1:
        yield f"{head:{COLUMN}}{lines[0].lstrip()}"
    else:
        yield from (head, *wrapped(said, INDENT))


def class_lines(known: Mapping[str, type], whole: bool = False) -> Iterator[str]:
    """The classes that an option can take, with a description: one line each, or ``whole`` sentences."""
    column = min(max(map(len, known), default=0) + 2, COLUMN - INDENT)
    for name, each in known.items():
        said = summary(each, _width() - INDENT - column) or [""]
        if len(name) >= column:
            yield f"{'':{INDENT}}{name}"
            name = ""
        if not whole and len(said) > 1:
            said = [textwrap.shorten(" ".join(said), _width() - INDENT - column, placeholder=" ...")]
        yield f"{'':{INDENT}}{name:{column}}{said[0]}".rstrip()
        yield from (f"{'':{INDENT + column}}{line}" for line in said[1:])


def class_entry(action: argparse.Action, name: str) -> Iterator[str]:
    """The lines about a class that an option can take: its docstring and its own options.

    Raises:
        InputError: If the class is not found.
    """
    key, kind = action.dest, kind_of(action)
    known = classes_for(kind, action.help or "", imported=True)
    made = {each.__name__: each for each in known.values()}.get(name) or pydoc.locate(name)
    if not callable(made):
        raise InputError(f"--{key}.help: no class {name}{near(name, known, else_='write it as package.module.Class')}")
    yield f"--{key} {name}"
    doc = re.split(r"(?m)^(?:Args|Raises|Attributes|Example|Examples|Returns|Shape):?$", inspect.getdoc(made) or "")[0]
    for paragraph in re.split(r"\n\s*\n(?! )", doc.strip()):
        if not paragraph.startswith(".."):  # a formula, which a terminal cannot show
            yield from ("", *wrapped(paragraph))
    options = options_within(made, key, kind).values()
    yield from ("", "Its options:" if options else "It has no options.")
    for each in options:
        yield from entry(each, whole=True)
        yield from class_lines(classes_for(kind_of(each), each.help or ""), whole=True)


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def _first_sentence(text: str, mark: str = r"[.;](?=\s|$)") -> str:
    ends = clause_ends(text, mark)
    return f"{text[: min(ends, default=len(text))]}."


def _value(kind: Any) -> str:
    return "|".join(dict.fromkeys(_values(kind))) if kind is not None else "FILE"


def _values(kind: Any) -> Iterator[str]:
    """Placeholders for the values that an annotation allows."""
    origin, within = get_origin(kind), get_args(kind)
    if origin is Literal:
        yield from map(str, within)
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        yield VALUES[list]
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        yield VALUES[dict]
    elif within and not isinstance(within[0], list):  # a union
        for each in within:
            yield from _values(each)
    elif kind is not NoneType:
        yield VALUES.get(kind, "CLASS")


def _default(value: Any, text: str) -> str:
    """The default of an option. If it is None, what its docstring says that None means."""
    if value is None:
        none = re.search(r"\b[Nn]one (?:is|takes) ", text)
        return _first_sentence(text[none.end() :], r"[:.;](?=\s|$)")[:-1] if none else ""
    if is_class(value):
        arguments = ", ".join(f"{name} {each}" for name, each in dict(value.get("init_args") or {}).items())
        value = " of ".join(filter(None, [value["class_path"].rpartition(".")[2], arguments]))
    value = list(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else value
    return "" if value == argparse.SUPPRESS else str(value).strip("[]")
