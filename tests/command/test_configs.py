"""``fedlit configs``, and configs that are given by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedlit.cli import main
from fedlit.core.bundled import FOLDER, bundled
from fedlit.study.plan import read_plan


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_list_has_the_name_and_purpose_of_every_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    words = capsys.readouterr().out.split()
    assert set(bundled()) <= set(words)
    assert "bundled digits, 20 skewed clients" in " ".join(words)


def test_copies_are_identical_and_do_not_replace_changed_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert FOLDER is not None
    assert main(["configs", "--copy", "mine"]) == 0
    copied = {file.relative_to("mine"): file.read_bytes() for file in Path("mine").rglob("*.yaml")}
    assert copied == {file.relative_to(FOLDER): file.read_bytes() for file in FOLDER.rglob("*.yaml")}
    Path("mine/study.yaml").write_text("changed")
    Path("mine/smoke.yaml").unlink()
    assert main(["configs", "--copy", "mine"]) == 2
    assert "mine/study.yaml exists with other content" in capsys.readouterr().err
    assert Path("mine/study.yaml").read_text() == "changed"
    assert not Path("mine/smoke.yaml").exists()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["configs", "--copy", str(tmp_path / "mine.txt")]) == 2
    assert "mine.txt is a file, so nothing can be written to" in capsys.readouterr().err


def test_a_config_given_by_name_runs_like_its_file(tmp_path: Path) -> None:
    small = "--trainer.accelerator=cpu --trainer.max_epochs=1 --federation.clients_per_round=2".split()
    assert main(["fit", "--config", "smoke", *small]) == 0
    config = yaml.safe_load(Path("logs/smoke/version_0/config.yaml").read_text())
    assert config["model"]["net"]["init_args"]["widths"] == [4, 8]  # as configs/smoke.yaml has it


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
def test_the_base_of_a_study_may_be_a_bundled_config_by_name(tmp_path: Path) -> None:
    Path("grid.yaml").write_text("base: smoke\naxes: {mu: {none: {model.mu: 0}, much: {model.mu: 1}}}\n")
    assert read_plan(Path("grid.yaml")).base == bundled()["smoke"]


def test_an_unknown_name_is_answered_with_where_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "quickstrat"]) == 2
    assert "give the path of a YAML file, or a name that fedlit configs lists" in capsys.readouterr().err
