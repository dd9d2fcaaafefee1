"""Which engine suits a federation, when none was named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.probe import assigned_attribute
from fedlit.core.records import ClientTask
from fedlit.engines.batchable import cannot_vectorize, fails_in_a_block
from fedlit.engines.engine import Engine
from fedlit.engines.loop import LoopEngine, needs_trainer
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine
from fedlit.engines.vectorized import VectorizedEngine
from fedlit.engines.workers import MOST, WorkersEngine, available_cores, can_fork

#: Clients of a block: with fewer a step's Python weighs more, with more a round has too few blocks for its cores.
BLOCK_SIZE = 25
#: The fewest clients of a round, two blocks of them.
LEAST_CLIENTS = 2 * BLOCK_SIZE
#: The most parameters, and parameters times samples of a batch: up to there blocks of linear layers train twice as fast
#: on a core as one client after the other, or faster (``python -m tests.benchmarks.choice``).
MOST_PARAMETERS = 125_000
MOST_PRODUCTS = 2_000_000


class Choice(NamedTuple):
    """An engine, and a line that says why it is this one.

    Attributes:
        engine: What trains the clients.
        why: For the user; empty where there is nothing to say.
        is_change: Whether the run trained its clients otherwise until now.
    """

    engine: Engine
    why: str = ""
    is_change: bool = False


def choose(client: ClientModule, site: Site, tasks: Sequence[ClientTask], together: int | None = None) -> Choice:
    """Choose an engine and say why.

    Engines that train blocks of clients agree with the others only to rounding. So whether they do depends on the run
    alone, never on the machine or its load; and a run that goes on keeps to what it began with.

    Args:
        client: The local problem.
        site: Where clients are trained.
        tasks: Those of the first round.
        together: For a run that goes on, how many clients it trained as one program; None for a new one.
    """
    if together is None:
        reason = prefers_one_by_one(client, site, tasks)
    elif together > 1:
        reason = _needs_trainer(client) or cannot_vectorize(client, site)
    else:
        reason = "the run began so"
    if reason is None:
        size = together or BLOCK_SIZE
        engine = auto(client, site, size, -(-len(tasks) // size))
        return Choice(engine, f"engine: {name_of(engine)}; many small clients train as one program, {size} at a time")
    engine, is_change = auto(client, site), (together or 1) > 1
    before = f" The run trained {together} clients as one program until now: its bits may differ." if is_change else ""
    return Choice(engine, f"engine: {name_of(engine)}; clients train one by one, as {reason}.{before}", is_change)


def auto(client: ClientModule, site: Site, together: int = 1, most_workers: int = MOST) -> Engine:
    """The engine for this hardware.

    - ``TrainerEngine`` where a client uses what only a Trainer runs: any hook or setting that ``LoopEngine`` does not
      know, learning-rate schedulers;
    - else ``LoopEngine``, or ``VectorizedEngine`` for clients that train ``together``, so many at a time;
    - in a ``WorkersEngine`` on a CPU where this rank has more than one core to itself and the process can be forked.
    """
    if _needs_trainer(client):
        return TrainerEngine()
    engine = LoopEngine() if together == 1 else VectorizedEngine(together)
    workers = available_cores() // site.processes
    if site.device.type == "cpu" and workers > 1 and can_fork() and together <= MOST:
        return WorkersEngine(engine, min(workers, max(1, most_workers)), block_size=together)
    return engine


def prefers_one_by_one(client: ClientModule, site: Site, tasks: Sequence[ClientTask]) -> str | None:
    """Why blocks of clients would not be faster, or cannot be; None where they are and can."""
    busy = sorted((task for task in tasks if task.steps), key=lambda task: -task.steps)
    if len(busy) < LEAST_CLIENTS:
        return f"a round has fewer than {LEAST_CLIENTS}"
    block_steps = sum(task.steps for task in busy[::BLOCK_SIZE])  # a block takes as many as its longest client
    if 2 * sum(task.steps for task in busy) < BLOCK_SIZE * block_steps:
        return "their numbers of steps are too uneven"
    for name, module in client.net.named_modules():
        if not isinstance(module, nn.Linear) and any(True for _ in module.parameters(recurse=False)):
            return f"{name or 'the net'} is a {type(module).__name__}"
    parameters = client.layout.num_trainable
    if parameters > MOST_PARAMETERS or parameters * site.data.batch_size > MOST_PRODUCTS:
        return f"{parameters:,} parameters and batches of {site.data.batch_size} keep a core busy"
    if site.precision.precision != "32-true":
        return f"the precision is {site.precision.precision}"
    return (
        _needs_trainer(client)
        or cannot_vectorize(client, site)
        or _assigns(client, site)
        or fails_in_a_block(client, site)
    )


def _needs_trainer(client: ClientModule) -> str | None:
    scheduled = not isinstance(client.configure_optimizers(), Optimizer)
    return needs_trainer(client) or (f"{type(client).__name__} has learning-rate schedulers" if scheduled else None)


def _assigns(client: ClientModule, site: Site) -> str | None:
    """What the network's code assigns to itself, in words: a counter of steps would count a whole block's as one."""
    data = site.data
    attribute = assigned_attribute(client.net, data.transform(data.train.inputs[:2]))
    return f"{type(client.net).__name__} assigns {attribute} as it computes" if attribute else None


def name_of(engine: Engine) -> str:
    """An engine's name; of one in worker processes also how many there are."""
    if not isinstance(engine, WorkersEngine):
        return type(engine).__name__
    return f"WorkersEngine of {engine.workers} {type(engine.engine).__name__}s"
