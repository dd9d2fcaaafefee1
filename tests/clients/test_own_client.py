"""A user's own client: engines, workers and a resumed run agree, or it is refused before the first round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import data, fit, net, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torchmetrics import MeanMetric

from fedlit.algorithms import Algorithm, FedDyn, Scaffold
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientModule, ClientUpdate, Diagnostics, FederatedLoop, FederatedModule
from fedlit.sampling import uniform_cohort
from fedlit.schedules import Exponential, Schedule


class Counting(ClientModule):
    """Weighs the loss by the batches that this object has seen."""

    seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen += 1
        return super().training_step(batch, batch_idx) / self.seen


class CountingAnew(Counting):
    def start(self, task: Any) -> None:
        super().start(task)
        self.seen = 0


class Remembers(ClientModule):
    """Starts from where the fit before has ended."""

    last: Tensor | None = None

    def start(self, task: Any) -> None:
        super().start(task)
        if self.last is not None:
            with torch.no_grad():
                self.parameters_[0].copy_(self.last)

    def finish(self, task: Any, data: Any) -> ClientUpdate:
        self.last = self.parameters_[0].detach().clone()
        return super().finish(task, data)


class Buffered(ClientModule):
    """Counts in a buffer that is not the net's."""

    count: Tensor

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.register_buffer("count", torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.count += 1
        return super().training_step(batch, batch_idx) / self.count


class Headed(ClientModule):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.head = nn.Linear(3, 3)


class Taught(Headed):
    """Learns the outputs of a fixed network, which is the same in each process."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.head.requires_grad_(False)
        for parameter in self.head.parameters():
            parameter.fill_(0.5)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + 0.1 * self.head(self.net(batch[0])).square().mean()


class WithoutSuper(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=0.1)


class Noting(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self.net(batch[0])
        loss = F.cross_entropy(logits, batch[1], label_smoothing=0.1)
        self.note(loss, logits, batch[1])
        return loss


class OfEpochs(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (1 + self.current_epoch)


class OfSteps(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (1 + self.global_step)


class OfRounds(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) / (1 + self.broadcast.round + batch_idx)


class Hooked(ClientModule):
    """Needs a Trainer, and counts."""

    seen = 0

    def on_after_backward(self) -> None:
        self.seen += 1
        for parameter in self.parameters_:
            assert parameter.grad is not None
            parameter.grad /= self.seen


class Clipping(ClientModule):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters_, 1.0)


class ClippingAfter(Clipping):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        ClientModule.on_before_optimizer_step(self, optimizer)
        super().on_before_optimizer_step(optimizer)


class Frozen(ClientModule):
    """Keeps a layer in evaluation mode, without dropout."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net[2].eval()  # type: ignore[index]  # dropout


#: Lightning's warning, which the server's Trainer and those of clients give.
EVAL_MODE = r"Found \d+ module\(s\) in eval mode"
MEMORY = "trains a client differently each time, from the same model, data and draws"
#: Each class with the message that refuses it; None if engines and a resumed run agree.
CASES: list[tuple[type[ClientModule], str | None]] = [
    (Counting, f"Counting {MEMORY}"),
    (CountingAnew, None),
    (Remembers, f"Remembers {MEMORY}"),
    (Buffered, f"Buffered {MEMORY}"),
    (Headed, "Headed has a parameter head.weight outside of its net, which is neither trained, sent nor averaged"),
    (Taught, None),
    (WithoutSuper, r"WithoutSuper.training_step counts no batch.*; call super\(\)"),
    (Noting, None),
    (OfEpochs, "current_epoch of OfEpochs would depend on the engine.*; use self.broadcast.round"),
    (OfSteps, "global_step of OfSteps would depend on the engine"),
    (OfRounds, None),
    (Hooked, f"Hooked {MEMORY}"),
    (Clipping, "Clipping trains without the proximal term.*; call super"),
    (ClippingAfter, None),
    (Frozen, None),
]
ENGINES: list[Callable[[], Engine]] = [LoopEngine, TrainerEngine, lambda: WorkersEngine(workers=2)]


def run(
    client: type[ClientModule], engine: Engine | None = None, rounds: int = 3, clients: int = 4, **kwargs: Any
) -> FederatedModule:
    module = FederatedModule(net(dropout=0.5 if client is Frozen else 0.0), client=client)
    return fit(module, FederatedLoop(clients, 2, seed=0, engine=engine), rounds=rounds, **kwargs)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists", f"ignore:{EVAL_MODE}")
@pytest.mark.parametrize(("client", "refused"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_users_client_is_refused_or_engines_and_a_resumed_run_agree(
    client: type[ClientModule], refused: str | None, tmp_path: Path
) -> None:
    if refused:
        with pytest.raises(InputError, match=refused):
            run(client)
        return
    straight = weights(run(client, TrainerEngine()).net)
    for engine in ENGINES:
        assert torch.equal(weights(run(client, engine()).net), straight)
    run(client, rounds=2, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(weights(run(client, root=tmp_path, ckpt_path=path).net), straight)


@pytest.mark.parametrize("given", [True, False])
def test_a_step_without_a_loss_is_refused_where_no_trainer_runs_it(given: bool) -> None:
    class Otherwise(ClientModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss} if given else None

    with pytest.raises(
        InputError, match=r"Otherwise.training_step returned a (dict|NoneType), not the loss of the batch"
    ):
        run(Otherwise, LoopEngine())
    run(Otherwise, TrainerEngine())


@pytest.mark.parametrize("engine", [*ENGINES, VectorizedEngine])
def test_what_a_client_logs_or_measures_is_in_a_rounds_metrics(engine: Callable[[], Engine]) -> None:
    class Measuring(ClientModule):
        """Measures its own number."""

        def measure(self, task: Any, data: Any) -> dict[str, float]:
            return super().measure(task, data) | {"number": float(task.client)}

    class Logging(Measuring):
        """And logs its batches' numbers."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log("step", torch.tensor(float(batch_idx)), prog_bar=True, on_epoch=True)
            self.log_dict({"half": 0.5})
            return super().training_step(batch, batch_idx)

    client = Measuring if engine is VectorizedEngine else Logging
    sizes = (8, 4, 16)  # in batches of 4: twice 0, 1; 0; and 0, 1, 2, 3
    module = run(client, engine(), rounds=1, datamodule=data(sizes), clients=3)
    found = module.round_metrics
    assert found["clients/number_mean"] == 1
    assert found["clients/number_std"] == pytest.approx(np.std([0, 1, 2]))
    assert module.trainer.callback_metrics["clients/number_p90"] == pytest.approx(1.8)
    if client is Logging:
        means = [0.5, 0.0, 1.5]
        assert found["clients/step_mean"] == pytest.approx(np.mean(means))
        assert found["clients/step_std"] == pytest.approx(np.std(means))
        assert (found["clients/half_mean"], found["clients/half_std"]) == (0.5, 0.0)


@pytest.mark.filterwarnings("ignore:federation.diagnostics measures model.loss")
@pytest.mark.parametrize("diagnostics", [None, Diagnostics()])
def test_what_is_logged_is_the_value_of_the_step(diagnostics: Diagnostics | None) -> None:
    """A parameter changes in place with each step and when gamma is measured; a loss may be added to in place."""

    class Logging(ClientModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            bias = self.net[0].bias[0]  # type: ignore[index]
            self.log("bias", bias)
            self.log("copy", float(bias))
            loss = super().training_step(batch, batch_idx)
            loss += 100
            return loss

    module = FederatedModule(net(), client=Logging)
    found = fit(module, FederatedLoop(4, 2, seed=0, diagnostics=diagnostics), rounds=1).round_metrics
    assert found["clients/bias_mean"] == pytest.approx(found["clients/copy_mean"])
    assert found["clients/train_loss"] < 10


@pytest.mark.parametrize("name", ["loss", "accuracy", "weight", "client", "drift", "drift/rest"])
def test_a_name_of_another_metric_cannot_be_measured(name: str) -> None:
    class Taking(ClientModule):
        def measure(self, task: Any, data: Any) -> dict[str, float]:
            return super().measure(task, data) | {name: 7.0}

    with pytest.raises(InputError, match=f"Taking measures '{name}', a metric that exists already; use another name"):
        run(Taking)


@pytest.mark.parametrize("more", [{}, {"client_holdout": 0.4}])
@pytest.mark.parametrize("diagnostics", [None, Diagnostics(every=1)])
def test_a_batchnorm_that_a_client_freezes_stays_frozen_whatever_is_measured(
    more: dict[str, float], diagnostics: Diagnostics | None
) -> None:
    class Freezing(ClientModule):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.net[1].eval()  # type: ignore[index]

    given = net(norm=True)
    module = FederatedModule(given, client=Freezing)
    loop = FederatedLoop(3, 2, seed=0, engine=LoopEngine(), diagnostics=diagnostics)
    fit(module, loop, data((10, 10, 10), batch_size=3 if more else 5, **more), rounds=2)
    assert int(given[1].num_batches_tracked) == 0  # type: ignore[arg-type]


@pytest.mark.filterwarnings(f"ignore:{EVAL_MODE}")
def test_a_module_of_the_net_in_evaluation_mode_is_named() -> None:
    given = net(norm=True)
    given[1].eval()
    module, loop = FederatedModule(given), FederatedLoop(3, 2, seed=0, engine=LoopEngine())
    with pytest.warns(UserWarning, match="the net's 1 is in evaluation mode, but clients train the whole net in train"):
        fit(module, loop, data((10, 10, 10), batch_size=5), rounds=1)
    assert int(given[1].num_batches_tracked) > 0  # type: ignore[arg-type]


class OwnRate(ClientModule):
    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters_, lr=0.02)


class OwnAdam(ClientModule):
    def configure_optimizers(self) -> Adam:
        return Adam(self.parameters_, lr=0.02)


def test_a_clients_own_optimizer_is_the_one_of_algorithms_and_metrics() -> None:
    """SCAFFOLD's control variates depend on the learning rate, and are defined for SGD."""

    def control(lr: float, client: type[ClientModule] | None) -> Tensor:
        module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=lr), client=client)
        loop = FederatedLoop(4, seed=0, engine=LoopEngine(), algorithm=Scaffold())
        assert fit(module, loop).round_metrics["federation/client_lr"] == 0.02
        found: Tensor = loop.algorithm_state["control"]
        return found

    assert torch.equal(control(0.5, OwnRate), control(0.02, None))
    with pytest.raises(InputError, match=r"SCAFFOLD is defined for clients that train with SGD .*, not with Adam"):
        control(0.02, OwnAdam)


@pytest.mark.parametrize("algorithm", [Algorithm, Scaffold, FedDyn])
def test_a_buffer_of_float64_changes_nothing_for_parameters_of_float32(algorithm: Callable[[], Algorithm]) -> None:
    """A flat state is in the widest type of the net."""
    found = []
    for kind in (torch.float32, torch.float64):
        given = net()
        given.register_buffer("unused", torch.zeros(2, dtype=kind))
        loop = FederatedLoop(4, seed=0, engine=LoopEngine(), algorithm=algorithm(), averaging="uniform")
        fit(FederatedModule(given, mu=0.1, client_clip_norm=1.0), loop)
        found.append(weights(given))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["loss", "gamma", "number", "drift", "drift/rest"])
def test_a_reserved_metric_name_is_refused(name: str) -> None:
    class Taking(ClientModule):
        def measure(self, task: Any, data: Any) -> dict[str, float]:
            return {"number": 1.0}

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log(name, 1.0)
            return super().training_step(batch, batch_idx)

    with pytest.raises(InputError, match=f"Taking logs '{name}', a metric that exists already; use another name"):
        run(Taking)


class LogsMetric(ClientModule):
    """Logs what Lightning's users log."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("mine", MeanMetric())
        return super().training_step(batch, batch_idx)


class LogsVector(ClientModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("mine", torch.zeros(2))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("client", "says"), [(LogsMetric, "is of type MeanMetric"), (LogsVector, r"is of shape \(2,\)")]
)
def test_what_a_client_logs_and_is_not_a_number_is_named(client: type[ClientModule], says: str) -> None:
    with pytest.raises(InputError, match=rf"{client.__name__} logs 'mine', which {says}, not a number; give one"):
        fit(FederatedModule(net(), client=client), FederatedLoop(clients_per_round=2, seed=0, engine=LoopEngine()))


class WithinTheRound(ClientModule):
    """A learning rate that rises and falls within a fit, as Lightning's documentation writes it."""

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters_)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def test_a_schedule_within_a_fit_knows_its_number_of_steps_without_a_named_engine() -> None:
    module = FederatedModule(net(), mu=0.0, client=WithinTheRound, client_optimizer=lambda p: SGD(p, momentum=0.9))
    fit(module, FederatedLoop(clients_per_round=1, local_epochs=3, seed=0), rounds=1, datamodule=data((12, 12)))
    federation = data((12, 12))
    federation.setup()
    (client,) = uniform_cohort(2, 1, seed=0, round=0)
    by_hand = net()
    optimizer = SGD(by_hand.parameters(), momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
    batches = federation.client_batches(int(client), 0, seed=0)
    for _ in range(3):
        for inputs, targets in batches:
            optimizer.zero_grad()
            F.cross_entropy(by_hand(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
    torch.testing.assert_close(weights(module.net), weights(by_hand))


class OneCycle(ClientModule):
    factor: float | None = 1.0

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters_)
        most = 0.1 * (self.rate if self.factor is None else self.factor)
        scheduler = OneCycleLR(optimizer, max_lr=most, total_steps=100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class OneCycleOfTheRound(OneCycle):
    factor = None


class WarmUp(ClientModule):
    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters_)
        scheduler = LambdaLR(optimizer, lambda step: min(1.0, step / 3))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def test_a_schedule_of_rounds_that_one_within_a_fit_would_replace_is_refused() -> None:
    def trained(client: type[ClientModule], schedule: Schedule | None) -> Tensor:
        made = FederatedModule(net(), client=client, client_schedule=schedule)
        return weights(fit(made, FederatedLoop(clients_per_round=2, seed=0)).net)

    with pytest.raises(InputError, match=r"client_schedule has no effect, as OneCycle\.configure.* by self\.rate"):
        trained(OneCycle, Exponential(0.5))
    assert torch.equal(trained(OneCycleOfTheRound, None), trained(OneCycle, None))
    for client in (OneCycleOfTheRound, WarmUp):
        assert not torch.equal(trained(client, Exponential(0.5)), trained(client, None))


def test_a_class_may_set_its_client_class_and_the_argument_overrides_it() -> None:
    class Own(FederatedModule):
        client_class = Noting

    assert Own(net()).client_class is Noting
    assert Own(net(), client=OfRounds).client_class is OfRounds
    assert (FederatedModule(net()).client_class, Own.client_class) == (ClientModule, Noting)
