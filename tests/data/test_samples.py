"""A user's own datasets: samples are read correctly, or refused by number."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

from fedlit.core.errors import InputError
from fedlit.data import FederatedData, Tensors, TorchDataset
from fedlit.federated import FederatedLoop
from tests.federations import fit, weights

LABELS = [i % 3 for i in range(24)]
INPUTS = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 4, 6), dtype=np.uint8)
PAIRS = TensorDataset(torch.from_numpy(INPUTS), torch.tensor(LABELS))


class Own(Dataset[Any]):
    """Samples that a function gives by their numbers."""

    def __init__(self, sample: Callable[[int], Any], size: Any = 24) -> None:
        self.sample, self.size = sample, size

    def __len__(self) -> int:
        return self.size  # type: ignore[no-any-return]

    def __getitem__(self, i: int) -> Any:
        return self.sample(i)


def ready(train: Any, test: Any = None, **kwargs: Any) -> FederatedData:
    data = TorchDataset(train, test, **({"num_clients": 4, "batch_size": 4, "seed": 0} | kwargs))
    data.prepare_data()
    data.setup()
    return data


def of_input(sample: Callable[[int], Any]) -> Own:
    return Own(lambda i: (sample(i), LABELS[i]))


def image(i: int, mode: str = "L") -> Image.Image:
    return Image.fromarray(PIXELS[i]).convert(mode)


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(PAIRS)


class Endless(Dataset[Any]):
    def __getitem__(self, i: int) -> Any:
        return PAIRS[i]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Own(lambda i: PAIRS[i] if i != 7 else 1 // 0), r"sample 7 of Own cannot be read \(ZeroDiv.*Subset"),
        (lambda: Own(lambda i: PAIRS[i] if i != 7 else None), r"of Own must be \(input, label\) .* got NoneType at 7"),
        (lambda: Own(lambda i: {"x": INPUTS[i], "y": LABELS[i]}), "got dict at 0"),
        (lambda: Own(lambda i: (*PAIRS[i], 0, 0)), "got 4 parts at 0"),
        (lambda: Own(lambda i: PAIRS[i] if i else (*PAIRS[i], "ann")), "some samples of Own have a group"),
        (lambda: of_input(lambda i: {"x": INPUTS[i]}), "sample 0 of Own must be an image, .* got dict; select"),
        (lambda: of_input(lambda i: INPUTS[i] if i != 7 else None), "the input of sample 7 of Own .* got NoneType"),
        (lambda: of_input(lambda i: "text"), "got str"),
        (lambda: of_input(lambda i: [1e300] * 5), "inputs must be finite numbers in float32, got inf in row 0"),
        (lambda: of_input(lambda i: [[1.0], [1.0, 2.0]]), "input of sample 0 of Own cannot be converted to an array"),
        (lambda: of_input(lambda i: image(i, "L" if i else "RGB")), r"differ in shape, \(3, 4, 6\) and \(4, 6\)"),
        (lambda: of_input(lambda i: image(i, "1")), r"mode 1, whose numbers are bool, .* transform convert\('L'\)"),
        (lambda: of_input(lambda i: image(i, "I")), r"mode I, whose numbers are int32, .* \(1, H, W\)"),
        (lambda: of_input(lambda i: image(i, "F")), r"mode F, whose numbers are float32, .* their maximum"),
        (lambda: of_input(lambda i: image(i, "P")), r"sample 0 of Own is an image of mode P, .*convert\('RGB'\)"),
        (lambda: of_input(lambda i: PIXELS[i] if i else PIXELS[i] / 255), "some inputs of Own are uint8 pixels"),
        (lambda: Own(lambda i: (INPUTS[i], LABELS[i] / 2)), "labels must be .* float64"),
        (lambda: Own(lambda i: (INPUTS[i], "abc"[LABELS[i]])), "labels must be .* numpy.unique"),
        (lambda: Own(lambda i: (INPUTS[i], np.eye(3)[LABELS[i]])), r"shape \(24, 3\); use argmax"),
        (lambda: Own(PAIRS.__getitem__, 30), "sample 24 of Own cannot be read"),
        (lambda: Own(PAIRS.__getitem__, None), "the length of Own cannot be used"),
        (lambda: Own(PAIRS.__getitem__, 0), "Own is empty; give it samples"),
        (lambda: Streamed(), r"must have a length and indexing, got Streamed; give list\(dataset\)"),
        (lambda: Endless(), "got Endless"),
        (lambda: DataLoader(PAIRS), "got DataLoader; .* the dataset of a DataLoader"),
        (lambda: lambda: None, "got NoneType"),
        (lambda: (INPUTS, LABELS), r"got ndarray at 0; for arrays use fedlit.data.Tensors"),
    ],
)  # fmt: skip
def test_samples_that_cannot_be_used_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        ready(make())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PAIRS,
        lambda: list(PAIRS),
        lambda: list(Streamed()),
        lambda: Subset(ConcatDataset([PAIRS, PAIRS]), range(24)),
        lambda: of_input(lambda i: INPUTS[i].tolist()),
        lambda: of_input(lambda i: torch.from_numpy(INPUTS[i]).requires_grad_()),
    ],
)
def test_anything_with_a_length_and_samples_by_number_is_a_dataset(make: Callable[[], Any]) -> None:
    data = ready(make(), PAIRS)
    np.testing.assert_array_equal(data.train.inputs, INPUTS)
    assert data.train.targets.tolist() == LABELS


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_the_channels_of_an_image_go_first_however_many_they_are(mode: str) -> None:
    data = ready(of_input(lambda i: image(i, mode)), [(image(0, mode), 0)])
    channels = len(image(0, mode).getbands())
    assert data.train.inputs.shape == (24, channels, 4, 6)
    np.testing.assert_array_equal(data.train.inputs[3, -1], np.asarray(image(3, mode).getchannel(channels - 1)))


def named(names: Any) -> Own:
    data = Own(PAIRS.__getitem__)
    data.classes = names  # type: ignore[attr-defined]
    return data


@pytest.mark.parametrize("names", [list("xyz"), tuple("xyz"), np.array(list("xyz"))])
def test_a_dataset_names_its_classes_and_so_does_a_subset_of_it(names: Any) -> None:
    assert ready(named(names), PAIRS).class_names == ["x", "y", "z"]
    assert ready(Subset(named(names), range(6)), PAIRS).class_names == ["x", "y", "z"]
    assert ready(named([1, 2, 3]), PAIRS).class_names == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("xyz", "xz", "label 1 is y in the training set and z in the test set"),  # an ImageFolder that lacks a class
        ("xyz", "zxy", "label 0 is x in the training set and z in the test set"),
        ("xyz", "xyz", ""),
        ("xyz", "xy", ""),
        ("xyz", "", ""),  # names that are not known
        ("", "xyz", ""),
    ],
)
def test_a_test_set_that_numbers_its_classes_otherwise_is_refused(train: str, test: str, said: str) -> None:
    given = [named(list(names)) if names else PAIRS for names in (train, test)]
    subsets = [Subset(dataset, range(6)) for dataset in given]
    assert ready(*given, class_names=list("abc")).class_names == ["a", "b", "c"]  # for the numbers of both sets
    for pair in (given, subsets):
        if said:
            with pytest.raises(InputError, match=f"{said}; give both the same classes"):
                ready(*pair)
        else:
            assert ready(*pair).num_classes == 3


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        (["xyz", "xyz"], None, ""),
        (["xyz", "xy"], ["xyz"], ""),
        (["", "xyz"], ["xyz", ""], ""),
        (["xyz", "zyx"], None, "label 0 is x in one part of the training set and z in another part"),
        (["", "xyz", "zyx"], None, "label 0 is x in one part of the training set and z in another part"),
        (["xyz"], ["xyz", "zyx"], "label 0 is x in the training set and z in the test set"),
    ],
)
def test_parts_of_a_concatenation_number_their_classes_alike(
    train: list[str], test: list[str] | None, said: str
) -> None:
    def joined(parts: list[str]) -> Dataset[Any]:
        both = ConcatDataset([named(list(names)) if names else PAIRS for names in parts])
        return Subset(ConcatDataset([both, both]), range(48))

    pair = joined(train), None if test is None else joined(test)
    assert ready(*pair, class_names=list("abc")).class_names == ["a", "b", "c"]
    if said:
        with pytest.raises(InputError, match=f"{said}; give both the same classes"):
            ready(*pair)
    else:
        assert ready(*pair).class_names == ["x", "y", "z"]


@pytest.mark.parametrize("names", ["xyz", {"x": 1, "y": 0, "z": 2}, {"x", "y", "z"}, 3, []])
def test_class_names_that_are_not_an_ordered_list_are_refused(names: Any) -> None:
    with pytest.raises(
        InputError, match=r"names of classes must be a list with one name per class, .* give class_names"
    ):
        ready(named(names), PAIRS)
    with pytest.raises(InputError, match="names of classes must be a list"):
        ready(PAIRS, PAIRS, class_names=names)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            INPUTS,
            r"train must be \(inputs, labels\) .* got ndarray; for a dataset use fedlit.data.TorchDataset",
        ),
        (PAIRS, "got TensorDataset"),
        ({"inputs": INPUTS, "labels": LABELS}, "got dict"),
        ((np.ma.masked_less(INPUTS, 0), LABELS), "inputs must not have masked values"),
        ((INPUTS, np.ma.masked_equal(LABELS, 0)), "labels must not have masked values"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "inputs cannot be converted to an array"),
        ((torch.eye(24).to_sparse(), LABELS), "inputs cannot be converted to an array"),
        ((np.where(INPUTS > 1, np.nan, INPUTS), LABELS), "inputs must be finite numbers in float32, got nan"),
        (
            (np.where(INPUTS > 1, 1e300, INPUTS.astype(float)), LABELS),
            "inputs must be finite numbers in float32, got inf",
        ),
        ((PIXELS[:, :, :0], LABELS), r"training inputs hold no numbers, as their shape is \(.*, 1, 4, 0\)"),
    ],
)
def test_arrays_that_are_not_what_they_seem_are_refused(arrays: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        Tensors(train=arrays, num_clients=4).setup()
    assert "\n" not in str(raised.value)


def test_a_mean_for_inputs_that_are_not_normalised_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"mean is 0.5 but inputs are float32 numbers, which are not normalised; leave it"
    ):
        Tensors(train=(INPUTS, LABELS), mean=0.5, num_clients=4).setup()


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(
    "draw",
    [
        lambda: np.random.rand(5),  # noqa: NPY002
        lambda: [random.random() for _ in range(5)],
        lambda: torch.rand(5).numpy(),
    ],
    ids=["NumPy", "Python", "PyTorch"],
)
def test_a_run_on_random_transforms_resumes_to_the_bit(draw: Callable[[], Any], tmp_path: Path) -> None:
    def data() -> FederatedData:
        draw()  # the generators stand elsewhere each time
        changed = of_input(lambda i: INPUTS[i] + np.asarray(draw(), np.float32))
        return TorchDataset(changed, PAIRS, num_clients=4, batch_size=4, seed=0)

    loop = lambda: FederatedLoop(2, seed=0)  # noqa: E731
    whole = fit(loop=loop(), datamodule=data(), rounds=2)  # type: ignore[arg-type]
    fit(loop=loop(), datamodule=data(), rounds=1, root=tmp_path)  # type: ignore[arg-type]
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    resumed = fit(loop=loop(), datamodule=data(), rounds=2, root=tmp_path, ckpt_path=checkpoint)  # type: ignore[arg-type]
    assert torch.equal(weights(resumed.net), weights(whole.net))


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_run_is_not_resumed_with_other_samples(tmp_path: Path) -> None:
    def data(seed: int) -> FederatedData:
        train, test = random_split(PAIRS, [18, 6], torch.Generator().manual_seed(seed))
        return TorchDataset(train, test, num_clients=4, batch_size=4, seed=0)

    fit(loop=FederatedLoop(2, seed=0), datamodule=data(0), rounds=1, root=tmp_path)  # type: ignore[arg-type]
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(InputError, match=r"another federation: hash of the training labels is .* and the same data"):
        fit(loop=FederatedLoop(2, seed=0), datamodule=data(1), root=tmp_path, ckpt_path=checkpoint)  # type: ignore[arg-type]
