"""A parser whose errors a user can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedlit.command.blame import of_the_user
from fedlit.command.defaults import OwnDefaults
from fedlit.command.explain import explain
from fedlit.command.named import check_functions
from fedlit.command.sections import OWNERS
from fedlit.core.configs import check_config, read_text
from fedlit.core.errors import InputError
from fedlit.core.messages import missing_package, mistake


class Parser(OwnDefaults):
    """A parser whose errors are one line: what is wrong with which value, and what to do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped option is none, however near to one

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
            raise InputError(f"{path}: {mistake(error) or explain(str(error), error, self)}") from error


def _pass_on(error: BaseException | None) -> None:
    """Raise what came up in a module of the user's as it is: its traceback tells more than any line of ours."""
    if not (mistake(error) or missing_package(error)) and (fault := of_the_user(error)):
        raise fault
