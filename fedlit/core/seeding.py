"""Randomness is addressed, never consumed: every draw has a generator of its own.

Its address is ``(seed, purpose, *index)``, for example ``(seed, "batches", round, client, epoch)``. No draw depends on
how many were made before it, so a run resumes to the bit, the number of ranks does not matter, and variants compared at
one seed share partition, cohorts, stragglers and batch order.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch

#: These replace NumPy's global generator during a data set's transforms, and during the client's fit around them.
TRANSFORMS_RNG, FITS_RNG = np.random.MT19937(), np.random.MT19937()


def address(seed: int, purpose: str, *index: int) -> int:
    """Hash an address to a seed in [0, 2**63).

    BLAKE2b, unlike Python's ``hash`` or arithmetic on the parts, gives the same seed on every machine and unrelated
    seeds for neighbouring addresses.
    """
    text = "/".join((str(seed), purpose, *map(str, index)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *index: int) -> torch.Generator:
    """A CPU ``torch.Generator`` at an address."""
    return torch.Generator().manual_seed(address(seed, purpose, *index))


def rng(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A NumPy generator at an address."""
    return np.random.default_rng(address(seed, purpose, *index))


def reseed(device: torch.device, seed: int) -> None:
    """Seed the generator that layers such as dropout draw from on a device.

    ``torch.manual_seed`` is not used on a CPU: without a GPU, each call queues another call for each kind of device,
    with a formatted stack trace. That takes longer than a small fit and is never freed.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    elif device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def reseed_all(device: torch.device, seed: int) -> None:
    """Seed all global generators: PyTorch's on the CPU and on a device, NumPy's and Python's.

    The seed may be any whole number; PyTorch and NumPy get the remainder that they can take.
    """
    for each in {torch.device("cpu"), device}:
        reseed(each, seed % 2**64)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


@contextmanager
def isolated_rng(seed: int, device: torch.device, meanwhile: np.random.MT19937 = TRANSFORMS_RNG) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python within the block, and restore them afterwards.

    For other libraries that draw from them, such as torchvision's transforms. It takes 0.1 ms: NumPy's generator is
    swapped for ``meanwhile``, because reading and setting its state would take several times as long.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _swapped_rng(meanwhile):
        reseed_all(device, seed)
        yield


def isolated_fit_rng() -> AbstractContextManager[None]:
    """Restore NumPy's and Python's global generators after a fit, which calls ``reseed_all``."""
    return _swapped_rng(FITS_RNG)


@contextmanager
def _swapped_rng(meanwhile: np.random.MT19937) -> Iterator[None]:
    of_numpy, of_python = np.random.get_bit_generator(), random.getstate()  # type: ignore[attr-defined]
    np.random.set_bit_generator(meanwhile)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        np.random.set_bit_generator(of_numpy)  # type: ignore[attr-defined]
        random.setstate(of_python)


def global_rng_state() -> tuple[object, ...]:
    """The state of PyTorch's (CPU), NumPy's and Python's global generators; it differs after any draw."""
    return torch.get_rng_state().tolist(), random.getstate(), pickle.dumps(np.random.get_state())  # noqa: NPY002


def resolve_seed(seed: int | None) -> int:
    """``seed`` itself, or for ``None`` the seed of ``lightning.seed_everything`` (0 if it was never called)."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
