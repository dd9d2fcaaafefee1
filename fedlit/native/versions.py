"""Chooses the version of the loops in C by the processor, never by timing, so that bits do not depend on load.

Each version is for one width of vectors. All versions give the same bits; PyTorch's kernels give the same to rounding.
PyTorch chooses its own kernels by the processor as well, so a run's record names both.
"""

from __future__ import annotations

import os
from functools import cache

import torch

from fedlit.core.errors import InputError
from fedlit.native import NEWEST, library

#: Environment variable that sets the version.
VARIABLE = "FEDLIT_KERNELS"
#: The name for PyTorch's kernels alone, without any version of the loops.
PYTORCH = "torch"
#: Versions that a processor can run, the widest first, by PyTorch's CPU capability (``ATEN_CPU_CAPABILITY`` lowers it).
RUNNABLE = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}
#: The same for any other capability; NEON is compiled only for arm64.
ELSEWHERE = ("neon",)
#: Versions that were measured to be faster than PyTorch's kernels (``python -m tests.benchmarks.native``). NEON was not
#: measured yet, and runs only if ``FEDLIT_KERNELS`` names it.
MEASURED = ("avx512", "avx2")


def runnable() -> tuple[str, ...]:
    """The compiled versions that this processor can run, the widest first."""
    compiled = library("conv_pool")
    found = RUNNABLE.get(torch.backends.cpu.get_cpu_capability(), ELSEWHERE)
    return tuple(version for version in found if hasattr(compiled, f"{NEWEST}_{version}"))


def choose(name: str | None) -> str:
    """The version of this name; without a name, the widest that was measured to be faster than PyTorch, or ``torch``.

    Raises:
        InputError: If this processor cannot run it, or it was not compiled.
    """
    possible = (*runnable(), PYTORCH)
    if not name:
        return next(version for version in possible if version in (*MEASURED, PYTORCH))
    if name not in possible:
        raise InputError(
            f"{VARIABLE} must be {' or '.join(possible)} on this processor with this installation, got {name!r}; "
            "unset it to use the fastest"
        )
    return name


@cache
def version() -> str:
    """The version that runs in this process."""
    return choose(os.environ.get(VARIABLE))


def kernels_on(device: torch.device, precision: str = "32-true") -> str:
    """The kernels that run on a device, for a run's record, such as ``avx2 beside PyTorch's AVX2``.

    The precision is named unless it is 32-true: a config's ``auto`` is another one on another device.
    """
    within = "" if precision == "32-true" else f" in {precision}"
    if device.type != "cpu":
        return f"PyTorch's {device.type}{within}"
    of_pytorch = f"PyTorch's {torch.backends.cpu.get_cpu_capability()}{within}"
    return of_pytorch if version() == PYTORCH else f"{version()} beside {of_pytorch}"


def other_kernels(then: object, now: str) -> str | None:
    """A warning if a record names other kernels; None if they are the same, or the record is too old to tell."""
    if then is None or then == now:
        return None
    return f"the run began with other kernels, {then}, and continues with {now}: its bits may differ from here on"
