"""Chooses an engine for a federation that names none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.probe import assigned_attribute
from fedlit.core.records import ClientTask
from fedlit.engines.batchable import cannot_vectorize, fails_in_block
from fedlit.engines.engine import Engine
from fedlit.engines.loop import LoopEngine, needs_trainer
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine
from fedlit.engines.vectorized import VectorizedEngine
from fedlit.engines.workers import MAX_WORKERS, WorkersEngine, available_cores, cannot_fork

#: Clients in a block: with fewer, Python costs more of a step; with more, a round has too few blocks for its cores.
BLOCK_SIZE = 25
#: The fewest clients of a round for which blocks are used: two blocks.
MIN_CLIENTS = 2 * BLOCK_SIZE
#: The most parameters, and the most parameters times samples of a batch. Up to these limits, blocks of linear layers
#: train at least twice as fast on a core as one client after the other (``python -m tests.benchmarks.choice``).
MAX_PARAMETERS = 125_000
MAX_PARAMETER_SAMPLES = 2_000_000

#: A part of Lightning's error if a module without a Trainer asks for it.
NO_TRAINER = "not attached to a `Trainer`"


class Choice(NamedTuple):
    """An engine and the reason for choosing it.

    Attributes:
        engine: The engine.
        why: One line for the user; empty if the engine was given.
        is_change: Whether the resumed run trained its clients in another way until now.
    """

    engine: Engine
    why: str = ""
    is_change: bool = False


def choose(client: ClientModule, site: Site, tasks: Sequence[ClientTask], together: int | None = None) -> Choice:
    """Choose an engine.

    Engines that train blocks of clients agree with the others only to rounding. Therefore the use of blocks depends on
    the run alone, never on the machine or its load, and a resumed run keeps its choice.

    Args:
        client: The local problem.
        site: Data, device and precision.
        tasks: The tasks of the first round.
        together: For a resumed run, how many clients it trained as one program; None for a new run.
    """
    if together is None:
        reason = prefers_one_by_one(client, site, tasks)
    elif together > 1:
        reason = _needs_trainer(client) or cannot_vectorize(client, site)
    else:
        reason = "they did when the run began"
    if reason is None:
        size = together or BLOCK_SIZE
        engine, is_change = auto(client, site, size, -(-len(tasks) // size)), False
        how = f"many small clients train as one program, {size} at a time."
    else:
        engine, is_change = auto(client, site), (together or 1) > 1
        how = f"clients train one by one, as {reason}."
    if is_change:
        how += f" Until now it trained {together} clients as one program, so its bits may differ."
    could_use_workers = not isinstance(engine, TrainerEngine | WorkersEngine) and _cores_for_workers(site) > 1
    if could_use_workers and (obstacle := cannot_fork()):
        how += f" A worker process for each core would be faster, but {obstacle}."
    return Choice(engine, f"engine: {engine_name(engine)}; {how}", is_change)


def auto(client: ClientModule, site: Site, together: int = 1, most_workers: int = MAX_WORKERS) -> Engine:
    """The engine for this hardware.

    - ``TrainerEngine`` if a client uses what only a Trainer runs: learning-rate schedulers, or a hook or setting that
      ``LoopEngine`` does not support;
    - else ``LoopEngine``, or ``VectorizedEngine`` if ``together`` > 1 clients train as one program;
    - either in a ``WorkersEngine`` on a CPU, if this rank has more than one core and the process can be forked.
    """
    if _needs_trainer(client):
        return TrainerEngine()
    engine = LoopEngine() if together == 1 else VectorizedEngine(together)
    workers = _cores_for_workers(site)
    if workers > 1 and not cannot_fork() and together <= MAX_WORKERS:
        return WorkersEngine(engine, min(workers, max(1, most_workers)), block_size=together)
    return engine


def _cores_for_workers(site: Site) -> int:
    """How many cores this rank could give to workers; 1 on an accelerator."""
    return available_cores() // site.processes if site.device.type == "cpu" else 1


def prefers_one_by_one(client: ClientModule, site: Site, tasks: Sequence[ClientTask]) -> str | None:
    """Why blocks of clients would not be faster, or are not possible; None if they are both."""
    busy = sorted((task for task in tasks if task.steps), key=lambda task: -task.steps)
    if len(busy) < MIN_CLIENTS:
        return f"a round has fewer than {MIN_CLIENTS}"
    block_steps = sum(task.steps for task in busy[::BLOCK_SIZE])  # a block takes the steps of its longest client
    if 2 * sum(task.steps for task in busy) < BLOCK_SIZE * block_steps:
        return "their numbers of steps are too uneven"
    for name, module in client.net.named_modules():
        if not isinstance(module, nn.Linear) and any(True for _ in module.parameters(recurse=False)):
            return f"{name or 'the net'} is a {type(module).__name__}"
    parameters = client.layout.num_trainable
    if parameters > MAX_PARAMETERS or parameters * site.data.batch_size > MAX_PARAMETER_SAMPLES:
        return f"{parameters:,} parameters and batches of {site.data.batch_size} keep a core busy"
    if site.precision.precision != "32-true":
        return f"the precision is {site.precision.precision}"
    return (
        _needs_trainer(client)
        or cannot_vectorize(client, site)
        or _assigned_attribute(client, site)
        or fails_in_block(client, site)
    )


def _needs_trainer(client: ClientModule) -> str | None:
    try:
        scheduled = not isinstance(client.configure_optimizers(), Optimizer)
    except RuntimeError as error:
        if NO_TRAINER not in str(error):
            raise
        return f"{type(client).__name__}.configure_optimizers asks for its Trainer"
    return needs_trainer(client) or (f"{type(client).__name__} has learning-rate schedulers" if scheduled else None)


def _assigned_attribute(client: ClientModule, site: Site) -> str | None:
    """A reason if the network's code assigns an attribute: a counter of steps would count a block's step as one."""
    data = site.data
    attribute = assigned_attribute(client.net, data.transform(data.train.inputs[:2]))
    return f"{type(client.net).__name__} assigns {attribute} as it computes" if attribute else None


def engine_name(engine: Engine) -> str:
    """An engine's name, with the number of worker processes if it has any."""
    if not isinstance(engine, WorkersEngine):
        return type(engine).__name__
    return f"WorkersEngine of {engine.workers} {type(engine.engine).__name__}s"
