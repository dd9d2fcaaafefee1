"""Tries out a user's engine class before the first round: it must train clients as ``TrainerEngine`` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch.plugins import Precision
from torch import Tensor

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.private_torch import compiled_parts
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate
from fedlit.core.seeding import isolated_rng
from fedlit.engines.answers import answers
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine

#: The most clients and mini-batches of a trial, and its mu, which is large enough to detect a missing proximal term.
CLIENTS, STEPS, MU = 2, 3, 10.0
#: The greatest distance from the fit of ``TrainerEngine``, and from a repeated fit, relative to the fit's own change.
TOLERANCE, TOLERANCE_REPEATED = 0.02, 0.001
#: Two fits in float32 are closer than this, a fit in half precision is farther, relative to the fit's own change.
ROUNDING = 1e-4


def check_engine(
    engine: Engine, client: ClientModule, site: Site, sent: Broadcast, tasks: Sequence[ClientTask]
) -> None:
    """Refuse an engine whose updates differ from those of ``TrainerEngine``, or differ when they are repeated.

    A fit that fails is left to its round, and a compiled net is not tried, as that takes long.

    Args:
        engine: An engine of a user's class.
        client: The local problem, on the site's device; it is used for nothing else.
        site: Data, device and precision.
        sent: This round's broadcast.
        tasks: Tasks with at least one step.

    Raises:
        InputError: Naming the difference and the remedy; and the errors of `answers`.
    """
    if compiled_parts(client.net):
        return
    sent = sent._replace(mu=tuple(mu and MU for mu in sent.mu))
    tried = [task._replace(steps=min(task.steps, STEPS), kept=None, diagnose=False) for task in tasks[:CLIENTS]]
    client.receive(sent)
    found = [_trained(each, client, site, tried) for each in (TrainerEngine(), engine, engine)]
    engine.close()
    if any(weights is None for weights in found):
        return
    expected, first, again = (weights for weights in found if weights is not None)
    name, moved = type(engine).__name__, float((expected - sent.weights.floats).norm())
    if not math.isfinite(moved):
        return
    if _distance(first, again) > TOLERANCE_REPEATED * moved:
        raise InputError(
            f"{name} trains a client differently each time, from the same model, data and draws, so a resumed run "
            "would differ; keep nothing in the engine that changes later fits"
        )
    if site.precision.precision != "32-true":
        full = _trained(TrainerEngine(), client, replace(site, precision=Precision()), tried)
        if full is not None and _distance(full, first) < ROUNDING * moved < _distance(full, expected):
            raise InputError(
                f"{name} trains clients in 32-true, but trainer.precision is {site.precision.precision}; call "
                "client.training_step within site.precision.forward_context()"
            )
    if _distance(expected, first) > TOLERANCE * moved:
        raise InputError(
            f"{name} trains a client differently from TrainerEngine (with mu {MU:g} if it is not 0): take task.steps "
            "mini-batches of site.data.client_batches and call client.on_before_optimizer_step, "
            "which adds the proximal term, before each step; define another local problem in a ClientModule"
        )


def _trained(engine: Engine, client: ClientModule, site: Site, tasks: Sequence[ClientTask]) -> Tensor | None:
    """The weights (K, P) of the clients after their fits; None if a fit or the engine failed."""
    try:
        with isolated_rng(0, site.device), torch.enable_grad():
            given = {answer.task.client: answer for answer in answers(engine, client, tasks, site)}
    except InputError:
        raise
    except Exception:  # any kind; the round will raise it again
        return None
    updates = [update for task in tasks if isinstance(update := given[task.client], ClientUpdate)]
    return torch.stack([update.weights.floats for update in updates]) if len(updates) == len(tasks) else None


def _distance(first: Tensor, second: Tensor) -> float:
    """The norm of the difference; infinite if that is not a number."""
    return float((first - second).norm().nan_to_num(math.inf))
