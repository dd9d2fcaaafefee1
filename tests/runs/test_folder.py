"""Where runs and their checkpoints are found."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fedlit.core.errors import InputError
from fedlit.runs import read_runs
from fedlit.runs.folder import files_below, find_checkpoint, run_of, versions


def make(logs: Path, name: str, version: int, *checkpoints: str) -> Path:
    run = logs / name / f"version_{version}"
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.json").touch()
    for checkpoint in checkpoints:
        (run / "checkpoints" / f"{checkpoint}.ckpt").touch()
    return run


def test_versions_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    made = [make(tmp_path, "run", number) for number in (2, 10, 0)]
    (tmp_path / "run" / "version_old").mkdir()
    assert versions(tmp_path, "run") == [made[2], made[0], made[1]]
    assert versions(tmp_path, "other") == []


def test_the_newest_run_that_has_the_checkpoint_is_found(tmp_path: Path) -> None:
    make(tmp_path, "run", 0, "last", "best")
    second = make(tmp_path, "run", 1, "last")
    make(tmp_path, "run", 2)
    assert find_checkpoint(tmp_path, "run", "last") == second / "checkpoints" / "last.ckpt"
    assert find_checkpoint(tmp_path, "run", "best").parents[1].name == "version_0"


def test_no_checkpoint_is_an_error_with_the_name_and_the_remedy(tmp_path: Path) -> None:
    make(tmp_path, "run", 0, "last")
    with pytest.raises(
        InputError, match=r"no checkpoint 'best' of a run named 'run' .* start a run without --ckpt_path"
    ):
        find_checkpoint(tmp_path, "run", "best")


@pytest.mark.parametrize("there", ["previous", "best"])
def test_a_run_without_last_is_found_by_another_checkpoint(there: str, tmp_path: Path) -> None:
    make(tmp_path, "run", 0, "last")
    run = make(tmp_path, "run", 1, there)
    assert find_checkpoint(tmp_path, "run", "last") == run / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("foreign", ["config.yaml", "hparams.yaml", "metrics.csv"])
def test_a_folder_without_fedlits_record_is_not_a_run(foreign: str, tmp_path: Path) -> None:
    run = make(tmp_path, "project", 0, "last")
    (run / "run.json").rename(run / foreign)
    assert run_of(run / "checkpoints" / "last.ckpt") is None


def test_the_run_of_a_checkpoint_is_its_folder(tmp_path: Path) -> None:
    run = make(tmp_path, "run", 3, "last")
    assert run_of(run / "checkpoints" / "last.ckpt") == run
    assert run_of(tmp_path / "last.ckpt") is None
    assert run_of(tmp_path / "elsewhere" / "checkpoints" / "last.ckpt") is None


def test_runs_are_read_by_name_the_newest_of_each(tmp_path: Path) -> None:
    for name, version, accuracy in (("a", 0, 0.1), ("a", 1, 0.2), ("b", 0, 0.3)):
        table = pd.DataFrame({"round": [1], "global/accuracy": [accuracy]})
        table.to_csv(make(tmp_path, name, version) / "metrics.csv", index=False)
    make(tmp_path, "a", 2)  # has not finished a round
    assert {name: table["global/accuracy"][0] for name, table in read_runs(tmp_path).items()} == {"a": 0.2, "b": 0.3}
    assert list(read_runs(tmp_path, "b")) == ["b"]


def test_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no runs of any name .* make them with fedlit fit"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match=r"no runs of mine"):
        read_runs(tmp_path, "mine")


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({}, ["logs/s/a/seed_0"]),
        ({"logs/s/b": "disk/s/a"}, ["logs/s/a/seed_0", "logs/s/b/seed_0"]),
        ({"logs/s/a/seed_1": "disk/s/a/seed_0"}, ["logs/s/a/seed_0", "logs/s/a/seed_1"]),
        ({"logs/t": "disk/s"}, ["logs/s/a/seed_0", "logs/t/a/seed_0"]),
        ({"logs/s/latest": "logs/s/a", "logs/s/a/best": "logs/s/a/seed_0"}, ["logs/s/a/seed_0"]),  # each once
        ({"logs/s/a/seed_0/up": "logs", "logs/s/gone": "nowhere"}, ["logs/s/a/seed_0"]),
        ({"logs/all": "disk"}, ["logs/all/s/a/seed_0", "logs/s/a/seed_0"]),
        ({"logs/all": "."}, ["logs/s/a/seed_0"]),  # the other run is deeper than any of fedlit's
    ],
    ids=str,
)
def test_runs_behind_links_are_found_and_each_only_once(
    links: dict[str, str], found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for disk in ("logs", "disk"):
        (tmp_path / disk / "s/a/seed_0").mkdir(parents=True)
        (tmp_path / disk / "s/a/seed_0/metrics.csv").touch()
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    monkeypatch.chdir(tmp_path)
    assert [str(path.parent) for path in files_below(Path("logs"), "metrics.csv")] == found
    monkeypatch.chdir("logs/s")
    (tmp_path / "way").symlink_to(tmp_path / "logs")
    for folder in (Path(), Path("a"), tmp_path / "way"):
        assert (files_below(folder, "metrics.csv") != []) is True
    assert files_below(tmp_path / "none", "metrics.csv") == []
