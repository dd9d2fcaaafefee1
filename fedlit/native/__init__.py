"""Loops in C for operations without a PyTorch kernel, compiled when fedlit is installed.

fedlit can be installed without a C compiler: each caller of a function from here can also use PyTorch's operations,
which give the same result but take longer. ``versions`` chooses between versions for different processors.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.resources import files
from typing import Any

from torch import Tensor

#: The instruction sets for which each loop is compiled, on processors that may have them.
VERSIONS = ("avx512", "avx2", "neon")
#: The loops that were added first and last; a library that was compiled in between lacks some loops.
OLDEST, NEWEST = "relu_pool", "norm_relu_pool"


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The library compiled from ``NAME.c``; None if it was not compiled."""
    for suffix in reversed(EXTENSION_SUFFIXES):  # a library for all Pythons before an old one for this Python alone
        path = files(__name__) / f"_{name}{suffix}"
        if path.is_file():
            return ctypes.CDLL(str(path))
    return None


def shortfall() -> str | None:
    """Why loops that this processor could run are missing, with the remedy; None if nothing is missing."""
    if not all(map(library, ("conv_pool", "exact_sum"))):
        why, remedy = "fedlit was installed without a C compiler", "install one, such as gcc, and install fedlit again"
    elif _has(OLDEST) and not _has(NEWEST):
        why, remedy = (
            "fedlit's loops in C were compiled for an earlier version of fedlit",
            "install fedlit again: pip install .",
        )
    else:
        return None
    return f"{why}, so convolutions with max pools train at two thirds of the possible speed; {remedy}"


def _has(loop: str) -> bool:
    return any(hasattr(library("conv_pool"), f"{loop}_{version}") for version in VERSIONS)


def call(function: Any, *arguments: int | float | Tensor) -> None:
    """Call a function of a library, with ints as long, floats as double, and the data of tensors as pointers.

    Tensors must be on the CPU, with the memory layout that the function requires; this is not checked.
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
