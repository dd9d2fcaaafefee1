"""Mini-batches sliced from memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.data import Batches, Examples


def counting_examples(n: int) -> Examples:
    """Example i has the input (i, i) and the target i."""
    return Examples(torch.arange(n, dtype=torch.uint8)[:, None].repeat(1, 2), torch.arange(n))


def targets_of(batches: Batches) -> list[list[int]]:
    return [y.tolist() for _, y in batches]


def test_batches_keep_the_order_and_the_last_one_is_short() -> None:
    batches = Batches(counting_examples(7), batch_size=3)
    assert len(batches) == 3
    assert targets_of(batches) == [[0, 1, 2], [3, 4, 5], [6]]
    assert targets_of(batches) == [[0, 1, 2], [3, 4, 5], [6]]


def test_batches_of_some_rows_in_an_order_that_depends_on_the_pass() -> None:
    orders = {0: torch.tensor([2, 0, 1]), 1: torch.tensor([1, 2, 0])}
    batches = Batches(counting_examples(10), 2, indices=np.array([9, 4, 6]), order=orders.__getitem__)
    assert targets_of(batches) == [[6, 9], [4]]
    assert targets_of(batches) == [[4, 6], [9]]


def test_an_iterator_that_is_never_advanced_is_not_a_pass() -> None:
    seen: list[int] = []
    batches = Batches(counting_examples(2), 1, order=lambda number: seen.append(number) or torch.arange(2))
    iter(batches)
    assert len(targets_of(batches)) == 2
    assert seen == [0]


def test_uint8_stays_uint8_until_the_transform_of_each_batch() -> None:
    dtypes = []

    def halve(x: Tensor) -> Tensor:
        dtypes.append(x.dtype)
        return x.float() / 2

    x, _ = next(iter(Batches(counting_examples(4), 2, indices=torch.tensor([3, 1]), transform=halve)))
    assert dtypes == [torch.uint8]
    assert x.tolist() == [[1.5, 1.5], [0.5, 0.5]]


def test_no_rows_make_no_batches() -> None:
    batches = Batches(counting_examples(4), 2, indices=np.array([], dtype=np.int64))
    assert len(batches) == 0
    assert list(batches) == []


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        self.seen.setdefault(self.current_epoch, []).extend(y.tolist())
        return self.weight * x.float().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_takes_batches_and_its_epochs_are_their_passes() -> None:
    module = Recorder()
    batches = Batches(counting_examples(5), 2, order=lambda number: torch.arange(5).roll(number))
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches)
    assert module.seen == {0: [0, 1, 2, 3, 4], 1: [4, 0, 1, 2, 3], 2: [3, 4, 0, 1, 2]}
    assert trainer.global_step == 9


def test_examples_move_and_are_taken_with_their_groups() -> None:
    examples = Examples(torch.zeros(3, 1), torch.tensor([4, 5, 6]), np.array([7, 8, 9]))
    assert len(examples) == 3
    taken = examples.take(np.array([2, 0]))
    assert taken.targets.tolist() == [6, 4]
    assert taken.groups is not None
    assert taken.groups.tolist() == [9, 7]
    assert examples.to("cpu").inputs is examples.inputs
    assert examples.to("meta").inputs.device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Examples(torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64)), "3 inputs but 2 targets"),
        (lambda: Examples(torch.zeros(2, 1), torch.zeros(2)), "targets must be int64"),
        (lambda: Examples(torch.zeros(2, 1).half(), torch.zeros(2).long()), "inputs must be uint8, int64 or float32"),
        (lambda: Examples(torch.zeros(2, 1), torch.zeros(2).long(), np.zeros(3)), "2 targets but 3 groups"),
        (lambda: Batches(counting_examples(2), 0), "batch_size must be at least 1, got 0"),
    ],
)
def test_invalid_examples_and_batches_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
