"""A parser whose errors a user can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedlit.command.defaults import OwnDefaults
from fedlit.command.named import check_functions
from fedlit.command.sections import OWNERS
from fedlit.core.configs import check_config, read_text
from fedlit.core.errors import InputError
from fedlit.core.messages import explain, mistake


class Parser(OwnDefaults):
    """A parser whose errors are one line: what is wrong with which value, and what to do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped option is none, however near to one

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise explain(message, ex, self) from ex

    def _check_value_key(self, action: Any, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's, which comes by every value at its key, whether in a class or not."""
        check_functions(action.dest, value, getattr(action, "_typehint", None))
        return super()._check_value_key(action, value, key, *args, **kwargs)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's; an error names the file, and what it would pass over in silence is one."""
        try:
            check_config(read_text(Path(path)), (*OWNERS, "data", "seed_everything"))
            return super().parse_path(path, *args, **kwargs)
        except ValueError as error:
            raise InputError(f"{path}: {mistake(error) or explain(str(error), error, self)}") from error
