"""Arrays that a user gives stay unchanged, and what a user later does to them has no effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from federations import fit, weights
from lightning import Trainer
from torch import Tensor, nn
from torch.optim import SGD

from fedlit.core.seeding import rng
from fedlit.data import Dirichlet, Tensors, TorchDataset
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine
from fedlit.federated import Diagnostics, FederatedLoop, FederatedModule

LABELS = rng(3, "labels").integers(0, 3, 80)
INPUTS = rng(3, "inputs").normal(size=(80, 5)).astype(np.float32) + LABELS[:, None].astype(np.float32)


class Halves(nn.Module):
    """Halves its inputs, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.in_place = nn.Linear(5, 3), in_place

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mul_(0.5) if self.in_place else x * 0.5)


class Doubles(FederatedModule):
    """Doubles held-out inputs and moves their labels, in place or not."""

    in_place = True

    def changed(self, batch: Any) -> Any:
        inputs, targets = batch
        if self.in_place:
            return inputs.mul_(2), targets.add_(1).remainder_(3)
        return inputs * 2, (targets + 1) % 3

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(self.changed(batch), batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        super().test_step(self.changed(batch), batch_idx)


class DoublesCopies(Doubles):
    in_place = False


def trained(module: FederatedModule, engine: Engine | None = None) -> tuple[Any, ...]:
    """Metrics and weights of two fits and a test; the arrays stay as they were."""
    arrays = [(INPUTS.copy(), LABELS.copy()) for _ in range(2)]
    data = Tensors(train=arrays[0], test=arrays[1], partition=Dirichlet(1.0), num_clients=6, batch_size=4, seed=0)
    logged = []
    for _ in range(2):
        loop = FederatedLoop(3, 1, seed=0, engine=engine or LoopEngine(), diagnostics=Diagnostics(every=1))
        fit(module, loop, data, rounds=2)
        logged.append({name: value for name, value in module.logged.items() if not name.startswith("round/s")})
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    tested = trainer.test(module, datamodule=data, verbose=False)
    for inputs, labels in arrays:
        assert np.array_equal(inputs, INPUTS)
        assert np.array_equal(labels, LABELS)
    assert np.array_equal(data.test.inputs.numpy(), INPUTS)
    return logged, tested, weights(module.net).tolist()


def optimizer(parameters: Any) -> SGD:
    return SGD(parameters, lr=0.1)


@pytest.mark.parametrize("engine", [None, LoopEngine(), TrainerEngine(), VectorizedEngine()])
def test_a_net_that_changes_its_inputs_in_place_changes_no_data(engine: Engine | None) -> None:
    in_place, copying = (FederatedModule(Halves(each), 0.1, optimizer) for each in (True, False))
    assert trained(in_place, engine) == trained(copying, engine)


def test_a_step_that_changes_its_batch_in_place_changes_no_data() -> None:
    assert trained(Doubles(Halves(False), 0.1, optimizer)) == trained(DoublesCopies(Halves(False), 0.1, optimizer))


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize("has_test_set", [True, False])
def test_changes_of_arrays_between_two_fits_have_no_effect(kind: Any, has_test_set: bool) -> None:
    def twice(then: Any) -> tuple[list[float], str]:
        inputs, labels = kind(INPUTS), kind(LABELS)
        test = (inputs, labels) if has_test_set else None
        data = Tensors(train=(inputs, labels), test=test, num_clients=6, batch_size=4, seed=0)
        module = FederatedModule(Halves(False), 0.1, optimizer)
        for _ in range(2):
            fit(module, FederatedLoop(3, 1, seed=0, engine=LoopEngine()), data)
            then(inputs, labels)
        return weights(module.net).tolist(), str(module.logged["global/loss"])

    def change(inputs: Any, labels: Any) -> None:
        inputs *= 3
        labels[:] = 0

    assert twice(change) == twice(lambda *_: None)


class Noisy(torch.utils.data.Dataset[Any]):
    """Draws its inputs from a global generator."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 60

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.randn(5), row % 3


def test_data_that_were_read_for_their_classes_are_read_again_for_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    early, late = (TorchDataset(Noisy(), num_clients=6) for _ in range(2))
    assert early.num_classes == 3
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    for data in (early, late):
        data.setup("fit")
    assert torch.equal(early.train.inputs, late.train.inputs)
