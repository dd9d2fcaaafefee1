"""The classes that an argument can take, with a line about each."""

from __future__ import annotations

import builtins
import importlib
import inspect
import re
import sys
import textwrap
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import ModuleType, NoneType
from typing import Any

from fedlit.runs.by_round import ByRound

#: Packages whose classes can be given by their short names, such as ``--federation.algorithm Scaffold``.
NAMED_SHORTLY = tuple(
    f"fedlit.{name}" for name in "algorithms attention data engines federated models optim schedules".split()
)

#: Modules of generic types; unions are in ``types``, from Python 3.14 on in ``typing``.
HOLDERS = (builtins.__name__, Callable.__module__, "types", "typing")


def load(modules: Iterable[str]) -> None:
    """Import modules, because jsonargparse finds a short class name only among the subclasses that are imported."""
    for module in modules:
        importlib.import_module(module)


def classes_for(kind: Any, explanation: str, imported: bool = False) -> dict[str, type]:
    """The classes that can be given for an argument, by the name to give.

    For a type of fedlit these are its public subclasses. For a library's type, such as ``torch.nn.Module``, these are
    the classes in the packages that the explanation names.

    Args:
        kind: The argument's annotation.
        explanation: The text about the argument in its docstring.
        imported: Whether to return all imported public subclasses if the explanation names no package; fedlit's own
            are those that a run does not add by itself.
    """
    wanted = tuple(each for each in types_in(kind) if each.__module__ != builtins.__name__)
    if not wanted:
        return {}
    named = re.findall(r"``((?:fedlit|torch)\.\w+)``", explanation)
    homes = list(NAMED_SHORTLY) if any(of_ours(each) for each in wanted) else named
    namesakes = Counter(each.__name__ for each in set(dict(_below(wanted)).values()))
    offered = (each for home in homes for each in _public(importlib.import_module(home)))
    found = {name if of_ours(each) and namesakes[each.__name__] == 1 else path: each for name, path, each in offered}
    found = found or (_imported(wanted) if imported else {})
    return {name: each for name, each in found.items() if issubclass(each, wanted) and each not in wanted}


def _imported(wanted: tuple[type, ...]) -> dict[str, type]:
    """All imported subclasses by their paths, first those of fedlit that a user may add."""
    found = dict(_below(wanted))
    ours = {path: each for path, each in found.items() if issubclass(each, ByRound) and not path.endswith(".ByRound")}
    return ours | {path: each for path, each in found.items() if not of_ours(each)}


def summary(each: Any, width: int) -> list[str]:
    """The first line of a docstring as plain text without references: as many clauses as fit, or several lines."""
    text = plain((inspect.getdoc(each) or "").partition("\n")[0])
    text = re.sub(r"(?<=\S) \([^()]*\b[12]\d{3}\b[^()]*\)", "", text).removesuffix(".")
    ends = [end for end in clause_ends(text) or clause_ends(text, r" \(") if end > width / 4] + [len(text)]
    return textwrap.wrap(text[: max((end for end in ends if end <= width), default=ends[0])], width)


def clause_ends(text: str, mark: str = r"[,;:.](?=\s)") -> list[int]:
    """Where the clauses of a text end: at a mark outside of brackets that does not belong to ``et al.``"""
    ends = (found.start() for found in re.finditer(rf"(?<!et al){mark}", text))
    return [end for end in ends if len(re.findall(r"[(\[]", text[:end])) == len(re.findall(r"[)\]]", text[:end]))]


def plain(text: str) -> str:
    """A text without reStructuredText markup."""
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`|`", r"\1", text)


def of_ours(each: Any) -> bool:
    """Whether a class or function is defined in fedlit."""
    return str(each.__module__).startswith("fedlit.")


def _public(module: ModuleType) -> Iterator[tuple[str, str, type]]:
    """The public, concrete classes of a module, with their names and paths."""
    offered = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        is_own = isinstance(value, type) and value.__module__.startswith(module.__name__) and not name.startswith("_")
        is_offered = is_own if offered is None else isinstance(value, type) and name in offered
        if is_offered and not inspect.isabstract(value):
            yield name, f"{module.__name__}.{name}", value


def _below(bases: Iterable[type]) -> Iterator[tuple[str, type]]:
    """All imported subclasses that are concrete and public, by their paths."""
    found: Iterator[type] = chain.from_iterable(type.__subclasses__(base) for base in bases)
    for each in found:
        path = _path(each)
        if not re.search(r"(?:^|\.)_", path) and not inspect.isabstract(each):
            yield path, each
        yield from _below([each])


def _path(each: type) -> str:
    """The shortest import path of a class."""
    parts = each.__module__.split(".")
    homes = [".".join(parts[:count]) for count in range(1, len(parts))]
    offering = (home for home in homes if getattr(sys.modules.get(home), each.__name__, None) is each)
    return f"{next(offering, each.__module__)}.{each.__qualname__}"


def types_in(annotation: Any) -> tuple[type, ...]:
    """The classes in an annotation, without None; for a ``Callable``, the classes that it returns."""
    origin, within = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None or (isinstance(origin, type) and not within):
        known = isinstance(annotation, type) and annotation not in (NoneType, object, Any)
        return (annotation,) if known else ()
    if origin is Callable:
        return types_in(within[-1])
    if isinstance(origin, type) and origin.__module__ not in HOLDERS:
        return (origin,)  # such as Dataset[Any]
    return tuple(found for part in within for found in types_in(part))
