"""A fit that fails is an answer, not the end of the round."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from fedlit.core.errors import InputError
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask, ClientUpdate
from fedlit.core.seeding import isolated_fit_rng

#: Errors of the run and not of a client: a mistake in the config, a rank that is lost.
STOPS = (InputError, MisconfigurationException, dist.DistError)


def attempt(
    fit: Callable[[Sequence[ClientTask]], list[ClientUpdate]], tasks: Sequence[ClientTask]
) -> list[ClientAnswer]:
    """Fit clients together; where that fails, one by one, so that only those whose own fit fails are left out.

    Args:
        fit: From tasks to their updates. It may raise at any point, and be called again.
        tasks: At least one.

    Returns:
        The updates, and a failure for each client whose own fit raised an ``Exception``; running out of memory is one.

    Raises:
        InputError: And whatever else concerns the run as a whole: see ``STOPS``, and a GPU that fails.
    """
    try:
        with isolated_fit_rng():
            return [*fit(tasks)]
    except STOPS:
        raise
    except Exception as error:
        if device_failed(error):
            raise
        if len(tasks) == 1:
            return [failure(tasks[0], error)]
    # Only now are the frames of the error gone, and with them the memory that its tensors took.
    return [answer for task in tasks for answer in attempt(fit, [task])]


def device_failed(error: Exception) -> bool:
    """Whether a GPU reports an error, after which nothing runs on it; before torch 2.8 that has no class of its own."""
    return isinstance(error, getattr(torch, "AcceleratorError", ())) or str(error).startswith("CUDA error")


def failure(task: ClientTask, error: Exception) -> ClientFailure:
    """A failure with an error's text, but without the error, whose frames hold tensors."""
    reason = traceback.format_exception_only(error)[-1]
    return ClientFailure(task, " ".join(reason.split()), "".join(traceback.format_exception(error)))
