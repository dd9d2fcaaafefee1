"""Data larger than free memory is refused before it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import Dataset

from fedlit.core import memory
from fedlit.core.errors import InputError
from fedlit.data import FederatedData, Leaf, Tensors, TorchDataset


def archive(folder: Path) -> FederatedData:
    """Arrays of 40 x (8 x 8 uint8 + int64), 2,880 bytes and two headers of 128."""
    path = folder / "digits.npz"
    np.savez_compressed(path, images=np.zeros((40, 8, 8), np.uint8), labels=np.arange(40) % 2)
    return Tensors(str(path))


class Samples(Dataset[tuple[np.ndarray, int]]):
    def __len__(self) -> int:
        return 2000

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        assert index == 0, "more than the first sample was read"
        return np.zeros((1, 8, 8), np.float32), 0


def samples(folder: Path) -> FederatedData:
    return TorchDataset(Samples())


def leaf(folder: Path) -> FederatedData:
    users = {"a": {"x": [[0.5] * 400], "y": [0]}, "b": {"x": [[0.25] * 400], "y": [1]}}
    content = {"users": ["a", "b"], "num_samples": [1, 1], "user_data": users}
    (folder / "all.json").write_text(json.dumps(content))
    return Leaf(str(folder))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (archive, r"digits\.npz needs .* GB of memory, but 1e-06 GB are free; give fewer examples"),
        (samples, r"Samples of 2,000 samples needs 0\.00102 GB of memory"),  # 2 * 2000 * 64 * 4 bytes
        (leaf, r"the JSON of .* needs .* GB of memory"),
    ],
)
def test_data_that_is_too_large_is_refused_with_its_size_and_the_remedy(
    make: Callable[[Path], FederatedData], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match=said):
        data.setup()


def test_the_smallest_limit_of_the_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CONTAINER_LIMIT", limit)
    meminfo.write_text("MemTotal:       16 kB\nMemAvailable:    5 kB\n")
    assert memory.available_bytes() == 5 * 1024
    limit.write_text("max\n")
    assert memory.available_bytes() == 5 * 1024
    limit.write_text("2048\n")
    assert memory.available_bytes() == 2048


def test_nothing_is_refused_if_the_system_tells_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.check_fits_memory("all of it", 10**18, "give less")
