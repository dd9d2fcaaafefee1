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

#: For which instructions each loop is compiled, on processors that may have them.
VERSIONS = ("avx512", "avx2", "neon")
#: The loop that was written first, and the one that was written last: what was compiled in between lacks some.
OLDEST, NEWEST = "relu_pool", "norm_relu_pool"


@cache
def library(name: str) -> ctypes.CDLL | None:
    """``NAME.c``, compiled; None where that could not be."""
    for suffix in reversed(EXTENSION_SUFFIXES):  # one for all Pythons before what was left there of one for this alone
        path = files(__name__) / f"_{name}{suffix}"
        if path.is_file():
            return ctypes.CDLL(str(path))
    return None


def shortfall() -> str | None:
    """Why they do not run on a processor that they could run on, and what to do; None where nothing is missing."""
    if not all(map(library, ("conv_pool", "exact_sum"))):
        why, remedy = "fedlit was installed without a C compiler", "install one, such as gcc, and install fedlit again"
    elif _has(OLDEST) and not _has(NEWEST):
        why, remedy = (
            "fedlit's loops in C were compiled for an earlier version of it",
            "install it again: pip install .",
        )
    else:
        return None
    return f"{why}, so convolutions with max pools train at two thirds of the speed that they could; {remedy}"


def _has(loop: str) -> bool:
    return any(hasattr(library("conv_pool"), f"{loop}_{version}") for version in VERSIONS)


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
