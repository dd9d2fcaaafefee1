"""Random changes of training batches: the same wherever and whenever a client trains."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import cnn, fit, images, two_ranks, weights
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torchvision.transforms import v2

from fedlit.core.errors import InputError
from fedlit.core.seeding import isolated_rng
from fedlit.data import PerExample, Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule

SHIFT = v2.RandomCrop(8, padding=2)


def shifted(*transforms: nn.Module) -> Tensors:
    plain = images()
    given = plain._arrays
    return Tensors(
        train=given[0], test=given[1], partition=plain.partitioner, batch_size=4, seed=0,
        augment=list(transforms) or SHIFT,
    )  # fmt: skip


def train(engine: Engine | None = None, data: Tensors | None = None, **more: Any) -> Tensor:
    module = FederatedModule(cnn(dropout=0.3), mu=0.1)
    return weights(fit(module, FederatedLoop(4, 2, seed=0, engine=engine), data or shifted(), **more))


def batches(data: Tensors, client: int = 2, round: int = 0, seed: int = 0, passes: int = 1) -> list[Tensor]:
    data.setup()
    loader = data.client_batches(client, round, seed)
    return [x for _ in range(passes) for x, _ in loader]


def test_each_batch_is_what_the_transform_makes_of_it() -> None:
    flipped, plain = batches(shifted(v2.RandomHorizontalFlip(p=1.0))), batches(images())
    assert len(plain) == 5
    for changed, before in zip(flipped, plain, strict=True):
        assert torch.equal(changed, before.flip(-1))


@pytest.mark.parametrize("wrap", [lambda shift: shift, PerExample])
def test_draws_depend_on_seed_round_client_epoch_and_batch_and_nothing_else(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full_like(x, int(torch.randint(0, 256, ())))

    def levels(**at: int) -> list[list[int]]:
        return [x.unique(sorted=False).tolist() for x in batches(shifted(wrap(Noise())), **at)]

    first = levels(passes=2)
    torch.rand(7)  # whatever else is drawn
    assert levels(passes=2) == first
    assert len({str(level) for level in first}) == len(first)  # 10 batches of two passes
    for other in ({"client": 4}, {"round": 1}, {"seed": 1}):
        assert levels(**other)[0] != first[0]


def test_per_example_draws_for_each_and_a_plain_transform_for_all_alike() -> None:
    x = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(32, 1, 1, 1)
    torch.manual_seed(0)
    assert len(SHIFT(x).flatten(1).unique(dim=0)) == 1
    assert len(PerExample(SHIFT)(x).flatten(1).unique(dim=0)) > 5


def test_global_generators_are_addressed_inside_and_untouched_outside() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    cpu = torch.device("cpu")
    with isolated_rng(5, cpu):
        inside = draw()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    expected = draw()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    with isolated_rng(5, cpu):
        assert draw() == inside
    assert draw() == expected


@pytest.mark.parametrize("engine", [TrainerEngine, lambda: WorkersEngine(LoopEngine(), 2)])
def test_engines_and_workers_give_the_same_bits(engine: Callable[[], Engine]) -> None:
    assert torch.equal(train(LoopEngine()), train(engine()))


@pytest.mark.filterwarnings("ignore:.*is not empty")
def test_ranks_and_a_resume_give_the_same_bits(tmp_path: Path) -> None:
    def states(folder: str, rounds: int, resume: bool = False, **more: Any) -> dict[str, Tensor]:
        last = ModelCheckpoint(dirpath=tmp_path / folder, filename="last", enable_version_counter=False)
        path = tmp_path / folder / "last.ckpt"
        train(
            LoopEngine(), rounds=rounds, callbacks=[last], enable_checkpointing=True,
            ckpt_path=path if resume else None, **more,
        )  # fmt: skip
        state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
        return state

    straight = states("straight", 2)
    states("resumed", 1)
    for other in (states("resumed", 2, resume=True), states("ranks", 2, **two_ranks())):
        assert all(torch.equal(straight[name], other[name]) for name in straight)


def test_augmentation_changes_the_result_and_its_absence_does_not() -> None:
    assert not torch.equal(train(), train(data=images()))


def test_clients_in_blocks_are_refused_and_never_chosen() -> None:
    with pytest.raises(InputError, match=r"data\.augment draws .* use federation\.engine LoopEngine"):
        fit(FederatedModule(cnn()), FederatedLoop(4, engine=VectorizedEngine()), shifted())


class Shaken(nn.Module):
    """Adds draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randint(0, 9, x.shape, generator=self.generator, dtype=x.dtype)


class Brighter(nn.Module):
    """Adds one more with each call."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


@pytest.mark.parametrize("transform", [Shaken(), Brighter()], ids=lambda transform: type(transform).__name__)
def test_augmentation_with_state_between_batches_is_refused(transform: nn.Module) -> None:
    with pytest.raises(InputError, match=r"data.augment gives another result for the same batch and seed: \w+ draws"):
        shifted(transform).setup()


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (v2.Resize(4), r"must keep shape and type: Resize makes torch\.uint8 of shape \(2, 1, 4, 4\)"),
        (v2.ToDtype(torch.float32, scale=True), r"must keep shape and type: ToDtype makes torch\.float32"),
        (v2.MixUp(num_classes=3), "MixUp fails on a training batch of torch.uint8 of shape"),
        (nn.Linear(3, 3), "Linear fails on a training batch"),
    ],
)
def test_augmentation_that_changes_shape_or_type_is_refused(transform: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        shifted(transform).setup()


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(), v2.RandomCrop(8, padding=2), v2.RandomRotation(10), v2.RandAugment(),
        v2.RandomErasing(), v2.RandomAffine(5), v2.ColorJitter(0.2, 0.2), v2.AugMix(),
        v2.RandomApply([v2.GaussianBlur(3)]), v2.RandomChoice([v2.RandomInvert(), v2.RandomPosterize(4)]),
        v2.RandomResizedCrop(8), v2.RandomPerspective(), v2.TrivialAugmentWide(),
    ],
    ids=lambda transform: type(transform).__name__,
)  # fmt: skip
def test_transforms_of_torchvision_are_addressed(transform: nn.Module) -> None:
    first = batches(shifted(transform))
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, batches(shifted(transform)), strict=True))
