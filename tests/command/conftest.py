"""Fixtures that more than one test module of the commands needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import fit


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two rounds, to copy from."""
    logs = tmp_path_factory.mktemp("trained")
    assert fit(logs, 2) == 0
    return logs / "run" / "version_0"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run, in a current folder without other files."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "logs" / "run" / "version_0")
    return Path("logs/run/version_0")
