"""A parser whose errors a user can act on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlit.command.blame import of_the_user
from fedlit.command.defaults import OwnDefaults
from fedlit.command.explain import explain
from fedlit.command.named import check_functions
from fedlit.command.sections import OWNERS
from fedlit.core.bundled import bundled, find
from fedlit.core.configs import check_config, read_text
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, missing_package

CONFIG_OPTIONS = ("-c", "--config")


class Parser(OwnDefaults):
    """A parser whose errors are one line: what is wrong with which value, and what to do.

    Attributes:
        hints: What to say of options that there are not, and that users look for.
    """

    hints: Mapping[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped option is none, however near to one

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """As jsonargparse's; a config may be given by the name of one that comes with fedlit."""
        return super().parse_args(by_name(sys.argv[1:] if args is None else args), *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        _pass_on(ex)
        raise explain(message, ex, self) from ex

    def check_value(self, key: str, value: Any, wanted: Any) -> None:
        check_functions(key, value, wanted)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's; an error names the file, and what it would pass over in silence is one."""
        try:
            check_config(read_text(Path(path)), (*OWNERS, "data", "seed_everything"))
            return super().parse_path(path, *args, **kwargs)
        except ValueError as error:
            _pass_on(error)
            raise InputError(f"{path}: {find_input_error(error) or explain(str(error), error, self)}") from error


def by_name(words: Sequence[str]) -> list[str]:
    """Words of a command in which the names of bundled configs are the paths of their files."""
    found, names = [*words], bundled()
    for at, word in enumerate(words):
        option, _, value = word.rpartition("=")
        if value in names and (option or words[at - 1]) in CONFIG_OPTIONS:
            found[at] = f"{option}={find(value)}" if option else str(find(value))
    return found


def _pass_on(error: BaseException | None) -> None:
    """Raise what came up in a module of the user's as it is: its traceback tells more than any line of ours."""
    if not (find_input_error(error) or missing_package(error)) and (fault := of_the_user(error)):
        raise fault
