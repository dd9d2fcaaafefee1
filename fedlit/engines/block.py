"""The fit of a block of clients: in every tensor of the network, the first dimension is the client."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from lightning.pytorch.plugins import Precision
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.clipping import clip_each
from fedlit.clients.fit_totals import FitTotals
from fedlit.core.layout import shaped, write_state
from fedlit.core.proximal import squared_norms
from fedlit.core.records import ClientTask, ClientUpdate
from fedlit.data.module import FederatedData
from fedlit.engines.traced import Program, StepFunction, plain

#: The methods of ``ClientModule`` that a block's fit calls.
CALLED_BY_BLOCKS = frozenset(
    {"_gamma", "_measured", "_add_proximal_gradients", "complete", "end", "measure", "measures", "optimizer", "receive"}
)

#: From a step, its state and a batch to a program for tensors of their shapes.
Tracer = Callable[[StepFunction, Sequence[Tensor], Sequence[Tensor]], Program]


class Block:
    """Clients that are trained together, with one optimizer for all.

    As clients finish, the block narrows to the remaining ones. A trace is valid for one width, so with a trace the
    widths are powers of two, and rows of finished clients train on, without effect, on the first client's data.

    Args:
        client: The local problem, which has received this round's broadcast.
        tasks: The K clients, those with the most steps first.
        data: The clients' data.
        precision: The precision of forward passes; there must be no ``trace`` unless it is PyTorch's default.
        trace: Makes a program of a step; None runs the step as it is.
    """

    def __init__(
        self,
        client: ClientModule,
        tasks: Sequence[ClientTask],
        data: FederatedData,
        precision: Precision,
        trace: Tracer | None = None,
    ) -> None:
        self._client, self._tasks, self._data, self._precision, self._trace = client, tasks, data, precision, trace
        floats, layout = client.broadcast.weights.floats, client.layout
        sent = shaped(client.net, layout, floats)
        self._fixed = [sent[n] for n in layout.fixed]
        self._rows = floats.repeat(len(tasks), 1)  # (K, P), one row for each client
        rows = shaped(client.net, layout, self._rows)
        self._parameters = [rows[n].requires_grad_() for n in layout.trainable]  # views: a step moves the rows
        self._optimizer = client.optimizer(self._parameters)
        self._loss_of_each = copy.copy(client.loss)
        self._loss_of_each.reduction = "none"  # type: ignore[attr-defined]
        self._schedule = [_schedule(data, task) for task in tasks]
        self._totals = torch.zeros(3, len(tasks), dtype=torch.float64, device=floats.device)

    @torch.no_grad()
    def fit(self) -> list[ClientUpdate]:
        """Train every client for its steps."""
        finals = list(self._rows)  # (P,) each
        program = None
        for start, stop in pairwise(sorted({0, *(task.steps for task in self._tasks)})):
            active, remaining = self._active(start), self._active(stop)
            if self._width_for(active) < self._width:
                self._parameters = narrow(self._optimizer, self._parameters, self._width_for(active))
                program = None
            program = program or self._program(start)
            for first in range(start, stop, program.span):
                self._train(program, first, min(first + program.span, stop))
            for k in range(remaining, min(active, self._width_for(remaining))):
                finals[k] = self._rows[k].clone()  # a copy, as the row is trained further
        return self._updates(finals)

    def batch(self, step: int) -> list[Tensor]:
        """Inputs (K, b, ...), targets (K, b) and a mask (K, b) of one step; the mask is False at padding."""
        return [column[0] for column in self._batches(step, step + 1)]

    @torch.no_grad()
    def try_step(self, batch: Sequence[Tensor]) -> None:
        """Compute the gradients of a batch and discard them; raises if the network's code cannot be batched."""
        self._step(*self._parameters, *self._fixed, *batch)

    def _active(self, step: int) -> int:
        """Number of clients with more than ``step`` steps; they are the first ones."""
        return bisect_left(self._tasks, -step, key=lambda task: -task.steps)

    def _width_for(self, active: int) -> int:
        """Number of rows to train for so many active clients."""
        if self._trace is None or active == 0:
            return active
        return min(len(self._tasks), 1 << (active - 1).bit_length())

    @property
    def _width(self) -> int:
        """Number of rows that are trained."""
        return len(self._parameters[0])

    def _program(self, step: int) -> Program:
        if self._trace is None:
            return plain(self._step)
        return self._trace(self._step, [*self._parameters, *self._fixed], self.batch(step))

    def _train(self, program: Program, start: int, stop: int) -> None:
        """Take the steps ``start`` to ``stop - 1``, in which no client finishes."""
        x, y, mask = self._batches(start, stop)
        prepared = (column.unbind() for column in program.prepare(x, y, mask))
        outputs = []
        for step, *batch in zip(range(start, stop), *prepared, strict=True):
            *gradients, logits = program.step(*self._parameters, *self._fixed, *batch)
            self._descend(gradients, is_at_anchor=step == 0)
            outputs.append(logits)
        k = self._active(start)
        with self._precision.forward_context():
            self._totals[:, :k] += self._count(torch.stack(outputs)[:, :k], y[:, :k], mask[:, :k])

    def _descend(self, gradients: Sequence[Tensor], is_at_anchor: bool) -> None:
        """Step the optimizer, given the gradients of the task loss."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._client.complete(self._parameters, clip_each, is_at_anchor)
        self._optimizer.step()

    def _step(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """From parameters, fixed tensors and a batch to the gradients of the task loss, and logits (K, b, classes)."""
        names = self._client.layout.trainable + self._client.layout.fixed

        def task_loss(parameters: Sequence[Tensor], fixed: Sequence[Tensor], *batch: Tensor) -> tuple[Tensor, Tensor]:
            x, y, mask = batch
            state = dict(zip(names, (*parameters, *fixed), strict=True))
            with self._precision.forward_context():  # not around the backward pass, as in other engines
                logits = functional_call(self._client.net, state, (x,))  # (b, classes)
                return (self._loss_of_each(logits, y) * mask).sum() / mask.sum(), logits

        split = len(self._parameters)
        parameters, fixed, batch = tensors[:split], tensors[split : len(names)], tensors[len(names) :]
        step = vmap(grad(task_loss, has_aux=True), in_dims=(0, None, 0, 0, 0))
        gradients, logits = step(parameters, fixed, *batch)
        return (*gradients, logits.clone())  # cloned, as a network may return a view of its parameters

    def _batches(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (T, K, b, ...), targets (T, K, b) and a mask (T, K, b), which is False at padding."""
        active = self._schedule[: self._active(start)]
        schedule = active + active[:1] * (self._width - len(active))
        index = torch.stack([rows[start:stop] for rows in schedule], 1)
        rows = torch.where(index < 0, ~index, index).flatten()
        inputs, targets = self._data.train.inputs, self._data.train.targets
        x = self._data.transform(inputs.index_select(0, rows))  # faster than indexing: it copies whole rows
        return x.unflatten(0, index.shape), targets.index_select(0, rows).view_as(index), index >= 0

    def _count(self, logits: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Sums over the steps of losses, hits and samples, (3, K).

        Args:
            logits: (T, K, b, classes).
            y: Targets, (T, K, b).
            mask: (T, K, b).
        """
        losses = self._loss_of_each(logits.flatten(0, 2), y.flatten()).view_as(mask) * mask
        samples = mask.sum(-1)  # (T, K)
        hits = ((logits.argmax(-1) == y) & mask).sum(-1)
        return torch.stack([losses.sum(-1).double(), hits.double(), samples.double()]).sum(1)

    def _updates(self, finals: Sequence[Tensor]) -> list[ClientUpdate]:
        client, start = self._client, self._client.broadcast.weights
        anchor = start.floats[: client.layout.num_trainable]
        updates = []
        for task, floats, totals in zip(self._tasks, finals, self._totals.T.tolist(), strict=True):
            weights = start._replace(floats=floats)
            squares = squared_norms(client.layout.split_trainable(floats[: len(anchor)] - anchor))
            if client.measures(task, self._data):
                write_state(client.net, client.layout, weights)
            updates.append(client.end(task, self._data, weights, squares, FitTotals(*totals)))
        return updates


def narrow(optimizer: Optimizer, parameters: Sequence[Tensor], width: int) -> list[Tensor]:
    """Keep only the first ``width`` clients in an optimizer's parameters (K, ...) and its state, as views.

    Returns:
        The new parameters, in their order.
    """
    kept = {id(old): old.detach()[:width].requires_grad_() for old in parameters}
    for old in parameters:
        memory = optimizer.state.pop(old, {})
        optimizer.state[kept[id(old)]] = {
            name: value[:width] if isinstance(value, Tensor) and value.shape == old.shape else value
            for name, value in memory.items()
        }
    for group in optimizer.param_groups:
        group["params"] = [kept[id(old)] for old in group["params"]]
    return list(kept.values())


def _schedule(data: FederatedData, task: ClientTask) -> Tensor:
    """Rows of the examples in a client's batch at each step, (S, b).

    A short batch is padded with ``~row`` for a row of its own, not of another client: a NaN in the padding would reach
    the gradient.
    """
    batches = data.client_batches(task.client, task.round, task.seed)
    padding = -batches.num_examples % data.batch_size
    passes = []
    for epoch in range(-(-task.steps // len(batches))):
        order = batches.rows(epoch)
        assert order is not None  # a client's passes are shuffled
        passes += [order, ~order[:1].expand(padding)] if padding else [order]
    rows = passes[0] if len(passes) == 1 else torch.cat(passes)
    return rows.view(-1, data.batch_size)[: task.steps]
