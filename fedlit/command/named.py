"""What a config may call: functions that are named in it, where they say that they return what is wanted there.

A class is checked by jsonargparse itself. A function that is named with arguments it would call first and ask later.
"""

from __future__ import annotations

import pydoc
import typing
from collections.abc import Mapping
from typing import Any

from fedlit.command.classes import types_in
from fedlit.command.explain import KeyedError


def check_functions(key: str, value: Any, wanted: Any) -> None:
    """Refuse a function that is not annotated to return what is wanted where it is named.

    Args:
        key: Where it is named.
        value: The value there: a class path with arguments, or lists and mappings of such, or anything else.
        wanted: The type of the value; what a ``Callable`` is to return is wanted as well.

    Raises:
        KeyedError: Naming the function, before it is called.
    """
    if isinstance(value, list | tuple):
        for each in value:
            check_functions(key, each, wanted)
    named = value.get("class_path") if isinstance(value, Mapping) or hasattr(value, "as_dict") else None
    if not isinstance(named, str):
        return
    try:
        function = pydoc.locate(named)
    except pydoc.ErrorDuringImport:
        return  # jsonargparse imports it as well
    if function is None or isinstance(function, type):
        return  # jsonargparse says what is wrong with it
    types, returned = types_in(wanted), types_in(returns(function))
    if any(issubclass(each, types) for each in returned) or (returned and not types):
        return
    kind = " or ".join(dict.fromkeys(each.__name__ for each in types)) or "anything"
    raise KeyedError(
        f"{key}: {named} is not called, for it is no class and not annotated to return {kind}; name one that is"
    )


def returns(function: Any) -> Any:
    """The annotation of what a function returns; None where it says nothing, or it is nothing."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # of a function of C, or of names that are not there
        return None
