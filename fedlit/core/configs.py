"""Strict YAML: duplicate keys, which the YAML library drops silently, and endless aliases are refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from fedlit.core.errors import InputError
from fedlit.core.files import refuse_special, require_regular
from fedlit.core.messages import one_line

#: The most nodes of a file with all its aliases expanded; a study of a thousand values has about ten thousand.
MAX_NODES = 200_000
#: Tags of keys that may be written in different ways, such as 0.1 and 0.10.
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def plain_strings(tree: Any) -> Any:
    """Replace members of string enumerations in a parsed config by plain strings, which YAML can write.

    Lightning has such a member as a default (``Timer.interval``).
    """
    if isinstance(tree, list):
        return [plain_strings(each) for each in tree]
    if isinstance(tree, Namespace):
        for name, value in vars(tree).items():
            vars(tree)[name] = plain_strings(value)
    return str(tree.value) if isinstance(tree, str) and isinstance(tree, Enum) else tree


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return require_regular(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: the path has a zero byte
        raise InputError(f"cannot be read: {one_line(str(error))}; give the path of a YAML file") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        InputError: If it cannot be read, is not YAML, or is refused by `check_yaml`.
    """
    text = read_text(path)
    try:
        check_yaml(text)
        return yaml.safe_load(text)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        raise _not_yaml(error) from error


def _not_yaml(error: Exception) -> InputError:
    """The error for a text that is not YAML, with line and column where they are known."""
    said = str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        said = f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return InputError(f"not valid YAML: {one_line(said)}; correct it there")


def check_yaml(text: str) -> None:
    """Refuse duplicate keys, of which the YAML library keeps the last, and aliases that expand without end.

    Raises:
        InputError: Naming the key and the line.
        yaml.YAMLError: When it is not YAML.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    todo, count = [] if root is None else [root], 0
    while todo:
        node = todo.pop()
        count += 1
        if count > MAX_NODES:
            raise InputError(
                f"more than {MAX_NODES} values with all aliases expanded, or an alias that contains itself; write the "
                "values out"
            )
        if isinstance(node, yaml.MappingNode):
            _refuse_duplicate_keys(node)
            todo += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value


def all_strings(tree: Any) -> Iterator[str]:
    """Every string among the values of nested mappings and lists."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, Mapping):
            todo += node.values()
        elif isinstance(node, list):
            todo += node


def _refuse_duplicate_keys(node: yaml.MappingNode) -> None:
    keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    line = node.start_mark.line + 1
    for written, times in Counter(key.value for key in keys).items():
        if times > 1:
            raise InputError(f"{written} is given {times} times in the mapping at line {line}; keep one of them")
    numbers: dict[float, str] = {}
    for key in keys:
        if key.tag in NUMBERS:
            number = yaml.safe_load(key.value)
            if (other := numbers.setdefault(number, key.value)) != key.value:
                raise InputError(
                    f"{other} and {key.value} in the mapping at line {line} are the same number; keep one of them, or "
                    "write them in quotes"
                )


def check_config(text: str, sections: Collection[str]) -> None:
    """Refuse config entries that jsonargparse would ignore silently; it reports other errors itself.

    Args:
        text: Content of the config file.
        sections: Keys that must not be null.

    Raises:
        InputError: Naming the key.
    """
    try:
        check_yaml(text)
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(error) from error
    except ValueError as error:  # an impossible date, which jsonargparse reads as text
        if isinstance(error, InputError):
            raise
        return
    refuse_special(all_strings(tree))
    if not isinstance(tree, dict):
        shown = one_line(text, 60) or "an empty file"
        raise InputError(f"not a config: {shown}; write lines of the form 'key: value'")
    if tree.get("config") is not None:
        raise InputError(
            f"config: a config cannot include another one, got {tree['config']}; give several --config, of which a "
            "later one overrides earlier ones"
        )
    for key in sections:
        if key in tree and tree[key] is None:
            raise InputError(f"{key} must not be null; leave it out for the default")
    _refuse_duplicate_paths(tree)


def _refuse_duplicate_paths(tree: Mapping[Any, Any]) -> None:
    """Refuse a value given by nested keys and by a dotted key as well, of which jsonargparse would keep the last."""
    given = [(path, section) for section, value in tree.items() for path in _paths({section: value})]
    for path, times in Counter(path for path, _ in given).items():
        if times > 1:
            raise InputError(f"{path} is given {times} times, with dots and without; keep one of them")
    section_of = dict(given)
    for path, section in given:
        for outer in accumulate(path.split("."), "{}.{}".format):
            # Within one section, a dot may also be part of a key of a dictionary argument.
            if section_of.get(outer, section) != section:
                raise InputError(f"{outer} is given as a whole, and a part of it by {path}; keep one of them")


def _paths(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The dotted path of every value, without the levels named ``init_args``."""
    for key, value in tree.items():
        path = re.sub(r"\.init_args\b", "", f"{prefix}.{key}").strip(".")
        if isinstance(value, Mapping) and value:
            yield from _paths(value, path)
        else:
            yield path
