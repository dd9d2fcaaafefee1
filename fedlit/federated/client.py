"""One client: a LightningModule that minimises its task loss plus the proximal term."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlit.federated.proximal import add_proximal_gradient, proximal_term
from fedlit.federated.records import ClientTask, ClientUpdate, Weights
from fedlit.federated.state import Layout, read, write
from fedlit.seeding import address, reseed

Loss = Callable[[Tensor, Tensor], Tensor]


class ClientModule(LightningModule):
    """The local problem of FedProx, h_k(w; w_t) = F_k(w) + mu/2 ||w - w_t||^2 (Li et al. 2020, Section 3.2).

    One module serves all clients of a process in turn: ``receive`` the broadcast once a round, then for each client
    ``start``, train (any engine), ``finish``. To change what a client does, subclass it and name the subclass in
    ``FederatedModule.client_class``.

    Args:
        net: The network; copied, so that the server's stays as it is. Maps a batch of inputs to logits (B, classes).
        optimizer: From parameters to an optimizer, made anew for each fit.
        mu: Strength of the proximal term, at least 0; 0 is FedAvg.
        loss: Mean loss of logits (B, classes) and targets (B,).
    """

    def __init__(self, net: nn.Module, optimizer: OptimizerCallable, mu: float, loss: Loss) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).train()
        self.layout = Layout.of(self.net)
        self.optimizer = optimizer
        self.mu = mu
        self.loss = loss
        self.parameters_ = [p for p in self.net.parameters() if p.requires_grad]
        self.anchor: list[Tensor] = []

    def receive(self, broadcast: Weights) -> None:
        """Take the server's model w_t: the start of every fit of this round, and the anchor of the proximal term."""
        self.broadcast = broadcast
        views = self.layout.split(broadcast.floats)
        named = {id(p): name for name, p in self.net.named_parameters()}
        self.anchor = [views[named[id(p)]].view_as(p) for p in self.parameters_]

    def start(self, task: ClientTask) -> None:
        """Become the client of this task: w = w_t, and the generators that dropout draws from are the client's own."""
        write(self.net, self.layout, self.broadcast)
        reseed(self.broadcast.floats.device, address(task.seed, "fit", task.round, task.client))
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._samples = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The task loss of one batch; the proximal term joins as a gradient, see ``on_before_optimizer_step``."""
        inputs, targets = batch
        logits = self.net(inputs)  # (B, classes)
        loss = self.loss(logits, targets)
        self._losses.append(loss.detach())
        self._hits.append((logits.detach().argmax(-1) == targets).sum())
        self._samples += len(targets)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Add the gradient of the proximal term, in full precision and after any gradient scaler has unscaled."""
        add_proximal_gradient(self.parameters_, self.anchor, self.mu)

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters_)

    def finish(self, task: ClientTask) -> ClientUpdate:
        """The update to send back, with the fit's mean task loss, its accuracy and the proximal term at its end."""
        metrics = {
            "loss": float(torch.stack(self._losses).double().mean()),
            "accuracy": float(torch.stack(self._hits).sum()) / self._samples,
            "proximal": float(proximal_term(self.parameters_, self.anchor, self.mu)),
            "samples": float(self._samples),
        }
        return ClientUpdate(task, read(self.net, self.layout), metrics)
