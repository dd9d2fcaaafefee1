"""Evaluates pieces of a batch in parallel, one on each core of a CPU, if that changes nothing but the time."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from fedlit.core.private_torch import compiled_parts, has_global_hooks, has_hooks, has_modes, own_buffers
from fedlit.models.joined import joined

T = TypeVar("T")
Piece = tuple[Tensor, ...]


#: Networks that were found to change their state, or to draw random numbers.
_NOT_PURE: WeakSet[nn.Module] = WeakSet()


def map_pieces(evaluate: Callable[..., T], modules: nn.ModuleList, pieces: Sequence[Piece]) -> list[T]:
    """``evaluate(*modules, *piece)`` for each piece, in their order.

    On a CPU the pieces are evaluated in parallel, each by one thread, if no module is in training mode or has a hook,
    if gradients, autocast, tracers and other modes of PyTorch are off, and if the modules only read their state. There
    are as many threads as PyTorch has. Each thread has a copy of the modules that shares their parameters and has
    layers `joined`. If a copy changed an attribute or a buffer, or drew random numbers, the results are discarded.
    Then, and in all later calls, the modules themselves evaluate one piece after the other, as in all other cases.

    One thread for each piece takes less time than all threads on one piece after the other, above all on a busy
    machine, and gives the same bits for any number of threads.
    """
    if pieces and modules[0] not in _NOT_PURE and _may_use_threads(modules, pieces[0][0]):
        found = _by_copies(evaluate, modules, pieces, min(torch.get_num_threads(), len(pieces)))
        if found is not None:
            return found
        _NOT_PURE.add(modules[0])
    return [evaluate(*modules, *piece) for piece in pieces]


def _may_use_threads(modules: nn.ModuleList, inputs: Tensor) -> bool:
    """Whether the conditions for threads hold, as far as they are known before evaluation."""
    return (
        inputs.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not has_modes()
        and not has_global_hooks()
        and not any(each.training or has_hooks(each) for each in _within(modules))
        and not compiled_parts(modules)  # a copy is compiled anew
    )


def _by_copies(
    evaluate: Callable[..., T], modules: nn.ModuleList, pieces: Sequence[Piece], threads: int
) -> list[T] | None:
    """The results of copies on that many threads; None if a module cannot be copied, changes, or draws."""
    try:
        with torch.inference_mode(False):
            copies = [joined(copy.deepcopy(modules, {id(p): p for p in modules.parameters()})) for _ in range(threads)]
    except Exception:  # a user's class may raise any kind
        return None
    before, rng_state = [_contents(each) for each in copies], torch.get_rng_state()
    free = deque(copies)
    inference, all_threads = torch.is_inference_mode_enabled(), torch.get_num_threads()

    def of_one(piece: Piece) -> T:
        mine = free.popleft()  # there are as many copies as threads
        torch.set_num_threads(1)  # in each call, as some libraries set it for the whole process; it is restored below
        try:
            with torch.no_grad(), torch.inference_mode(inference):
                return evaluate(*mine, *piece)
        finally:
            free.append(mine)

    if threads == 1:
        found = list(map(of_one, pieces))
    else:
        try:
            found = _in_order(_pool(os.getpid(), threads), of_one, pieces)
        finally:
            torch.set_num_threads(all_threads)
    drew = not torch.equal(rng_state, torch.get_rng_state())
    if drew or not all(map(_is_same, before, map(_contents, copies))):
        torch.set_rng_state(rng_state)
        return None
    return found


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """A permanent pool of threads for a process; a fork does not inherit its parent's threads and gets its own pool."""
    return ThreadPoolExecutor(threads, f"pieces of {process}")


def _in_order(pool: ThreadPoolExecutor, call: Callable[[Piece], T], pieces: Sequence[Piece]) -> list[T]:
    """The results in order; afterwards, also after an error, no thread works on a piece any more."""
    futures = [pool.submit(call, piece) for piece in pieces]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _contents(modules: nn.ModuleList) -> list[tuple[Any, int]]:
    """All attributes and buffers, each with a number that changes when it is written to."""
    parts = (part for each in _within(modules) for part in (vars(each), own_buffers(each)))
    return [(value, _count(value)) for part in parts for value in part.values()]


def _count(value: Any) -> int:
    match value:
        case Tensor():
            return 0 if value.is_inference() else value._version
        case list() | dict() | set():
            return len(value)
        case _:
            return 0


def _is_same(before: list[tuple[Any, int]], after: list[tuple[Any, int]]) -> bool:
    pairs = zip(before, after, strict=False)
    return len(before) == len(after) and all(a is b and m == n for (a, m), (b, n) in pairs)


def _within(modules: nn.ModuleList) -> list[nn.Module]:
    """The modules and their submodules, without the list itself."""
    return [each for module in modules for each in module.modules()]
