"""A user's own data: arrays, files, datasets by class path."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image
from torch.utils.data import Dataset, TensorDataset
from torchvision.datasets import FakeData

from fedlit.core.errors import InputError
from fedlit.data import ByGroup, Dirichlet, FederatedData, Tensors, TorchDataset, Uniform
from fedlit.flower import Sites

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
LABELS = np.arange(60) % 3
WRITERS = np.arange(60) // 10


def npz(folder: Path, **arrays) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def ready(data: FederatedData) -> FederatedData:
    data.prepare_data()
    data.setup()
    return data


def test_an_npz_file_keeps_its_own_split_and_names(tmp_path: Path) -> None:
    path = npz(tmp_path, images=IMAGES, labels=LABELS, n_train=45, class_names=["a", "b", "c"])
    data = ready(Tensors(path, num_clients=5))
    assert data.class_names == ["a", "b", "c"]
    assert (data.num_classes, data.in_channels, len(data.train)) == (3, 1, 45)
    np.testing.assert_array_equal(data.test.inputs[:, 0], IMAGES[45:])
    np.testing.assert_array_equal(data.test.targets, LABELS[45:])


def test_measured_mean_and_std_are_those_of_the_training_images(tmp_path: Path) -> None:
    data = ready(Tensors(npz(tmp_path, inputs=IMAGES, targets=LABELS, n_train=45), num_clients=5))
    x = data.transform(data.train.inputs)
    assert abs(x.mean()) < 1e-6
    assert abs(x.std(correction=0) - 1) < 1e-6
    given = ready(Tensors(data.path, mean=0.5, std=[0.25], num_clients=5))
    assert (given.mean, given.std) == (0.5, [0.25])


def test_without_a_split_a_fifth_of_every_class_is_held_out_by_the_seed(tmp_path: Path) -> None:
    path = npz(tmp_path, images=IMAGES, labels=LABELS)
    data = ready(Tensors(path, num_clients=5, seed=1))
    assert data.test.targets.bincount().tolist() == [4, 4, 4]  # a fifth of 20
    assert torch.equal(data.test.inputs, ready(Tensors(path, num_clients=7, seed=1)).test.inputs)
    assert not torch.equal(data.test.inputs, ready(Tensors(path, num_clients=5, seed=2)).test.inputs)


def test_a_test_fraction_holds_out_rows_of_every_writer_in_place_of_the_files_split(tmp_path: Path) -> None:
    path = npz(tmp_path, images=IMAGES, labels=LABELS, writers=WRITERS, n_train=45)
    data = ready(Tensors(path, partition=ByGroup(), test_fraction=0.3))
    assert data.num_clients == 6
    assert data.partition.sizes.tolist() == [7] * 6
    assert np.bincount(data.test.groups).tolist() == [3] * 6


def test_836_writers_are_836_clients(real_data: Path) -> None:
    data = ready(Tensors(str(real_data / "mnist_writers.npz"), partition=ByGroup(), test_fraction=0.2))
    assert data.num_clients == 836
    assert len(data.train) + len(data.test) == 70_000
    with np.load(real_data / "mnist_writers.npz") as file:
        assert data.partition.num_clients == len(np.unique(file["writers"]))
    writers = data.train.groups[data.partition.order]
    assert (np.diff(writers) != 0).sum() == 835  # each client is one writer


def test_the_writers_files_own_split_keeps_mnists_test_set(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        data = ready(Tensors(str(real_data / "mnist_writers.npz"), partition=ByGroup()))
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.num_clients == len(np.unique(data.train.groups)) == 836 - 297
    assert "297 groups are only in the test rows" in caplog.text
    # MNIST's training set: mean 0.1307, standard deviation 0.3081 (the figures in wide use).
    np.testing.assert_allclose([*data.mean, *data.std], [0.1307, 0.3081], atol=5e-5)


def test_arrays_are_given_in_python() -> None:
    train = (torch.rand(40, 3, 4, 4), torch.arange(40) % 2, np.arange(40) // 20)
    data = ready(Tensors(train=train, test=(np.zeros((6, 3, 4, 4)), [0, 1] * 3), partition=ByGroup()))
    assert (data.num_clients, data.in_channels, data.num_classes, len(data.test)) == (2, 3, 2, 6)
    assert data.class_names == ["0", "1"]
    assert data.transform(data.train.inputs) is data.train.inputs
    assert torch.equal(data.train.inputs, train[0])


class PilDigits(Dataset):
    """(image, label, writer), grey PIL images."""

    classes = ("zero", "one", "two")

    def __len__(self) -> int:
        return 60

    def __getitem__(self, i: int) -> tuple[Image.Image, int, str]:
        return Image.fromarray(IMAGES[i]), int(LABELS[i]), f"writer {WRITERS[i]}"


def test_a_dataset_of_pil_images_stays_uint8_with_its_class_names_and_writers() -> None:
    data = ready(TorchDataset(PilDigits(), partition=ByGroup(), test_fraction=0.5))
    assert data.class_names == ["zero", "one", "two"]
    assert data.num_clients == 6
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.inputs.shape == (30, 1, 6, 6)


def test_datasets_are_made_only_when_needed_and_made_datasets_are_taken_too() -> None:
    made = []

    def make() -> Dataset:
        made.append(1)
        return TensorDataset(torch.rand(10, 2), torch.arange(10) % 2)

    data = TorchDataset(make, TensorDataset(torch.rand(4, 2), torch.arange(4) % 2), num_clients=2)
    assert not made
    data.prepare_data()
    assert len(made) == 1
    data.setup()
    assert len(made) == 2
    assert (data.in_channels, data.num_classes, len(data.test)) == (2, 2, 4)


def from_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yaml: str) -> FederatedData:
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's calls, not ours
    config = tmp_path / "config.yaml"
    config.write_text(yaml)
    monkeypatch.setattr("sys.argv", ["fedlit"])
    cli = LightningCLI(
        BoringModel,
        FederatedData,
        subclass_mode_data=True,
        run=False,
        seed_everything_default=0,
        save_config_callback=None,
        trainer_defaults={"logger": False, "accelerator": "cpu"},
        args=["--config", str(config)],
    )
    return cli.datamodule


def test_a_dataset_is_named_by_class_path_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = """
    data:
      class_path: fedlit.data.TorchDataset
      init_args:
        train:
          class_path: torchvision.datasets.FakeData
          init_args: {size: 50, image_size: [3, 8, 8], num_classes: 4}
        test:
          class_path: torchvision.datasets.FakeData
          init_args: {size: 10, image_size: [3, 8, 8], num_classes: 4, random_offset: 50}
        partition:
          class_path: fedlit.data.Dirichlet
          init_args: {alpha: 0.3}
        num_clients: 5
    """
    data = ready(from_cli(tmp_path, monkeypatch, yaml))
    assert isinstance(data.partitioner, Dirichlet)
    assert (data.num_clients, data.in_channels, len(data.train), len(data.test)) == (5, 3, 50, 10)
    image, label = FakeData(50, (3, 8, 8), 4)[7]
    np.testing.assert_array_equal(data.train.inputs[7], np.asarray(image).transpose(2, 0, 1))
    assert data.train.targets[7] == label


def test_an_npz_file_is_named_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path, images=IMAGES, labels=LABELS, writers=WRITERS)
    yaml = f"data: {{class_path: fedlit.data.Tensors, init_args: {{path: {path}, mean: [0.5], partition: ByGroup}}}}"
    assert ready(from_cli(tmp_path, monkeypatch, yaml)).num_clients == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tensors(), "either path.*or train"),
        (lambda: Tensors("a.npz", train=(IMAGES, LABELS)), "either path.*or train"),
        (lambda: Tensors("a.npz", test=(IMAGES, LABELS)), "test can only be given with train"),
        (lambda: Tensors(train=(IMAGES, LABELS), test_fraction=1.0), "test_fraction must be between 0 and 1, got 1.0"),
        (lambda: Tensors(train=(IMAGES, LABELS), std=0.0), "std must be > 0, got 0.0"),
        (lambda: TorchDataset(PilDigits(), PilDigits(), test_fraction=0.2), "leave one of them out"),
        (
            lambda: ready(Tensors("nowhere.npz")),
            r"nowhere.npz cannot be read: there is no /.*/nowhere.npz; give data.path as an absolute path",
        ),
        (lambda: ready(Tensors(train=(IMAGES, LABELS), class_names=["a", "b"])), "label 2 has no name among 2"),
        (lambda: ready(Tensors(train=(IMAGES, LABELS), test=(IMAGES / 255, LABELS))), "give both the same type"),
        (lambda: ready(Tensors(train=(IMAGES,))), "train must be .inputs, labels.* got 1 parts"),
        (lambda: ready(Tensors(train=(IMAGES, LABELS), test=(IMAGES,) * 4)), "test must be .inputs.* got 4 parts"),
        (lambda: ready(TorchDataset(TensorDataset(torch.rand(4, 2)))), "samples of TensorDataset must be"),
        (lambda: ready(TorchDataset(partial(FakeData, size=0))), "FakeData is empty"),
        (lambda: ready(TorchDataset(RaggedImages())), "RaggedImages differ in shape"),
    ],
)
def test_unusable_arguments_are_refused_with_a_remedy(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


class RaggedImages(PilDigits):
    def __getitem__(self, i: int) -> tuple[Image.Image, int, str]:
        return Image.new("L", (4 + i, 4)), 0, ""


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "has no array labels or targets, only images"),
        ({"labels": LABELS}, "has no array images or inputs, only labels"),
        ({"images": IMAGES, "labels": LABELS, "n_train": 60}, "n_train is 60 of 60 rows"),
        (
            {"images": IMAGES, "labels": np.array([{}] * 60)},
            r"data.npz cannot be read as .npz.*arrays of numbers",
        ),
        ({"images": IMAGES, "inputs": IMAGES, "labels": LABELS}, "data.npz has both images and inputs"),
        ({"images": IMAGES, "labels": LABELS, "targets": LABELS}, "data.npz has both labels and targets"),
        ({"images": IMAGES, "labels": LABELS, "groups": WRITERS, "writers": WRITERS}, "both writers and groups"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready(Tensors(npz(tmp_path, **arrays)))


def test_unused_arrays_are_reported(tmp_path: Path) -> None:
    data = ready(Tensors(npz(tmp_path, images=IMAGES, labels=LABELS, writer=WRITERS), num_clients=5))
    assert "data.npz: writer not used; the names of arrays that are used are images, inputs, labels" in data.notes[0]


def test_another_file_counts_before_the_setup_and_for_the_next_fit(tmp_path: Path) -> None:
    few = npz(tmp_path, images=IMAGES, labels=LABELS % 3)
    (tmp_path / "more").mkdir()
    many = npz(tmp_path / "more", images=IMAGES, labels=np.arange(60) % 5)
    data = Tensors(few, num_clients=5, seed=0)
    assert data.num_classes == 3
    data.path = many
    assert ready(data).class_names == list("01234")
    data.path = few
    data.setup("validate")
    assert data.num_classes == 5
    data.setup("fit")
    assert data.num_classes == 3
    data.class_names = ["a", "b", "c", "d"]
    data.setup("fit")
    assert data.class_names == ["a", "b", "c", "d"]


@pytest.mark.parametrize("first", ["class_names", "num_classes", "in_channels"])
def test_what_is_told_when_the_data_are_read_before_the_setup_is_kept(tmp_path: Path, first: str) -> None:
    path = npz(tmp_path, images=IMAGES, labels=LABELS, groups=np.arange(60) // 12, n_train=45, writer=WRITERS)
    data = Tensors(path, num_clients=5, seed=0)
    getattr(data, first)  # as fedlit fit does to give it to the net
    told = [line.split(";")[0] for line in ready(data).notes]
    assert told[:2] == [f"{path}: writer not used", "1 groups are only in the test rows and cannot be clients"]
    data.partitioner = Uniform()  # another setup for a fit reads the data again
    data.setup("fit")
    assert [line.split(";")[0] for line in data.notes] == told
    sites = Sites(["a"], Tensors(path), registered=False)  # the server's own data
    getattr(sites, first)
    sites.setup("test")
    assert [line.split(";")[0] for line in sites.notes] == told[:2]


@pytest.mark.parametrize(
    ("name", "array", "shape"),
    [
        ("inputs", np.zeros((60, 7, 3), np.float32), (7, 3)),
        ("images", np.zeros((60, 7, 3), np.float32), (1, 7, 3)),
        ("images", np.zeros((60, 7, 3), np.int64), (7, 3)),
        ("inputs", np.zeros((60, 7, 6), np.uint8), (1, 7, 6)),
    ],
)
def test_floats_are_images_if_the_file_names_them_images(
    tmp_path: Path, name: str, array: np.ndarray, shape: tuple[int, ...]
) -> None:
    path = npz(tmp_path, **{name: array}, labels=LABELS)
    assert ready(Tensors(path, num_clients=5)).train.inputs.shape[1:] == shape
    assert ready(Tensors(path, num_clients=5, images=False)).train.inputs.shape[1:] == array.shape[1:]


def test_a_truncated_npz_file_is_named(tmp_path: Path) -> None:
    path = Path(npz(tmp_path, images=IMAGES, labels=LABELS))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"data.npz cannot be read as .npz"):
        ready(Tensors(str(path)))
