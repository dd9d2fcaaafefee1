"""Loops in C for what PyTorch has no kernels for, compiled when fedlit is installed.

Without a C compiler fedlit installs all the same: who calls a function from here has PyTorch's way at hand, which gives
the same and takes longer. Which version runs, of those for several kinds of processors, ``versions`` says.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.resources import files
from typing import Any

from torch import Tensor


@cache
def library(name: str) -> ctypes.CDLL | None:
    """``NAME.c``, compiled; None where that could not be."""
    for suffix in reversed(EXTENSION_SUFFIXES):  # one for all Pythons before what was left there of one for this alone
        path = files(__name__) / f"_{name}{suffix}"
        if path.is_file():
            return ctypes.CDLL(str(path))
    return None


def is_complete() -> bool:
    """Whether all of them were compiled."""
    return all(map(library, ("conv_pool", "exact_sum")))


def call(function: Any, *arguments: int | float | Tensor) -> None:
    """Call a function of a library, with ints as long, floats as double, and the data of tensors as pointers.

    Tensors must be on the CPU, and laid out as the function says: nothing is checked.
    """
    function(*map(_as_c, arguments))


def _as_c(argument: int | float | Tensor) -> Any:
    match argument:
        case int():
            return ctypes.c_long(argument)
        case float():
            return ctypes.c_double(argument)
        case _:
            return ctypes.c_void_p(argument.data_ptr())
