"""From what a parser or a class says went wrong to one line that names the value and the remedy."""

from __future__ import annotations

import difflib
import re
from argparse import ArgumentParser

from fedlit.errors import InputError


def explain(message: str, error: BaseException | None = None, parser: ArgumentParser | None = None) -> str:
    """One line for a message of jsonargparse's, which may be many.

    Args:
        message: The parser's message.
        error: What it was made from; an ``InputError`` among its causes says it best.
        parser: Its options are offered for a mistyped one.
    """
    cause = error
    while cause is not None:
        if isinstance(cause, InputError):
            return _one_line(str(cause))
        cause = cause.__cause__ or cause.__context__
    if message.startswith("unrecognized arguments:"):
        return _one_line(message) + _suggestion(message, parser)
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    leaf = _leaf(message)
    where = f"{keys}: " if keys and keys not in leaf else ""
    return _one_line(where + leaf) + _suggestion_for_key(leaf, parser)


def _leaf(message: str) -> str:
    """The line of a nested message that says what is wrong, with the value where it stands on a line of its own."""
    lines = [line.strip(" -") for line in message.splitlines()]
    noise = (
        "Parser key",
        "Problem with given class_path",
        "Does not validate against",
        "Subtypes:",
        "Errors:",
        "Given value",
        "Expected a path but",
        "Expected a <class 'NoneType'>",
    )
    telling = [line for line in lines if line and not line.startswith(noise)]
    values = [line.removeprefix("Given value: ") for line in lines if line.startswith("Given value: ")]
    if not telling:
        return re.sub(r'^Parser key "[^"]+": ', "", message) or message
    leaf = telling[0]
    if values and "ot value" not in leaf and values[0] not in leaf:
        leaf += f" (got {values[0]})"
    return leaf


def _suggestion(message: str, parser: ArgumentParser | None) -> str:
    given = [word.split("=")[0] for word in message.split() if word.startswith("--")]
    options = list(parser._option_string_actions) if parser else []
    near = [m for word in given for m in difflib.get_close_matches(word, options, n=1)]
    return f"; did you mean {' '.join(near)}?" if near else "; --help lists what there is"


def _suggestion_for_key(leaf: str, parser: ArgumentParser | None) -> str:
    return "" if parser is None or "--help" in leaf or ";" in leaf else "; --help explains every argument"


def _one_line(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    return text if len(text) <= 400 else text[:397] + "..."
