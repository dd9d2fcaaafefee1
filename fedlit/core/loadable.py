"""Whether ``torch.load(weights_only=True)`` can load a value, checked before a checkpoint is written."""

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

#: Layouts of the tensors that PyTorch can load.
LAYOUTS = (
    torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc
)  # fmt: skip


class _Outline(pickle.Pickler):
    """Leaves out the data of tensors: it writes an empty dictionary for each, with the tensor's attributes."""

    def reducer_override(self, value: object) -> Any:
        if type(value) not in (Tensor, nn.Parameter):
            return NotImplemented
        assert isinstance(value, Tensor)
        can_load = value.layout in LAYOUTS and (value.is_quantized or _dtype_is_loadable(value.dtype))
        return (OrderedDict, (), vars(value) or None) if can_load else NotImplemented


def is_loadable(value: object, pickler: type[pickle.Pickler] = _Outline) -> bool:
    """Whether ``torch.load(weights_only=True)`` loads a value that ``torch.save`` wrote, found by trying both.

    The time does not depend on the sizes of the tensors.
    """
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer, SimpleNamespace(__name__=__name__, Pickler=pickler))
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except Exception:  # a class of the user's may raise anything
        return False
    return True


@cache
def _dtype_is_loadable(dtype: torch.dtype) -> bool:
    """Whether this PyTorch loads tensors of a type; the oldest supported version does not load all types."""
    return is_loadable(torch.empty(0, dtype=dtype), pickle.Pickler)


REMEDY = "keep tensors (torch.from_numpy), numbers and strings, and lists and dicts of these"


def unsupported_part(value: object) -> str:
    """The innermost part that cannot be loaded, as ``callbacks / Mine / history[0] is a numpy.ndarray``; or empty."""
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
    """The parts of a container, each with its name."""
    if type(value) in (dict, OrderedDict, Counter):
        assert isinstance(value, dict)
        yield from ((f" / key {key!r}", key) for key in value)
        yield from ((f" / {key}" if isinstance(key, str) else f"[{key!r}]", part) for key, part in value.items())
    elif type(value) in (list, tuple, set):
        assert isinstance(value, list | tuple | set)
        yield from ((f"[{place}]", part) for place, part in enumerate(value))
