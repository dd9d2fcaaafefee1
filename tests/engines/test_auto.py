"""The choice of an engine depends on the run alone, and a resumed run keeps it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import Watch, data, fit, net, two_ranks, weights
from timm.optim import Adafactor
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from fedlit.algorithms import KeepLocal, Scaffold
from fedlit.core.checkpoint import read, write
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.engines.auto import BLOCK_SIZE
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule
from fedlit.models import MLP
from fedlit.sampling import distribute

pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory .* exists and is not empty", "ignore:It is recommended to use .*sync_dist"
)

#: 60 clients of 6 to 8 samples: with batches of 4, two steps each.
MANY = tuple(6 + k % 3 for k in range(60))


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLIT_CORES", "4")


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.net = nn.Parameter(torch.ones(5)), net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * self.scale)


class Around(nn.Module):
    """Calls a function of the inputs before its layers."""

    def __init__(self, before: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self._before = net(), before

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self._before(self, x))


def counting(module: Any, x: Tensor) -> Tensor:
    module.calls = getattr(module, "calls", 0) + 1
    return x


class Overrides(ClientModule):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


class Hooked(ClientModule):
    def on_train_start(self):
        pass


class Scheduled(ClientModule):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [StepLR(optimizer, 1)]


class OwnLoss(nn.Module):
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets)


def module(client_class: type[ClientModule] = ClientModule, **kwargs: Any) -> FederatedModule:
    made = FederatedModule(**{"net": net(), "client_optimizer": lambda p: SGD(p, lr=0.1)} | kwargs)
    made.client_class = client_class
    return made


def begun(
    server: FederatedModule | None = None, sizes: tuple[int, ...] = MANY, cohort: int = 60, **kwargs: Any
) -> tuple[Engine, str]:
    """The engine and the note of a round's fit."""
    watch, settings = Watch(), {"batch_size": kwargs.pop("batch_size", 4)}
    trainer = {"precision": kwargs.pop("precision", "32-true")}
    loop = FederatedLoop(cohort, 1, seed=0, **kwargs)
    fit(server or module(), loop, data(sizes, **settings), rounds=1, callbacks=[watch], **trainer)
    return watch.session.engine, watch.session.note


def wide(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, 3))


IN_BLOCKS: dict[str, dict[str, Any]] = {
    "an MLP": {},
    "with momentum": {"server": lambda: module(client_optimizer=lambda p: Adam(p, lr=0.01))},
    "as many as two blocks": {"cohort": 2 * BLOCK_SIZE},
    "a linear model": {"server": lambda: module(net=nn.Linear(5, 3))},
    "some with more steps": {"sizes": MANY[:30] + (20,) * 30},
    "a mean with its own weights, mu and clipping": {"server": lambda: module(mu=0.5, client_clip_norm=1.0)},
    "close to the most parameters": {"server": lambda: module(net=wide(13_800))},  # 9 a hidden unit: 124,203
}
ONE_BY_ONE: dict[str, tuple[dict[str, Any], type[Engine], str]] = {
    "fewer clients a round": ({"cohort": 49}, WorkersEngine, "a round has fewer than 50"),
    "uneven clients": ({"sizes": (4,) * 57 + (400,) * 3}, WorkersEngine, "steps are too uneven"),
    "more parameters": ({"server": lambda: module(net=wide(13_900))}, WorkersEngine, "125,103 parameters"),
    "greater batches": ({"server": lambda: module(net=wide(1000)), "batch_size": 300}, WorkersEngine, "batches of 300"),
    "norms": ({"server": lambda: module(net=net(norm=True))}, WorkersEngine, "1 is a BatchNorm1d"),
    "a parameter of its own": ({"server": lambda: module(net=Scaled())}, WorkersEngine, "the net is a Scaled"),
    "dropout": ({"server": lambda: module(net=net(dropout=0.1))}, WorkersEngine, "drops out with p = 0.1"),
    "chance in its code": (
        {"server": lambda: module(net=Around(lambda _, x: x + 0.1 * torch.rand_like(x)))},
        WorkersEngine,
        "Around draws random numbers as it trains",
    ),
    "a choice in its code": (
        {"server": lambda: module(net=Around(lambda _, x: x if x.sum() > 0 else -x))},
        WorkersEngine,
        "Around does not train in a block",
    ),
    "a counter in its code": ({"server": lambda: module(net=Around(counting))}, WorkersEngine, "assigns calls"),
    "an optimizer of whole tensors": (
        {"server": lambda: module(client_optimizer=lambda p: Adafactor(p, lr=0.01))},
        WorkersEngine,
        "Adafactor is not known",
    ),
    "a loss of its own": ({"server": lambda: module(loss=OwnLoss())}, WorkersEngine, "OwnLoss is not a plain mean"),
    "a client of its own": ({"server": lambda: module(Overrides)}, WorkersEngine, "Overrides overrides training_step"),
    "a hook": ({"server": lambda: module(Hooked)}, TrainerEngine, "Hooked overrides on_train_start"),
    "schedulers": ({"server": lambda: module(Scheduled)}, TrainerEngine, "Scheduled has learning-rate schedulers"),
    "corrections": ({"algorithm": Scaffold()}, WorkersEngine, "Scaffold changes how clients train"),
    "personal parts": ({"algorithm": KeepLocal([r"^0\."])}, WorkersEngine, "KeepLocal changes how clients train"),
    "another precision": ({"precision": "bf16-mixed"}, WorkersEngine, "the precision is bf16-mixed"),
}


def arguments(case: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if name == "server" else value for name, value in case.items()}


@pytest.mark.parametrize("case", IN_BLOCKS)
def test_many_small_clients_of_linear_layers_train_in_blocks(case: str):
    engine, note = begun(**arguments(IN_BLOCKS[case]))
    assert isinstance(engine, WorkersEngine)
    assert isinstance(engine.engine, VectorizedEngine)
    assert (engine.block_size, engine.engine.block_size, engine.together) == (BLOCK_SIZE,) * 3
    assert note.startswith(f"engine: WorkersEngine of {engine.workers} VectorizedEngines; many small clients train as")


@pytest.mark.parametrize("case", ONE_BY_ONE)
def test_other_clients_train_one_by_one_and_the_reason_is_shown(case: str):
    kwargs, expected, reason = ONE_BY_ONE[case]
    engine, note = begun(**arguments(kwargs))
    assert type(engine) is expected
    assert engine.together == 1
    assert "; clients train one by one, as " in note
    assert reason in note


def test_there_are_no_more_workers_than_blocks_and_one_core_needs_none(monkeypatch: pytest.MonkeyPatch):
    engine, _ = begun()
    assert isinstance(engine, WorkersEngine)
    assert engine.workers == 3  # 25, 25 and 10 clients
    monkeypatch.setenv("FEDLIT_CORES", "1")
    engine, note = begun()
    assert isinstance(engine, VectorizedEngine)
    assert engine.together == BLOCK_SIZE
    assert note.startswith("engine: VectorizedEngine; ")


@pytest.mark.parametrize("cores", ["none", "0", "1.5", "9999"])
def test_an_invalid_number_of_cores_is_refused(cores: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FEDLIT_CORES", cores)
    with pytest.raises(InputError, match=rf"FEDLIT_CORES must be a whole number from 1 to 1024, got '{cores}'"):
        begun()


def test_a_given_engine_causes_no_message():
    assert begun(engine=LoopEngine())[1] == ""


# --- the bits --------------------------------------------------------------------------------------------------------


def result(rounds: int, root: Path | None = None, ckpt: Path | None = None, **kwargs: Any) -> Tensor:
    """Weights after some rounds of 55 clients of uneven sizes, two epochs each."""
    loop = FederatedLoop(55, 2, seed=0, engine=kwargs.pop("engine", None))
    server = kwargs.pop("server", None) or module(mu=0.1)
    return weights(fit(server, loop, data(MANY), rounds, root, ckpt, **kwargs).net)


def test_the_bits_do_not_depend_on_the_number_of_workers_nor_on_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    expected = result(2)
    for cores in ("1", "2", "3"):
        monkeypatch.setenv("FEDLIT_CORES", cores)
        assert torch.equal(result(2), expected)
    result(2, tmp_path, **two_ranks())
    (path,) = tmp_path.rglob("*.ckpt")
    on_two = torch.cat([t.double().reshape(-1) for t in read(path)["state_dict"].values()])
    assert torch.equal(on_two, expected)
    torch.testing.assert_close(expected, result(2, engine=LoopEngine()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
def test_clients_that_train_together_stay_on_one_rank(num_ranks: int):
    loop, federation = FederatedLoop(60, seed=0), data(MANY)
    federation.setup()
    tasks = loop.cohort(0, federation)
    (ordered,) = distribute(tasks, 1)
    blocks = [ordered[start : start + BLOCK_SIZE] for start in range(0, 60, BLOCK_SIZE)]
    shares = distribute(tasks, num_ranks, BLOCK_SIZE)
    cut = [share[i : i + BLOCK_SIZE] for share in shares for i in range(0, len(share), BLOCK_SIZE)]
    assert sorted(cut) == sorted(blocks)


@pytest.mark.trust
def test_a_worker_that_was_killed_in_a_block_is_replaced_and_changes_no_bit(tmp_path: Path):
    class Killed(ClientModule):
        """Its process is killed once, at the end of client 2's fit."""

        def end(self, task, *args):
            if task.client == 2 and not (tmp_path / "killed").exists():
                (tmp_path / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().end(task, *args)

    expected = result(2)
    with pytest.warns(
        UserWarning, match=r"worker that trained client .*2.* died with exit status -9; fitting it again"
    ):
        assert torch.equal(result(2, server=module(Killed, mu=0.1)), expected)


# --- a resumed run ---------------------------------------------------------------------------------------------------


def stopped(root: Path, **kwargs: Any) -> Path:
    """The checkpoint of two rounds."""
    result(2, root, **kwargs)
    (path,) = root.rglob("*.ckpt")
    return path


@pytest.mark.parametrize("cores", ["1", "4"])
def test_a_run_in_blocks_goes_on_to_the_bit_on_any_number_of_cores(
    cores: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = stopped(tmp_path)
    monkeypatch.setenv("FEDLIT_CORES", cores)
    assert torch.equal(result(4, tmp_path, path), result(4))


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_that_began_one_by_one_continues_one_by_one(recorded: bool, tmp_path: Path):
    """Named, or of a fedlit that knew no other way and wrote none down."""
    path, watch = stopped(tmp_path, engine=LoopEngine()), Watch()
    if not recorded:
        checkpoint = read(path)
        del checkpoint["callbacks"]["FederatedLoop"]["together"]
        write(checkpoint, path)
    resumed = result(4, tmp_path, path, callbacks=[watch])
    assert torch.equal(resumed, result(4, engine=LoopEngine()))
    assert watch.session.note.endswith("; clients train one by one, as they did when the run began.")


def test_a_run_in_blocks_of_another_size_keeps_to_them(tmp_path: Path):
    path = stopped(tmp_path, engine=VectorizedEngine(7))
    assert torch.equal(result(4, tmp_path, path), result(4, engine=VectorizedEngine(7)))


def test_if_blocks_are_no_longer_possible_there_is_a_warning(tmp_path: Path):
    path, watch = stopped(tmp_path), Watch()
    server = module(mu=0.1, client_optimizer=lambda p: Adafactor(p, lr=0.01))
    with pytest.warns(
        UserWarning, match=r"as Adafactor is .* Until now it trained 25 clients as one program, so its bits"
    ):
        result(3, tmp_path, path, server=server, callbacks=[watch])
    assert watch.session.engine.together == 1


@pytest.mark.trust
@pytest.mark.parametrize("value", ["many", -1, 1.5, 10**30])
def test_a_checkpoint_with_an_invalid_number_of_clients_is_refused(value: object, tmp_path: Path):
    path = stopped(tmp_path)
    checkpoint = read(path)
    checkpoint["callbacks"]["FederatedLoop"]["together"] = value
    write(checkpoint, path)
    with pytest.raises(
        InputError,
        match=r"the checkpoint says that .* clients train together, but it must be a whole number > 0; use another",
    ):
        result(3, tmp_path, path)


def test_a_second_fit_chooses_anew(tmp_path: Path):
    loop, watch = FederatedLoop(60, 1, seed=0), Watch()
    for server, together in ((module(), BLOCK_SIZE), (module(net=net(norm=True)), 1), (module(), BLOCK_SIZE)):
        fit(server, loop, data(MANY), rounds=1, callbacks=[watch])
        assert watch.session.engine.together == together


def test_fedlits_own_mlp_trains_in_blocks():
    server = module(net=MLP(hidden=(8,), num_classes=3, in_channels=1, image_size=1))
    watch, loop = Watch(), FederatedLoop(60, 1, seed=0)
    federation = data(MANY, features=1)
    fit(server, loop, federation, rounds=1, callbacks=[watch])
    assert watch.session.engine.together == BLOCK_SIZE
