"""Makes the classes that a config names, and keeps the original error if one fails."""

from __future__ import annotations

import inspect
from pathlib import Path
from traceback import walk_tb
from typing import Any

import jsonargparse

from fedlit.command.blame import refused_by_library
from fedlit.core.errors import InputError

JSONARGPARSE = str(Path(jsonargparse.__file__).parent)


class Maker:
    """Makes classes for ``ArgumentParser.add_instantiator``, and keeps the last error.

    If a value may have several types, jsonargparse merges the texts of their errors, and the class's own error is lost.
    """

    __signature__ = inspect.signature(lambda class_type, /, *args, **kwargs: None)  # jsonargparse reads it at each call

    def __init__(self) -> None:
        self._failed: Exception | None = None

    def __call__(self, class_type: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return class_type(*args, **kwargs)
        except Exception as error:
            self._failed = error
            if refused_by_library(error) and not isinstance(error, InputError | ImportError):
                name = getattr(class_type, "__name__", class_type)
                self._failed = InputError(f"{name}: {error or type(error).__name__}; correct its arguments")
                self._failed.__cause__ = error
            raise

    def error_behind(self, error: Exception) -> Exception:
        """The error to report when making the classes of a config failed.

        Returns:
            An ``InputError`` if a library's class refused its arguments. Else the error of the class if jsonargparse
            raised ``error``, else ``error`` itself.
        """
        *_, (frame, _) = walk_tb(error.__traceback__)
        if self._failed is not None and self._failed.__cause__ is error:
            return self._failed
        if not frame.f_code.co_filename.startswith(JSONARGPARSE):
            return error
        cause = error.__cause__
        return self._failed or (cause if isinstance(cause, Exception) else error)
