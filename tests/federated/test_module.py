"""The round as a whole, against loops written by hand."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federations import SIZES, data, fit, net, weights
from lightning import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.amp import GradScaler
from torch.optim import SGD, Adam

from fedlit.algorithms import Algorithm, FedDyn, Scaffold
from fedlit.core.errors import InputError
from fedlit.core.layout import read_state
from fedlit.engines import Engine, TrainerEngine
from fedlit.federated import Broadcast, ClientModule, ClientTask, ClientUpdate, FederatedLoop, FederatedModule
from fedlit.sampling import uniform_cohort


def fedavg_by_hand(model: nn.Module, rounds: int, clients_per_round: int, epochs: int, lr: float) -> nn.Module:
    """FedAvg in plain PyTorch: no Trainer, no fedlit but the batches and the cohort."""
    d = data()
    d.setup()
    for round in range(rounds):
        states, sizes = [], []
        for k in uniform_cohort(len(SIZES), clients_per_round, seed=0, round=round):
            local = copy.deepcopy(model).train()
            optimizer = SGD(local.parameters(), lr=lr)
            batches = d.client_batches(int(k), round, seed=0)
            for _ in range(epochs):
                for x, y in batches:
                    optimizer.zero_grad()
                    F.cross_entropy(local(x), y).backward()
                    optimizer.step()
            states.append(local.state_dict())
            sizes.append(SIZES[k])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                mean = sum(n * s[name].double() for n, s in zip(sizes, states, strict=True)) / sum(sizes)
                parameter += mean.float() - parameter  # the server's SGD of rate 1
    return model


def test_mu_zero_is_fedavg_to_the_bit():
    by_hand = fedavg_by_hand(net(), rounds=3, clients_per_round=4, epochs=2, lr=0.1)
    module = FederatedModule(net(), mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, FederatedLoop(clients_per_round=4, local_epochs=2, seed=0), rounds=3)
    assert torch.equal(weights(module.net), weights(by_hand))


def test_mu_pulls_the_clients_back():
    drifts = []
    for mu in (0.0, 1.0, 5.0):
        module = FederatedModule(net(), mu=mu, client_optimizer=lambda p: SGD(p, lr=0.1))
        fit(module, FederatedLoop(4, local_epochs=5, seed=0), rounds=1)
        drifts.append(module.round_metrics["drift/mean"])
    assert drifts[0] > drifts[1] > drifts[2]


def test_a_full_cohort_of_one_full_batch_step_is_one_centralised_step():
    model = net()
    d = data(batch_size=1000)
    module = FederatedModule(copy.deepcopy(model), mu=1.0, client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, FederatedLoop(len(SIZES), 1, seed=0), d, rounds=1)
    F.cross_entropy(model(d.train.inputs), d.train.targets).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    torch.testing.assert_close(weights(module.net), weights(model), rtol=1e-5, atol=1e-7)


class Probe(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.validated: list[torch.Tensor] = []
        self.after_round: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: FederatedModule, *_: object) -> None:
        self.after_round.append(weights(pl_module.net).clone())

    def on_validation_start(self, trainer: Trainer, pl_module: FederatedModule) -> None:
        self.validated.append(weights(pl_module.net).clone())
        self.steps.append(trainer.global_step)


def test_an_epoch_is_a_round_and_validation_sees_its_model():
    probe = Probe()
    fit(rounds=3, callbacks=[probe])
    assert probe.steps == [1, 2, 3]
    for validated, after in zip(probe.validated, probe.after_round, strict=True):
        assert torch.equal(validated, after)
    assert not torch.equal(probe.validated[0], probe.validated[1])


def test_the_trainer_stops_between_rounds_never_inside():
    module = fit(rounds=1_000_000, max_time={"seconds": 1})
    assert 1 <= module.trainer.global_step < 1_000_000
    assert module.round_metrics["round/clients"] == 4


def test_server_momentum_is_fedavgm_by_its_published_rule():
    # Hsu, Qi and Brown 2019, Algorithm 1: v = beta v + delta, w = w - v, with delta the pseudo-gradient.
    averages: list[torch.Tensor] = []

    class Recorder(FederatedModule):
        def server_step(self, average):
            averages.append(average.floats.double().clone())
            super().server_step(average)

    start = net()
    module = Recorder(copy.deepcopy(start), server_optimizer=lambda p: SGD(p, lr=1.0, momentum=0.9))
    fit(module, rounds=3)
    w = weights(start)
    v = torch.zeros_like(w)
    for average in averages:
        v = 0.9 * v + (w - average)
        w = w - v
    torch.testing.assert_close(weights(module.net), w, rtol=1e-5, atol=1e-6)


def test_batch_norm_statistics_are_averaged_with_the_clients_weights():
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(4, seed=0)
    loop.on_update.append(sent.append)
    d = data(sizes=(8, 4, 16, 8, 12, 4))
    module = fit(FederatedModule(net(norm=True)), loop, d, rounds=1)
    n = np.array([u.task.num_examples for u in sent])
    means = np.stack([module.layout.split(u.weights.floats)["1.running_mean"].double().numpy() for u in sent])
    expected = torch.from_numpy((n[:, None] * means).sum(0) / n.sum()).float()
    torch.testing.assert_close(module.net[1].running_mean, expected)
    assert module.net[1].num_batches_tracked == max(u.task.steps for u in sent)


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")  # the resumed run writes no checkpoints
@pytest.mark.parametrize("resume_after", [1, 2, 3])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, resume_after: int):
    def run(rounds: int, root: Path | None, ckpt_path: Path | None = None) -> FederatedModule:
        module = FederatedModule(net(dropout=0.3, norm=True), mu=0.1, server_optimizer=lambda p: Adam(p, lr=0.01))
        return fit(module, FederatedLoop(3, 2, seed=1), data(sizes=(8, 4, 16, 8)), rounds, root, ckpt_path)

    straight = run(4, None)
    run(resume_after, tmp_path / "stopped")
    (checkpoint,) = (tmp_path / "stopped").rglob("*.ckpt")
    torch.manual_seed(99)
    resumed = run(4, None, checkpoint)
    assert torch.equal(weights(resumed), weights(straight))
    same = [name for name in straight.round_metrics if not name.endswith(("seconds", "per_second"))]
    assert [resumed.round_metrics[name] for name in same] == [straight.round_metrics[name] for name in same]


def test_round_metrics_are_those_of_two_clients_by_hand():
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(2, 1, seed=0)
    loop.on_update.append(sent.append)
    start = net()
    module = fit(FederatedModule(copy.deepcopy(start), mu=0.5), loop, rounds=1)
    w = torch.cat([p.detach().reshape(-1) for p in start.parameters()]).double()
    a, b = (u.weights.floats.double() - w for u in sent)
    n_a, n_b = (u.task.num_examples for u in sent)
    mean = (n_a * a + n_b * b) / (n_a + n_b)
    m = module.round_metrics
    assert m["drift/mean"] == pytest.approx(float(a.norm() + b.norm()) / 2, rel=1e-5)
    cosine = (F.cosine_similarity(a, mean, dim=0) + F.cosine_similarity(b, mean, dim=0)) / 2
    assert m["drift/cosine"] == pytest.approx(float(cosine), rel=1e-4)
    prox = (n_a * 0.25 * a.square().sum() + n_b * 0.25 * b.square().sum()) / (n_a + n_b)
    assert m["clients/proximal"] == pytest.approx(float(prox), rel=1e-4)
    losses = [u.metrics["loss"] for u in sent]
    assert m["clients/train_loss"] == pytest.approx(np.average(losses, weights=[n_a, n_b]))
    assert m["round/samples"] == n_a + n_b
    assert m["round/megabytes_up"] == 2 * 4 * len(w) / 1e6
    assert "drift/attention" not in m


@pytest.mark.parametrize(("algorithm", "sent"), [(None, 1), (FedDyn(), 1), (Scaffold(), 2)])
def test_megabytes_down_include_what_an_algorithm_sends_with_the_model(algorithm: Algorithm | None, sent: int):
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, FederatedLoop(2, 1, seed=0, algorithm=algorithm), rounds=1)
    model = 4 * len(weights(module)) / 1e6
    found = [module.round_metrics[f"round/megabytes_{way}"] for way in ("down", "up")]
    assert found == pytest.approx([2 * sent * model, 2 * model])


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x * self.attention(x).sigmoid())


def test_the_drift_of_attention_is_measured_apart():
    m = fit(FederatedModule(Named()), FederatedLoop(1, seed=0), rounds=1).round_metrics
    assert m["drift/attention"] > 0
    assert m["drift/attention"] ** 2 + m["drift/rest"] ** 2 == pytest.approx(m["drift/mean"] ** 2)


class Spy(TrainerEngine):
    """Looks into the clients' Trainers."""

    dtypes: list[torch.dtype]

    def run(self, client, tasks, site):
        self.dtypes = []
        hook = client.net[0].register_forward_hook(lambda m, i, o: self.dtypes.append(o.dtype))
        yield from super().run(client, tasks, site)
        hook.remove()


no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="Lightning has no 16-mixed without a GPU")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.bfloat16),
        pytest.param("16-mixed", torch.float16, marks=no_gpu),
    ],
)
def test_the_servers_precision_reaches_the_clients(precision: str, dtype: torch.dtype):
    spy = Spy()
    module = FederatedModule(net(), mu=0.5, client_optimizer=lambda p: SGD(p, lr=0.1))
    accelerator = "gpu" if precision == "16-mixed" else "cpu"
    fit(module, FederatedLoop(3, 2, seed=0, engine=spy), rounds=2, precision=precision, accelerator=accelerator)
    assert set(spy.dtypes) == {dtype}
    assert module.trainer.global_step == 2
    assert weights(module).isfinite().all()


class Stationary(nn.Module):
    """Logits that do not depend on the weights: the task gradient is zero and only the proximal one is left."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1 / 3, 1e-4, 1e4]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3] + 0 * self.w


def test_with_a_gradient_scaler_the_proximal_gradient_is_exact_in_float32():
    gradients: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Moved(ClientModule):
        """Starts away from the anchor, so that there is a proximal gradient from the first step."""

        def start(self, task):
            super().start(task)
            with torch.no_grad():
                self.net.w += 1 / 7

        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            anchor = self.broadcast.weights.floats.view_as(self.net.w)
            gradients.append((self.net.w.grad.clone(), 0.3 * (self.net.w.detach() - anchor)))

    client = Moved(Stationary(), lambda p: SGD(p, lr=0.1), F.cross_entropy)
    client.receive(Broadcast(read_state(client.net, client.layout), (0.3,), torch.zeros(0)))
    client.start(ClientTask(client=0, round=0, seed=0, steps=3, epochs=1, num_examples=9, weight=9))
    d = data()
    d.setup()
    plugin = MixedPrecision("16-mixed", "cpu", GradScaler("cpu", init_scale=2.0**16))
    trainer = Trainer(
        accelerator="cpu",
        plugins=[plugin],
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(client, d.client_batches(0, 0, 0))
    assert len(gradients) == 3
    for gradient, exact in gradients:
        assert torch.equal(gradient, exact)


def test_inner_trainers_print_nothing(capfd: pytest.CaptureFixture[str]):
    fit(rounds=2)
    out = capfd.readouterr()
    assert (out.out + out.err).count("GPU available") <= 1


class Broken(Engine):
    def run(self, client, tasks, site):
        raise KeyboardInterrupt
        yield


def test_ctrl_c_in_a_client_stops_the_server():
    with pytest.raises(SystemExit):
        fit(loop=FederatedLoop(2, seed=0, engine=Broken()))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FederatedLoop(clients_per_round=0), "clients_per_round must be at least 1, got 0"),
        (lambda: FederatedLoop(local_epochs=0), "local_epochs must be > 0 and at most 1,000,000, got 0"),
        (lambda: FederatedLoop(local_epochs=float("nan")), "got nan"),
        (lambda: FederatedModule(net(), mu=-0.1), "mu must be a finite number >= 0, got -0.1"),
        (lambda: fit(loop=FederatedLoop(7)), "clients_per_round is 7 but there are 6 clients"),
        (
            lambda: Trainer(max_epochs=1, logger=False, accelerator="cpu").fit(
                FederatedModule(net()), datamodule=data()
            ),
            "FederatedLoop",
        ),
    ],
)
def test_impossible_values_are_refused_by_value(make, says: str):
    with pytest.raises(InputError, match=says):
        make()


def test_another_net_is_refused_by_name(tmp_path: Path):
    fit(rounds=1, root=tmp_path)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(InputError, match=r"net\.0\.weight is \(8, 5\) there and \(8, 6\) here"):
        fit(FederatedModule(net(features=6)), datamodule=data(features=6), ckpt_path=checkpoint)
    with pytest.raises(InputError, match="number of clients is 6 there, but 5 here"):
        fit(datamodule=data(sizes=(9, 4, 17, 1, 18)), ckpt_path=checkpoint)
