"""A user's own FederatedModule: what it adds or overrides takes effect, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from federations import data, fit, net, two_ranks, weights
from lightning import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from fedlit.core.errors import InputError
from fedlit.data import Tensors
from fedlit.engines import Engine, LoopEngine, WorkersEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule
from fedlit.federated.subclass import NEVER_CALLED, OF_DATAMODULE


class Scheduled(FederatedModule):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [StepLR(optimizer, 1, 0.5)]


class OneOfAList(FederatedModule):
    def configure_optimizers(self) -> Any:
        return {"optimizer": super().configure_optimizers()}


class Several(FederatedModule):
    def configure_optimizers(self) -> Any:
        return [SGD(self.net[0].parameters(), 1.0), SGD(self.net[-1].parameters(), 1.0)]  # type: ignore[index]


class Headed(FederatedModule):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head = nn.Linear(3, 3)


class Frozen(Headed):
    """A teacher, for example."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head.requires_grad_(False)


class OwnSetup(FederatedModule):
    def setup(self, stage: str) -> None:
        pass


class OwnValidation(FederatedModule):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("mine", self(batch[0]).mean())


class MoreValidation(OwnValidation):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.evaluation_step(batch)


class OwnCallbacks(FederatedModule):
    def configure_callbacks(self) -> list[Any]:
        return []


#: Each class with the settings of its Trainer and the message that refuses it; None if it trains.
CASES: list[tuple[type[FederatedModule], dict[str, Any], str | None]] = [
    (
        Scheduled,
        {},
        "Scheduled.configure_optimizers returns a StepLR, which no round would step; .*server_schedule",
    ),
    (OneOfAList, {}, None),
    (Several, {}, "Several.configure_optimizers returns 2 optimizers; return one"),
    (Headed, {}, "Headed has a parameter head.weight outside of its net, but clients train only the net"),
    (Frozen, {}, None),
    (OwnSetup, {}, r"OwnSetup.setup does not call super\(\).setup\(stage\)"),
    (OwnValidation, {}, "OwnValidation evaluates no example, so there is no accuracy"),
    (MoreValidation, {}, None),
    (OwnCallbacks, {}, None),
    (OwnCallbacks, {"limit_train_batches": 0.5}, "max_epochs the number of rounds"),
]


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric PredictionCounter was called before")
@pytest.mark.parametrize(("module", "trainer", "refused"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_added_or_overridden_takes_effect_or_is_refused(
    module: type[FederatedModule], trainer: dict[str, Any], refused: str | None
) -> None:
    if refused:
        with pytest.raises(InputError, match=refused):
            fit(module(net()), rounds=1, **trainer)
        return
    trained = fit(module(net()), **trainer)
    assert torch.equal(weights(trained.net), weights(fit(FederatedModule(net())).net))
    assert trained.trainer.callback_metrics["global/accuracy"] > 0.3


def test_another_lightning_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be a FederatedModule, got BoringModel; give its network to"):
        fit(BoringModel())  # type: ignore[arg-type]


@pytest.mark.parametrize("hook", NEVER_CALLED)
def test_hooks_that_no_round_calls_are_refused(hook: str) -> None:
    own = type("Own", (FederatedModule,), {hook: lambda self, *args, **kwargs: 1 / 0})
    with pytest.raises(InputError, match=f"Own overrides {hook}, which no round calls"):
        fit(own(net()))


@pytest.mark.parametrize("hook", OF_DATAMODULE)
def test_hooks_in_whose_place_those_of_the_datamodule_are_called_are_refused(hook: str) -> None:
    own = type("Own", (FederatedModule,), {hook: lambda self, *args, **kwargs: 1 / 0})
    with pytest.raises(InputError, match=f"Own overrides {hook}, but the datamodule's is called"):
        fit(own(net()))
    runner = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for command in (runner.validate, runner.test, runner.predict):
        with pytest.raises(InputError, match=f"Own overrides {hook}, but the datamodule's is called"):
            command(own(net()), datamodule=data())


def test_the_hook_before_the_servers_step_is_called() -> None:
    class Halved(FederatedModule):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            for parameter in self.net.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(0.5)

    half = fit(FederatedModule(net(), server_optimizer=lambda p: SGD(p, lr=0.5)), rounds=1)
    torch.testing.assert_close(weights(fit(Halved(net()), rounds=1).net), weights(half.net), rtol=1e-5, atol=1e-7)


class Noisy(FederatedModule):
    """Takes an additional step of random numbers after each of the server's."""

    def server_step(self, target: Any) -> None:
        super().server_step(target)
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))


ENGINES: list[Engine] = [LoopEngine(), WorkersEngine(workers=2)]


def noisy(**kwargs: Any) -> Tensor:
    loop = FederatedLoop(4, seed=0, engine=kwargs.pop("engine", LoopEngine()))
    return weights(fit(Noisy(net()), loop, rounds=3, **kwargs).net)


def test_draws_of_the_server_depend_on_seed_and_round_alone() -> None:
    first = noisy()
    torch.manual_seed(5)
    assert torch.equal(noisy(engine=WorkersEngine(workers=2)), first)
    loop = FederatedLoop(4, seed=1, engine=LoopEngine())
    assert not torch.equal(weights(fit(Noisy(net()), loop, rounds=3).net), first)


@pytest.mark.slow
def test_two_ranks_draw_the_same(tmp_path: Any) -> None:
    straight = noisy()
    module = fit(Noisy(net()), FederatedLoop(4, seed=0, engine=LoopEngine()), rounds=3, root=tmp_path, **two_ranks())
    (path,) = tmp_path.rglob("*.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    module.load_state_dict(state)
    assert torch.equal(weights(module.net), straight)


class UnmadeModule(FederatedModule):
    def __init__(self) -> None:
        LightningModule.__init__(self)
        self.net = net()


class UnmadeLoop(FederatedLoop):
    def __init__(self) -> None:
        pass


class UnmadeData(Tensors):
    def __init__(self) -> None:
        pass


class UnmadeClient(ClientModule):
    def __init__(self, net: nn.Module, *_: Any) -> None:
        LightningModule.__init__(self)
        self.net = net


class ClientOfAnother(ClientModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__(net, lambda p: SGD(p, lr=0.1), nn.CrossEntropyLoss())


NOT_MADE = r"__init__ does not call super\(\).__init__\(...\), which sets its arguments; call it"


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda: fit(UnmadeModule()), f"UnmadeModule.{NOT_MADE}"),
        (lambda: fit(loop=UnmadeLoop()), f"UnmadeLoop.{NOT_MADE}"),
        (lambda: fit(datamodule=UnmadeData()), f"UnmadeData.{NOT_MADE}"),
        (lambda: fit(FederatedModule(net(), client=UnmadeClient)), f"UnmadeClient.{NOT_MADE}"),
        (
            lambda: fit(FederatedModule(net(), client=ClientOfAnother)),
            r"client ClientOfAnother\(net: .*\).* must take \(net, optimizer, loss, algorithm\)",
        ),
    ],
)
def test_a_constructor_that_leaves_out_that_of_its_base_is_named(run: Callable[[], object], says: str):
    with pytest.raises(InputError, match=says):
        run()
