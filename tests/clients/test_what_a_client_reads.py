"""A user's client uses its data, what it kept and the server's model; expected values are closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import SIZES, data, fit, net, quadratic_module, quadratics, weights
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import SGD

from fedlit.algorithms import Algorithm, FedDyn, Scaffold, chain
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, ClientUpdate, Weights
from fedlit.engines import Engine, LoopEngine, TrainerEngine, WorkersEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule

ENGINES: list[Callable[[], Engine]] = [LoopEngine, TrainerEngine, lambda: WorkersEngine(workers=2)]
POINTS = np.array([[1.0, 0.0, 2.0], [0.0, -2.0, 1.0], [3.0, 1.0, -1.0]])


class Calibrated(ClientModule):
    """Lowers the logit of class c by tau n_c^(-1/4) in training (FedLC, Zhang et al. 2022, Equation 6)."""

    def start(self, task: Any) -> None:
        super().start(task)
        self.margin = self.data.class_counts(task.client).clamp(min=1) ** -0.25

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        logits = self.net(inputs)
        loss = self.loss(logits - self.margin, targets)
        self.note(loss, logits, targets)
        return loss


@pytest.mark.parametrize("holdout", [0.0, 0.3])
@pytest.mark.parametrize("engine", ENGINES)
def test_logits_are_calibrated_by_a_clients_own_label_counts(engine: Callable[[], Engine], holdout: float) -> None:
    """One full step from zero weights: the gradient of the bias is softmax(-margin) - n_k / |n_k|."""
    zero = nn.Linear(5, 3)
    nn.init.zeros_(zero.weight)
    nn.init.zeros_(zero.bias)
    federation = data(batch_size=1000, client_holdout=holdout)
    module = FederatedModule(zero, mu=0.0, client=Calibrated, client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, FederatedLoop(len(SIZES), 1, seed=0, engine=engine(), max_rejected=0), federation, rounds=1)
    labels, owners = federation.train.targets.numpy(), federation.partition.owners
    counts = np.stack([np.bincount(labels[owners == k], minlength=3) for k in range(len(SIZES))])
    odds = np.exp(-(counts.clip(1) ** -0.25))
    gradients = odds / odds.sum(1, keepdims=True) - counts / counts.sum(1, keepdims=True)
    sizes = counts.sum(1, keepdims=True)
    np.testing.assert_allclose(zero.bias.detach(), -0.1 * (gradients * sizes).sum(0) / sizes.sum(), rtol=1e-4)
    for client, expected in enumerate(counts):
        assert federation.class_counts(client).tolist() == expected.tolist()


def test_there_are_no_data_before_a_fit() -> None:
    class Early(ClientModule):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.counts = self.data.class_counts(0)

    with pytest.raises(RuntimeError, match=r"Early has no data yet; use them in start\(task\) and later"):
        fit(FederatedModule(net(), client=Early))


class KeepModel(Algorithm):
    """Clients keep their last model."""

    @property
    def kept_size(self) -> int:
        return sum(self.facts.layout.numels)

    def end(self, sent: Any, ended: Weights, steps: int, kept: Any) -> Tensor:
        return ended.floats.float()


class Pushed(ClientModule):
    """Adds -1/4 ||w - v||^2 for the model v that the client had at the end of its last round."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.kept is None:
            return loss
        before = self.tensors_of(self.kept)
        return loss - sum(((p - before[n]) ** 2).sum() for n, p in self.net.named_parameters()) / 4  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_reads_what_it_kept(engine: Callable[[], Engine], tmp_path: Path) -> None:
    """w_k = w - lr (w - a_k - (w - v_k)/2) for the client's last model v_k."""

    def run(rounds: int, **kwargs: Any) -> Tensor:
        module = quadratic_module(client=Pushed)
        loop = FederatedLoop(3, 1, seed=0, engine=engine(), algorithm=KeepModel(), max_rejected=0)
        return weights(fit(module, loop, quadratics(POINTS.tolist()), rounds=rounds, **kwargs).net)

    w, kept = np.zeros(3), None
    for _ in range(3):
        w_k = w - 0.1 * (w - POINTS - (0 if kept is None else (w - kept) / 2))
        w, kept = w_k.mean(0), w_k
    straight = run(3)
    np.testing.assert_allclose(straight, w, rtol=1e-5)
    run(1, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(run(3, root=tmp_path, ckpt_path=path), straight)


class Taught(ClientModule):
    """Learns the server's outputs as well (FedGKD)."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        teacher = functional_call(self.net, self.tensors_of(self.broadcast.weights.floats), (inputs,)).detach()
        logits = self.net(inputs)
        loss = self.loss(logits, targets) + F.mse_loss(logits, teacher)
        self.log("distance", F.mse_loss(logits, teacher))
        self.note(loss, logits, targets)
        return loss


@pytest.mark.parametrize("norm", [False, True])
def test_a_client_learns_from_the_servers_model_which_stays_as_it_was(norm: bool) -> None:
    """In training, a net with BatchNorm writes into its tensors."""

    def run(engine: Engine, epochs: float = 2) -> tuple[Tensor, dict[str, float]]:
        module = FederatedModule(net(norm=norm), client=Taught)
        federation = data((10, 6, 18, 10, 12, 6), batch_size=8 if norm else 4)
        fit(module, FederatedLoop(4, epochs, seed=0, engine=engine, max_rejected=0), federation)
        return weights(module.net), module.round_metrics

    straight, metrics = run(TrainerEngine())
    assert metrics["clients/distance_mean"] > 0
    for engine in ENGINES:
        assert torch.equal(run(engine())[0], straight)
    assert run(LoopEngine(), epochs=0.01)[1]["clients/distance_mean"] == 0  # of the first step


@pytest.mark.parametrize("engine", [None, LoopEngine()])
def test_a_client_that_writes_to_what_was_sent_is_refused(engine: Engine | None) -> None:
    class Writing(ClientModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            views = self.layout.split(self.broadcast.weights.floats)
            shaped = {
                name: views[name].view_as(value) for name, value in self.net.state_dict().items() if name in views
            }
            functional_call(self.net, shaped, (batch[0],))
            return super().training_step(batch, batch_idx)

    module, loop = FederatedModule(net(norm=True), client=Writing), FederatedLoop(4, 2, seed=0, engine=engine)
    with pytest.raises(InputError, match=r"Writing writes to self.broadcast.weights, .*use copies, self.tensors_of"):
        fit(module, loop, data((10, 6, 18, 10, 12, 6), batch_size=8))


class Telling(ClientModule):
    """Tells F_k(w_t), its loss at the server's model."""

    def start(self, task: Any) -> None:
        super().start(task)
        with torch.no_grad():
            ((inputs, targets),) = self.data.client_eval_batches(task.client)
            self.log("start_loss", self.loss(self.net(inputs), targets))


class Fair(Algorithm):
    """q-FedAvg (Li et al. 2020, arXiv:1905.10497, Algorithm 2)."""

    def __init__(self, q: float, lr: float) -> None:
        self.q, self.lipschitz = q, 1 / lr

    def transform(self, sent: Broadcast, update: ClientUpdate) -> ClientUpdate:
        loss, start = update.metrics["start_loss"], sent.weights.floats
        change = self.lipschitz * (start - update.weights.floats)
        h = self.q * loss ** (self.q - 1) * float(change.square().sum()) + self.lipschitz * loss**self.q
        floats = start - loss**self.q * change / h
        return update._replace(task=update.task._replace(weight=h), weights=update.weights._replace(floats=floats))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("q", [0.0, 1.0, 2.5])
def test_a_client_tells_its_loss_which_weighs_it_in_the_average(q: float, engine: Callable[[], Engine]) -> None:
    """F_k(w) = 1/2 |w - a_k|^2, and Delta w_k = L (w - w_k) = grad F_k(w) after one step of rate 1/L."""
    module = quadratic_module(client=Telling)
    loop = FederatedLoop(3, 1, seed=0, engine=engine(), algorithm=Fair(q, 0.1), max_rejected=0)
    fit(module, loop, quadratics(POINTS.tolist()), rounds=2)
    w = np.zeros(3)
    for _ in range(2):
        loss, gradient = ((w - POINTS) ** 2).sum(1) / 2, w - POINTS
        h = q * loss ** (q - 1) * (gradient**2).sum(1) + 10 * loss**q
        w = w - (loss[:, None] ** q * gradient).sum(0) / h.sum()
    np.testing.assert_allclose(weights(module.net), w, rtol=1e-4)


class Doubling(Algorithm):
    """Doubles every weight, which changes no mean."""

    def transform(self, sent: Any, update: ClientUpdate) -> ClientUpdate:
        return update._replace(task=update.task._replace(weight=2 * update.task.weight))


@pytest.mark.parametrize("other", [Scaffold, FedDyn])
def test_weights_that_all_change_alike_change_nothing_in_a_chain(other: Callable[[], Algorithm]) -> None:
    def run(algorithm: Algorithm) -> Tensor:
        module = quadratic_module(mu=0.1 if other is FedDyn else 0.0)
        return weights(fit(module, FederatedLoop(2, 1, seed=0, algorithm=algorithm), quadratics(POINTS.tolist())).net)

    assert torch.equal(run(chain(Doubling(), other())), run(other()))
