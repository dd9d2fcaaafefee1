"""Which version of the loops in C runs: by the processor, never by timing, so that a run's bits do not depend on load.

A version is for one width of vectors. All of them give the same bits; PyTorch's kernels give the same to rounding.
PyTorch chooses its own kernels by the processor as well, so a run's record names both.
"""

from __future__ import annotations

import os
from functools import cache

import torch

from fedlit.core.errors import InputError
from fedlit.native import NEWEST, library

#: Environment variable that names a version instead.
VARIABLE = "FEDLIT_KERNELS"
#: The name of no version: PyTorch's kernels alone.
PYTORCH = "torch"
#: What a processor can run, the widest first, by what PyTorch finds in it (``ATEN_CPU_CAPABILITY`` lowers that).
RUNNABLE = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}
#: And where PyTorch names nothing, or one of the extensions of arm64: on other processors it is not compiled.
ELSEWHERE = ("neon",)
#: Versions that were measured to be faster than PyTorch's kernels (``python -m tests.benchmarks.native``). NEON was not
#: measured yet, and runs only where it is named.
MEASURED = ("avx512", "avx2")


def runnable() -> tuple[str, ...]:
    """The versions that were compiled and that this processor can run, the widest first."""
    compiled = library("conv_pool")
    found = RUNNABLE.get(torch.backends.cpu.get_cpu_capability(), ELSEWHERE)
    return tuple(version for version in found if hasattr(compiled, f"{NEWEST}_{version}"))


def choose(name: str | None) -> str:
    """The version of that name; of none the widest that is measured to be faster than PyTorch, or ``torch``.

    Raises:
        InputError: When this processor cannot run it, or it was not compiled.
    """
    possible = (*runnable(), PYTORCH)
    if not name:
        return next(version for version in possible if version in (*MEASURED, PYTORCH))
    if name not in possible:
        raise InputError(
            f"{VARIABLE} must be {' or '.join(possible)} on this processor as fedlit was installed, got {name!r}; "
            "leave it out for the fastest"
        )
    return name


@cache
def version() -> str:
    """The version that runs in this process."""
    return choose(os.environ.get(VARIABLE))


def kernels_on(device: torch.device) -> str:
    """Whose kernels run on a device, for a run's record: ``avx2 beside PyTorch's AVX2``."""
    if device.type != "cpu":
        return f"PyTorch's {device.type}"
    of_pytorch = f"PyTorch's {torch.backends.cpu.get_cpu_capability()}"
    return of_pytorch if version() == PYTORCH else f"{version()} beside {of_pytorch}"


def other_kernels(then: object, now: str) -> str | None:
    """One line where a record names other kernels; None where they are the same, or the record is too old to say."""
    if then is None or then == now:
        return None
    return f"the run was begun with other kernels, {then}, and goes on with {now}: its bits may differ from here on"
