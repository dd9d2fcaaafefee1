"""Every config in ``configs/`` is what its first lines say, and runs."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fedlit.cli import main

CONFIGS = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.yaml"))
ATTENTION = {"plain": None, "channel": "Channel", "channel_mlp": "ChannelMLP", "spatial": "Spatial"}
ALPHA = {"iid": None, "dir05": 0.5, "dir01": 0.1}

each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)


def test_all_variants_meet_all_partitions() -> None:
    grid = {f"{variant}_{partition}" for variant in ATTENTION for partition in ALPHA}
    assert {config.stem for config in CONFIGS} == grid | {"quickstart", "smoke"}


@each_config
def test_a_config_begins_with_its_own_command_and_what_it_shows(config: Path) -> None:
    command, shows, *_ = config.read_text().splitlines()
    assert command == f"# fedlit fit --config configs/{config.name}"
    assert re.match(r"# \w.{20,}\.$", shows)


@pytest.mark.parametrize("partition", ALPHA)
@pytest.mark.parametrize("variant", ATTENTION)
def test_configs_of_the_grid_differ_in_their_name_only(variant: str, partition: str) -> None:
    def read(name: str) -> dict:  # type: ignore[type-arg]
        return yaml.safe_load(next(c for c in CONFIGS if c.stem == name).read_text())  # type: ignore[no-any-return]

    expected = read("plain_iid")
    if name := ATTENTION[variant]:
        expected["model"] = {"net": {"init_args": {"attention": f"fedlit.attention.{name}"}}}
    if alpha := ALPHA[partition]:
        skew = {"class_path": "fedlit.data.Dirichlet", "init_args": {"alpha": alpha}}
        expected["data"]["init_args"] = {"partition": skew}
    assert read(f"{variant}_{partition}") == expected


@each_config
def test_a_config_runs_for_a_round(config: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "EMNIST" in config.read_text():
        request.getfixturevalue("real_data")
    little = ["--trainer.max_epochs=1", "--federation.clients_per_round=2", "--federation.local_epochs=0.1"]
    assert main(["fit", "--config", str(config), f"--logs_dir={tmp_path}", "--trainer.accelerator=cpu", *little]) == 0
    run = tmp_path / config.stem / "version_0"
    assert list(pd.read_csv(run / "metrics.csv")["round"]) == [1]
    assert yaml.safe_load((run / "config.yaml").read_text())["name"] is None


def test_smoke_runs_as_it_stands(tmp_path: Path) -> None:
    smoke = next(config for config in CONFIGS if config.stem == "smoke")
    assert main(["fit", "--config", str(smoke), f"--logs_dir={tmp_path}"]) == 0
    assert list(pd.read_csv(tmp_path / "smoke" / "version_0" / "metrics.csv")["round"]) == [1, 2]
