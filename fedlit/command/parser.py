"""The parser, whose error messages name the remedy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader

from fedlit.command.blame import error_in_user_code
from fedlit.command.defaults import OwnDefaults
from fedlit.command.explain import explain
from fedlit.command.named import check_functions
from fedlit.command.sections import OWNERS
from fedlit.core.bundled import bundled, find
from fedlit.core.configs import check_config, check_yaml, read_text
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, missing_package

CONFIG_OPTIONS = ("-c", "--config")
#: Name of ``load_strictly`` among jsonargparse's loaders.
STRICT = "fedlit"


class Parser(OwnDefaults):
    """A parser whose error messages are one line: the wrong value, what is expected, and what to do.

    Attributes:
        hints: What to use instead of options of other tools, by those options.
    """

    hints: Mapping[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        set_loader(STRICT, load_strictly, (yaml.YAMLError,))
        # without abbreviations a mistyped option is an error, even if it begins like an option
        super().__init__(*args, **{"parser_mode": STRICT, "allow_abbrev": False, **kwargs})

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """As in jsonargparse; a bundled config may be given by its name."""
        return super().parse_args(by_name(sys.argv[1:] if args is None else args), *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        _pass_on(ex)
        raise explain(message, ex, self) from ex

    def check_value(self, key: str, value: Any, wanted: Any) -> None:
        check_functions(key, value, wanted)

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        """As in jsonargparse, but mistakes that it ignores are errors."""
        check_config(content, (*OWNERS, "data", "seed_everything"))
        return super().parse_string(content, *args, **kwargs)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in jsonargparse, but an error names the file."""
        try:
            read_text(Path(path))
            return super().parse_path(path, *args, **kwargs)
        except ValueError as error:
            _pass_on(error)
            raise InputError(f"{path}: {find_input_error(error) or explain(str(error), error, self)}") from error


class PlainParser(argparse.ArgumentParser):
    """A parser of a command's options alone, which no config sets; its errors are one line, too."""

    def __init__(self, prog: str, description: str | None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help explains the arguments")


def load_strictly(text: str) -> Any:
    """The value of a YAML text: of an option, of a config, or of a file that stands for a part of a config.

    Raises:
        InputError: If a key is given twice, of which jsonargparse would keep the last.
    """
    if ":" in text:  # else it has no mapping
        check_yaml(text)
    return get_loader("yaml")(text)


def by_name(words: Sequence[str]) -> list[str]:
    """Replace the names of bundled configs in a command line by the paths of their files."""
    found, names = [*words], bundled()
    for at, word in enumerate(words):
        option, _, value = word.rpartition("=")
        if value in names and (option or words[at - 1]) in CONFIG_OPTIONS:
            found[at] = f"{option}={find(value)}" if option else str(find(value))
    return found


def _pass_on(error: BaseException | None) -> None:
    """Raise an error of the user's own module unchanged, since its traceback says most."""
    if not (find_input_error(error) or missing_package(error)) and (fault := error_in_user_code(error)):
        raise fault
