"""Which engine suits a federation, when none was named."""

from __future__ import annotations

from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.engines.engine import Engine
from fedlit.engines.loop import LoopEngine, needs_trainer
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine
from fedlit.engines.workers import WorkersEngine, available_cores, can_fork


def auto(client: ClientModule, site: Site) -> Engine:
    """Choose an engine.

    - ``TrainerEngine`` where a client uses what only a Trainer runs: any hook or setting that ``LoopEngine`` does not
      know, learning-rate schedulers;
    - ``WorkersEngine`` on a CPU where this rank has more than one core to itself and the process can be forked;
    - ``LoopEngine`` otherwise: on a GPU, on a rank of one core, or after a GPU was used in this process.

    ``VectorizedEngine`` is for the user to choose: it is the fastest for many tiny clients and the slowest for
    convolutions on a CPU, and its results agree with the others' only to rounding.
    """
    if needs_trainer(client) or not isinstance(client.configure_optimizers(), Optimizer):
        return TrainerEngine()
    cores = available_cores() // site.processes
    if site.device.type == "cpu" and cores > 1 and can_fork():
        return WorkersEngine(workers=cores)
    return LoopEngine()
