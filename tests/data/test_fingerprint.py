"""Which data count as the same in a resumed run, and which do not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from numpy.typing import NDArray
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.data import Examples, FederatedData, Tensors
from fedlit.data.checks import check_ranks
from fedlit.data.fingerprint import CHUNK, contents_of, differences, early_fingerprint, rounded
from fedlit.federated import FederatedLoop, FederatedModule
from tests import federations

N, ROW = 6000, 5000
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
NUMBERS = GENERATOR.normal(size=(N, 40)).astype(np.float32)
LABELS, GROUPS = GENERATOR.integers(0, 3, N), np.arange(N) % 7
TOKENS = np.rint(NUMBERS * 9).astype(np.int64)
TEST = (PIXELS[:50], LABELS[:50])
SHUFFLED = GENERATOR.permutation(N)


def contents(inputs: Any = PIXELS, labels: Any = LABELS, groups: Any = GROUPS, test: Any = TEST, **kwargs: Any) -> Any:
    data = Tensors(train=(inputs, labels, groups), test=test, num_clients=3, seed=0, **kwargs)
    data.setup("fit")
    return data.contents


def changed(array: NDArray[Any], row: int = ROW, by: float = 1) -> NDArray[Any]:
    """A copy with another last value in one example."""
    copy = array.copy()
    copy[(row, *[-1] * (array.ndim - 1))] += by
    return copy


def on_disk(array: NDArray[Any], folder: Path) -> NDArray[Any]:
    np.save(folder / "x.npy", array)
    return np.load(folder / "x.npy", mmap_mode="r")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda _: contents(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)), id="channels last in memory"),
        pytest.param(lambda _: contents(np.asfortranarray(PIXELS)), id="Fortran order"),
        pytest.param(lambda _: contents(np.repeat(PIXELS, 2, 0)[::2]), id="a strided view"),
        pytest.param(lambda folder: contents(on_disk(PIXELS, folder)), id="memory-mapped"),
        pytest.param(lambda _: contents(labels=LABELS.astype(np.uint8)), id="labels of another integer type"),
        pytest.param(lambda _: contents(labels=LABELS.tolist(), groups=GROUPS.astype(np.int16)), id="lists"),
        pytest.param(lambda _: contents(groups=[f"writer {group}" for group in GROUPS]), id="groups named in order"),
    ],
)
def test_the_same_values_are_the_same_data(other: Callable[[Path], Any], tmp_path: Path) -> None:
    assert other(tmp_path) == contents()


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (NUMBERS.astype(np.float64), NUMBERS),
        (NUMBERS.astype(np.float16), NUMBERS.astype(np.float16).astype(np.float64)),
        (TOKENS.astype(np.int16), TOKENS),
        (NUMBERS > 0, (NUMBERS > 0).astype(np.float32)),
    ],
)
def test_inputs_are_compared_after_their_conversion(given: NDArray[Any], same: NDArray[Any]) -> None:
    assert contents(given, test=(given[:50], LABELS[:50])) == contents(same, test=(same[:50], LABELS[:50]))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        pytest.param(
            lambda: contents(changed(PIXELS)), [r"hash of the training inputs is \w+ there, but"], id="a pixel"
        ),
        pytest.param(
            lambda: contents(PIXELS[SHUFFLED], LABELS[SHUFFLED], GROUPS[SHUFFLED]),
            ["hash of the training labels", "hash of the training groups", "hash of the training inputs"],
            id="another order",
        ),
        pytest.param(lambda: contents(labels=(LABELS + 1) % 3), ["hash of the training labels"], id="labels"),
        pytest.param(lambda: contents(groups=GROUPS // 2), ["hash of the training groups"], id="groups"),
        pytest.param(
            lambda: contents(groups=None), [r"hash of the training groups is \w+ there, but missing"], id="no groups"
        ),
        pytest.param(
            lambda: contents(PIXELS[:-1], LABELS[:-1], GROUPS[:-1]),
            ["number of training examples is 6000 there, but 5999 here"],
            id="an example fewer",
        ),
        pytest.param(
            lambda: contents(test=(changed(PIXELS, 7)[:50], LABELS[:50])),
            ["hash of the test inputs"],
            id="a test pixel",
        ),
        pytest.param(lambda: contents(test=(PIXELS[:50], LABELS[1:51])), ["hash of the test labels"], id="test labels"),
        pytest.param(
            lambda: contents(test=(PIXELS[:40], LABELS[:40])),
            ["number of test examples is 50 there, but 40 here"],
            id="fewer test examples",
        ),
        pytest.param(lambda: contents(mean=0.25), ["mean, std or transform"], id="mean"),
        pytest.param(lambda: contents(std=[0.5, 0.5, 0.25]), ["mean, std or transform"], id="std"),
        pytest.param(
            lambda: contents(PIXELS.astype(np.float32), test=(PIXELS[:50].astype(np.float32), LABELS[:50])),
            [
                r"training inputs are uint8 of shape \(3, 6, 5\) there, but float32 of shape \(6, 5, 3\) here",
                "test inputs are uint8",
            ],
            id="type",
        ),
        pytest.param(
            lambda: contents(PIXELS.reshape(N, 90, 1), test=(PIXELS[:50].reshape(50, 90, 1), LABELS[:50])),
            [r"training inputs are uint8 of shape \(3, 6, 5\) there", "test inputs are uint8"],
            id="shape",
        ),
    ],
)
def test_what_differs_is_named(other: Callable[[], Any], told: list[str]) -> None:
    found = [*differences(contents(), other())]
    assert len(found) == len(told), found
    for text, line in zip(told, found, strict=True):
        assert re.search(text, line), line


def of_floats(inputs: Tensor) -> dict[str, Any]:
    examples = Examples(inputs, torch.from_numpy(LABELS))
    return contents_of(examples, examples.take(np.arange(50)), lambda x: x)


@pytest.mark.parametrize(
    ("other", "is_rounding"),
    [
        (lambda x: x * (1 + 3e-7), True),
        (lambda x: x.double().mul(3).div(3.0000001).float(), True),
        (lambda x: torch.from_numpy(changed(x.numpy(), by=1e-6)), True),
        (lambda x: torch.from_numpy(changed(x.numpy(), by=0.01)), False),
        (lambda x: x[torch.from_numpy(SHUFFLED)], False),
        (lambda x: x.roll(1, 1), False),
        (lambda x: x * 1.001, False),
        (lambda x: -x, False),
        (lambda x: x + 1e-3, False),
        (lambda x: torch.cat([x[1:2], x[:1], x[2:]]), False),
    ],
)
def test_last_digits_of_floats_are_told_apart_from_other_values(
    other: Callable[[Tensor], Tensor], is_rounding: bool
) -> None:
    then, now = of_floats(torch.from_numpy(NUMBERS)), of_floats(other(torch.from_numpy(NUMBERS)))
    assert then != now
    assert bool([*differences(then, now)]) != is_rounding
    if is_rounding:
        assert "training" in rounded(then, now)


@pytest.mark.parametrize(
    "inputs",
    [
        torch.zeros(2, 1),
        torch.full((2, 1), torch.nan),
        torch.full((2, 3), 3e38),
        torch.tensor([[1.0], [torch.inf]]),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(1, 1, 28, 28),
        torch.zeros(2, CHUNK + 1, dtype=torch.uint8),
        torch.zeros(3 * CHUNK, 1),
    ],
)
def test_any_inputs_can_be_compared(inputs: Tensor) -> None:
    examples = Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    told, again = (contents_of(examples, examples, lambda x: x) for _ in range(2))
    assert told == again
    assert not [*differences(told, again)]
    assert np.isfinite(told["first"]["seen"]).all()
    assert len(early_fingerprint(examples)) == 16


def test_an_early_fingerprint_is_that_of_earlier_versions() -> None:
    """By hand: the labels, then the hundredths of what is chosen of 32 examples, as 8 bytes each."""
    inputs, targets = torch.arange(32.0).view(32, 1), torch.arange(32) % 3
    digest = hashlib.blake2b(digest_size=8)
    digest.update(b"".join((i % 3).to_bytes(8, "little") for i in range(32)))
    digest.update(b"".join(round(i / 31 * 100).to_bytes(8, "little") for i in range(32)))
    assert early_fingerprint(Examples(inputs, targets)) == digest.hexdigest()


def test_data_that_differ_between_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    told, other = contents(), contents(labels=(LABELS + 1) % 3)
    check_ranks(told)
    monkeypatch.setattr("fedlit.data.checks.gather_list", lambda mine: [*mine, told, other])
    with pytest.raises(InputError, match=r"rank 2 has loaded other data than rank 0 \(hash of the training labels"):
        check_ranks(told)


INPUTS, CLASSES = NUMBERS[:60, :5], np.arange(60) % 3


class Own(Tensors):
    """Data with a transform of their own."""

    factor = 1.0

    def transform(self, x: Tensor) -> Tensor:
        return x * self.factor


def data(kind: type[Tensors] = Tensors, labels: Any = CLASSES, test: Any = None, **kwargs: Any) -> Tensors:
    test = (INPUTS[:9], CLASSES[:9]) if test is None else test
    return kind(train=(kwargs.pop("inputs", INPUTS), labels), test=test, num_clients=4, seed=0, **kwargs)


def own(factor: float) -> Tensors:
    made = data(Own)
    made.factor = factor  # type: ignore[attr-defined]
    return made


def trained(root: Path, datamodule: Tensors) -> Path:
    federations.fit(loop=FederatedLoop(2, seed=0), datamodule=datamodule, rounds=1, root=root)
    (checkpoint,) = root.rglob("*.ckpt")
    return checkpoint


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        (data, lambda: data(inputs=changed(INPUTS, 50)), "hash of the training inputs is"),
        (data, lambda: data(labels=CLASSES[::-1].copy()), "hash of the training labels is"),
        (data, lambda: data(test=(INPUTS[:9], CLASSES[1:10])), "hash of the test labels is"),
        (data, lambda: data(test=(INPUTS[:8], CLASSES[:8])), "number of test examples is 9 there, but 8 here"),
        (lambda: own(1.0), lambda: own(2.0), "mean, std or transform convert"),
        (lambda: own(1.0), lambda: own(1.0), None),
        (data, lambda: data(inputs=INPUTS.astype(np.float64)), None),
        (data, lambda: data(labels=torch.from_numpy(CLASSES).int()), None),
    ],
)
def test_a_run_resumes_with_its_data_alone(
    then: Callable[[], Tensors], now: Callable[[], Tensors], message: str | None, tmp_path: Path
) -> None:
    checkpoint = trained(tmp_path, then())
    again = lambda: federations.fit(  # noqa: E731
        loop=FederatedLoop(2, seed=0), datamodule=now(), root=tmp_path, ckpt_path=checkpoint
    )
    if message is None:
        again()
    else:
        with pytest.raises(InputError, match=rf"another federation: {message}.* and the same data, or start anew"):
            again()


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_inputs_that_differ_by_rounding_are_reported_on_a_resume(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path, data())
    other = data(inputs=INPUTS * np.float32(1 + 3e-7))
    with pytest.warns(match="the training inputs differ from those of the checkpoint's run in their last digits"):
        federations.fit(loop=FederatedLoop(2, seed=0), datamodule=other, root=tmp_path, ckpt_path=checkpoint)


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:.*does not have many workers")
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_another_test_set_is_evaluated_and_reported(stage: str, tmp_path: Path) -> None:
    checkpoint = trained(tmp_path, data())
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=[FederatedLoop(2)])
    module = FederatedModule(federations.net())
    with pytest.warns(
        match="the data are not those of the checkpoint's run: number of test examples is 9 there, but 8"
    ):
        getattr(trainer, stage)(
            module, datamodule=data(test=(INPUTS[:8], CLASSES[:8])), ckpt_path=checkpoint, weights_only=True
        )


def earlier(path: Path, datamodule: FederatedData) -> None:
    """Make a checkpoint one of an earlier version, which had one hash of the data."""
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["fedlit"]["contents of the data"]
    checkpoint["fedlit"]["hash of the training samples"] = datamodule.early_fingerprint
    torch.save(checkpoint, path)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_checkpoint_of_an_earlier_version_is_compared_by_its_own_rule(tmp_path: Path) -> None:
    run = data()
    checkpoint = trained(tmp_path, run)
    earlier(checkpoint, run)
    resume = lambda other: federations.fit(  # noqa: E731
        loop=FederatedLoop(2, seed=0), datamodule=other, root=tmp_path, ckpt_path=checkpoint
    )
    resume(data(test=(INPUTS[:8], CLASSES[:8])))
    with pytest.raises(
        InputError, match=r"another federation: hash of the training samples is \w+ there, but \w+ here"
    ):
        resume(data(labels=CLASSES[::-1].copy()))
