"""One client: a LightningModule that minimises its task loss plus the proximal term."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlit.algorithms.algorithm import Algorithm
from fedlit.clients.fit_totals import FitTotals
from fedlit.clients.gradients import (
    accuracy,
    full_gradient,
    make_dense,
    norm_of_gradient,
    others_than,
    without_gradients,
)
from fedlit.core.errors import InputError
from fedlit.core.exact import exact_sum
from fedlit.core.layout import Layout, read_state, shaped, write_state
from fedlit.core.origin import is_fedlit_class
from fedlit.core.proximal import add_proximal_gradient, squared_moves
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights
from fedlit.core.seeding import address, reseed_all
from fedlit.data.examples import Batches
from fedlit.data.module import FederatedData
from fedlit.models.joined import joined
from fedlit.rates import scale

Loss = Callable[[Tensor, Tensor], Tensor]
#: Names of metrics that every fit may have, which a client of a user's own cannot log.
RESERVED_NAMES = frozenset(
    {"loss", "accuracy", "proximal", "samples", "skipped_steps", "own_accuracy", "gamma", "client", "weight", "drift"}
)
#: Those of them that ``ClientModule.measure`` measures.
MEASURED_NAMES = frozenset({"own_accuracy", "gamma"})
#: Scales gradients down to a norm if theirs is greater.
ClipGradients = Callable[[Sequence[Tensor], float], object]


class ClientModule(LightningModule):
    """The local problem of FedProx, h_k(w; w_t) = F_k(w) + mu/2 ||w - w_t||^2 (Li et al. 2020, Section 3.2).

    One module serves all clients of a process in turn: ``receive`` the broadcast once a round, then for each client
    ``start``, train (any engine), ``finish``. To change what a client does, subclass it and name the subclass in
    ``FederatedModule.client_class``.

    Args:
        net: The network; copied, so that the server's stays unchanged. Maps a batch of inputs to logits (B, classes).
            All of it is in training mode; what a subclass puts into evaluation mode in its ``__init__`` stays in it.
        optimizer: From parameters to an optimizer, called for each fit.
        loss: Mean loss of logits (B, classes) and targets (B,).
        algorithm: How the federation differs from FedProx; None for FedProx.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable,
        loss: Loss,
        algorithm: Algorithm | None = None,
    ) -> None:
        super().__init__()
        self.net = joined(copy.deepcopy(net)).train()
        self.layout = Layout.of(self.net)
        self._make_optimizer = optimizer
        self.loss = loss
        self.algorithm = algorithm or Algorithm()
        named = dict(self.net.named_parameters())
        self.parameters_ = [named[name] for name in self.layout.trainable]
        self._may_be_sparse = any(getattr(module, "sparse", False) for module in self.net.modules())
        #: A constant added to every gradient of a fit, (T,), see ``Algorithm.begin``.
        self.correction: Tensor | None = None
        #: The greatest norm of a step's gradient, see ``FederatedModule``; None for no limit.
        self.clip_norm: float | None = None
        #: Factor of the learning rate in this round.
        self.rate = 1.0
        self._follows_rate = False
        self._is_completed = False
        self._own_metrics: dict[str, list[float | Tensor]] = {}
        self._data: FederatedData | None = None
        self._kept: Tensor | None = None

    @property
    def data(self) -> FederatedData:
        """The clients' data, of which a client may use its own: ``self.data.class_counts(task.client)``, for example.

        Raises:
            RuntimeError: Outside of a federation.
        """
        if self._data is None:
            raise RuntimeError(f"{type(self).__name__} has no data yet; use them in start(task) and later")
        return self._data

    def attach(self, data: FederatedData) -> None:
        """Give it the clients' data, before the first fit."""
        self._data = data

    @property
    def kept(self) -> Tensor | None:
        """The vector (kept_size,) that this fit's client kept in its last round, on the CPU; None in its first.

        ``Algorithm.end`` returns it. Of a chain it is the vectors of all parts, one after the other.
        """
        return self._kept

    def tensors_of(self, floats: Tensor) -> dict[str, Tensor]:
        """Copies of a flat state's tensors by name, as ``torch.func.functional_call(self.net, ...)`` takes them.

        Integer and boolean buffers are copies of the net's present ones, so such a call changes nothing of the net.

        Args:
            floats: (P,): the server's model ``self.broadcast.weights.floats``, for example.
        """
        state = self.net.state_dict()
        whole = {name: state[name] for name in self.layout.counts + self.layout.flags}
        return {name: tensor.clone() for name, tensor in (shaped(self.net, self.layout, floats) | whole).items()}

    @property
    def current_epoch(self) -> int:
        """Refused, as its value would depend on the engine: only some run a Trainer for each fit.

        Raises:
            InputError: Always, naming what to use instead.
        """
        raise InputError(_counter_error(self, "current_epoch"))

    @property
    def global_step(self) -> int:
        """Refused, as ``current_epoch`` is."""
        raise InputError(_counter_error(self, "global_step"))

    def receive(self, broadcast: Broadcast) -> None:
        """Take the server's model w_t: the start of every fit of this round, and the anchor of the proximal term."""
        self.broadcast = broadcast
        self._begun = broadcast.weights
        self.rate = broadcast.rate
        views = self.layout.split(broadcast.weights.floats)
        names = self.layout.trainable
        # In the parameters' types: all are in the widest type of the net, which may be that of a buffer.
        self._anchor = [views[name].view_as(p).to(p.dtype) for name, p in zip(names, self.parameters_, strict=True)]
        self._indices_of_mu: dict[float, list[int]] = defaultdict(list)  # of the parameters with each mu
        for i, mu in enumerate(broadcast.mu):
            self._indices_of_mu[mu].append(i)

    def load(self) -> None:
        """Load w_t into the network."""
        write_state(self.net, self.layout, self.broadcast.weights)

    def start(self, task: ClientTask) -> None:
        """Begin the fit of a task's client: load w_t, and seed all global generators for this client and round."""
        sent = self.broadcast
        self._kept = task.kept.read() if task.kept else None
        floats = self.algorithm.start(sent.weights.floats, self._kept)
        self._begun = sent.weights._replace(floats=floats)
        write_state(self.net, self.layout, self._begun)
        self.correction = self.algorithm.begin(sent, self._kept)
        for parameter in self.parameters_:  # those of another client, if this client's optimizer lacks the parameter
            parameter.grad = None
        reseed_all(sent.weights.floats.device, address(task.seed, "fit", task.round, task.client))
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._sizes: list[int] = []
        self._own_metrics = {}
        self._follows_rate = self._is_completed = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The task loss of one batch; the proximal term is added as a gradient in ``on_before_optimizer_step``.

        An override that does not call this method has to call ``note``.

        Args:
            batch: Inputs (B, ...) and class numbers (B,).
            batch_idx: Number of the batch in this pass over the client's data, from 0.
        """
        inputs, targets = batch
        logits = self.net(inputs)  # (B, classes)
        loss = self.loss(logits, targets)
        self.note(loss, logits, targets)
        return loss

    def note(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch to the fit's loss and accuracy.

        Args:
            loss: The batch's mean loss.
            logits: (B, classes).
            targets: Class numbers (B,).
        """
        self._losses.append(loss.detach().clone())  # a copy, as the caller may add to it in place
        self._hits.append((logits.detach().argmax(-1) == targets).sum())
        self._sizes.append(len(targets))

    def log(self, name: str, value: Any, *_: Any, **__: Any) -> None:
        """Log a metric of the fit; its value is the mean of all values logged under this name.

        The round's metrics have its distribution over clients: ``clients/NAME_mean``, ``_std``, ``_p10``, ``_p90``. The
        other arguments of ``LightningModule.log`` configure a Trainer's loggers and have no effect here.
        """
        if not hasattr(value, "__float__") or (isinstance(value, Tensor) and value.numel() != 1):
            raise InputError(
                f"{type(self).__name__} logs {name!r}, which is {_what(value)}, not a number; give one, such as the "
                "value that a torchmetrics Metric returns for a batch"
            )
        # A copy, as parameters and buffers change with the next step.
        self._own_metrics.setdefault(name, []).append(value.detach().clone() if isinstance(value, Tensor) else value)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Complete the gradient, in full precision and after any gradient scaler has unscaled it.

        Of several optimizers, each completes the gradients of its own parameters.
        """
        with without_gradients(others_than(optimizer, self.parameters_)):
            self.complete(self.parameters_)

    @torch.no_grad()
    def complete(
        self, parameters: Sequence[Tensor], clip: ClipGradients = nn.utils.clip_grad_norm_, is_at_anchor: bool = False
    ) -> None:
        """Turn the gradient of the task loss, in ``.grad``, into the gradient of the step.

        The gradient of the proximal term and the algorithm's correction are added, and the sum is clipped.

        Args:
            parameters: The network's, or stacks of those of K clients, (K, ...).
            clip: Clips the gradients; for stacks, those of each client separately.
            is_at_anchor: Whether still w = w_t, where the gradient of the proximal term is zero.
        """
        self._is_completed = True
        if self._may_be_sparse and self._must_complete:
            make_dense(parameters)  # only if necessary, as an optimizer may require sparse gradients
        if not is_at_anchor:
            self._add_proximal_gradients(parameters)
        if self.correction is not None:
            views = self.layout.split_trainable(self.correction)
            for parameter, view, anchor in zip(parameters, views, self._anchor, strict=True):
                if parameter.grad is not None:
                    parameter.grad = parameter.grad + view.view_as(anchor).to(anchor)
        if self.clip_norm is not None:
            clip(parameters, self.clip_norm)

    @property
    def _must_complete(self) -> bool:
        """Whether ``complete`` changes gradients in this fit."""
        return any(self._indices_of_mu) or self.correction is not None or self.clip_norm is not None

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters_)

    def optimizer(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The clients' optimizer at this round's learning rate."""
        made = self._make_optimizer(parameters)
        scale(made, self.rate)
        self._follows_rate = True
        return made

    def follows_rate(self) -> bool:
        """Whether the learning rates of ``configure_optimizers`` have the factor of a round.

        Not if a scheduler of its own sets them, such as ``OneCycleLR``. True if they are known only within a fit.
        """
        make = self._make_optimizer
        made: list[Optimizer] = []

        def remembered(parameters: Iterable[Tensor]) -> Optimizer:
            made.append(make(parameters))
            return made[-1]

        rates = []
        self._make_optimizer = remembered
        try:
            for rate in (0.5, 1.0):
                self.rate = rate
                self.configure_optimizers()
                groups = [group for optimizer in made for group in optimizer.param_groups]
                # A scheduler that begins with a factor of 0 keeps the optimizer's rate as the initial one.
                rates.append([(group.get("lr"), group.get("initial_lr")) for group in groups])
                made.clear()
        except Exception:  # any kind; the fit will show it
            return True
        finally:
            self._make_optimizer, self.rate = make, 1.0
        return not rates[0] or rates[0] != rates[1]

    def finish(self, task: ClientTask, data: FederatedData) -> ClientUpdate:
        """The update to send back, with the fit's task loss and accuracy, and the proximal term at its end.

        Loss and accuracy are means over the examples of all steps, each before the step on it.

        Raises:
            InputError: If this round has a learning rate of its own, but the fit's optimizer was not made by
                ``optimizer``, which applies it; if an override of ``on_before_optimizer_step`` left out what it adds to
                the gradients; or if no batch was counted.
        """
        if self.rate != 1 and not self._follows_rate:
            raise InputError(
                f"model.client_schedule has no effect on the optimizer of {type(self).__name__}.configure_optimizers; "
                "make it by self.optimizer(self.parameters_), or leave the schedule out"
            )
        if not self._losses:
            raise InputError(
                f"{type(self).__name__}.training_step counts no batch, so the fit has no loss and no accuracy; call "
                "super().training_step(batch, batch_idx), or self.note(loss, logits, targets)"
            )
        if self._must_complete and not self._is_completed and not is_fedlit_class(self):
            raise InputError(
                f"{type(self).__name__} trains without the proximal term, federation.algorithm's correction and "
                "model.client_clip_norm, which ClientModule.on_before_optimizer_step applies to the gradients; call "
                "super().on_before_optimizer_step(optimizer) in an override of it"
            )
        losses = zip(torch.stack(self._losses).tolist(), self._sizes, strict=True)
        totals = FitTotals(
            loss=exact_sum([loss * size for loss, size in losses]),
            hits=float(torch.stack(self._hits).sum()),
            samples=float(sum(self._sizes)),
        )
        squares, ended = squared_moves(self.parameters_, self._anchor), read_state(self.net, self.layout)
        kept = self._to_keep(ended, task)
        return self.end(task, data, ended, squares, totals)._replace(kept=kept)

    def end(
        self, task: ClientTask, data: FederatedData, weights: Weights, squares: Sequence[float], totals: FitTotals
    ) -> ClientUpdate:
        """The update of a fit by any engine.

        Args:
            task: The task that was fitted.
            data: The clients' data.
            weights: The fit's result; also in ``self.net`` if ``measures`` is true.
            squares: ||w_k - w_t||^2 of each trainable tensor.
            totals: Sums over the examples of the fit.
        """
        metrics = totals.metrics(squares, self.broadcast.mu)
        return ClientUpdate(task, weights, squares, metrics | self._measured(task, data))

    def _measured(self, task: ClientTask, data: FederatedData) -> dict[str, float]:
        """The metrics of ``measure`` and those that were logged, as numbers."""
        measured = {name: float(value) for name, value in self.measure(task, data).items()}
        means = {name: sum(map(float, values)) / len(values) for name, values in self._own_metrics.items()}
        for does, names in (("measures", measured.keys() - MEASURED_NAMES), ("logs", means.keys())):
            for name in sorted(names):
                if name in RESERVED_NAMES or name.startswith("drift/") or (does == "logs" and name in measured):
                    raise InputError(
                        f"{type(self).__name__} {does} {name!r}, a metric that exists already; use another name"
                    )
        return measured | means

    def measures(self, task: ClientTask, data: FederatedData) -> bool:
        """Whether ``measure`` needs the fitted model in ``self.net``."""
        return task.diagnose or bool(data.client_holdout) or type(self).measure is not ClientModule.measure

    def measure(self, task: ClientTask, data: FederatedData) -> dict[str, float]:
        """Measure the fitted model in ``self.net``; its state may be another one afterwards.

        Metrics that a subclass adds appear in the round's metrics as logged ones do, see ``log``.

        - ``own_accuracy``: accuracy on the client's own held-out examples, if there are any (``data.client_holdout``);
        - ``gamma``: ||grad h_k(w; w_t)|| / ||grad F_k(w_t)||, how inexactly the local problem was solved: 1 means no
          work, 0 an exact solution (Li et al. 2020, Definition 2). It costs two gradients over all of the client's
          examples, and is measured if ``task.diagnose``.
        """
        measured = {}
        own = data.client_holdout_batches(task.client)
        if own is not None:
            measured["own_accuracy"] = accuracy(self.net, own)
        if task.diagnose:
            measured["gamma"] = self._gamma(data.client_eval_batches(task.client))
        return measured

    def _to_keep(self, ended: Weights, task: ClientTask) -> Tensor | None:
        """The vector that the client keeps after a fit; None if there is none, or if it is not finite.

        Raises:
            InputError: If the algorithm's vector is not float32 or not of the declared size.
        """
        if not (size := self.algorithm.kept_size):
            return None
        kept = self.algorithm.end(self.broadcast, ended, task.steps, self._kept)
        if kept is not None and (kept.shape != (size,) or kept.dtype != torch.float32):
            raise InputError(
                f"{self.algorithm.name}.end returned {kept.dtype} of shape {tuple(kept.shape)}, but its kept_size is "
                f"{size}; return a float32 vector of that length"
            )
        return kept if kept is not None and kept.isfinite().all() else None

    def _add_proximal_gradients(self, parameters: Sequence[Tensor]) -> None:
        for mu, indices in self._indices_of_mu.items():
            add_proximal_gradient([parameters[i] for i in indices], [self._anchor[i] for i in indices], mu)

    def _gamma(self, batches: Batches) -> float:
        full_gradient(self.net, self.loss, batches)
        self._add_proximal_gradients(self.parameters_)
        after = norm_of_gradient(self.parameters_)
        write_state(self.net, self.layout, self._begun)
        full_gradient(self.net, self.loss, batches)
        before = norm_of_gradient(self.parameters_)
        return after / before if before else math.nan


def _counter_error(client: ClientModule, name: str) -> str:
    return (
        f"{name} of {type(client).__name__} would depend on the engine, as not every engine runs a Trainer for a fit; "
        "use self.broadcast.round, the round from 0, and count steps in an attribute that start(task) sets to 0"
    )


def _what(value: Any) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
