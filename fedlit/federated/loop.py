"""The federated loop as a Lightning callback: who trains in a round, how much, and with which engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision

from fedlit.allocator import keep_freed_memory
from fedlit.data.module import FederatedData, data_of
from fedlit.engines.auto import auto
from fedlit.engines.engine import Engine
from fedlit.errors import InputError
from fedlit.federated.client import ClientModule
from fedlit.federated.records import ClientTask, ClientUpdate
from fedlit.federated.sampling import deal, steps_for, uniform_cohort
from fedlit.federated.stragglers import NoStragglers, Stragglers
from fedlit.seeding import resolve_seed

if TYPE_CHECKING:
    from fedlit.federated.module import FederatedModule


class FederatedLoop(Callback):
    """Turns a Trainer's epochs into federated rounds.

    Each round it draws a cohort, says how many mini-batches each client trains, and deals the clients to the ranks.
    The round itself is ``FederatedModule.training_step``.

    Args:
        clients_per_round: Size K of the cohort, at most the number of clients.
        local_epochs: Passes E of each client over its own data in a round, more than 0. A fraction of a pass is a
            number of mini-batches, at least one.
        seed: Seed of cohorts, batch order and dropout; none takes that of ``seed_everything``. The initial weights
            depend on ``seed_everything`` alone and the partition on ``data.seed``.
        stragglers: How much of its work each client does; none is all of it.
        engine: How clients are trained; none picks one by hardware: on a CPU a worker process a core
            (``fedlit.engines.WorkersEngine``), on a GPU ``fedlit.engines.LoopEngine``, and
            ``fedlit.engines.TrainerEngine`` where a client needs a Trainer around it.
        tune_allocator: Whether malloc keeps freed memory for the next step (Linux with glibc; elsewhere no effect).
    """

    def __init__(
        self,
        clients_per_round: int = 10,
        local_epochs: float = 2.0,
        seed: int | None = None,
        stragglers: Stragglers | None = None,
        engine: Engine | None = None,
        tune_allocator: bool = True,
    ) -> None:
        if clients_per_round < 1:
            raise InputError(f"clients_per_round must be at least 1, got {clients_per_round}")
        if not 0 < local_epochs < float("inf"):
            raise InputError(f"local_epochs must be a finite number > 0, got {local_epochs}; 0.5 is half a pass")
        self.clients_per_round = clients_per_round
        self.local_epochs = local_epochs
        self.seed = seed
        self.stragglers = stragglers or NoStragglers()
        self.engine = engine
        self.tune_allocator = tune_allocator
        self.client: ClientModule
        self.running: Engine
        self.work: dict[str, float] = {}
        self.on_update: list[Callable[[ClientUpdate], None]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data = data_of(trainer)
        if self.clients_per_round > data.num_clients:
            raise InputError(
                f"clients_per_round is {self.clients_per_round} but there are {data.num_clients} clients; "
                "lower federation.clients_per_round or raise data.num_clients"
            )
        self.stragglers.check(data.num_clients)
        self.seed = resolve_seed(self.seed)
        if self.tune_allocator:
            keep_freed_memory()
        data.rounds = Rounds(self, trainer)
        trainer.log_every_n_steps = 1  # type: ignore[attr-defined]  # a step is a round
        if isinstance(trainer.precision_plugin, MixedPrecision):
            # The server steps on a pseudo-gradient in float32: no loss is scaled, so there is nothing to unscale.
            trainer.precision_plugin.scaler = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: FederatedModule = pl_module  # type: ignore[assignment]
        data_of(trainer).to(trainer.strategy.root_device)
        self.client = module.make_client().to(trainer.strategy.root_device)
        self.running = self.engine or auto(self.client, trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.running.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if hasattr(self, "running"):
            self.running.close()

    def cohort(self, round: int, data: FederatedData) -> list[ClientTask]:
        """The tasks of a round: a function of (seed, round) and the partition, the same on every rank.

        Clients that are dropped have no task.
        """
        assert self.seed is not None
        sizes = data.partition.sizes
        clients = uniform_cohort(data.num_clients, self.clients_per_round, self.seed, round)
        work = self.stragglers.work(clients, self.local_epochs, self.seed, round)
        return [
            ClientTask(
                client=int(client),
                round=round,
                seed=self.seed,
                steps=steps_for(int(sizes[client]), data.batch_size, float(epochs)),
                epochs=float(epochs),
                num_examples=int(sizes[client]),
                weight=float(sizes[client]),
            )
            for client, epochs in zip(clients, work, strict=True)
            if epochs > 0
        ]

    def work_metrics(self, tasks: list[ClientTask]) -> dict[str, float]:
        """How a round's work compares with what was asked, in passes over clients' data."""
        return {
            "round/dropped": float(self.clients_per_round - len(tasks)),
            "round/partial": float(sum(task.epochs < self.local_epochs for task in tasks)),
            "round/epochs_asked": self.clients_per_round * self.local_epochs,
            "round/epochs_done": float(sum(task.epochs for task in tasks)),
        }

    def identity(self, data: FederatedData) -> dict[str, Any]:
        """What must be the same for a run to be resumed: the clients, their data, and the seed of all draws."""
        return {
            "number of clients": data.num_clients,
            "number of training samples": len(data.train),
            "partition hash": data.partition.hash,
            "federation seed": self.seed,
        }


class Rounds:
    """The training "dataloader" of a federation: an epoch is a round, and its one batch this rank's share of it.

    A round is one batch, so nothing that stops a Trainer between batches can cut a cohort in two.
    """

    def __init__(self, loop: FederatedLoop, trainer: Trainer) -> None:
        self._loop = loop
        self._trainer = trainer

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[list[ClientTask]]:
        tasks = self._loop.cohort(self._trainer.current_epoch, data_of(self._trainer))
        self._loop.work = self._loop.work_metrics(tasks)
        yield deal(tasks, self._trainer.world_size)[self._trainer.global_rank]
