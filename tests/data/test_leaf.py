"""LEAF's files: users are clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.data import Dirichlet, Leaf

Users = dict[str, dict[str, list[Any]]]


def write(path: Path, users: Users, changed: dict[str, Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"users": [*users], "num_samples": [len(user["y"]) for user in users.values()], "user_data": users}
    path.write_text(json.dumps(content | (changed or {})))


def femnist(user: int, number: int) -> dict[str, list[Any]]:
    """Images of 2 x 2 pixels, all of whose values are the user's and the image's numbers."""
    return {"x": [[user + i / 10] * 4 for i in range(number)], "y": [i % 2 for i in range(number)]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train" / "all_data_0_train.json", {"f2": femnist(2, 3), "f0": femnist(0, 4)})
    write(tmp_path / "train" / "all_data_1_train.json", {"f1": femnist(1, 2)})
    write(tmp_path / "test" / "all_data_0_test.json", {"f1": femnist(1, 1), "f3": femnist(3, 2)})
    return tmp_path


def test_every_user_is_a_client_in_the_order_of_names(folder: Path) -> None:
    data = Leaf(str(folder), shape=[1, 2, 2], seed=0)
    data.setup()
    assert data.train.inputs.shape == (9, 1, 2, 2)
    assert data.train.inputs.dtype == torch.float32
    assert data.partition.sizes.tolist() == [4, 2, 3]
    for client in range(3):
        inputs = data.train.inputs[data.partition.client(client)][:, 0, 0, 0]
        np.testing.assert_allclose(inputs, client + np.arange(len(inputs)) / 10, rtol=1e-6)
    np.testing.assert_allclose(data.test.inputs[:, 0, 0, 0], [1, 3, 3.1], rtol=1e-6)
    assert any("1 groups are only in the test rows" in note for note in data.notes)


def test_a_test_fraction_divides_all_examples_of_each_user_anew(folder: Path) -> None:
    data = Leaf(str(folder), test_fraction=0.5, seed=0)
    data.setup()
    assert data.partition.sizes.tolist() == [2, 2, 2, 1]  # of 4, 3, 3 and 2, half of each rounded down is held out
    assert len(data.test) == 2 + 1 + 1 + 1


def test_files_without_a_split_are_divided_and_other_partitions_ignore_users(tmp_path: Path) -> None:
    write(tmp_path / "data.json", {"a": femnist(0, 10), "b": femnist(1, 10)})
    data = Leaf(str(tmp_path), partition=Dirichlet(1.0), num_clients=3, seed=0)
    data.setup()
    assert (len(data.train), len(data.test), data.num_clients) == (16, 4, 3)


def test_texts_are_tokens_and_their_labels_classes(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.json", {"ROMEO": {"x": ["bad", "dab"], "y": ["c", "a"]}})
    write(tmp_path / "test" / "a.json", {"ROMEO": {"x": ["eda"], "y": ["c"]}})
    data = Leaf(str(tmp_path), text=True, seed=0)
    assert data.class_names == ["a", "c"]
    data.setup()
    assert data.train.inputs.tolist() == [[1, 0, 2], [2, 0, 1]]  # of a, b, d, e
    assert data.test.inputs.tolist() == [[3, 2, 0]]
    assert (data.train.targets.tolist(), data.test.targets.tolist()) == ([1, 0], [1])


@pytest.mark.parametrize(
    ("users", "changed", "options", "said"),
    [
        (
            {"a": {"x": ["0001.jpg"], "y": [1]}},
            {},
            {},
            "x is text, such as '0001.jpg'; set data.text to true to read each character",
        ),
        ({"a": {"x": ["ab", "abc"], "y": [1, 0]}}, {}, {"text": True}, "texts of one length"),
        ({"a": {"x": [[1.0, 2.0]], "y": [1]}}, {}, {"shape": [3]}, r"of shape \(2,\) cannot have the shape \[3\]"),
        ({"a": {"x": [[1.0], [1.0, 2.0]], "y": [1, 0]}}, {}, {}, "is not a file of LEAF"),
        ({"a": {"x": [[1.0]], "y": [1]}}, {"num_samples": [2]}, {}, "user a has 1 x, 1 y and num_samples 2"),
        ({"a": {"x": [[1.0]], "y": [1]}}, {"users": ["a", "b"]}, {}, "is not a file of LEAF"),
        ({"a": {"x": [[1.0]], "y": [1]}}, {"user_data": []}, {}, "is not a file of LEAF"),
        (
            {"a": {"x": [[1.0]], "y": [1]}, "b": {"x": [[1.0]], "y": [0]}},
            {"users": ["a"], "num_samples": [1]},
            {},
            "user b of user_data is 0 times in users",
        ),
        (
            {"a": {"x": [[1.0]], "y": [1]}},
            {"users": ["a", "a"], "num_samples": [1, 1]},
            {},
            "user a of user_data is 2 times in users",
        ),
        (
            {"a": {"x": [[1.0]], "y": [1]}, "b": {"x": [[1.0, 2.0]], "y": [0]}},
            {},
            {},
            "users' examples differ in shape",
        ),
        ({"a": {"x": [[1.0]], "y": [[1]]}}, {}, {}, "labels must be one class number for each example"),
    ],
)
def test_files_that_are_not_of_leaf_are_refused(
    users: Users, changed: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write(tmp_path / "data.json", users, changed)
    with pytest.raises(InputError, match=said):
        Leaf(str(tmp_path), **options).setup()


def test_a_folder_without_files_and_a_broken_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.json files in"):
        Leaf(str(tmp_path)).setup()
    (tmp_path / "half.json").write_text('{"users": ["a"')
    with pytest.raises(InputError, match=r"half\.json is not a file of LEAF"):
        Leaf(str(tmp_path)).setup()


def test_a_run_of_the_command_trains_on_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = "fit --data Leaf --data.path . --data.shape [1,2,2] --model.net SoftmaxRegression --model.net.image_size 2"
    words += " --federation.clients_per_round 2 --trainer.max_epochs 1 --trainer.accelerator cpu --name leaf"
    assert main([*words.split(), "--trainer.enable_progress_bar", "false"]) == 0
    assert (folder / "logs/leaf/version_0/clients.csv").is_file()
