"""From what a parser or a class says went wrong to one line that names the value and the remedy."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only

from fedlit.core.errors import InputError

#: What to do after another rank was lost.
GO_ON = "the checkpoint of the last finished round is whole, go on with --ckpt_path last"

TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}


#: Characters of a word (a value that was given, a path) from which on it is cut in a line that is too long.
WORD = 200


class KeyedError(InputError):
    """A mistake at a key of the config, with which its message begins: an outer parser puts its own key in front."""


def mistake(error: BaseException | None) -> InputError | None:
    """The ``InputError`` among an error's causes, which says it best; None where the mistake is not the user's."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


@rank_zero_only
def warn(text: str) -> None:
    """Say in one line on stderr what a user should know of a run that goes on; the first rank says it."""
    sys.stderr.write(f"fedlit: warning: {one_line(text)}\n")


def explain(message: str, error: BaseException | None = None, parser: ArgumentParser | None = None) -> InputError:
    """One line for a message of jsonargparse's, which may be many and nested.

    Args:
        message: The parser's message.
        error: What it was made from.
        parser: Where it came up; its options are offered for a mistyped one, its defaults for a wrong value.
    """
    key = found[1] if (found := re.match(r'Parser key "([^"]+)"', message)) else ""
    cause = mistake(error)
    if isinstance(cause, KeyedError):
        return KeyedError(f"{key}.{cause}" if key else str(cause))
    if cause is not None:
        return cause
    parser = getattr(error, "subcommand_parser", parser)
    for say in (_no_such_command, _no_such_option, _not_given, _no_such_class, _no_such_file, _not_yaml, _too_long):
        if line := say(message, key, parser):
            return KeyedError(one_line(line))
    return KeyedError(one_line(_wrong_value(message, key, parser)))


#: Characters that a terminal obeys instead of showing them: control characters, and those that turn the direction.
STEERING = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""The text with escapes such as ``\x1b`` for what steers a terminal, and for what an encoding does not have."""
    shown = re.sub(STEERING, lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str, limit: int = 500) -> str:
    """The text on one line, cut where it is longer than ``limit`` characters, and words longer than ``WORD`` before."""
    text = visible(re.sub(r"\s+", " ", text).strip())
    text = re.sub(rf"\S{{{WORD},}}", lambda word: f"{word[0][:60]}...", text) if len(text) > limit else text
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


# Each of these knows one kind of message, and says "" to all others.


def _no_such_command(message: str, key: str, parser: ArgumentParser | None) -> str:
    if missing := re.search(r'expected "subcommand" to be one of \{(.+?)\}', message):
        return f"a command is missing; give one of {missing[1].replace(',', ', ')}, for example: fedlit fit"
    if unknown := re.search(r"argument subcommand: invalid choice: '(.*?)' \(choose from (.+)\)", message):
        commands = re.findall(r"\w+", unknown[2])
        return f"no command {unknown[1]!r}{_near(unknown[1], commands)}"
    return ""


def _no_such_option(message: str, key: str, parser: ArgumentParser | None) -> str:
    if lacking := re.match(r"argument (--[\w.]+).*: expected one argument", message):
        return f"{lacking[1]} needs a value; --help explains it"
    given = re.search(r"(?:unrecognized arguments: |[Oo]ption ')(--)?([^\s=']+)", message)
    if given is None or parser is None:
        return ""
    dashes, name = given[1] or "", given[2]
    options = [action.dest for action in parser._actions if not action.dest.endswith(("help", "print_config"))]
    return f"{dashes}{name}: no such option{_near(name, options, dashes)}"


def _not_given(message: str, key: str, parser: ArgumentParser | None) -> str:
    lacking = re.match(
        r"the following arguments are required: (\w+\.)?([\w., ]+)|Key \"([\w.]+)\" is required", message
    )
    if lacking is None:
        return ""
    names = (lacking[3] or f"{lacking[1] or ''}{lacking[2]}").removeprefix("fit.")
    return f"{names} must be given, and not null; --help explains it"


def _no_such_class(message: str, key: str, parser: ArgumentParser | None) -> str:
    if lacks := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        module, name = lacks.groups()
        names = [word for word in dir(importlib.import_module(module)) if not word.startswith("_")]
        near = _near(name, names, f"{module}.", many=f"look for its name in {module}")
        return f"{key}: no {name} in {module}, got {module}.{name}{near}"
    if absent := re.search(r"No module named '([\w.]+)'", message):
        return f"{key}: no module {absent[1]!r} for {_value(message)}; install it, or correct the class path"
    if base := re.search(r"(?:Import path (\S+) )?does not correspond to a subclass of (\w+)", message):
        given = base[1] or _value(message)
        return f"{key}: {given} is not a {base[2]}; fedlit fit --{key}.help CLASS_PATH explains those that are"
    if wanted := re.search(
        r"Expected '(\S+?)' to be a (?:function that returns|subclass of) (?:<class ')?(\w+)", message
    ):
        given, kind = wanted.groups()
        return f"{key}: {given} is no {kind} class and not annotated to return one; name a class or a function that is"
    if re.search(r"Not a valid subclass of|Expected a dot import path string", message) and not re.search(
        r"Expected a <class '(int|float)'", message
    ):
        return f"{key} must be a class path, got {_value(message)}; write it as package.module.Class"
    return ""


def _no_such_file(message: str, key: str, parser: ArgumentParser | None) -> str:
    if absent := re.search(r"(?:File does not exist|Path is not a file): '(.+?)'", message):
        path = Path(absent[1])
        if path.is_dir():
            return f"{key} file {path} is a folder; give the path of a YAML file"
        siblings = [str(other) for other in path.parent.glob("*.y*ml")]
        return f"no {key} file {path}{_near(str(path), siblings, many='give the path of a YAML file')}"
    return ""


def _not_yaml(message: str, key: str, parser: ArgumentParser | None) -> str:
    if message.startswith("Problems parsing config: "):
        where = r"(?:: |\n)([^\n]+)\s+in \"[^\"]*\", (line \d+, column \d+|position \d+)"
        reason, place = re.findall(where, message)[-1]
        return f"not valid YAML: {reason} in {place}; correct it there"
    if scalar := re.match(r"Unexpected config: (.*)", message):
        return f"not a config: {scalar[1] or 'an empty file'}; write lines of the form 'key: value'"
    return ""


def _too_long(message: str, key: str, parser: ArgumentParser | None) -> str:
    if digits := re.search(r"limit \((\d+) digits\) for integer string conversion: value has (\d+)", message):
        return f"{key}: a whole number of {digits[2]} digits; give one of at most {digits[1]}".removeprefix(": ")
    return ""


def _wrong_value(message: str, key: str, parser: ArgumentParser | None) -> str:
    if nested := re.search(r"NestedArg\(key='([\w.]+)'.*\)", message):  # of a class that the value could also be
        said = re.search(rf"- ({re.escape(nested[1])}\b.*)", message)
        return f"{key}.{said[1] if said else f'{nested[1]} does not fit; --help explains every argument'}"
    choices, types = list(_choices(message)), list(_types(message))
    if not choices and not types:
        return re.sub(r'^Parser key ".*?":', f"{key}:", message) + "; --help explains every argument"
    value = _value(message)
    wanted = " or ".join(dict.fromkeys(types)) if not choices else f"one of {', '.join(choices)}"
    default = next((action.default for action in parser._actions if action.dest == key), "") if parser else ""
    usual = f"for example {default}" if isinstance(default, str | int | float) and default != "" else ""
    return f"{key} must be {wanted}, got {value}{_near(value, choices, many=usual or '--help explains it')}"


def _choices(message: str) -> Iterator[str]:
    for literal in re.findall(r"Expected a typing\.Literal\[(.+?)\]", message):
        yield from (choice.strip(" '") for choice in literal.split(","))


def _types(message: str) -> Iterator[str]:
    for name in re.findall(r"Expected an? <class '([\w.]+)'>", message):
        short = name.rsplit(".", 1)[-1]
        yield TYPES.get(short, f"a {short.lower()}")


def _value(message: str) -> str:
    """What was given: the innermost value that the message names."""
    named = re.search(r"given class_path '(.+?)'", message) or re.search(r"(?:Got|Given) value: (.*)", message)
    value = named[1] if named else "none"
    return "null" if value == "None" else value


def _near(word: str, options: Iterable[str], prefix: str = "", many: str = "") -> str:
    """The remedy: the option nearest to a word, else all of them where they are few, else ``many``."""
    options = list(dict.fromkeys(options))
    if near := difflib.get_close_matches(word, options, n=1):
        return f"; did you mean {prefix}{near[0]}?"
    if many or len(options) > 12:
        return f"; {many or '--help lists what there is'}"
    return f"; there are {', '.join(options)}"


def missing_package(error: BaseException | None) -> InputError | None:
    """One line for a package that is not installed, which a class asked for as it was made; None for other errors."""
    while error is not None and not isinstance(error, ModuleNotFoundError | InputError):
        error = error.__cause__ or error.__context__
    if error is None or isinstance(error, InputError):  # that one is said already
        return None
    return InputError(f"{one_line(str(error))}; install it, or leave out what needs it")


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that there was no memory left, on the host or on a GPU."""
    said = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and said)


def lost_rank(error: Exception) -> bool:
    """Whether an error says that a process at the other end of a collective has gone (gloo or NCCL)."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and ("gloo" in str(error) or "by peer" in str(error))
