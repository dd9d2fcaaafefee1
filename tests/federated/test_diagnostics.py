"""Each quantity against its closed form on quadratics, and against sums written out on two clients."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from federations import data, fit, net, quadratic_module, quadratics
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from fedlit.algorithms import Algorithm
from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state, write_state
from fedlit.data import ByGroup, Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientUpdate, Diagnostics, FederatedLoop, FederatedModule
from fedlit.federated.diagnostics import RESERVED
from fedlit.models import SoftmaxRegression

FloatArray, IntArray = NDArray[np.float32], NDArray[np.int64]
POINTS = [[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]


def measured(module: FederatedModule, federation: object, epochs: float = 1, rounds: int = 1, **kwargs: object):
    loop = FederatedLoop(2, epochs, seed=0, **{"diagnostics": Diagnostics(every=1), **kwargs})
    return fit(module, loop, federation, rounds=rounds).round_metrics


def test_dissimilarity_and_variance_of_two_clients_by_hand():
    # At w = 0 the gradients are -a_1 and -a_2, with masses 1/4 and 3/4: grad f = -(3/4, 3, 0).
    result = measured(quadratic_module(), quadratics(POINTS, sizes=(1, 3)))
    mean_square, square = 0.25 * 9 + 0.75 * 16, 0.75**2 + 3**2
    assert result["diagnostics/dissimilarity"] == pytest.approx(math.sqrt(mean_square / square))
    assert result["diagnostics/gradient_variance"] == pytest.approx(mean_square - square)
    assert result["diagnostics/train_loss"] == pytest.approx(0.5 * mean_square)
    # The authors' code: the same grad f, a plain mean over clients.
    assert result["diagnostics/dissimilarity_unweighted"] == pytest.approx(math.sqrt(0.5 * (9 + 16) / square))
    apart = [(3 - 0.75) ** 2 + 3**2, 0.75**2 + (4 - 3) ** 2]
    assert result["diagnostics/gradient_variance_unweighted"] == pytest.approx(sum(apart) / 2)


def test_clients_that_agree_have_dissimilarity_one_and_no_variance():
    result = measured(quadratic_module(), quadratics([[1.0, 2.0, -1.0]] * 2, sizes=(2, 5)))
    assert result["diagnostics/dissimilarity"] == pytest.approx(1)
    assert result["diagnostics/gradient_variance"] == pytest.approx(0, abs=1e-12)


@pytest.fixture
def synthetic_1_1() -> list[tuple[FloatArray, IntArray]]:
    """Inputs (n, 60) and classes (n,) of twelve clients of Synthetic(1, 1), by a generator that shares nothing with
    ``fedlit.data.Synthetic`` but the paper: Li et al. 2020, Section 5.1. NumPy keeps the stream of ``RandomState``."""
    draw = np.random.RandomState(7)
    std = np.sqrt(np.arange(1, 61) ** -1.2)
    clients = []
    for _ in range(12):
        n = int(min(draw.lognormal(4, 2), 400)) + 50
        u, b = draw.normal(0, 1, 2)
        weights, offsets = draw.normal(u, 1, (60, 10)), draw.normal(u, 1, 10)
        inputs = draw.normal(draw.normal(b, 1, 60), std, (n, 60)).astype(np.float32)
        clients.append((inputs, (inputs @ weights + offsets).argmax(1)))
    return clients


def test_at_zero_weights_all_quantities_of_synthetic_data_are_sums_that_numpy_writes_out(
    synthetic_1_1: list[tuple[FloatArray, IntArray]],
):
    """There softmax gives 1/10 to each class: F_k = log 10, and its gradients are means of (1/10 - [y = c]) (x, 1)."""
    inputs, targets = (np.concatenate(parts) for parts in zip(*synthetic_1_1, strict=True))
    owners = np.repeat(np.arange(12), [len(y) for _, y in synthetic_1_1])
    names = [str(c) for c in range(10)]
    federation = Tensors(
        train=(inputs, targets, owners), test=(inputs, targets), class_names=names, partition=ByGroup(), seed=0
    )
    net = SoftmaxRegression(num_classes=10, in_channels=60, image_size=1)
    assert all(not p.any() for p in net.parameters())
    result = measured(FederatedModule(net, mu=0.0), federation)

    gradients = []
    for x, y in synthetic_1_1:
        errors = 0.1 - np.eye(10)[y]  # (n, 10)
        with_one = np.column_stack([x.astype(np.float64), np.ones(len(x))])  # (n, 61)
        gradients.append((errors.T @ with_one / len(x)).ravel())
    stacked, sizes = np.stack(gradients), np.array([len(y) for _, y in synthetic_1_1])
    shares = sizes / sizes.sum()
    whole = shares @ stacked
    apart = ((stacked - whole) ** 2).sum(1)
    square = (whole**2).sum()
    expected = {
        "train_loss": math.log(10),
        "dissimilarity": math.sqrt(shares @ (stacked**2).sum(1) / square),
        "dissimilarity_unweighted": math.sqrt((stacked**2).sum(1).mean() / square),
        "gradient_variance": shares @ apart,
        "gradient_variance_unweighted": apart.mean(),
    }
    assert expected["dissimilarity"] > 1.5  # clients disagree
    assert {name: result[f"diagnostics/{name}"] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mu", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("epochs", [1, 4])
def test_gamma_of_a_quadratic_is_its_closed_form(mu: float, epochs: int):
    # T full-gradient steps of rate eta: gamma = |1 - eta (1 + mu)|^T.
    result = measured(quadratic_module(mu=mu, lr=0.1), quadratics(POINTS), epochs)
    assert result["diagnostics/gamma_mean"] == pytest.approx(abs(1 - 0.1 * (1 + mu)) ** epochs, rel=1e-4)


def test_gamma_is_one_when_nothing_is_done():
    assert measured(quadratic_module(lr=0.0), quadratics(POINTS))["diagnostics/gamma_max"] == pytest.approx(1)


class Shifted(Algorithm):
    """Its clients start elsewhere than at the model that was sent."""

    def start(self, floats: Tensor, kept: Tensor | None) -> Tensor:
        return floats + 1


@pytest.mark.parametrize("engine", [LoopEngine(), TrainerEngine(), WorkersEngine(workers=2)])
def test_gamma_compares_with_where_the_fit_began(engine: object):
    result = measured(quadratic_module(lr=0.0), quadratics(POINTS), algorithm=Shifted(), engine=engine)
    assert result["diagnostics/gamma_max"] == pytest.approx(1)
    # F_k = |w - x_k|^2 / 2 from w = (1, 1, 1): a step of rate 0.1 takes the gradient w - x_k to 0.9 of it.
    result = measured(quadratic_module(lr=0.1), quadratics(POINTS), algorithm=Shifted(), engine=engine)
    assert result["diagnostics/gamma_max"] == pytest.approx(0.9, rel=1e-4)


def gradients() -> tuple[dict[str, list[Tensor]], list[float]]:
    """Full gradients of every client of ``data()`` at the start, by block, and their masses."""
    federation = data()
    federation.setup()
    model = net()
    blocks: dict[str, list[Tensor]] = {"first": [], "rest": []}
    for k in range(federation.num_clients):
        rows = torch.from_numpy(federation.partition.client(k).copy())
        inputs, targets = federation.train.inputs[rows], federation.train.targets[rows]
        loss = cross_entropy(model(inputs), targets)
        parts = torch.autograd.grad(loss, list(model.parameters()))
        blocks["first"].append(torch.cat([p.reshape(-1) for p in parts[:2]]).double())
        blocks["rest"].append(torch.cat([p.reshape(-1) for p in parts[2:]]).double())
    return blocks, (federation.partition.sizes / federation.partition.sizes.sum()).tolist()


def test_dissimilarity_is_measured_by_block():
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    result = measured(module, data(), diagnostics=Diagnostics(every=1, blocks={"first": r"^0\."}))
    blocks, masses = gradients()
    for block, of_clients in blocks.items():
        mean = sum(p * g for p, g in zip(masses, of_clients, strict=True))
        square = sum(p * float(g.square().sum()) for p, g in zip(masses, of_clients, strict=True))
        expected = math.sqrt(square / float(mean.square().sum()))
        assert result[f"diagnostics/dissimilarity_{block}"] == pytest.approx(expected, rel=1e-4)
        assert result[f"drift/{block}"] > 0


def test_cosines_between_updates_are_those_of_all_pairs():
    updates = []
    loop = FederatedLoop(4, seed=0)
    loop.on_update.append(lambda u: updates.append(u.weights.floats.double()))
    start = torch.cat([p.detach().reshape(-1) for p in net().parameters()]).double()
    module = fit(FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1)), loop, rounds=1)
    moved = [floats - start for floats in updates]
    cosines = [float(torch.cosine_similarity(a, b, dim=0)) for i, a in enumerate(moved) for b in moved[:i]]
    assert module.round_metrics["drift/cosine_of_pairs"] == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)


@pytest.mark.parametrize("engine", [TrainerEngine(), WorkersEngine(workers=2), VectorizedEngine()])
def test_every_engine_measures_the_same(engine: object):
    def run(chosen: object) -> dict[str, float]:
        module = FederatedModule(net(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
        metrics = measured(module, data(), 2, rounds=2, engine=chosen)
        return {k: v for k, v in metrics.items() if k.startswith(("diagnostics", "drift"))}

    assert run(engine) == pytest.approx(run(LoopEngine()), rel=1e-4)


class OwnAutocast(nn.Module):
    """A network that chooses bfloat16 itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(inputs)


def gamma_by_hand(update: ClientUpdate, start: nn.Module, federation: Tensors, mu: float) -> float:
    """||grad F(w) + mu (w - w_t)|| / ||grad F(w_t)|| over the client's examples (Li et al. 2020, Definition 2)."""
    rows = torch.from_numpy(federation.partition.client(update.task.client).copy())
    inputs, targets = federation.train.inputs[rows], federation.train.targets[rows]
    layout, sent = Layout.of(start), read_state(start, Layout.of(start))
    norms = []
    for weights in (update.weights, sent):
        model = copy.deepcopy(start)
        write_state(model, layout, weights)
        parts = torch.autograd.grad(cross_entropy(model(inputs), targets), list(model.parameters()))
        gradient = torch.cat([part.reshape(-1) for part in parts]).double()
        norms.append(float((gradient + mu * (weights.floats - sent.floats)).norm()))
    return norms[0] / norms[1]


@pytest.mark.parametrize("make", [net, OwnAutocast])
@pytest.mark.parametrize("engine", [LoopEngine(), TrainerEngine(), WorkersEngine(workers=2), VectorizedEngine(2)])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gamma_is_its_definition_in_full_precision(make: Callable[[], nn.Module], engine: Engine, precision: str):
    federation, updates = data(), list[ClientUpdate]()
    loop = FederatedLoop(4, 3, seed=0, diagnostics=Diagnostics(every=1), engine=engine)
    loop.on_update.append(updates.append)
    start = make()
    module = FederatedModule(copy.deepcopy(start), mu=0.3, client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, loop, federation, rounds=1, precision=precision)
    expected = [gamma_by_hand(update, start, federation, 0.3) for update in updates]
    assert [update.metrics["gamma"] for update in updates] == pytest.approx(expected, rel=1e-4)


def test_diagnostics_do_not_depend_on_the_size_of_evaluation_batches_in_mixed_precision():
    def run(size: int) -> dict[str, float]:
        module = FederatedModule(net(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
        loop = FederatedLoop(4, 2, seed=0, diagnostics=Diagnostics(every=1))
        metrics = fit(module, loop, data(eval_batch_size=size), precision="bf16-mixed").round_metrics
        return {k: v for k, v in metrics.items() if k.startswith("diagnostics")}

    assert run(2) == pytest.approx(run(512), rel=1e-5)


def test_diagnostics_change_nothing_and_are_measured_only_when_due():
    def run(diagnostics: Diagnostics | None) -> tuple[Tensor, list[bool]]:
        seen = []
        module = FederatedModule(net(dropout=0.3), client_optimizer=lambda p: SGD(p, lr=0.1))
        loop = FederatedLoop(4, seed=0, diagnostics=diagnostics)
        loop.on_update.append(lambda u: seen.append("gamma" in u.metrics))
        fit(module, loop, rounds=4)
        return torch.cat([p.detach().reshape(-1) for p in module.net.parameters()]), seen

    with_it, measured_in = run(Diagnostics(every=3))
    without, never = run(None)
    assert torch.equal(with_it, without)
    assert measured_in == [True] * 4 + [False] * 8 + [True] * 4
    assert not any(never)


def test_a_period_of_no_rounds_is_refused():
    with pytest.raises(InputError, match="every must be at least 1, got 0; 1 measures each round"):
        Diagnostics(every=0)
    with pytest.raises(InputError, match=r"every must be a whole number, got 2\.5"):
        Diagnostics(every=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mean", "cosine", "cosine_of_pairs", "unweighted", "rest"])
def test_a_block_does_not_take_the_name_of_another_metric(name: str):
    with pytest.raises(InputError, match=f"blocks has a block '{name}', but drift/{name} or diagnostics"):
        Diagnostics(blocks={"first": "^0", name: "^2"})


def test_every_other_metric_of_drift_and_dissimilarity_is_known():
    found = measured(FederatedModule(net()), data(), diagnostics=Diagnostics(1, blocks={"first": r"^0\b"}))
    drifts = {name.removeprefix("drift/") for name in found if name.startswith("drift/")}
    spreads = {name.removeprefix("diagnostics/dissimilarity_") for name in found if "dissimilarity_" in name}
    assert (drifts | spreads) - {"first"} == set(RESERVED)


@pytest.mark.parametrize(
    "blocks", [{"gates": "attn"}, {"first": r"^0\.", "gates": "0.weight"}], ids=["no match", "all in an earlier block"]
)
def test_a_block_without_parameters_is_refused(blocks: dict[str, str]):
    with pytest.raises(InputError, match=r"diagnostics.blocks.gates: .* no trainable parameter.* names are 0.weight"):
        measured(FederatedModule(net()), data(), diagnostics=Diagnostics(1, blocks=blocks))


def test_a_pattern_that_is_none_is_named():
    with pytest.raises(InputError, match=r"blocks.first: '\(' is not a regular expression"):
        Diagnostics(blocks={"first": "("})


class Decaying(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + sum(p.square().sum() for p in self.net.parameters())


class Anchored(ClientModule):
    """Its own term is zero where a fit begins."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        moved = zip(
            self.parameters_,
            self.layout.split_trainable(self.broadcast.weights.floats[: self.layout.num_trainable]),
            strict=True,
        )
        return super().training_step(batch, batch_idx) + 50 * sum((p - w.view_as(p)).square().sum() for p, w in moved)


class Noting(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("seen", batch_idx)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(("client", "differs"), [(Decaying, True), (Anchored, True), (Noting, False), (None, False)])
@pytest.mark.parametrize("diagnostics", [Diagnostics(1), None])
def test_a_client_that_minimises_another_loss_is_said_to(
    client: type[ClientModule] | None, differs: bool, diagnostics: Diagnostics | None
):
    module = FederatedModule(net(dropout=0.5), client=client)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        measured(module, data(), diagnostics=diagnostics)
    expected = [f"but {client.__name__} has another loss"] if client and differs and diagnostics else []
    assert [each for each in expected if any(each in str(warning.message) for warning in said)] == expected
    assert any("has another loss" in str(warning.message) for warning in said) is bool(expected)
