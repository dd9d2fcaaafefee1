"""Folders of runs that several test modules read, or copy and damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import ROUNDS, fit


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    logs = tmp_path_factory.mktemp("straight")
    assert fit(logs) == 0
    return logs / "run" / "version_0"


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of a run that was stopped a round before its end."""
    logs = tmp_path_factory.mktemp("stopped")
    assert fit(logs, ROUNDS - 1) == 0
    return logs
