"""Tests of this folder that need Flower are skipped without it, with a message."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

HAS_FLOWER = find_spec("flwr") is not None
if HAS_FLOWER:
    with warnings.catch_warnings(action="ignore"):  # what its own imports warn its developers of
        importlib.import_module("flwr.app")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("flower") and not HAS_FLOWER:
            item.add_marker(pytest.mark.skip(reason="Flower is not installed: pip install 'fedlit[flower]'"))
