"""A client that needs a Trainer for its fit, for any reason, is refused by every engine without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from federations import Watch, data, fit, net, site
from lightning.pytorch.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from fedlit.clients.members import client_members, lightning_members
from fedlit.core.errors import InputError
from fedlit.core.layout import read_state
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate
from fedlit.data import FederatedData
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.engines.auto import auto
from fedlit.engines.block import CALLED_BY_BLOCKS
from fedlit.engines.loop import CALLED_BY_LOOP
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule

#: The hooks of Lightning's documentation, from its classes.
HOOKS = {name for base in (ModelHooks, DataHooks, CheckpointHooks) for name in vars(base) if not name.startswith("_")}
#: Hooks that are defined on the LightningModule itself and that change a fit.
STEPS = {
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "optimizer_step",
    "optimizer_zero_grad",
}


def made(client_class: type[ClientModule] = ClientModule) -> ClientModule:
    return client_class(net(), lambda p: SGD(p, lr=0.1), torch.nn.CrossEntropyLoss())


def overriding(name: str, member: object = None) -> type[ClientModule]:
    return type("Client", (ClientModule,), {name: member or (lambda self, *args, **kwargs: None)})


ENGINES: list[Engine] = [LoopEngine(), WorkersEngine(workers=2), VectorizedEngine()]


def assert_needs_trainer(client: ClientModule, said: str) -> None:
    here = site()
    for engine in ENGINES:
        with pytest.raises(InputError, match=rf"Client {said}, which \w+ does not support; use .*TrainerEngine$"):
            engine.check(client, here)
    assert isinstance(auto(client, here), TrainerEngine)


def test_lightnings_hooks_are_all_on_the_list():
    assert lightning_members() >= HOOKS | STEPS | {"log", "automatic_optimization"}
    assert lightning_members() >= CALLED_BY_LOOP


@pytest.mark.parametrize("name", sorted(lightning_members() - CALLED_BY_LOOP))
def test_any_other_overridden_member_of_lightning_needs_a_trainer(name: str):
    assert_needs_trainer(made(overriding(name)), f"overrides {name}")


@pytest.mark.parametrize("name", ["on_train_start", "backward", "lr_scheduler_step", "transfer_batch_to_device"])
def test_a_member_set_on_the_client_itself_needs_a_trainer(name: str):
    client = made(overriding("unrelated"))
    setattr(client, name, lambda *args, **kwargs: None)
    assert_needs_trainer(client, f"overrides {name}")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("automatic_optimization", False),
        ("strict_loading", False),
        ("example_input_array", torch.zeros(1)),
        ("prepare_data_per_node", False),
        ("allow_zero_length_dataloader_with_multiple_devices", True),
    ],
)
def test_a_changed_setting_of_lightning_needs_a_trainer(setting: str, value: object):
    client = made(overriding("unrelated"))
    setattr(client, setting, value)
    assert_needs_trainer(client, rf"sets {setting} to .*")


def test_a_hook_that_a_later_lightning_adds_needs_a_trainer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ModelHooks, "on_full_moon", lambda self: None, raising=False)
    assert_needs_trainer(made(overriding("on_full_moon")), "overrides on_full_moon")
    LoopEngine().check(made(), site())


def test_inherited_overrides_count():
    between = overriding("setup")
    assert_needs_trainer(made(type("Client", (between,), {})), "overrides setup")


@pytest.mark.parametrize("name", sorted(CALLED_BY_LOOP | (client_members() - CALLED_BY_LOOP)))
def test_members_that_only_the_loop_calls_are_trained_by_the_loop(name: str):
    inherited: Any = getattr(ClientModule, name)
    client = made(overriding(name, lambda self, *args, **kwargs: inherited(self, *args, **kwargs)))
    LoopEngine().check(client, site())
    if name in client_members() - CALLED_BY_BLOCKS:
        with pytest.raises(InputError, match=rf"Client overrides {name}, which Vectorized.*LoopEngine$"):
            VectorizedEngine().check(client, site())


#: What a client that validates overrides.
VALIDATES: dict[str, object] = {
    "val_dataloader": lambda self: DataLoader(TensorDataset(torch.zeros(2, 5), torch.zeros(2)), batch_size=2),
    "validation_step": lambda self, batch, batch_idx: self.log("checked", 1.0),
}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"test_step": None}, "test_step, which a client's training never calls; leave it out"),
        ({"on_predict_end": None}, "on_predict_end, which a client's training never calls; leave it out"),
        ({"on_save_checkpoint": None}, "on_save_checkpoint, which a client's training never calls; leave it out"),
        ({"validation_step": None}, "validation_step, .* calls; validation needs val_dataloader and validation_step;"),
        ({"on_validation_epoch_end": None}, "on_validation_epoch_end, .* calls; validation needs val_dataloader and"),
        ({"val_dataloader": VALIDATES["val_dataloader"]}, "val_dataloader, .* calls; validation needs val_dataloader"),
        ({**VALIDATES, "predict_step": None}, "predict_step, which a client's training never calls; leave it out"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("engine", [None, LoopEngine(), TrainerEngine()], ids=["auto", "loop", "trainer"])
def test_a_hook_that_no_engine_calls_is_refused(members: dict[str, Any], said: str, engine: Engine | None):
    nothing: object = lambda self, *args, **kwargs: None  # noqa: E731
    client_class = type("Client", (ClientModule,), {name: each or nothing for name, each in members.items()})
    with pytest.raises(InputError, match=f"Client overrides {said}"):
        fit(FederatedModule(net(), client=client_class), FederatedLoop(2, seed=0, engine=engine), rounds=1)


def test_a_client_that_validates_is_validated():
    called: list[str] = []
    hooks = {
        name: lambda self, *args, name=name: called.append(name) for name in HOOKS if name.startswith("on_validation_e")
    }
    client_class = type("Client", (ClientModule,), VALIDATES | hooks)
    module = FederatedModule(net(), client=client_class)
    fit(module, FederatedLoop(1, 2, seed=0, engine=TrainerEngine()), rounds=1)
    assert {*called} == {"on_validation_end", "on_validation_epoch_end", "on_validation_epoch_start"}
    assert module.logged["clients/checked_mean"] == 1


def test_the_loop_calls_what_it_says_it_calls():
    called: set[str] = set()

    def noted(name: str) -> Any:
        def hook(self: ClientModule, *args: Any) -> Any:
            called.add(name)
            return getattr(ClientModule, name)(self, *args)

        return hook

    names = CALLED_BY_LOOP - {"forward", "log"}
    client_class = type("Client", (ClientModule,), {name: noted(name) for name in names})
    module = type("Module", (FederatedModule,), {"client_class": client_class})(net())
    fit(module, FederatedLoop(2, seed=0, engine=LoopEngine()), rounds=1)
    assert called == names


def run_block(client: ClientModule, diagnose: bool) -> list[ClientUpdate]:
    """The updates of a block of two clients, one of three steps and one of one."""
    here, start = site(), read_state(client.net, client.layout)
    client.receive(Broadcast(start, (0.1,) * len(client.layout.trainable), start.floats[:0]))
    tasks = [ClientTask(k, 0, 0, steps, 1.0, 4, 4.0, diagnose) for k, steps in ((1, 3), (3, 1))]
    answers = list(VectorizedEngine().run(client, tasks, here))
    assert all(isinstance(answer, ClientUpdate) for answer in answers)
    return answers  # type: ignore[return-value]


def test_a_block_calls_what_it_says_it_calls():
    called: set[str] = set()

    def noted(name: str) -> Any:
        def method(self: ClientModule, *args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return getattr(ClientModule, name)(self, *args, **kwargs)

        return method

    client = made(type("Client", (ClientModule,), {name: noted(name) for name in client_members()}))
    run_block(client, diagnose=True)
    assert called - {"load"} == CALLED_BY_BLOCKS  # it is _gamma that loads


def test_a_clients_own_measurements_see_the_fitted_network_in_every_engine():
    class Client(ClientModule):
        def measure(self, task: ClientTask, data: FederatedData) -> dict[str, float]:
            return super().measure(task, data) | {"sum": float(read_state(self.net, self.layout).floats.sum())}

    client = made(Client)
    for update in run_block(client, diagnose=False):
        assert update.metrics["sum"] == float(update.weights.floats.sum())
        (same,) = LoopEngine().run(client, [update.task], site())
        assert isinstance(same, ClientUpdate)
        assert same.metrics["sum"] == float(same.weights.floats.sum())
        assert same.metrics == pytest.approx(dict(update.metrics), rel=1e-4)


def test_a_client_with_manual_optimization_is_trained_by_a_trainer_automatically():
    class Client(ClientModule):
        def setup(self, stage: str) -> None:
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    class Module(FederatedModule):
        client_class = Client

    watch, module = Watch(), Module(net(), mu=0.1)
    fit(module, FederatedLoop(2, seed=0), rounds=1, callbacks=[watch])
    assert isinstance(watch.session.engine, TrainerEngine)
    usual = FederatedModule(net(), mu=0.1)
    fit(usual, FederatedLoop(2, seed=0, engine=LoopEngine()), rounds=1)
    for mine, theirs in zip(module.net.parameters(), usual.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_data_of_the_clients_own_are_refused():
    class Module(FederatedModule):
        client_class = overriding("train_dataloader")

    with pytest.raises(InputError, match="Client overrides train_dataloader, but clients train on the datamodule's"):
        fit(Module(net()), FederatedLoop(2, seed=0), data())
