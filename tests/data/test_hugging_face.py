"""Data sets of Hugging Face and partitioners of flwr-datasets, by the real libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.data import ByGroup, Dirichlet, FlowerPartitioner, HuggingFace, Tensors

REASON = "{} is not installed: pip install datasets flwr-datasets"
hf = pytest.importorskip("datasets", reason=REASON.format("datasets"))
NUMBER = 24
pytestmark = pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")  # of pyarrow, to datasets


def pictures(number: int = NUMBER, offset: int = 0) -> Any:
    """Grey images, all of whose pixels are the row's number, of two named classes and three writers."""
    features = hf.Features(
        {"image": hf.Image(), "digit": hf.ClassLabel(names=["even", "odd"]), "writer": hf.Value("string")}
    )
    rows = [offset + i for i in range(number)]
    columns = {
        "image": [Image.fromarray(np.full((4, 4), row, np.uint8)) for row in rows],
        "digit": [row % 2 for row in rows],
        "writer": ["abc"[row % 3] for row in rows],
    }
    return hf.Dataset.from_dict(columns, features=features)


def numbers(**columns: Any) -> Any:
    return hf.Dataset.from_dict({"x": [[i, i + 1] for i in range(6)], "y": [0, 1] * 3} | columns)


def test_images_and_class_labels_are_found_and_named() -> None:
    data = HuggingFace(pictures(), test=pictures(3, offset=100), groups="writer", partition=ByGroup(), seed=0)
    assert (data.class_names, data.in_channels) == (["even", "odd"], 1)
    data.setup()
    assert (data.train.inputs.dtype, tuple(data.train.inputs.shape)) == (torch.uint8, (NUMBER, 1, 4, 4))
    assert data.train.inputs[:, 0, 0, 0].tolist() == [*range(NUMBER)]
    assert data.train.targets.tolist() == [i % 2 for i in range(NUMBER)]
    assert data.test.inputs[:, 0, 3, 3].tolist() == [100, 101, 102]
    assert data.partition.client(1).tolist() == [i for i in range(NUMBER) if i % 3 == 1]


@pytest.mark.parametrize(
    ("made", "sizes"),
    [
        (lambda: pictures(), (20, 4)),  # 0.2 of 12 of each class, rounded down
        (lambda: hf.DatasetDict({"train": pictures(), "test": pictures(3)}), (NUMBER, 3)),
        (lambda: hf.DatasetDict({"train": pictures()}), (20, 4)),
        (lambda: pictures, (20, 4)),
    ],
)
def test_splits_are_its_own_or_drawn(made: Callable[[], Any], sizes: tuple[int, int]) -> None:
    data = HuggingFace(made(), num_clients=2, seed=0)
    data.setup()
    assert (len(data.train), len(data.test)) == sizes


@pytest.mark.parametrize(
    ("splits", "options", "unused"),
    [
        (["train", "test"], {}, ""),
        (["train", "validation"], {}, "validation"),
        (["train", "test", "validation", "extra"], {}, "validation, extra"),
        (["train", "test"], {"test_fraction": 0.2}, "test"),
        (["train", "test"], {"test": pictures}, "test"),
    ],
)
def test_splits_that_are_not_used_are_named(splits: list[str], options: dict[str, Any], unused: str) -> None:
    data = HuggingFace(hf.DatasetDict({name: pictures() for name in splits}), num_clients=2, seed=0, **options)
    data.setup()
    told = [note for note in data.notes if "splits" in note]
    assert told == ([f"splits of the data set that are not used: {unused}"] if unused else [])


def test_a_test_set_that_numbers_its_classes_otherwise_is_refused() -> None:
    other = pictures().cast_column("digit", hf.ClassLabel(names=["odd", "even"]))
    with pytest.raises(InputError, match="label 0 is even in the training set and odd in the test set"):
        HuggingFace(hf.DatasetDict({"train": pictures(), "test": other}), num_clients=2).setup()


def test_columns_of_numbers_are_named() -> None:
    data = HuggingFace(numbers(), inputs="x", labels="y", test_fraction=0.4, num_clients=2, seed=0)
    data.setup()
    assert data.train.inputs.dtype == torch.int64  # tokens
    assert sorted(map(tuple, torch.cat([data.train.inputs, data.test.inputs]).tolist())) == [
        (i, i + 1) for i in range(6)
    ]


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (numbers, {}, r"0 columns are of type Image, among x \(List\), y \(Value\); give one as data\.inputs"),
        (numbers, {"inputs": "x"}, r"0 columns are of type ClassLabel, .* give one as data\.labels"),
        (numbers, {"inputs": "x", "labels": "z"}, "the data set has no column z, only x, y"),
        (
            lambda: numbers(y=["a", "b"] * 3),
            {"inputs": "x", "labels": "y"},
            "labels must be one class number for each example",
        ),
        (lambda: numbers().to_iterable_dataset(), {"inputs": "x", "labels": "y"}, "convert a streamed one"),
        (lambda: hf.DatasetDict({"all": numbers()}), {}, "no split named train, only all"),
        (lambda: [1, 2], {}, "a Dataset of Hugging Face with a length, got list"),
        (lambda: None, {}, "needs either train, a data set, or path"),
        (pictures, {"test": pictures, "test_fraction": 0.5}, "test_fraction draws a test set, but test gives one"),
        (lambda: None, {"path": "nowhere"}, "nowhere is not a saved data set"),
    ],
)
def test_unusable_data_sets_are_refused(made: Callable[[], Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        HuggingFace(made(), **options).setup()


def labelled(partitioner: Any, **options: Any) -> Tensors:
    labels = np.arange(60) % 3
    arrays = np.arange(60, dtype=np.float32)[:, None], labels, np.arange(60) // 12
    return Tensors(train=arrays, test=arrays[:2], partition=FlowerPartitioner(partitioner, **options), seed=0)


def flower() -> Any:
    return pytest.importorskip("flwr_datasets.partitioner", reason=REASON.format("flwr_datasets"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: flower().IidPartitioner(num_partitions=4),
        lambda: flower().DirichletPartitioner(4, partition_by="label", alpha=0.5, min_partition_size=1),
        lambda: flower().ShardPartitioner(4, partition_by="label", num_shards_per_partition=3),
        lambda: flower().PathologicalPartitioner(4, partition_by="label", num_classes_per_partition=2),
        lambda: flower().LinearPartitioner(num_partitions=4),
    ],
)
def test_clients_hold_the_rows_of_flowers_partitions(make: Callable[[], Any]) -> None:
    data = labelled(make())
    data.setup()
    itself = make()
    itself.dataset = hf.Dataset.from_dict({"label": np.arange(60) % 3, "row": np.arange(60)})
    assert data.num_clients == itself.num_partitions == 4
    for k in range(4):
        assert data.partition.client(k).tolist() == itself.load_partition(k)["row"][:]


def test_a_second_setup_with_another_seed_divides_anew_and_alike() -> None:
    partitioner = FlowerPartitioner(flower().IidPartitioner(num_partitions=3))
    labels, rng = np.arange(9) % 3, np.random.default_rng(0)
    first, second = (partitioner.split(labels, 3, rng) for _ in range(2))
    assert first.hash == second.hash


def test_natural_ids_are_the_groups() -> None:
    data = labelled(flower().NaturalIdPartitioner(partition_by="writer"), group="writer")
    data.setup()
    assert data.partition.sizes.tolist() == [12] * 5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Dirichlet(), "must be a partitioner of flwr_datasets, got Dirichlet"),
        (
            lambda: flower().ShardPartitioner(4, "label", num_shards_per_partition=1, shard_size=2),
            "does not assign every",
        ),
    ],
)
def test_partitioners_that_do_not_divide_all_rows_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        labelled(make()).setup()


def test_a_number_of_clients_that_is_not_the_partitioners_is_refused() -> None:
    with pytest.raises(InputError, match="num_clients is 5 but IidPartitioner makes 3 partitions"):
        FlowerPartitioner(flower().IidPartitioner(num_partitions=3)).split(
            np.arange(9) % 3, 5, np.random.default_rng(0)
        )


def test_a_saved_data_set_and_a_partitioner_are_named_in_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flower()
    monkeypatch.chdir(tmp_path)
    hf.DatasetDict({"train": pictures(60), "test": pictures(6)}).save_to_disk("saved")
    dirichlet = {
        "class_path": "flwr_datasets.partitioner.DirichletPartitioner",
        "init_args": {"num_partitions": 3, "partition_by": "label", "alpha": 1.0, "min_partition_size": 4},
    }
    partition = {"class_path": "fedlit.data.FlowerPartitioner", "init_args": {"partitioner": dirichlet}}
    data = {"class_path": "fedlit.data.HuggingFace", "init_args": {"path": "saved", "partition": partition}}
    config = {
        "data": data,
        "model": {"net": {"class_path": "fedlit.models.SoftmaxRegression", "init_args": {"image_size": 4}}},
        "federation": {"clients_per_round": 3},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    }
    Path("flower.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "flower.yaml"]) == 0
    assert len(Path("logs/flower/version_0/clients.csv").read_text().splitlines()) == 1 + 3
