"""User code that draws from global generators or keeps its own state: the same bits at the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import fit, weights
from torch import Tensor, nn
from torch.optim import SGD

from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule

ENGINES: list[Callable[[], Engine]] = [
    LoopEngine,
    TrainerEngine,
    lambda: WorkersEngine(workers=1),
    lambda: WorkersEngine(workers=3),
]


class Net(nn.Module):
    """Two linear layers; a subclass scales the values between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.calls = nn.Linear(5, 8), nn.Linear(8, 3), 0

    def scale(self) -> float:
        return 1.0

    def forward(self, x: Tensor) -> Any:
        return self.last(self.first(x).relu() * (self.scale() if self.training else 1.0))


class ByNumpy(Net):
    def scale(self) -> float:
        return float(np.random.beta(0.5, 0.5))  # noqa: NPY002


class ByPython(Net):
    def scale(self) -> float:
        return random.random()


class ByTorch(Net):
    """On the CPU, wherever the net is, as layers that are dropped whole do."""

    def scale(self) -> float:
        return float(torch.rand(()) < 0.5)


class Counting(Net):
    def scale(self) -> float:
        self.calls += 1
        return 1 / self.calls


class Mixed(ClientModule):
    """Mixes the examples of a batch, as mixup does."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        share = float(np.random.beta(1, 1))  # noqa: NPY002
        return super().training_step((share * x + (1 - share) * x.flip(0), y), batch_idx)


def trained(
    engine: Engine,
    net: type[nn.Module] = Net,
    client: type[ClientModule] = ClientModule,
    max_rejected: float = 0.0,
    **kwargs: Any,
) -> Any:
    class Module(FederatedModule):
        client_class = client

    torch.manual_seed(0)
    module = Module(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    return fit(module, FederatedLoop(4, seed=0, engine=engine, max_rejected=max_rejected), **kwargs)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize(
    "case", [{"net": ByNumpy}, {"net": ByPython}, {"net": ByTorch}, {"client": Mixed}], ids=lambda case: str(case)
)
def test_engines_and_numbers_of_workers_agree_and_a_resumed_run_goes_on(case: dict[str, Any], tmp_path: Path) -> None:
    expected = weights(trained(LoopEngine(), **case, rounds=3))
    for engine in ENGINES:
        random.seed(), np.random.seed()  # noqa: NPY002
        assert torch.equal(weights(trained(engine(), **case, rounds=3)), expected)
    trained(LoopEngine(), **case, rounds=2, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(weights(trained(LoopEngine(), **case, rounds=3, root=tmp_path, ckpt_path=path)), expected)


class Failing(Mixed):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        super().training_step(batch, batch_idx)
        raise RuntimeError("a bad sample")


@pytest.mark.filterwarnings("ignore:every client of round")
@pytest.mark.filterwarnings("ignore:4 of 4 fits of round")
def test_a_run_leaves_the_generators_of_numpy_and_python_as_they_were() -> None:
    random.seed(3), np.random.seed(3)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    for net, client in ((Net, ClientModule), (ByNumpy, ClientModule), (ByPython, ClientModule), (Net, Failing)):
        random.seed(3), np.random.seed(3)  # noqa: NPY002
        trained(LoopEngine(), net, client, max_rejected=1.0)
        assert (random.random(), np.random.random()) == expected  # noqa: NPY002


@pytest.mark.parametrize("net", [ByNumpy, ByPython, ByTorch])
def test_a_batched_program_refuses_nets_that_draw(net: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=rf"^{net.__name__} draws random numbers as it trains, which VectorizedEngine"):
        trained(VectorizedEngine(), net)


class OwnGenerator(Net):
    """Draws from a generator that nobody seeds anew."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.Generator().manual_seed(3)

    def scale(self) -> float:
        return float(torch.rand((), generator=self.noise))


def test_a_net_with_a_generator_of_its_own_is_refused() -> None:
    with pytest.raises(InputError, match=r"^OwnGenerator gives another output each time it is called in training"):
        trained(LoopEngine(), OwnGenerator)


@pytest.mark.parametrize("engine", [LoopEngine, lambda: WorkersEngine(workers=2)])
def test_a_net_that_counts_its_calls_is_refused(engine: Callable[[], Engine]) -> None:
    with pytest.raises(
        InputError, match=r"^Counting gives another output each time .*, and sets calls; keep .* buffer"
    ):
        trained(engine(), Counting)


class CountingInABuffer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def scale(self) -> float:
        self.seen += 1
        return 1 / float(self.seen)


def test_a_net_may_count_its_calls_in_a_buffer() -> None:
    expected = weights(trained(LoopEngine(), CountingInABuffer))
    for engine in ENGINES:
        assert torch.equal(weights(trained(engine(), CountingInABuffer)), expected)


class Centring(nn.Module):
    """Subtracts the batch's mean in training, and a running mean in evaluation, which may be part of its state."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.body = nn.Linear(5, 3)
        self.register_buffer("mean", torch.zeros(5), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.5)
        return self.body(x - (x.mean(0) if self.training else self.mean))


def test_what_training_changes_and_evaluation_uses_has_to_be_in_the_state() -> None:
    fit(FederatedModule(Centring(persistent=True)), FederatedLoop(4, seed=0, engine=LoopEngine()))
    with pytest.raises(InputError, match=r"in evaluation, Centring gives another output .* writes mean; keep"):
        fit(FederatedModule(Centring(persistent=False)))


class Referring(nn.Module):
    """Computes by a function that refers to this object, also in a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 3)
        self.call = lambda x: self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def test_a_net_whose_copies_compute_with_the_original_is_refused() -> None:
    with pytest.raises(InputError, match=r"a copy of Referring computes with body.weight of the original"):
        fit(FederatedModule(Referring()))
