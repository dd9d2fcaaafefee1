"""Turns jsonargparse's messages into one line with the value and the remedy.

``RULES`` lists common mistakes: a part of jsonargparse's text (version 4.53.0) and the line that replaces it. A message
that no rule matches is shown as it is.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fedlit.command.classes import classes_for
from fedlit.command.private import kind_of
from fedlit.core.errors import InputError
from fedlit.core.messages import did_you_mean, find_input_error, one_line

Options = Callable[[re.Match[str], Any], Iterable[str]]


class KeyedError(InputError):
    """A mistake at a key of the config. Its message begins with the key, and an outer parser prefixes its own key."""


class Rule(NamedTuple):
    """A kind of mistake.

    Attributes:
        pattern: A regular expression, searched for in the text.
        line: The message: {1} and so on are the pattern's groups, {key} is the argument and {value} its value.
        options: A function of the match and the parser that lists valid choices. The message suggests the one closest
            to ``word``, or all of them if they are few.
        word: The mistyped word; placeholders are replaced as in the line.
        prefix: Text before the suggested choice; placeholders are replaced.
        else_: The remedy if no choice is close; placeholders are replaced.
    """

    pattern: str
    line: str
    options: Options | None = None
    word: str = ""
    prefix: str = ""
    else_: str = ""


def _arguments(found: re.Match[str], parser: Any) -> list[str]:
    names = [action.dest for action in parser.actions] if parser else []
    return [name for name in names if not name.endswith(("help", "help_all", "print_config", "print_shtab"))]


def _module(found: re.Match[str], parser: Any) -> list[str]:
    return [name for name in dir(importlib.import_module(found[1])) if not name.startswith("_")]


def _files_beside(found: re.Match[str], parser: Any) -> list[str]:
    return [str(path) for path in Path(found[1]).parent.glob("*.y*ml")]


RULES = (
    Rule(
        r'expected "subcommand" to be one of \{(.+?)\}',
        "the command is missing; give one of {1}, for example fedlit fit",
    ),
    Rule(
        r"argument subcommand: invalid choice: '(.*?)' \(choose from (.+)\)",
        "unknown command {1!r}",
        lambda found, parser: re.findall(r"\w+", found[2]),
        word="{1}",
    ),
    Rule(r"argument (--[\w.]+).*: expected one argument", "{1} needs a value; --help explains it"),
    Rule(r"unrecognized arguments: ([^-\s]\S*\.ya?ml)\b", "{1}: no such option; give a config as --config {1}"),
    Rule(
        r"(?:unrecognized arguments: |[Oo]ption ')(--)?([^\s=']+)",
        "{1}{2}: no such option",
        _arguments,
        word="{2}",
        prefix="{1}",
    ),
    Rule(
        r"module '([\w.]+)' has no attribute '(\w+)'",
        "{key}: {1} has no {2}, got {1}.{2}",
        _module,
        word="{2}",
        prefix="{1}.",
        else_="look up the name in {1}",
    ),
    Rule(
        r"No module named '([\w.]+)'",
        "{key}: module {1!r} of {value} is not installed; install it, or correct the class path",
    ),
    Rule(
        r"does not correspond to a subclass of (\w+)",
        "{key}: {value} is not a subclass of {1}; fedlit fit --{key}.help lists the classes that can be given",
    ),
    Rule(
        r"Expected '(\S+?)' to be a (?:function that returns|subclass of) (?:<class ')?(\w+)",
        "{key}: {1} is neither a subclass of {2} nor a function annotated to return one; give one that is",
    ),
    Rule(
        r"Expected an instantiatable class, but (?:\S+ )?is abstract",
        "{key}: {value} is abstract; give a class that defines all abstract methods",
    ),
    Rule(
        r"the following arguments are required: (?:fit\.|validate\.|test\.|predict\.)?([\w., ]+)",
        "{1} must be given and must not be null; --help explains it",
    ),
    Rule(r"(?s)Problems parsing config: (.*)", "not valid YAML: {1}; correct it at that place"),
    Rule(r"Path is not a file: '(.+?)'", "{key} file {1} is a folder; give the path of a YAML file"),
    Rule(
        r"File does not exist: '(.+?)'",
        "{key} file {1} does not exist",
        _files_beside,
        word="{1}",
        else_="give the path of a YAML file, or a name that fedlit configs lists",
    ),
)

#: jsonargparse's messages about a value of a wrong type, and the type in plain words; types with "" are not mentioned.
TYPES = {
    r"Expected a path but": "",
    r"Expected (?:an? )?<class 'NoneType'>": "",
    r"Expected (?:an? )?<class 'int'>": "a whole number",
    r"Expected (?:an? )?<class 'float'>": "a number",
    r"Expected (?:an? )?<class 'bool'>": "true or false",
    r"Expected (?:an? )?<class 'str'>": "text",
    r"Expected (?:an? )?<class '(?:\w+\.)*(\w+)'>": "a {0}",
    r"Expected a typing\.Literal\[(.+?)\]": "{0}",
    r"Not a valid subclass of|Expected a dot import path string": "a class path",
}


def explain(message: str, error: BaseException | None = None, parser: Any = None) -> InputError:
    """One line for a message of jsonargparse, which may have many nested lines.

    Args:
        message: The parser's message.
        error: The error that caused it.
        parser: The parser. Its options are suggested for a mistyped one, its defaults for a wrong value.
    """
    key = found[1] if (found := re.match(r'Parser key "([^"]+)"', message)) else ""
    cause = find_input_error(error)
    if isinstance(cause, KeyedError):
        return KeyedError(f"{key}.{cause}" if key else str(cause))
    if cause is not None:
        return cause
    parser = getattr(error, "subcommand_parser", parser)
    for rule in RULES:
        if found := re.search(rule.pattern, message):
            return KeyedError(one_line(_by_rule(rule, found, parser, key=key, value=_value(message))))
    return KeyedError(one_line(_wrong_value(message, key, parser)))


def _by_rule(rule: Rule, found: re.Match[str], parser: Any, **names: str) -> str:
    def filled(text: str) -> str:
        return text.format(found[0], *(group or "" for group in found.groups()), **names)

    if rule.options is None or parser is None:
        return filled(rule.line)
    if hint := getattr(parser, "hints", {}).get(f"{filled(rule.prefix)}{filled(rule.word)}"):
        return f"{filled(rule.line)}; {hint}"
    remedy = near(filled(rule.word), rule.options(found, parser), filled(rule.prefix), filled(rule.else_))
    return f"{filled(rule.line)}{remedy}"


def _wrong_value(message: str, key: str, parser: Any) -> str:
    """The message for a value of a wrong type: an error in a part of the value if there is one, else the valid
    types."""
    wanted: dict[str, None] = {}
    for error in _errors(message):
        found = ((re.match(pattern, error), words) for pattern, words in TYPES.items())
        if (known := next(((match, words) for match, words in found if match), None)) is None:
            within = (
                "." if re.match(r"[a-z_][\w.]*(?:: | must )", error) else ": "
            )  # the error begins with the key of a part
            return f"{key}{within if key else ''}{error}"
        match, words = known
        wanted |= dict.fromkeys(filter(None, [words.format(*match.groups())]))
    choices = [choice.strip(" '") for words in wanted if "'" in words for choice in words.split(",")]
    value = _value(message)
    action = next((action for action in parser.actions if action.dest == key), None) if parser else None
    default = action.default if action else ""
    classes: list[str] = []
    remedy = "--help explains it"
    if "a class path" in wanted:
        remedy = "write it as package.module.Class"
        there = classes_for(kind_of(action), action.help or "") if action else {}
        classes = [each.__name__ for each in there.values()]
        remedy = f"give one that --help lists, or {remedy}" if classes else remedy
    if isinstance(default, str | int | float) and default != "":
        remedy = f"for example {default}"
    kinds = f"one of {', '.join(choices)}" if choices else " or ".join(wanted)
    return f"{key} must be {kinds}, got {value}{near(value, choices + classes, else_=remedy)}"


def _errors(message: str) -> list[str]:
    """The errors of all types that a value may have, one line each."""
    text = re.sub(r'^Parser key ".*?":', "", message)
    text = re.sub(r"\n *Given value type:.*", "", text.rpartition("Errors:\n")[2], flags=re.DOTALL)
    text = re.sub(r"\n *Subclass types expect one of:(\n *- .*)*", "", text)
    bullet = re.search(r"^ *- ", text, re.MULTILINE)
    errors = re.split(f"^{bullet[0]}", text, flags=re.MULTILINE)[1:] if bullet else [text]
    return [" ".join(error.split()) for error in errors]


def _value(message: str) -> str:
    """The given value: the innermost value that the message names."""
    named = re.search(
        r"given class_path '(.+?)'|Import path (?!does)(\S+)|dot import path string: (.*)|"
        r"(?:Got|Given) value: (?:Namespace\(class_path='(.+?)'.*|(.*))",
        message,
    )
    value = next(filter(None, named.groups()), "") if named else ""
    return "null" if value == "None" else value


def near(word: str, options: Iterable[str], prefix: str = "", else_: str = "") -> str:
    """The remedy: the option closest to a word, else ``else_``, else all options if they are few."""
    options = list(dict.fromkeys(options))
    every = f"use one of {', '.join(options)}" if len(options) <= 12 else "--help lists them"
    return f"; {did_you_mean(word, options, else_ or every, prefix)}"
