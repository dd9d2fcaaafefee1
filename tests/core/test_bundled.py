"""Configs that come with fedlit are found by their names, and a file of the user's goes before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlit.command.parser import by_name
from fedlit.core.bundled import bundled, find

CONFIGS = Path(__file__).parents[2] / "configs"


def test_names_are_paths_within_the_folder_without_the_ending() -> None:
    assert bundled()["quickstart"].samefile(CONFIGS / "quickstart.yaml")
    assert bundled()["fedprox/synthetic"].samefile(CONFIGS / "fedprox" / "synthetic.yaml")
    assert len(bundled()) == len(list(CONFIGS.rglob("*.yaml")))


def test_a_file_of_that_name_goes_first_with_or_without_the_ending(tmp_path: Path) -> None:
    assert find("smoke", tmp_path) == bundled()["smoke"]
    (tmp_path / "smoke.yaml").touch()
    assert find("smoke", tmp_path) == tmp_path / "smoke.yaml"
    (tmp_path / "smoke").touch()
    assert find("smoke", tmp_path) == tmp_path / "smoke"


@pytest.mark.parametrize("given", ["smoke.yaml", "../configs/smoke", "Smoke", "", "/", "a: 1\n" * 1000, "\0"])
def test_what_is_no_name_is_left_as_it_is(given: str) -> None:
    assert find(given, Path("here")) == Path("here") / given
    assert by_name(["--config", given, f"--config={given}"]) == ["--config", given, f"--config={given}"]


def test_names_are_looked_for_where_a_config_is_given_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    smoke, study = str(bundled()["smoke"]), str(bundled()["study"])
    words = ["--config", "smoke", "-c", "study", "--config=study", "--name", "smoke", "--name=smoke", "smoke"]
    expected = ["--config", smoke, "-c", study, f"--config={study}", "--name", "smoke", "--name=smoke", "smoke"]
    assert by_name(words) == expected
    assert by_name(["smoke"]) == ["smoke"]
