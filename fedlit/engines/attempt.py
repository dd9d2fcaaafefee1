"""Turns a client's failed fit into an answer, so that it does not end the round."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from fedlit.core.errors import InputError
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask, ClientUpdate
from fedlit.core.seeding import isolated_fit_rng

#: Errors that concern the whole run, not one client: a mistake in the config, a lost rank.
RUN_ERRORS = (InputError, MisconfigurationException, dist.DistError)


def attempt(
    fit: Callable[[Sequence[ClientTask]], list[ClientUpdate]], tasks: Sequence[ClientTask]
) -> list[ClientAnswer]:
    """Fit clients together; if that fails, one by one, so that only clients whose own fit fails are left out.

    Args:
        fit: From tasks to their updates. It may raise at any point, and may be called again.
        tasks: At least one.

    Returns:
        The updates, and a failure for each client whose own fit raised an ``Exception``, such as running out of memory.

    Raises:
        InputError: And other errors that concern the whole run: those of ``RUN_ERRORS``, and a GPU that fails.
    """
    try:
        with isolated_fit_rng():
            return [*fit(tasks)]
    except RUN_ERRORS:
        raise
    except Exception as error:
        if device_failed(error):
            raise
        if len(tasks) == 1:
            return [failure(tasks[0], error)]
    # Outside of the except block, as the error's frames would keep the memory of their tensors.
    return [answer for task in tasks for answer in attempt(fit, [task])]


def device_failed(error: Exception) -> bool:
    """Whether an error is of a GPU, which is unusable afterwards; before torch 2.8 it has no class of its own."""
    return isinstance(error, getattr(torch, "AcceleratorError", ())) or str(error).startswith("CUDA error")


def failure(task: ClientTask, error: Exception) -> ClientFailure:
    """A failure with an error's text, not the error itself, whose frames hold tensors."""
    reason = traceback.format_exception_only(error)[-1]
    return ClientFailure(task, " ".join(reason.split()), "".join(traceback.format_exception(error)))
