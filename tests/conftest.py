"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real EMNIST files, or a skip."""
    folder = os.environ.get("FEDLIT_DATA")
    if not folder:
        pytest.skip("FEDLIT_DATA is not set: no folder with EMNIST files to test on")
    return Path(folder).resolve()
