"""The server: a LightningModule whose training step is a round."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, ClassVar, Self, TypeVar

import torch
from lightning import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from fedlit.algorithms.algorithm import Algorithm
from fedlit.clients.client import ClientModule
from fedlit.clients.clipping import check_limit
from fedlit.clients.nets import check_gradient_hooks, check_trainable, warn_of_evaluation_mode
from fedlit.clients.probe import check_fit_and_format
from fedlit.clients.step_checks import check_arguments, check_loss, check_optimizer
from fedlit.core.checkpoint import CheckpointFile, read
from fedlit.core.errors import InputError
from fedlit.core.given import Checked, check_made, object_of
from fedlit.core.layout import Layout, read_state, trainable, write_state
from fedlit.core.limits import FLOAT32_MAX
from fedlit.core.loadable import REMEDY, unsupported_part
from fedlit.core.origin import is_fedlit_class
from fedlit.core.private_torch import has_hooks
from fedlit.core.records import Broadcast, Cohort, Weights
from fedlit.data.module import data_of
from fedlit.federated.callback_checks import check_callbacks
from fedlit.federated.checkpointed import check_net, resume_from, warn_of_other_data
from fedlit.federated.compiled import check_compiled
from fedlit.federated.evaluation import Evaluation, logits_and_loss, logits_of
from fedlit.federated.loop import FederatedLoop
from fedlit.federated.pieces import map_pieces
from fedlit.federated.reload import accepted, config_of, load_arguments
from fedlit.federated.resume import GivenArguments, ResumedStep
from fedlit.federated.round import RoundResult
from fedlit.federated.subclass import check_data_hooks
from fedlit.federated.trainer_settings import check_settings, warn_of_device, warn_of_limit
from fedlit.mu import Mu, as_mu
from fedlit.rates import Rates, scaled
from fedlit.schedules import Schedule

T = TypeVar("T")


def _net(net: Any) -> nn.Module:
    check_trainable(object_of("net", net, nn.Module, "a torch.nn.Module, such as fedlit.models.EmnistCNN()"))
    return net  # type: ignore[no-any-return]


def _loss(loss: Any) -> nn.Module:
    example = "torch.nn.CrossEntropyLoss(), or a module of your own whose forward computes it"
    return nn.CrossEntropyLoss() if loss is None else object_of("loss", loss, nn.Module, example)


def _client_class(client: Any) -> Any:
    if isinstance(client, nn.Module) or not callable(client):
        got = f"an object of {type(client).__name__}" if isinstance(client, nn.Module) else repr(client)
        raise InputError(
            f"client must be a class of clients, got {got}; give a subclass of ClientModule, not an object"
        )
    return client


def _made_client(make: Callable[..., ClientModule], *arguments: Any) -> ClientModule:
    """A client of a class, which may be a user's own; refused by name if it takes other arguments."""
    try:
        signature = inspect.signature(make)
        signature.bind(*arguments)
    except TypeError as error:
        name = getattr(make, "__name__", make)
        raise InputError(
            f"the client {name}{signature} must take (net, optimizer, loss, algorithm), as ClientModule does; change "
            "its arguments"
        ) from error
    client = make(*arguments)
    check_made(client, "clip_norm")
    return client


def _full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Turns off autocast, in which a Trainer of mixed precision calls ``training_step``.

    Autocast keeps copies of weights in half precision until the outermost context ends, which is this one. So a net's
    own autocast keeps none: they would be of an earlier step.
    """
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False, cache_enabled=False)


class FederatedModule(Checked, LightningModule):
    """The global model, trained by rounds of local fits.

    With the default server optimizer, SGD of rate 1 on the pseudo-gradient ``w_t - mean_k w_k``, this is FedProx
    (Li et al. 2020, arXiv:1812.06127), and with ``mu = 0`` FedAvg (McMahan et al. 2017, arXiv:1602.05629). Momentum
    in the server optimizer makes it FedAvgM, Adam FedAdam (Reddi et al. 2021, arXiv:2003.00295).

    All arguments are attributes; what is set between two fits takes effect in the second.

    Args:
        net: The network, of ``fedlit.models`` for example; maps inputs to logits (B, classes).
        mu: Strength of the proximal term mu/2 ||w - w_t||^2 in every client's loss, at least 0; 0 is FedAvg. A number,
            or the class path of a ``Mu``: ``fedlit.federated.AdaptiveMu``, ``MuByName``.
        client_optimizer: The clients' optimizer, of ``torch.optim`` for example; each fit has a new one.
        server_optimizer: The server's optimizer, of ``torch.optim`` or ``fedlit.optim``, stepped once a round.
        loss: Mean loss of logits and targets, of ``torch.nn`` for example; None is cross-entropy.
        client_schedule: How the clients' learning rate changes from round to round: the class path of a ``Schedule``,
            ``fedlit.schedules.Cosine`` for example. None is constant.
        server_schedule: The same for the server's learning rate.
        client_clip_norm: The greatest norm of the gradient in a client's step, more than 0; a greater gradient is
            scaled down to it. The norm is taken over all trainable parameters, of the gradient of the whole local
            objective (task loss, proximal term, and what an algorithm adds), in full precision after any gradient
            scaler has unscaled it. None is no limit.
        client: The class of clients: the class path of your own ``ClientModule``, with the same constructor arguments.
            None is ``fedlit.federated.ClientModule``, or the ``client_class`` of a subclass.
    """

    #: The class of clients if no ``client`` is given; a subclass may set its own.
    client_class: type[ClientModule] = ClientModule

    _checks: ClassVar = {
        "net": _net,
        "mu": as_mu,
        "loss": _loss,
        "client": lambda client: None if client is None else _client_class(client),
        "client_class": _client_class,
        "client_clip_norm": lambda limit: check_limit("model.client_clip_norm", limit),
    }

    def __init__(
        self,
        net: nn.Module,
        mu: float | Mu = 0.01,
        client_optimizer: OptimizerCallable = lambda p: SGD(p, lr=0.1),
        server_optimizer: OptimizerCallable = lambda p: SGD(p, lr=1.0),
        loss: nn.Module | None = None,
        client_schedule: Schedule | None = None,
        server_schedule: Schedule | None = None,
        client_clip_norm: float | None = None,
        client: type[ClientModule] | None = None,
    ) -> None:
        super().__init__()
        if client is not None:
            self.client = client
        self.automatic_optimization = False
        self.net = net
        self.mu: Mu = as_mu(mu)
        self.client_optimizer = client_optimizer
        self.server_optimizer = server_optimizer
        self.loss: nn.Module = _loss(loss)
        self.rates = Rates(client=client_schedule, server=server_schedule)
        self.client_clip_norm = client_clip_norm
        for role, optimizer in (("client", client_optimizer), ("server", server_optimizer)):
            check_arguments(f"model.{role}_optimizer", optimizer, net)
        self.mu.check(self.layout.trainable)
        self.round_metrics: dict[str, float] = {}
        self.logged: dict[str, float] = {}  # metrics of the current round; empty until they are logged
        self.arguments_of_callbacks = GivenArguments([])

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "net":
            self.layout = Layout.of(self.net)

    @property
    def client(self) -> type[ClientModule]:
        """The class of clients."""
        return self.client_class

    @client.setter
    def client(self, client: type[ClientModule] | None) -> None:
        self.client_class = type(self).client_class if client is None else client

    @property
    def client_schedule(self) -> Schedule | None:
        """How the clients' learning rate changes; None is constant."""
        return self.rates.given["client"]

    @client_schedule.setter
    def client_schedule(self, schedule: Schedule | None) -> None:
        self.rates = Rates(**self.rates.given | {"client": schedule})

    @property
    def server_schedule(self) -> Schedule | None:
        """How the server's learning rate changes; None is constant."""
        return self.rates.given["server"]

    @server_schedule.setter
    def server_schedule(self, schedule: Schedule | None) -> None:
        self.rates = Rates(**self.rates.given | {"server": schedule})

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, classes) of the global model."""
        return self.net(inputs)  # type: ignore[no-any-return]

    def evaluate(self, inputs: Tensor) -> Tensor:
        """Logits (B, classes) of any number of inputs; the network evaluates ``eval_batch_size`` at a time."""
        return self._joined(self._map_pieces(logits_of, inputs), inputs.device)

    def _map_pieces(self, evaluate: Callable[..., T], *batch: Tensor) -> list[T]:
        """``evaluate(network, loss, *piece)`` for each piece of a batch; an empty batch has no pieces."""
        size = data_of(self.trainer).eval_batch_size
        pieces = list(zip(*(part.split(size) for part in batch), strict=True)) if len(batch[0]) else []
        if type(self).forward is FederatedModule.forward and not has_hooks(self):
            return map_pieces(evaluate, nn.ModuleList([self.net, self.loss]), pieces)
        return [evaluate(self, self.loss, *piece) for piece in pieces]

    def _joined(self, logits: list[Tensor], device: torch.device) -> Tensor:
        return torch.cat(logits) if logits else torch.zeros(0, data_of(self.trainer).num_classes, device=device)

    # --- the round -------------------------------------------------------------------------------------------------

    def training_step(self, cohort: Cohort, batch_idx: int) -> None:
        """One round: broadcast the global model, fit the cohort and average (``run_round``), step, measure.

        Only the clients' training steps are in mixed precision, for which engines use the Trainer's plugin.
        """
        with _full_precision(self.device.type):
            self.loop.session.fixed.check(self, self.trainer.optimizers[0])
            started = time.perf_counter()
            result, measured = self.loop.run(self.broadcast(), cohort.mine)
            self.server_step(result.target)
            self._measure(result, measured | self.loop.work_metrics(cohort.tasks), time.perf_counter() - started)

    def broadcast(self, round: int | None = None) -> Broadcast:
        """The broadcast of the present model to a round's clients.

        Args:
            round: The round, from 0; None is the present one.
        """
        loop, model = self.loop, read_state(self.net, self.layout)
        round = self.current_epoch if round is None else round
        strengths = zip(self.layout.trainable, self._strengths(self.mu), strict=True)
        mu = tuple(0.0 if name in loop.algorithm.local else value for name, value in strengths)
        message = loop.algorithm.message(loop.algorithm_state, model)
        return Broadcast(model, mu, message, round, self.rates.factor("client", round))

    def _strengths(self, mu: Mu) -> list[float]:
        """A rule's mu for each trainable parameter."""
        values = [float(mu.of(name)) for name in self.layout.trainable]
        for name, value in zip(self.layout.trainable, values, strict=True):
            if not 0 <= value <= FLOAT32_MAX:
                raise InputError(
                    f"model.mu {type(mu).__name__} gives {value} for {name}, but mu is a finite number >= 0; let it "
                    "give such a number in every round"
                )
        return values

    def _measure(self, result: RoundResult, more: dict[str, float], seconds: float) -> None:
        """Collect the round's metrics for logging after its validation, and update mu and the schedules with them."""
        metrics = {**result.metrics, "round/seconds": seconds, **more, "round/rejected": float(len(result.rejected))}
        if metrics["round/samples"]:
            metrics["round/samples_per_second"] = metrics["round/samples"] / seconds
        metrics |= self.loop.algorithm.metrics(self.current_epoch + 1)
        self.rates.measure("server", self.trainer.optimizers[0])
        metrics |= {"federation/mu": float(self.mu.value), **self.rates.metrics(self.current_epoch)}
        self.round_metrics, self.logged = metrics, {}
        if self.trainer.checkpoint_callbacks:
            self.mu.update_and_check(metrics, self._strengths)
        else:
            self.mu.update(metrics)
        self.rates.update(metrics, self._next_round_of_a_resumed_run())

    def _next_round_of_a_resumed_run(self) -> int | None:
        """The next round (from 0) if a run can be resumed there; None after the last, or without checkpoints."""
        following = self.current_epoch + 1
        return following if self.trainer.checkpoint_callbacks and following != self.trainer.max_epochs else None

    @torch.no_grad()
    def server_step(self, target: Weights | None) -> None:
        """Step the server's optimizer on the pseudo-gradient w_t - target; buffers are copied from the target.

        None means a round without updates: the step counts as a round, and without gradients changes nothing.
        """
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)  # configure_optimizers returns one
        if target is None:
            rank_zero_warn(
                f"every client of round {self.current_epoch + 1} was dropped or rejected: the model stays as it was"
            )
            optimizer.step()
            return
        targets = self.layout.split(target.floats)
        parameters = dict(self.net.named_parameters())
        for name in self.layout.trainable:
            parameters[name].grad = parameters[name] - targets[name].view_as(parameters[name]).to(parameters[name])
        made = optimizer.optimizer
        with scaled(made, self.rates.factor("server", self.current_epoch)):
            resumed = ResumedStep(made, self.server_optimizer) if self._is_resume_checked(made) else None
            optimizer.step()
        if resumed:
            resumed.check(type(made).__name__)
        optimizer.zero_grad()
        write_state(self.net, self.layout, target, trainable=False)

    def _is_resume_checked(self, optimizer: Optimizer) -> bool:
        """Whether to compare the step with that of a resumed run: for a user's own class, in the first rounds."""
        known = is_fedlit_class(optimizer) or type(optimizer).__module__.startswith("torch.optim.")
        return bool(self.trainer.checkpoint_callbacks) and not known and self.current_epoch in (1, 2)

    @property
    def loop(self) -> FederatedLoop:
        """The Trainer's ``FederatedLoop``.

        Raises:
            InputError: If the Trainer has none.
        """
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, FederatedLoop):
                return callback
        raise InputError("FederatedModule needs the FederatedLoop callback: Trainer(callbacks=[FederatedLoop(...)])")

    def make_client(self) -> ClientModule:
        """The local problem of this server's clients."""
        client = self.client_with(self.loop.algorithm)
        client.attach(data_of(self.trainer))
        return client

    def client_with(self, algorithm: Algorithm) -> ClientModule:
        """The local problem with an algorithm after ``prepare``, for use without a Trainer."""
        client = _made_client(self.client_class, self.net, self.client_optimizer, self.loss, algorithm)
        client.clip_norm = self.client_clip_norm
        return client

    def __deepcopy__(self, memo: dict[int, Any]) -> FederatedModule:
        """A copy, as made by callbacks that average models. It shares the factories of optimizers."""
        memo |= {id(maker): maker for maker in (self.client_optimizer, self.server_optimizer)}
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def configure_optimizers(self) -> Optimizer:
        return self.server_optimizer(trainable(self.net))

    # --- evaluation of the global model ------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[Callback]:
        """No callbacks. As the first hook of a fit, it refuses unsupported arguments and callbacks of the Trainer."""
        self.check_trainer()
        return []

    def check_trainer(self) -> None:
        """Refuse arguments and callbacks of the Trainer that a federation does not support, and hooks without effect.

        Raises:
            InputError: Naming the argument, callback or hook, and the remedy.
        """
        check_made(self, "arguments_of_callbacks")
        check_compiled(self)
        check_data_hooks(self)
        if self.trainer.state.fn == "fit":
            if torch.is_inference_mode_enabled():
                raise InputError("fit was called within torch.inference_mode, where nothing learns; call it outside")
            check_settings(self.trainer)
            check_callbacks(self.trainer)

    def setup(self, stage: str) -> None:
        data = data_of(self.trainer)
        warn_of_device(self.trainer.strategy.root_device)
        self.to(self.trainer.strategy.root_device)  # Lightning would do it later; checks use the device of the fits
        if stage == "fit":
            warn_of_evaluation_mode(self.net)
            check_gradient_hooks(self.net)
        check_fit_and_format(self.net, data)
        check_loss(self.loss, self.net, data)
        if stage == "fit":  # only the weights of an earlier fit are kept
            self.mu.renew()
            self.mu.check(self.layout.trainable)
            self.round_metrics, self.logged = {}, {}
            self.arguments_of_callbacks = GivenArguments(self.trainer.callbacks)  # type: ignore[attr-defined]
            client = check_optimizer("model.client_optimizer", self.client_optimizer, self.net)
            # Lightning calls ``step`` with a closure.
            server = check_optimizer("model.server_optimizer", self.server_optimizer, self.net, closure=lambda: None)
            self.rates.begin({"client": client, "server": server}, self.trainer.max_epochs)
        self.evaluation = Evaluation(data.num_classes)

    def evaluation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Evaluate one batch of held-out data."""
        inputs, targets = batch
        found = self._map_pieces(logits_and_loss, inputs, targets)
        logits = self._joined([logits for logits, _ in found], inputs.device)
        self.evaluation.update(logits, targets, [loss for _, loss in found])

    def evaluation_summary(self) -> dict[str, float]:
        """Accuracy, loss and macro F1 of all data evaluated since the last summary."""
        self.scores, loss = self.evaluation.compute()
        if not self.scores.true.any():
            raise InputError(
                f"{type(self).__name__} evaluates no example, so there is no accuracy; let its validation_step or "
                "test_step call that of super(), or self.evaluation_step(batch)"
            )
        # float32 holds seven digits.
        return {
            "global/accuracy": round(self.scores.accuracy(), 7),
            "global/f1_macro": round(self.scores.f1_macro(), 7),
            "global/loss": loss,
        }

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluation_step(batch)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            self.evaluation_summary()
            return
        summary = self.evaluation_summary()
        if self.trainer.state.fn != "fit":
            self.log_dict(summary)  # for the table that Trainer.validate prints
            return
        if not math.isfinite(summary["global/loss"]):
            rank_zero_warn(
                f"the global model's loss is not finite after round {self.current_epoch + 1}: training has diverged; "
                "lower the learning rates"
            )
        self._log_round(summary)

    def on_train_epoch_end(self) -> None:
        """Log the metrics of a round that was not validated."""
        if not self.logged:
            self._log_round({})

    def _log_round(self, summary: dict[str, float]) -> None:
        summary = summary | self.round_metrics
        if {"clients/train_loss", "global/loss"} <= summary.keys():
            summary["global/generalisation_gap"] = summary["global/loss"] - summary["clients/train_loss"]
        # Equivalent to self.log_dict, which passes each metric through several torchmetrics in each round.
        self.trainer.callback_metrics.update({name: self._scalar(value) for name, value in summary.items()})
        for logger in self.trainer.loggers:
            logger.log_metrics(dict(summary), step=self.trainer.global_step)  # a copy, as a logger may change it
        self.logged = summary

    def log(self, *arguments: Any, **named: Any) -> None:
        """As in any LightningModule, with a batch size of 1 for a round."""
        with suppress(RuntimeError):  # without a Trainer
            if self.trainer.training and named.get("batch_size") is None:
                named["batch_size"] = 1
        super().log(*arguments, **named)

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.get_default_dtype(), device=self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Warn of a checkpoint that cannot be loaded as data, if the Trainer's plugin does not refuse it."""
        if not isinstance(self.trainer.strategy.checkpoint_io, CheckpointFile) and (
            found := unsupported_part(checkpoint)
        ):
            rank_zero_warn(
                f"{found}, so the checkpoint cannot be loaded as data: to resume from it, Trainer.fit needs "
                f"weights_only=False, and no command of fedlit loads it; {REMEDY}"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another net, and resume from one of this federation.

        The loop resumes as well, because a subclass may override this hook.

        Raises:
            InputError: Naming the difference.
        """
        check_net(self.state_dict(), checkpoint)
        if self.trainer.state.fn == "fit":
            resume_from(self, checkpoint)
        else:
            warn_of_other_data(data_of(self.trainer), checkpoint)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[Any],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """A trained module, for use without a Trainer.

        The checkpoint is loaded as data, never as code. The module's other arguments come from the run's config, which
        is code: the classes that it names are imported and called. No config is read if ``net`` is given.

        Args:
            checkpoint_path: For example ``best.ckpt``.
            map_location: The device; None is the CPU.
            hparams_file: The config of the run; None is ``config.yaml`` in the run's folder.
            strict: False also accepts a checkpoint with missing or additional weights.
            weights_only: Ignored; always True.
            kwargs: Arguments of the class, which override those of the config.

        Raises:
            InputError: If the checkpoint or the config cannot be used, or the checkpoint is of another net.
        """
        if not isinstance(checkpoint_path, str | Path):
            raise InputError(f"checkpoint_path must be the path of a file, got {checkpoint_path!r}; give its path")
        path, device = Path(checkpoint_path), map_location or "cpu"
        checkpoint = read(path, device)
        if "net" not in kwargs:
            arguments, _ = load_arguments(Path(hparams_file) if hparams_file else config_of(path), FederatedModule)
            kwargs = {**accepted(cls, arguments), **kwargs}
        module = cls(**kwargs)
        if strict is not False:
            check_net(module.state_dict(), checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=strict is not False)
        return module.to(device)

    def on_fit_start(self) -> None:
        self.arguments_of_callbacks.restore()

    def on_train_start(self) -> None:
        warn_of_limit(self.trainer)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluation_step(batch)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.evaluation_summary())

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Class probabilities (B, classes), at least float32."""
        logits = self.evaluate(batch[0])
        return logits.softmax(-1, torch.promote_types(logits.dtype, torch.float32))
