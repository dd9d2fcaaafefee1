"""A config may call only functions whose return annotation is of the wanted type.

jsonargparse checks classes itself, but it would call a function before it checks the result.
"""

from __future__ import annotations

import pydoc
import typing
from collections.abc import Mapping
from typing import Any

from fedlit.command.classes import types_in
from fedlit.command.explain import KeyedError


def check_functions(key: str, value: Any, wanted: Any) -> None:
    """Refuse a function that is not annotated to return the wanted type.

    Args:
        key: The key in the config that names it.
        value: The value there: a class path with arguments, lists and mappings of these, or anything else.
        wanted: The type of the value; for a ``Callable``, its return type is allowed too.

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
        return  # jsonargparse will raise the same error
    if function is None or isinstance(function, type):
        return  # jsonargparse checks these itself
    types, returned = types_in(wanted), types_in(returns(function))
    if any(issubclass(each, types) for each in returned) or (returned and not types):
        return
    kind = " or ".join(dict.fromkeys(each.__name__ for each in types)) or "anything"
    raise KeyedError(
        f"{key}: {named} is not called, as it is neither a class nor a function annotated to return {kind}; give one "
        "that is"
    )


def returns(function: Any) -> Any:
    """The return annotation of a function; None if it has none."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # a C function, or an annotation with unknown names
        return None
