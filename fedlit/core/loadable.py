"""Whether a checkpoint will be read again: it is read as data, and what is no data is found before it is written."""

from __future__ import annotations

import io
import pickle
from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

#: Layouts of tensors that PyTorch reads again whatever they hold.
LAYOUTS = (
    torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc
)  # fmt: skip


class _Outline(pickle.Pickler):
    """Leaves out what tensors hold: it writes an empty dictionary for each, with the tensor's attributes."""

    def reducer_override(self, value: object) -> Any:
        if type(value) not in (Tensor, nn.Parameter):
            return NotImplemented
        assert isinstance(value, Tensor)
        is_read = value.layout in LAYOUTS and (value.is_quantized or _is_read(value.dtype))
        return (OrderedDict, (), vars(value) or None) if is_read else NotImplemented


def is_loadable(value: object, pickler: type[pickle.Pickler] = _Outline) -> bool:
    """Whether ``torch.load(weights_only=True)`` reads what ``torch.save`` writes of a value: they themselves say so.

    The time that it takes does not depend on how large the tensors are.
    """
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer, SimpleNamespace(__name__=__name__, Pickler=pickler))
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except Exception:  # a class of the user's may raise anything
        return False
    return True


@cache
def _is_read(dtype: torch.dtype) -> bool:
    """Whether this PyTorch reads tensors of a type again; the lowest version that is tested does not read all."""
    return is_loadable(torch.empty(0, dtype=dtype), pickle.Pickler)


REMEDY = "keep tensors (torch.from_numpy), numbers and strings, and lists and dicts of these"


def unsupported_part(value: object) -> str:
    """The innermost part that is no data: ``callbacks / Mine / history[0] is a numpy.ndarray``; empty where all is."""
    if is_loadable(value):
        return ""
    names, seen = [""], {id(value)}
    while part := next((part for part in _parts(value) if id(part[1]) not in seen and not is_loadable(part[1])), None):
        name, value = part
        names.append(name)
        seen.add(id(value))
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"{''.join(names).removeprefix(' / ')} is a {kind}"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a container holds, by name."""
    if type(value) in (dict, OrderedDict, Counter):
        assert isinstance(value, dict)
        yield from ((f" / key {key!r}", key) for key in value)
        yield from ((f" / {key}" if isinstance(key, str) else f"[{key!r}]", part) for key, part in value.items())
    elif type(value) in (list, tuple, set):
        assert isinstance(value, list | tuple | set)
        yield from ((f"[{place}]", part) for place, part in enumerate(value))
