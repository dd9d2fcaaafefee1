"""A user's own data modules: data that cannot be trained on is refused in one line before the first round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.seeding import global_rng_state
from fedlit.data import ByGroup, Examples, FederatedData
from fedlit.federated import FederatedModule
from tests.federations import fit, net

LABELS = torch.arange(24) % 3
INPUTS = torch.arange(120.0).reshape(24, 5) / 60 - 1
PIXELS = torch.arange(120, dtype=torch.uint8).reshape(24, 1, 5)
TRAIN, TEST = Examples(INPUTS, LABELS), Examples(INPUTS[:6] + 1, LABELS[:6])
IMAGES = Examples(PIXELS, LABELS), Examples(PIXELS[:6], LABELS[:6])


class Mine(FederatedData):
    """Data that ``loaded`` makes, with other attributes as they are given."""

    names: Any = ("a", "b", "c")

    def __init__(self, loaded: Callable[[], Any] = lambda: (TRAIN, TEST), **kwargs: Any) -> None:
        super().__init__(**({"num_clients": 4, "batch_size": 4, "seed": 0} | kwargs))
        self.loaded = loaded

    def load(self) -> tuple[Examples, Examples]:
        return self.loaded()  # type: ignore[no-any-return]

    @property
    def class_names(self) -> list[str]:
        return self.names  # type: ignore[no-any-return]


def ready(data: FederatedData) -> FederatedData:
    data.setup()
    return data


def of(**attributes: Any) -> type[Mine]:
    """A subclass with other attributes."""
    return type("Mine", (Mine,), attributes)


def with_row(row: int, value: float) -> Tensor:
    changed = INPUTS.clone()
    changed[row, 2] = value
    return changed


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (lambda: None, "Mine.load must return a training and a test set, .* got NoneType; make them from tensors"),
        (lambda: TRAIN, "got Examples; make"),
        (lambda: (TRAIN, None), "got Examples, NoneType"),
        (lambda: (TRAIN, TEST, TEST), "got Examples, Examples, Examples"),
        (lambda: ((INPUTS, LABELS), (INPUTS, LABELS)), "got tuple, tuple"),
        (lambda: (Examples(INPUTS[:0], LABELS[:0]), TEST), "training set is empty"),
        (lambda: (Examples(INPUTS, LABELS * 50), TEST), "label 100 has no name among 3 class_names; name every class"),
        (lambda: (TRAIN, Examples(INPUTS[:6], LABELS[:6] + 1)), "label 3 has no name among 3"),
        (
            lambda: (Examples(INPUTS, LABELS - 1), TEST),
            "training labels must be class numbers from 0, got -1; renumber",
        ),
        (lambda: (TRAIN, Examples(INPUTS[:6], LABELS[:6] - 2)), "test labels .* got -2"),
        (
            lambda: (TRAIN, Examples(with_row(3, np.nan)[:6], LABELS[:6])),
            "test inputs .* finite .* nan in row 3; correct",
        ),
        (lambda: (TRAIN, Examples(with_row(1, np.inf)[:6], LABELS[:6])), "test inputs .* got inf in row 1"),
        (lambda: (TRAIN, Examples(INPUTS[:6, :4], LABELS[:6])), r"shape \(6, 4\), training .* give both the same type"),
        (lambda: (TRAIN, Examples(PIXELS[:6, 0], LABELS[:6])), "torch.uint8 .* training inputs torch.float32"),
        (lambda: (Examples(INPUTS[:, :0], LABELS), TEST), r"inputs hold no numbers, as their shape is \(24, 0\)"),
        (lambda: (Examples(INPUTS.clone().requires_grad_(), LABELS), TEST), r"a gradient; give inputs.detach\(\)"),
        (
            lambda: (Examples(INPUTS.numpy(), LABELS), TEST),
            "inputs must be a torch.Tensor, got ndarray; use torch.from",
        ),
    ],
)
def test_the_result_of_load_is_checked(loaded: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        ready(Mine(loaded))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (of(names="abc"), "Mine.class_names must be a list of strings, one name per class, got 'abc'"),
        (of(names=[0, 1, 2]), r"got \[0, 1, 2\]; convert numbers with str"),
        (of(names=None), "got None"),
        (of(names=["a"]), "the data has one class, a, but classification needs at least two"),
        (of(names=[]), "the data has no class"),
        (of(mean=0.5), "mean is 0.5 but inputs are float32 numbers, which are not normalised; leave it out"),
        (of(std=[2.0]), r"std is \[2.0\] but inputs are float32 numbers"),
        (of(transform=lambda self, x: x + torch.rand_like(x)), "Mine.transform gives another result .* data.augment"),
        (of(transform=lambda self, x: x + np.random.rand()), "another result for the same example in a second call"),  # noqa: NPY002
        (of(transform=lambda self, x: x - x.mean(0)), "or in another batch"),
        (of(transform=lambda self, x: x.mul_(2)), "changes its input, the data set, in place; let it return"),
        (
            of(transform=lambda self, x: x @ x),
            r"transform fails on a batch of torch.float32 of shape \(8, 5\) \(Runtime",
        ),
        (
            of(train_dataloader=lambda self: []),
            "Mine.train_dataloader would not be called .*; convert inputs in transform",
        ),
        (of(on_after_batch_transfer=lambda self, batch, i: batch), "Mine.on_after_batch_transfer would not be called"),
    ],
)
def test_overridden_methods_are_checked(kind: type[Mine], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        ready(kind())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, 0.0, "std must be finite, and > 0, got 0.0"),
        (float("nan"), 1.0, "mean must be finite, got nan"),
        ([0.5, 0.4], 1.0, "mean has 2 numbers for 1 channels; give one, or one per channel"),
    ],
)
def test_pixels_are_normalised_by_numbers_that_fit(mean: Any, std: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready(of(mean=mean, std=std)(lambda: IMAGES))


@pytest.mark.parametrize("half", [0.5, [0.5], (0.5,), np.float32(0.5), np.array([0.5]), torch.tensor([0.5])])
def test_mean_and_std_may_be_numbers_of_any_kind(half: Any) -> None:
    data = ready(of(mean=half, std=half)(lambda: IMAGES))
    torch.testing.assert_close(data.transform(PIXELS), (PIXELS / 255 - 0.5) / 0.5)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda groups: [f"writer {each}" for each in groups]])
def test_groups_may_be_given_in_any_kind_of_sequence(kind: Callable[[Any], Any]) -> None:
    groups = kind([i // 6 for i in range(24)])
    data = ready(Mine(lambda: (Examples(INPUTS, LABELS, groups), TEST), partition=ByGroup(), num_clients=None))
    assert [data.partition.client(k).tolist() for k in range(4)] == np.arange(24).reshape(4, 6).tolist()


def test_what_load_draws_from_global_generators_depends_on_the_seed_alone() -> None:
    def noisy() -> tuple[Examples, Examples]:
        noise = torch.rand(24, 5) + torch.from_numpy(np.random.rand(24, 5)).float()  # noqa: NPY002
        return Examples(INPUTS + noise, LABELS), TEST

    before = global_rng_state()
    first = ready(Mine(noisy)).train.inputs
    assert global_rng_state() == before
    torch.rand(1)
    assert torch.equal(ready(Mine(noisy)).train.inputs, first)
    assert not torch.equal(ready(Mine(noisy, seed=1)).train.inputs, first)


def test_a_test_set_equal_to_the_training_set_is_reported() -> None:
    told = "the test set is the training set"
    assert not any(told in note for note in ready(Mine()).notes)
    assert any(told in note for note in ready(Mine(lambda: (TRAIN, TRAIN))).notes)


def test_a_setup_that_splits_nothing_is_refused() -> None:
    class Unsplit(Mine):
        def setup(self, stage: str | None = None) -> None:
            self.train, self.test = self.load()

    with pytest.raises(InputError, match=r"Unsplit.setup has not split the data; let it call super\(\).setup\(stage\)"):
        fit(FederatedModule(net()), datamodule=Unsplit())  # type: ignore[arg-type]
