"""Checks of what a user gives as an argument, or sets later as an attribute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from fedlit.core.errors import InputError

T = TypeVar("T")


class Checked:
    """Checks some attributes whenever they are set, by the constructor or later.

    An argument that is set between two fits of the same object is checked and converted as by the constructor.
    """

    #: From an attribute's name to a function that returns the value to set, or raises InputError.
    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        super().__setattr__(name, check(value) if check else value)


def check_made(made: object, attribute: str) -> None:
    """Refuse an object of a class whose ``__init__`` does not call that of its base.

    Args:
        made: The object.
        attribute: An attribute that the base's ``__init__`` sets.

    Raises:
        InputError: Naming the class.
    """
    if attribute not in vars(made):
        name = type(made).__name__
        raise InputError(f"{name}.__init__ does not call super().__init__(...), which sets its arguments; call it")


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """Return a value that is one of the choices.

    Raises:
        InputError: Naming the value and the choices.
    """
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}; use {choices[0]!r}")
    return value


def object_of(name: str, value: Any, kind: type, example: str) -> Any:
    """Return a value that is an object of a class.

    Args:
        name: The argument.
        value: What was given for it.
        kind: The class.
        example: What to give instead.

    Raises:
        InputError: If it is a class, a function or an object of another class.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, type):
        remedy = f"make an object of it: {value.__name__}(...)" if issubclass(value, kind) else f"give {example}"
        raise InputError(f"{name} is the class {value.__name__}; {remedy}")
    got = f"the function {value.__name__}" if inspect.isroutine(value) else f"{value!r:.60}"
    raise InputError(f"{name} must be of the class {kind.__name__}, got {got}; give {example}")


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same object, or equal plain values, as after pickling."""
    is_plain = isinstance(one, bool | int | float | str) and type(one) is type(other)
    return one is other or (is_plain and bool(one == other))
