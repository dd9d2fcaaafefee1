"""Bundled configs are found by their names, and a user's file takes precedence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlit.command.parser import by_name
from fedlit.core.bundled import bundled, find

CONFIGS = Path(__file__).parents[2] / "configs"


def test_names_are_paths_within_the_folder_without_the_suffix() -> None:
    assert bundled()["quickstart"].samefile(CONFIGS / "quickstart.yaml")
    assert bundled()["fedprox/synthetic"].samefile(CONFIGS / "fedprox" / "synthetic.yaml")
    assert len(bundled()) == len(list(CONFIGS.rglob("*.yaml")))


def test_a_users_file_of_that_name_takes_precedence_with_or_without_suffix(tmp_path: Path) -> None:
    assert find("smoke", tmp_path) == bundled()["smoke"]
    (tmp_path / "smoke.yaml").touch()
    assert find("smoke", tmp_path) == tmp_path / "smoke.yaml"
    (tmp_path / "smoke").touch()
    assert find("smoke", tmp_path) == tmp_path / "smoke"


@pytest.mark.parametrize("given", ["smoke.yaml", "../configs/smoke", "Smoke", "", "/", "a: 1\n" * 1000, "\0"])
def test_other_paths_are_returned_unchanged(given: str) -> None:
    assert find(given, Path("here")) == Path("here") / given
    assert by_name(["--config", given, f"--config={given}"]) == ["--config", given, f"--config={given}"]


def test_names_are_only_resolved_where_a_config_is_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    smoke, study = str(bundled()["smoke"]), str(bundled()["study"])
    words = ["--config", "smoke", "-c", "study", "--config=study", "--name", "smoke", "--name=smoke", "smoke"]
    expected = ["--config", smoke, "-c", study, f"--config={study}", "--name", "smoke", "--name=smoke", "smoke"]
    assert by_name(words) == expected
    assert by_name(["smoke"]) == ["smoke"]
