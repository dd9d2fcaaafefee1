"""Learning rates over rounds and clipped gradients: against PyTorch's schedulers, by hand, and after a stop."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from federations import Displacement, data, fit, net, quadratics, weights
from lightning import Callback
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR

from fedlit.algorithms import FedNova, Scaffold
from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule, Stragglers
from fedlit.optim import FedYogi
from fedlit.schedules import Constant, Cosine, Exponential, Schedule, Step

ENGINES: list[Callable[[], Engine]] = [
    TrainerEngine,
    LoopEngine,
    lambda: WorkersEngine(workers=2),
    VectorizedEngine,
]


class OnPlateau(Schedule):
    """Halves the rate in the round after one that has not lowered the clients' loss: a schedule of a user's own."""

    def __init__(self) -> None:
        self._factor, self._best = 1.0, float("inf")

    def factor(self, round: int) -> float:
        return self._factor

    def update(self, metrics: Mapping[str, float]) -> None:
        if metrics["clients/train_loss"] >= self._best:
            self._factor /= 2
        self._best = min(self._best, metrics["clients/train_loss"])

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self._factor, "best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._factor, self._best = state["factor"], state["best"]


# --- factors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (Exponential(0.9), lambda o: ExponentialLR(o, 0.9)),
        (Step(3, 0.5), lambda o: StepLR(o, 3, 0.5)),
        (Cosine(12), lambda o: CosineAnnealingLR(o, 12)),
        (Cosine(12, least=0.25), lambda o: CosineAnnealingLR(o, 12, eta_min=0.25 * 0.3)),
    ],
)
def test_a_factor_is_that_of_pytorchs_scheduler(schedule: Schedule, theirs: Callable[[Optimizer], LRScheduler]):
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = theirs(optimizer)
    for round in range(12):
        assert 0.3 * schedule.factor(round) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_cosine_stays_at_its_least():
    assert [Cosine(4, 0.2).factor(round) for round in (4, 5, 400)] == [0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Exponential(0),
        lambda: Exponential(1.01),
        lambda: Step(0),
        lambda: Step(2, -1),
        lambda: Cosine(0),
        lambda: Cosine(3, 1.5),
        lambda: Cosine(3, float("nan")),
        lambda: FederatedModule(net(), client_clip_norm=0),
        lambda: FederatedModule(net(), client_clip_norm=float("inf")),
    ],
)
def test_impossible_arguments_of_schedules_are_refused(make: Callable[[], object]):
    with pytest.raises(InputError, match=r"must be .*, got .*; "):
        make()


# --- schedules in a federation -------------------------------------------------------------------------------------


class Squares(nn.Module):
    """1/2 |logits|^2 of each example, and their mean as PyTorch's losses have it."""

    reduction = "mean"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        each = 0.5 * logits.square().sum(1)
        return each.mean() if self.reduction == "mean" else each


def server(lr: float, mu: float = 0.0, **options: Any) -> FederatedModule:
    """The server of ``quadratics``, for any engine."""
    return FederatedModule(Displacement(), mu=mu, client_optimizer=lambda p: SGD(p, lr=lr), loss=Squares(), **options)


class Rounds(Callback):
    """The global model and the metrics after each round."""

    def __init__(self) -> None:
        self.models: list[Tensor] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.models.append(weights(pl_module.net))
        self.metrics.append(pl_module.round_metrics)


def follow(engine: Engine, rounds: int = 3, epochs: int = 1, lr: float = 0.5, **options: Any) -> Rounds:
    """One client whose loss is 1/2 |w - (4, 0, 0)|^2, from w = 0: an epoch is one step."""
    seen = Rounds()
    fit(
        server(lr, **options),
        FederatedLoop(1, epochs, seed=0, engine=engine),
        quadratics([[4, 0, 0]]),
        rounds,
        callbacks=[seen],
    )
    return seen


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_step_at_the_rate_of_the_round(engine: Callable[[], Engine]):
    seen = follow(engine(), client_schedule=Step(1, 0.5))
    w, expected = 0.0, []
    for rate in (0.5, 0.25, 0.125):
        w += rate * (4 - w)
        expected.append(torch.tensor([w, 0, 0], dtype=torch.float64))
    for model, by_hand in zip(seen.models, expected, strict=True):
        torch.testing.assert_close(model, by_hand)
    assert [metrics["federation/client_lr"] for metrics in seen.metrics] == [0.5, 0.25, 0.125]
    assert [metrics["federation/server_lr"] for metrics in seen.metrics] == [1, 1, 1]


def test_the_server_steps_at_the_rate_of_the_round():
    seen = follow(LoopEngine(), server_optimizer=lambda p: SGD(p, lr=0.8), server_schedule=Step(1, 0.5))
    w = 0.0
    for rate, model in zip((0.8, 0.4, 0.2), seen.models, strict=True):
        w += rate * 0.5 * (4 - w)
        torch.testing.assert_close(model, torch.tensor([w, 0, 0], dtype=torch.float64))
    assert [metrics["federation/server_lr"] for metrics in seen.metrics] == pytest.approx([0.8, 0.4, 0.2])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_goes_along_the_whole_gradient_cut_to_the_limit(engine: Callable[[], Engine]):
    seen = follow(engine(), rounds=1, epochs=3, mu=2.0, client_clip_norm=1.5)
    # The gradient is (w - 4) + mu w. At 0 it is -4, cut to -1.5; at 0.75 it is -3.25 + 1.5 = -1.75, cut to -1.5; at 1.5
    # it is -2.5 + 3 = 0.5, and stays whole.
    w = 0.5 * 1.5 + 0.5 * 1.5 - 0.5 * 0.5
    torch.testing.assert_close(seen.models[0], torch.tensor([w, 0, 0], dtype=torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_client_of_a_block_is_cut_by_its_own_norm(engine: Callable[[], Engine]):
    updates: list[Any] = []
    loop = FederatedLoop(3, 1, seed=0, engine=engine())
    loop.on_update.append(updates.append)
    points = [[3.0, 4, 0], [0.3, 0.4, 0], [0, 0, -2]]
    fit(server(lr=1.0, client_clip_norm=1.0), loop, quadratics(points), rounds=1)
    moved = {update.task.client: update.weights.floats for update in updates}
    # Gradients of norm 5, 0.5 and 2.
    expected = {0: [0.6, 0.8, 0], 1: [0.3, 0.4, 0], 2: [0, 0, -1.0]}
    for client, point in expected.items():
        torch.testing.assert_close(moved[client], torch.tensor(point), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", [None, Constant(), Exponential(1.0)])
def test_a_constant_rate_and_an_unreached_limit_change_no_bit(schedule: Schedule | None):
    plain = weights(fit(FederatedModule(net())).net)
    module = FederatedModule(net(), client_schedule=schedule, server_schedule=schedule, client_clip_norm=1e30)
    assert torch.equal(weights(fit(module).net), plain)


def test_a_users_own_schedule_gets_the_metrics_of_rounds():
    # w - 4 is -4, then times 1 - 2.5, to 6 and -9: the second loss and the third are above the first.
    seen = follow(LoopEngine(), rounds=4, lr=2.5, client_schedule=OnPlateau())
    assert [metrics["federation/client_lr"] for metrics in seen.metrics] == [2.5, 2.5, 1.25, 0.625]


def test_scaffolds_control_variates_are_of_the_rate_of_the_round():
    rates = (0.5, 0.25)
    loop = FederatedLoop(1, 1, seed=0, algorithm=Scaffold(), engine=LoopEngine())
    fit(server(lr=0.5, client_schedule=Step(1, 0.5)), loop, quadratics([[4, 0, 0]]), rounds=2)
    # One client: g - c_k + c = g, so w moves by -rate (w - 4), and c is the gradient met in the last round.
    first = 0 - rates[0] * (0 - 4)
    torch.testing.assert_close(loop.algorithm_state["control"], torch.tensor([first - 4.0, 0, 0]))


class Less(Stragglers):
    """Client k does 2k + 1 passes."""

    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        return 2.0 * clients + 1


def test_fednovas_steps_are_of_the_rate_of_the_round():
    loop = FederatedLoop(2, 3, seed=0, stragglers=Less(), algorithm=FedNova(), engine=LoopEngine())
    module = server(lr=0.4, mu=0.5, client_schedule=Step(1, 0.5))
    points = [[4.0, 0, 0], [0, 2, 0]]
    fit(module, loop, quadratics(points), rounds=2)

    w = torch.zeros(3, dtype=torch.float64)
    for rate in (0.4, 0.2):
        changes, lengths = [], []
        for point, steps in zip(torch.tensor(points, dtype=torch.float64), (1, 3), strict=True):
            x = w
            for _ in range(steps):
                x = x - rate * ((x - point) + 0.5 * (x - w))
            changes.append(x - w)
            lengths.append((1 - (1 - rate * 0.5) ** steps) / (rate * 0.5))  # ||a||_1 (Wang et al. 2020, Section 4)
        w = w + sum(lengths) / 2 * sum(c / a for c, a in zip(changes, lengths, strict=True)) / 2
    torch.testing.assert_close(weights(module.net), w, rtol=1e-5, atol=1e-6)


def test_fednova_with_a_proximal_term_takes_no_clipping():
    loop = FederatedLoop(2, seed=0, algorithm=FedNova())
    with pytest.raises(InputError, match=r"FedNova .* model.client_clip_norm is 1.0; .* set model.mu to 0"):
        fit(FederatedModule(net(), mu=0.1, client_clip_norm=1.0), loop)
    fit(FederatedModule(net(), mu=0.0, client_clip_norm=1.0), FederatedLoop(2, seed=0, algorithm=FedNova()), rounds=1)


# --- refused -------------------------------------------------------------------------------------------------------


class NoRate(Optimizer):
    """Steps of a fixed length."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= 0.01 * parameter.grad.sign()


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_schedule_without_a_rate_to_change_is_refused(role: str):
    rateless = {f"{role}_optimizer": NoRate}
    seen = fit(FederatedModule(net(), **rateless), rounds=1).round_metrics  # type: ignore[arg-type]
    assert f"federation/{role}_lr" not in seen
    with pytest.raises(InputError, match=rf"model.{role}_schedule .*, which NoRate does not have; leave"):
        fit(FederatedModule(net(), **rateless, **{f"{role}_schedule": Exponential()}))  # type: ignore[arg-type]


class Growing(Schedule):
    def factor(self, round: int) -> float:
        return 1.0 if round == 0 else float("inf")


@pytest.mark.parametrize("schedule", [Cosine(2), Exponential(1e-200), Growing()])
def test_a_schedule_that_ends_in_no_rate_is_refused_before_training(schedule: Schedule):
    for role in ("client", "server"):
        with pytest.raises(InputError, match=rf"model.{role}_schedule \w+ gives .* for round 3, but"):
            fit(FederatedModule(net(), **{f"{role}_schedule": schedule}), rounds=3)  # type: ignore[arg-type]


def test_a_clients_own_optimizer_follows_the_schedule_or_is_refused():
    class Own(ClientModule):
        def configure_optimizers(self) -> Optimizer:
            return SGD(self.parameters_, lr=0.1)

    class Asking(ClientModule):
        def configure_optimizers(self) -> Optimizer:
            return self.optimizer(self.parameters_)

    for engine in ENGINES[:3]:
        for client_class in (Own, Asking):
            module = FederatedModule(net(), client_schedule=Exponential(0.5))
            module.client_class = client_class  # type: ignore[misc]
            loop = FederatedLoop(2, seed=0, engine=engine())
            if client_class is Asking:
                fit(module, loop)
                continue
            with pytest.raises(InputError, match=r"no effect on the optimizer of Own\.configure_optimizers; make"):
                fit(module, loop)


# --- resumed -------------------------------------------------------------------------------------------------------

RESUMED: dict[str, Callable[[], dict[str, Any]]] = {
    "exponential": lambda: {"client_schedule": Exponential(0.8), "server_schedule": Exponential(0.9)},
    "step": lambda: {"client_schedule": Step(2, 0.3), "server_schedule": Step(3, 0.3)},
    "cosine": lambda: {"client_schedule": Cosine(7), "server_schedule": Cosine(7, 0.1)},
    "with a state": lambda: {"client_schedule": OnPlateau(), "server_schedule": OnPlateau()},
    "clipped": lambda: {"client_clip_norm": 0.1},
}


def run(root: Path, name: str, rounds: int, ckpt: Path | None = None, engine: Engine | None = None) -> Rounds:
    seen = Rounds()
    module = FederatedModule(
        net(dropout=0.2),
        client_optimizer=lambda p: SGD(p, lr=0.5),
        server_optimizer=lambda p: FedYogi(p, lr=0.05),
        **RESUMED[name](),
    )
    loop = FederatedLoop(4, seed=0, engine=engine or LoopEngine())
    fit(module, loop, data(), rounds, root=root, ckpt_path=ckpt, callbacks=[seen])
    return seen


def checkpoint(root: Path) -> Path:
    return max(root.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("engine", [LoopEngine, lambda: WorkersEngine(workers=2)])
@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_goes_on_with_the_same_bits_and_rates(name: str, engine: Callable[[], Engine], tmp_path: Path):
    whole = run(tmp_path / "whole", name, rounds=6)
    run(tmp_path / "cut", name, rounds=3, engine=engine())
    resumed = run(tmp_path / "cut", name, rounds=6, ckpt=checkpoint(tmp_path / "cut"), engine=engine())
    assert torch.equal(resumed.models[-1], whole.models[-1])
    for rate in ("federation/client_lr", "federation/server_lr"):
        rates = [metrics[rate] for metrics in whole.metrics]
        assert [metrics[rate] for metrics in resumed.metrics] == rates[3:]
        if name != "clipped":
            assert len(set(rates)) > 1
    stored = torch.load(checkpoint(tmp_path / "cut"), weights_only=True)
    assert stored["optimizer_states"][0]["param_groups"][0]["lr"] == 0.05  # the optimizer's own, not the round's


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_from_before_there_were_schedules_is_resumed(tmp_path: Path):
    whole = run(tmp_path / "whole", "step", rounds=4)
    run(tmp_path / "cut", "step", rounds=2)
    path = checkpoint(tmp_path / "cut")
    stored = torch.load(path, weights_only=True)
    del stored["fedlit"]["rates"]
    torch.save(stored, path)
    assert torch.equal(run(tmp_path / "cut", "step", rounds=4, ckpt=path).models[-1], whole.models[-1])


# --- by command line and YAML --------------------------------------------------------------------------------------

COMMAND = (
    "fit --trainer.accelerator cpu --trainer.max_epochs 3 --federation.clients_per_round 2 --federation.local_epochs 1 "
    "--model.net fedlit.models.SoftmaxRegression --federation.engine fedlit.engines.LoopEngine --name run"
).split()


def logged(name: str) -> list[float]:
    with Path("logs/run/version_0/metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_a_schedule_is_named_in_yaml_or_on_the_command_line_and_logged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clients = {"class_path": "fedlit.schedules.Exponential", "init_args": {"gamma": 0.5}}
    Path("c.yaml").write_text(yaml.safe_dump({"model": {"client_schedule": clients, "client_clip_norm": 2}}))
    server = "--model.server_schedule Cosine --model.server_schedule.rounds 4".split()
    assert main([*COMMAND, "--config", "c.yaml", *server]) == 0
    assert logged("federation/client_lr") == pytest.approx([0.1, 0.05, 0.025])
    assert all(later < before for before, later in pairwise(logged("federation/server_lr")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model.client_schedule Cosine --model.client_schedule.rounds 0", "rounds must be at least 1, got 0"),
        ("--model.client_schedule Cosine --model.client_schedule.rounds 2", "Cosine gives 0.0 for round 3"),
        ("--model.client_schedule fedlit.schedules.Cosin", "did you mean fedlit.schedules.Cosine?"),
        ("--model.client_clip_norm -1", "model.client_clip_norm must be a finite number > 0, got -1"),
    ],
)
def test_a_mistake_is_one_line_before_there_is_a_folder(words: str, said: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
