"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real EMNIST files, or a skip."""
    folder = os.environ.get("FEDLIT_DATA")
    if not folder:
        pytest.skip("FEDLIT_DATA is not set: no folder with EMNIST files to test on")
    return Path(folder).resolve()


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Small tensors are slower on many threads."""
    torch.set_num_threads(1)
