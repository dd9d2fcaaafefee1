"""The federated loop as a Lightning callback: it selects each round's clients, their work, and the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from fedlit import native
from fedlit.algorithms.algorithm import Algorithm, Averaging, Facts, State
from fedlit.algorithms.chained import chain
from fedlit.algorithms.personal import warn_of_local
from fedlit.algorithms.trial import check_algorithm
from fedlit.clients.client import ClientModule
from fedlit.clients.members import check_called
from fedlit.clients.nets import check_same_net
from fedlit.clients.probe import check_single_examples
from fedlit.clients.store import ClientStore
from fedlit.core.allocator import keep_freed_memory
from fedlit.core.counts import as_int
from fedlit.core.errors import InputError
from fedlit.core.files import free_name, is_name_of
from fedlit.core.given import Checked, check_made, object_of, one_of
from fedlit.core.layout import trainable
from fedlit.core.limits import COUNT_MAX
from fedlit.core.messages import one_line
from fedlit.core.origin import is_fedlit_class
from fedlit.core.private_lightning import log_epochs_from_one
from fedlit.core.ranks import is_distributed
from fedlit.core.records import Broadcast, ClientAnswer, ClientTask, Cohort
from fedlit.core.seeding import address, isolated_rng, reseed_all, resolve_seed
from fedlit.data.checks import check_ranks
from fedlit.data.module import FederatedData, RoundSource, data_of
from fedlit.engines.answers import users_engine
from fedlit.engines.auto import Choice, choose
from fedlit.engines.engine import Engine
from fedlit.engines.engine_trial import check_engine
from fedlit.engines.site import Site
from fedlit.engines.trial import check_client, warn_of_objective
from fedlit.federated.callback_checks import (
    check_monitored,
    check_states,
    check_watched,
    monitor_of_clients,
    stop_again,
)
from fedlit.federated.checkpointed import resume_from, write_record
from fedlit.federated.cohort import check_repeats, check_unchanged, draw_cohort, draw_work
from fedlit.federated.diagnostics import Diagnostics
from fedlit.federated.fixed import FixedParts
from fedlit.federated.meter import ATTENTION
from fedlit.federated.round import RoundResult, run_round
from fedlit.federated.saved_rounds import SavedRounds
from fedlit.federated.session import Session
from fedlit.federated.subclass import check_parts, check_server_optimizer
from fedlit.federated.trainer_settings import last_round
from fedlit.native import versions
from fedlit.sampling import Sampling, UniformSampling, distribute, steps_for
from fedlit.stragglers import NoStragglers, Stragglers

if TYPE_CHECKING:
    from fedlit.federated.module import FederatedModule

#: Subfolder of a run for the vectors that clients keep between rounds.
CLIENTS_FOLDER = "clients"
#: The most passes in one round; a larger number is taken for a mistake.
MAX_EPOCHS = 1_000_000
#: The most rounds whose cohorts are drawn before the first one; a draw takes 0.1 ms, and some from a million clients.
MOST_CHECKED = 1000


def _clients_per_round(value: Any) -> int:
    if not 1 <= (count := as_int("clients_per_round", value)) <= COUNT_MAX:
        raise InputError(f"clients_per_round must be at least 1, got {count}; the default is 10")
    return count


def _local_epochs(value: float) -> float:
    if not 0 < value <= MAX_EPOCHS:
        raise InputError(
            f"local_epochs must be > 0 and at most {MAX_EPOCHS:,}, got {value}; 2 is the default, 0.5 half a pass"
        )
    return value


def _max_rejected(value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"max_rejected must be from 0 to 1, got {value}; 1 never stops")
    return value


def _sampling(value: Any) -> Sampling:
    sampling: Sampling = object_of(
        "sampling", UniformSampling() if value is None else value, Sampling, "UniformSampling()"
    )
    if not hasattr(sampling, "by_size"):
        raise InputError(
            f"{type(sampling).__name__} does not define by_size; set it in the class: True if a client's probability "
            "grows with its size, else False"
        )
    return sampling


def _stragglers(value: Any) -> Stragglers:
    stragglers: Stragglers = object_of(
        "stragglers", NoStragglers() if value is None else value, Stragglers, "PartialWork(0.5)"
    )
    return stragglers


def _algorithm(value: Any) -> Algorithm:
    parts = value if isinstance(value, list | tuple) else [Algorithm() if value is None else value]
    return chain(*(object_of("algorithm", part, Algorithm, "Scaffold(), or None for FedProx") for part in parts))


def _diagnostics(value: Any) -> Diagnostics | None:
    return None if value is None else object_of("diagnostics", value, Diagnostics, "Diagnostics()")


def _engine(value: Any) -> Engine | None:
    return None if value is None else object_of("engine", value, Engine, "WorkersEngine(), or None for a choice")


class FederatedLoop(Checked, Callback, RoundSource):
    """Turns a Trainer's epochs into federated rounds.

    Each round it draws a cohort, sets how many mini-batches each client trains, and distributes the clients over the
    ranks. The round itself is ``FederatedModule.training_step``. All arguments are attributes; what is set between two
    fits takes effect in the second.

    Args:
        clients_per_round: Size K of the cohort; at most the number of clients if they are drawn without replacement.
        local_epochs: Passes E of each client over its own data in a round, more than 0. A fraction of a pass is a
            number of mini-batches, at least one.
        seed: Seed of cohorts, batch order and dropout; None takes that of ``seed_everything``. The initial weights
            depend on ``seed_everything`` alone and the partition on ``data.seed``.
        sampling: How cohorts are drawn; None is ``fedlit.federated.UniformSampling``: uniformly, without replacement.
        averaging: Weights of the clients' models in the average: their sizes n_k, or uniform. None is what the sampling
            requires: sizes after uniform draws, uniform after draws by size.
        stragglers: How much of its work each client does; None is all of it.
        algorithm: An algorithm of ``fedlit.algorithms``, or a list of them to be combined by
            ``fedlit.algorithms.chain``; None is FedAvg and FedProx.
        diagnostics: Measurements beyond the usual metrics, and how often they are made; None is no such measurements.
        engine: How clients are trained. None is an automatic choice: many small clients with linear layers in blocks
            (``fedlit.engines.VectorizedEngine``), others one by one (``fedlit.engines.LoopEngine``); on a CPU either in
            one worker process per core (``fedlit.engines.WorkersEngine``); and ``fedlit.engines.TrainerEngine`` if a
            client needs a Trainer. ``fedlit fit`` first prints which engine it uses and why; a resumed run keeps it.
        tune_allocator: Whether malloc keeps freed memory for the next step (Linux with glibc; elsewhere no effect).
        max_rejected: Share of a round's clients, 0 to 1, that may be left out because their fit failed (by an error, or
            out of memory), or their weights or loss are not finite; with more, the run stops. 0 stops at the first one,
            showing the whole error; 1 never stops. Finite updates count, however large they are; to limit them, use
            ``fedlit.algorithms.ClippedMean``.
    """

    _checks: ClassVar = {
        "clients_per_round": _clients_per_round,
        "local_epochs": _local_epochs,
        "sampling": _sampling,
        "stragglers": _stragglers,
        "algorithm": _algorithm,
        "diagnostics": _diagnostics,
        "engine": _engine,
        "max_rejected": _max_rejected,
    }
    _session: Session | None = None

    def __init__(
        self,
        clients_per_round: int = 10,
        local_epochs: float = 2.0,
        seed: int | None = None,
        sampling: Sampling | None = None,
        averaging: Averaging | None = None,
        stragglers: Stragglers | None = None,
        algorithm: Algorithm | list[Algorithm] | None = None,
        diagnostics: Diagnostics | None = None,
        engine: Engine | None = None,
        tune_allocator: bool = True,
        max_rejected: float = 0.5,
    ) -> None:
        self.clients_per_round = clients_per_round
        self.sampling: Sampling = _sampling(sampling)
        self.averaging = averaging
        self._check_weights()
        self.local_epochs = local_epochs
        self.seed = seed
        self._seed_of_fit: int | None = None
        self._forget()
        self.stragglers: Stragglers = _stragglers(stragglers)
        self.algorithm: Algorithm = _algorithm(algorithm)
        self.max_rejected = max_rejected
        self.diagnostics = diagnostics
        self.folder: Path | None = None  # of the run; None is the Trainer's
        self.engine = engine
        self.tune_allocator = tune_allocator
        self.on_update: list[Callable[[ClientAnswer], None]] = []  # called for failed fits too
        self.saved_rounds = SavedRounds()

    def _forget(self) -> None:
        """Set what is learned in a fit, or from a checkpoint, to its initial values."""
        self.algorithm_state: State = {}
        self._is_resumed = self._has_skipped_steps = False
        self._local: list[str] | None = None  # names of the tensors that stay with clients; None if unknown
        self._name_of_folder: str | None = None  # of the clients' vectors, if the run has no folder of its own
        self._together: int | None = None  # number of clients trained as one program; None until it is known

    @property
    def seed(self) -> int:
        """Seed of all draws: the given one, else that of ``seed_everything`` when the fit began."""
        return resolve_seed(self._seed) if self._seed_of_fit is None else self._seed_of_fit

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self._seed = None if seed is None else as_int("seed", seed)

    @property
    def averaging(self) -> Averaging:
        """Weights of the clients' models: the given ones, else those that the sampling requires."""
        return self._averaging or ("uniform" if self.sampling.by_size else "size")

    @averaging.setter
    def averaging(self, averaging: Averaging | None) -> None:
        self._averaging = None if averaging is None else one_of("averaging", averaging, get_args(Averaging))

    def _check_weights(self) -> None:
        if self.sampling.by_size and self._averaging == "size":
            raise InputError(
                f"{type(self.sampling).__name__} with averaging by size counts a client's size twice, in its "
                "probability and in its weight; leave federation.averaging out, or use "
                "fedlit.federated.UniformSampling"
            )

    @property
    def session(self) -> Session:
        """Client, engine, site and store of the running fit.

        Raises:
            RuntimeError: If no fit is running.
        """
        if self._session is None:
            raise RuntimeError("no fit is running: a FederatedLoop has a session only during a fit")
        return self._session

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_made(self, "on_update")
        if is_distributed():
            check_ranks(data_of(trainer).contents)
        if stage != "fit":
            warn_of_local(self.algorithm)
            return
        module: FederatedModule = pl_module  # type: ignore[assignment]
        module.check_trainer()  # again, as a subclass may override the hook that calls it first
        self._close()  # a fit that ended by an error of another callback's on_exception
        self._check_weights()
        data = data_of(trainer)
        if self.clients_per_round > data.num_clients and not self.sampling.by_size:
            raise InputError(
                f"clients_per_round is {self.clients_per_round} but there are {data.num_clients} clients; "
                "lower federation.clients_per_round or raise data.num_clients"
            )
        self.stragglers.check(data.num_clients)
        self._seed_of_fit = resolve_seed(self._seed)
        self._forget()
        versions.version()  # refuses an invalid FEDLIT_KERNELS
        if self.tune_allocator:
            keep_freed_memory()
        trainer.log_every_n_steps = 1  # type: ignore[attr-defined]  # a step is a round
        if isinstance(trainer.precision_plugin, MixedPrecision):
            # The server's pseudo-gradient is float32 and comes from no scaled loss.
            trainer.precision_plugin.scaler = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: FederatedModule = pl_module  # type: ignore[assignment]
        if trainer.current_epoch and not self._is_resumed:
            raise InputError(
                f"this Trainer has finished {trainer.current_epoch} rounds, and the state of the server's optimizer is "
                "lost; make a new Trainer, and to resume give its fit a ckpt_path"
            )
        check_parts(module)
        site = Site.of(trainer)
        site.data.to(site.device)
        if site.device.type == "cpu" and (slower := native.shortfall()):
            rank_zero_warn(slower)
        facts = self.facts(module, site.data)
        module.rates.measure("client", facts.optimizer)
        if self.diagnostics:
            self.diagnostics.check(module.layout)
        self.algorithm.prepare(facts)
        self._check_local()
        self.algorithm.resume(self.algorithm_state)
        resources = ExitStack()
        folder = self._folder_of_clients(trainer, resources) if self.algorithm.kept_size else None
        store = ClientStore(folder, trainer.global_rank) if folder else None
        client = module.make_client().to(site.device)
        check_called(client)
        check_same_net(client, client.net, client.layout, client.parameters_)
        check_single_examples(client, site.data)
        check_monitored(trainer, module)
        check_states(trainer)
        tasks = self.cohort(trainer.current_epoch, site.data)
        self._check_repeats(trainer, site.data)
        self._check_cohorts(trainer, site.data)
        check_algorithm(self.algorithm, module.layout, client.net, _with_steps(tasks))
        choice = Choice(self.engine) if self.engine else choose(client, site, tasks, self._together)
        resources.enter_context(isolated_rng(self.seed, site.device, np.random.MT19937()))
        resources.callback(choice.engine.close)
        fixed = FixedParts(module, site.data)
        self._session = Session(site, client, choice.engine, fixed, resources, store, choice.why)
        choice.engine.check(client, site)
        self._together = choice.engine.together
        if choice.is_change:
            rank_zero_warn(choice.why)

    def _check_repeats(self, trainer: Trainer, data: FederatedData) -> None:
        rounds = range(trainer.current_epoch, last_round(trainer, trainer.current_epoch + 8))
        check_repeats(lambda round: self.cohort(round, data), rounds, self.sampling, self.stragglers)

    def _check_cohorts(self, trainer: Trainer, data: FederatedData) -> None:
        """Refuse a fit that would end in a round in which fewer clients train than an algorithm or a callback needs."""
        fewest, monitor = self.algorithm.fewest_clients, monitor_of_clients(trainer)
        if fewest <= 1 and monitor is None:
            return
        for round in range(last_round(trainer, MOST_CHECKED)):
            tasks = self.cohort(round, data)
            training = len(_with_steps(tasks))
            if monitor and not training:
                raise InputError(
                    f"trainer.callbacks: {monitor}, which round {round + 1} does not have, as none of its clients "
                    "trains: all are dropped or have no examples; let it monitor global/loss, for example, or raise "
                    "federation.clients_per_round"
                )
            if 0 < training < fewest:
                raise InputError(
                    f"federation.algorithm {self.algorithm.name} needs the updates of at least {fewest} clients in "
                    f"each round, but in round {round + 1} only {training} train: of {self.clients_per_round}, "
                    f"{self.clients_per_round - len(tasks)} are repeated draws, and {len(tasks) - training} are "
                    "dropped or have no examples; raise federation.clients_per_round, or let the algorithm need fewer"
                )

    def _check_local(self) -> None:
        """Refuse to resume with other tensors that stay with clients: they would start from those of the others."""
        here = sorted(self.algorithm.local)
        if self._local not in (None, here):
            names, before = (one_line(", ".join(tensors), 100) or "nothing" for tensors in (here, self._local or ()))
            raise InputError(
                f"federation.algorithm {self.algorithm.name} keeps {names} with the clients, but until now kept "
                f"{before}; use the run's config.yaml, or start anew without --ckpt_path"
            )
        self._local = here

    def facts(self, module: FederatedModule, data: FederatedData) -> Facts:
        """What an algorithm may know about the federation."""
        return Facts(
            layout=module.layout,
            net=module.net,
            optimizer=_optimizer_of_a_fit(module),
            mu=module.mu,
            clip_norm=module.client_clip_norm,
            num_clients=data.num_clients,
            clients_per_round=self.clients_per_round,
            sampling=self.sampling,
            averaging=self.averaging,
            seed=self.seed,
        )

    def _folder_of_clients(self, trainer: Trainer, resources: ExitStack) -> Path:
        """The folder of the clients' vectors, the same on every rank: in the run's folder if any, else temporary."""
        folder = trainer.strategy.broadcast(self.folder)
        if folder is not None:
            return folder / CLIENTS_FOLDER
        if not trainer.loggers and not trainer.checkpoint_callbacks:
            temporary = resources.enter_context(TemporaryDirectory(prefix="fedlit_clients_"))
            return Path(trainer.strategy.broadcast(temporary))
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        self._name_of_folder = trainer.strategy.broadcast(self._name_of_folder or free_name(folder, CLIENTS_FOLDER))
        return folder / self._name_of_folder

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        module: FederatedModule = pl_module  # type: ignore[assignment]
        write_record(module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        module: FederatedModule = pl_module  # type: ignore[assignment]
        resume_from(module, checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: FederatedModule = pl_module  # type: ignore[assignment]
        check_server_optimizer(trainer, module)
        check_watched(trainer, module)
        if self._is_resumed:
            stop_again(trainer, module)
        self.session.fixed.check(module, trainer.optimizers[0])
        log_epochs_from_one(trainer)
        self._try_out(module, trainer.current_epoch)
        if (store := self.session.store) is not None:  # now the checkpoint's rounds are known
            if trainer.is_global_zero:
                store.rewind(trainer.current_epoch, self._trained(trainer.current_epoch))
            trainer.strategy.barrier()

    def _try_out(self, module: FederatedModule, round: int) -> None:
        """Check a client and an engine of the user's classes by fits that have no effect on the run."""
        site, engine = self.session.site, users_engine(self.session.engine)
        own_client = not is_fedlit_class(self.session.client)
        busy = _with_steps(self.cohort(round, site.data)) if own_client or engine else []
        if not busy:
            return
        client, sent = module.make_client().to(site.device), module.broadcast()
        if own_client:
            check_client(client, site, sent, busy[0])
        if own_client and self.diagnostics is not None:
            warn_of_objective(client, site, sent, busy[0])
        if engine is not None:
            check_engine(engine, client, site, sent, busy)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seed_global_generators("round", trainer.current_epoch)
        if (store := self.session.store) is not None:
            prunes = trainer.is_global_zero and trainer.current_epoch > 0
            store.begin(self.saved_rounds.of(trainer) if prunes else ())

    def _trained(self, finished: int) -> dict[int, int]:
        """For each client that trained in the finished rounds, the last round in which it did."""
        tasks = (task for round in range(finished) for task in self.cohort(round, self.session.site.data))
        return {task.client: task.round for task in tasks if task.steps}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":  # not earlier, as hooks at a fit's end may draw cohorts
            self._seed_of_fit = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave(pl_module)
        self._seed_of_fit = None

    def _leave(self, pl_module: LightningModule) -> None:
        module: FederatedModule = pl_module  # type: ignore[assignment]
        if self._session is not None:
            module.mu.leave()
            module.rates.leave()
        self._close()

    def _close(self) -> None:
        if self._session is not None:
            self._session.resources.close()
            self._session = None

    def rounds(self, trainer: Trainer) -> Iterable[Cohort]:
        return Rounds(self, trainer)

    @property
    def blocks(self) -> Mapping[str, str]:
        """Blocks of parameters whose drift is measured separately."""
        return self.diagnostics.blocks if self.diagnostics else ATTENTION

    def run(self, sent: Broadcast, tasks: Sequence[ClientTask]) -> tuple[RoundResult, dict[str, float]]:
        """Run one round, see ``run_round``; also returns what the diagnostics measured before it."""
        session, diagnostics = self.session, self.diagnostics
        measured = {}
        if diagnostics is not None and diagnostics.due(sent.round):
            session.client.receive(sent)
            with torch.enable_grad():
                measured = diagnostics.before(session.client, session.site.data)
        result = run_round(
            sent,
            tasks,
            session.client,
            session.engine,
            self.algorithm,
            session.site,
            state=self.algorithm_state,
            blocks=self.blocks,
            max_rejected=self.max_rejected,
            listeners=self.on_update,
            store=session.store,
        )
        self.algorithm_state = result.state
        self._warn_of_skipped_steps(result)
        self._seed_global_generators("server", sent.round)
        return result, measured

    def _warn_of_skipped_steps(self, result: RoundResult) -> None:
        """Say it once in a fit if gradients overflow float16."""
        if result.metrics.get("round/skipped_steps") and not self._has_skipped_steps:
            self._has_skipped_steps = True
            rank_zero_warn(
                "gradients of clients overflow float16; their steps are skipped, though algorithms count them, and "
                "round/skipped_steps is their number; set trainer.precision to bf16-mixed or 32-true, or lower the "
                "learning rate of model.client_optimizer"
            )

    def _seed_global_generators(self, purpose: str, round: int) -> None:
        """Let other code, such as callbacks, draw the same numbers in a resumed run and with any engine."""
        reseed_all(self.session.site.device, address(self.seed, purpose, round))

    def cohort(self, round: int, data: FederatedData) -> list[ClientTask]:
        """The tasks of a round: a function of (seed, round) and the partition, the same on every rank.

        A client that is dropped or has no data has a task of 0 steps.
        """
        seed = self.seed
        draw = draw_cohort(self.sampling, data.partition, self.clients_per_round, seed, round)
        offsets = data.partition.offsets
        sizes = offsets[draw.clients + 1] - offsets[draw.clients]  # (K,), only of the cohort
        work = draw_work(self.stragglers, draw.clients, self.local_epochs, seed, round)
        weights = draw.times * (sizes if self.averaging == "size" else 1)
        diagnose = self.diagnostics is not None and self.diagnostics.gamma and self.diagnostics.due(round)
        return [
            ClientTask(
                client=int(client),
                round=round,
                seed=seed,
                steps=steps_for(int(size), data.batch_size, float(epochs)) if epochs > 0 and size > 0 else 0,
                epochs=float(epochs) if size > 0 else 0.0,
                num_examples=int(size),
                weight=float(weight),
                diagnose=diagnose,
            )
            for client, size, epochs, weight in zip(draw.clients, sizes, work, weights, strict=True)
        ]

    def work_metrics(self, tasks: list[ClientTask]) -> dict[str, float]:
        """Metrics of the work done in a round and the work asked for, in passes over the clients' data."""
        return {
            "round/dropped": float(sum(task.steps == 0 for task in tasks)),
            "round/partial": float(sum(0 < task.epochs < self.local_epochs for task in tasks)),
            "round/epochs_asked": len(tasks) * self.local_epochs,
            "round/epochs_done": float(sum(task.epochs for task in tasks)),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "algorithm": _on_cpu(self.algorithm_state),
            "together": self._together,
            "local": self._local,
            "folder": self._name_of_folder,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_resumed = True
        self.algorithm_state = state_dict["algorithm"]
        self._local = state_dict.get("local")  # missing in checkpoints of an earlier fedlit
        earlier = None if self.folder else CLIENTS_FOLDER  # for checkpoints of an earlier fedlit, which lack it
        self._name_of_folder = state_dict.get("folder", earlier)
        if self._name_of_folder is not None and not is_name_of(str(self._name_of_folder), CLIENTS_FOLDER):
            raise InputError(
                f"the checkpoint says that the clients' vectors are in {self._name_of_folder!r}, which is no name of "
                "such a folder; use another checkpoint"
            )
        self._together = state_dict.get("together") or 1  # missing in checkpoints of an earlier fedlit, which used 1
        if not isinstance(self._together, int) or not 1 <= self._together <= COUNT_MAX:
            raise InputError(
                f"the checkpoint says that {self._together!r} clients train together, but it must be a whole number "
                "> 0; use another checkpoint"
            )

    def identity(self, data: FederatedData) -> dict[str, Any]:
        """Facts that must be the same in a resumed run: the clients, their data, and the seed of all draws."""
        return {**data.identity(), "federation seed": self.seed, "algorithm": self.algorithm.name}


def _optimizer_of_a_fit(module: FederatedModule) -> object:
    """What a client's ``configure_optimizers`` returns; None if a class of a user's can say it only within a fit."""
    if module.client_class is ClientModule:
        return module.client_optimizer(trainable(module.net))  # the same, without a client's copy of the net
    try:
        return module.client_with(Algorithm()).configure_optimizers()
    except Exception:  # any kind; an algorithm that needs the optimizer will refuse it
        return None


def _with_steps(tasks: Iterable[ClientTask]) -> list[ClientTask]:
    """The tasks of clients that train."""
    return [task for task in tasks if task.steps]


def _on_cpu(state: Any) -> Any:
    """A state with all tensors moved to the CPU, also those in nested mappings."""
    if isinstance(state, Mapping):
        return {key: _on_cpu(value) for key, value in state.items()}
    return state.cpu() if isinstance(state, Tensor) else state


class Rounds:
    """The training "dataloader" of a federation: an epoch is a round, and its only batch is the round's cohort.

    As a round is one batch, stopping a Trainer between batches cannot interrupt a round.
    """

    def __init__(self, loop: FederatedLoop, trainer: Trainer) -> None:
        self._loop = loop
        self._trainer = trainer
        self._last: list[ClientTask] = []  # tasks of the round before

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Cohort]:
        loop, data = self._loop, data_of(self._trainer)
        if last := self._last:
            check_unchanged(last, lambda: loop.cohort(last[0].round, data), loop.sampling, loop.stragglers)
        self._last = tasks = loop.cohort(self._trainer.current_epoch, data)
        shares = distribute(_with_steps(tasks), self._trainer.world_size, self._loop.session.engine.together)
        yield Cohort(tasks, shares[self._trainer.global_rank])
