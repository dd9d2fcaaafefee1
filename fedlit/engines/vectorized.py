"""Many small clients as one batched program."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import torch
from lightning import Trainer
from torch import Tensor, optim
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from fedlit.data.module import FederatedData, data_of
from fedlit.engines.engine import Engine
from fedlit.engines.loop import needs_trainer, single_optimizer
from fedlit.errors import InputError
from fedlit.federated.client import ClientModule
from fedlit.federated.records import ClientTask, ClientUpdate, Weights
from fedlit.federated.state import Layout, write

#: Optimizers that treat every scalar by itself, so that a stack of clients is one parameter to them.
ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.Adagrad,
    optim.Adadelta,
    optim.RMSprop,
)


class VectorizedEngine(Engine):
    """Trains a block of clients as one program: every tensor of the network has the clients as its first dimension.

    For many small clients, where a step's cost is mostly Python and kernel launches: they are paid once a block. A
    block takes as many steps as its longest client, so clients are blocked by their number of steps. Results equal
    the other engines' to rounding.

    Refused, because they would not be right: BatchNorm (it writes statistics in place), active dropout (its masks
    could not be those of the other engines), optimizers that look at more than one scalar at a time, losses that
    are not plain means over samples, mixed precision with a gradient scaler.

    Args:
        block_size: Clients to a block, at least 1; memory grows with it.
    """

    def __init__(self, block_size: int = 100) -> None:
        if block_size < 1:
            raise InputError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size

    def check(self, client: ClientModule, trainer: Trainer) -> None:
        reason = needs_trainer(client) or cannot_vectorize(client, trainer)
        if reason:
            raise InputError(f"{reason}, which VectorizedEngine does not run; use federation.engine LoopEngine")

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], trainer: Trainer) -> Iterator[ClientUpdate]:
        ordered = sorted(tasks, key=lambda task: (task.steps, task.client))
        for start in range(0, len(ordered), self.block_size):
            yield from _fit_block(client, ordered[start : start + self.block_size], trainer)


def cannot_vectorize(client: ClientModule, trainer: Trainer) -> str | None:
    """Why a client cannot be one of a batched program, or None."""
    if type(client).training_step is not ClientModule.training_step:
        return f"{type(client).__name__} overrides training_step"
    if type(client).on_before_optimizer_step is not ClientModule.on_before_optimizer_step:
        return f"{type(client).__name__} overrides on_before_optimizer_step"
    for name, module in client.net.named_modules():
        if isinstance(module, _BatchNorm):
            return f"{name} is a {type(module).__name__}"
        if isinstance(module, _DropoutNd) and module.p > 0:
            return f"{name} drops out with p = {module.p}"
    if getattr(client.loss, "reduction", None) != "mean" or getattr(client.loss, "weight", None) is not None:
        return f"the loss {type(client.loss).__name__} is not a plain mean over samples"
    if client.algorithm.changes_fit:
        return f"{type(client.algorithm).__name__} changes how clients train"
    if trainer.precision == "16-mixed":
        return "precision 16-mixed scales gradients"
    optimizer = single_optimizer(client)
    if not isinstance(optimizer, ELEMENTWISE):
        return f"{type(optimizer).__name__} is not known to treat every scalar by itself"
    return None


def _fit_block(client: ClientModule, tasks: Sequence[ClientTask], trainer: Trainer) -> Iterator[ClientUpdate]:
    """Fit the clients of a block together; S is the largest number of steps, K the number of clients."""
    data, precision = data_of(trainer), trainer.precision_plugin
    layout, start = client.layout, client.broadcast.weights
    mu = dict(zip(layout.trainable, client.broadcast.mu, strict=True))
    anchor = _shaped(client, start.floats)
    models = start.floats.expand(len(tasks), -1).clone()  # (K, P), a row for each client
    shaped = _shaped(client, models)
    trainable = {n: shaped[n].requires_grad_() for n in layout.trainable}  # views: a step moves the rows
    fixed = {n: anchor[n] for n in layout.fixed}
    optimizer = client.optimizer(list(trainable.values()))
    loss_of_each = copy.copy(client.loss)
    loss_of_each.reduction = "none"  # type: ignore[attr-defined]

    def task_loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional_call(client.net, {**parameters, **fixed}, (x,))  # (b, classes)
        loss = (loss_of_each(logits, y) * mask).sum() / mask.sum()
        return loss, ((logits.argmax(-1) == y) & mask).sum()

    step_of_all = vmap(grad_and_value(task_loss, has_aux=True))
    indices, masks = _schedule(data, tasks)  # (S, K, b) both
    losses, hits = [], []
    finals: list[Tensor] = []
    done = 0
    for step, (index, mask) in enumerate(zip(indices, masks, strict=True)):
        active = mask.clone()
        active[:, 0] |= ~mask.any(1)  # a finished client trains on, unseen: no division by zero
        x, y = data.transform(data.train.inputs[index.flatten()]), data.train.targets[index.flatten()]
        with precision.forward_context():
            gradients, (loss, hit) = step_of_all(
                {n: p.detach() for n, p in trainable.items()},
                x.unflatten(0, index.shape),  # (K, b, ...)
                y.view_as(index),
                active,
            )
        for name, parameter in trainable.items():
            gradient = gradients[name]
            if mu[name] and step:  # at the anchor, the first step, the proximal gradient is zero
                gradient.add_(parameter.detach() - anchor[name], alpha=mu[name])
            parameter.grad = gradient
        optimizer.step()
        losses.append(loss)
        hits.append(hit)
        # Clients come in the order of their steps: those that end here are the next ones, and are not to be moved on.
        ending = slice(done, bisect_right(tasks, step + 1, key=lambda task: task.steps))
        finals += models[ending].clone() if ending.stop < len(tasks) else models[ending]  # (P,) each
        done = ending.stop

    half_mu = torch.tensor(client.broadcast.mu, device=start.floats.device) / 2  # (L,)
    proximal = [half_mu @ _squares(final - start.floats, layout) for final in finals]
    taken = torch.tensor([task.steps for task in tasks])
    ran = torch.arange(len(losses))[:, None] < taken  # (S, K)
    columns = {
        "loss": torch.where(ran, torch.stack(losses).double().cpu(), 0.0).sum(0) / taken,
        "accuracy": torch.where(ran, torch.stack(hits).cpu(), 0).sum(0) / masks.sum((0, 2)).cpu(),
        "proximal": torch.stack(proximal),
        "samples": masks.sum((0, 2)).double(),
    }
    table = zip(*(column.tolist() for column in columns.values()), strict=True)
    for task, floats, row in zip(tasks, finals, table, strict=True):
        metrics = dict(zip(columns, row, strict=True))
        weights = Weights(floats, start.counts)
        if task.diagnose or data.client_holdout:
            write(client.net, layout, weights)
            metrics |= client.measure(task, data)
        yield ClientUpdate(task, weights, metrics)


def _schedule(data: FederatedData, tasks: Sequence[ClientTask]) -> tuple[Tensor, Tensor]:
    """Which examples each client meets in each step: indices and mask of real ones, both (S, K, b)."""
    steps, size = max(task.steps for task in tasks), data.batch_size
    indices = torch.zeros(steps, len(tasks), size, dtype=torch.int64)
    masks = torch.zeros(steps, len(tasks), size, dtype=torch.bool)
    for k, task in enumerate(tasks):
        batches = data.client_batches(task.client, task.round, task.seed)
        for epoch in range(-(-task.steps // len(batches))):
            rows = batches.rows(epoch)
            assert rows is not None  # a client's passes are shuffled
            first = epoch * len(batches)
            for step, batch in enumerate(rows.split(size)[: task.steps - first], start=first):
                indices[step, k, : len(batch)] = batch
                masks[step, k, : len(batch)] = True
    device = data.train.inputs.device
    return indices.to(device), masks.to(device)


def _squares(delta: Tensor, layout: Layout) -> Tensor:
    """Squared norm of each trainable tensor of a flat difference of states (P,), (L,)."""
    parts = delta.split(layout.numels)[: len(layout.trainable)]
    return torch.stack(torch._foreach_norm(parts)).float().square()


def _shaped(client: ClientModule, floats: Tensor) -> dict[str, Tensor]:
    """Views of flat states (..., P) in the shapes that their tensors have in the network, by name."""
    state, layout = client.net.state_dict(), client.layout
    views = floats.split(layout.numels, dim=-1)
    names = layout.trainable + layout.fixed
    return {name: view.view(*view.shape[:-1], *state[name].shape) for name, view in zip(names, views, strict=True)}
