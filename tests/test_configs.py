"""Every config in ``configs/`` runs and agrees with its first lines."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fedlit.cli import main
from fedlit.report.claims import read_claims
from fedlit.study.plan import Plan, read_plan

FOLDER = Path(__file__).parents[1] / "configs"
STUDIES = sorted(FOLDER.rglob("study*.yaml"))
CLAIMS = FOLDER / "claims.yaml"
OWN_CLAIMS = FOLDER / "claims_channel.yaml"
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - {*STUDIES, CLAIMS, OWN_CLAIMS})
ATTENTION = {"plain": None, "channel": "Channel", "channel_mlp": "ChannelMLP", "spatial": "Spatial"}
ALPHA = {"iid": None, "dir05": 0.5, "dir01": 0.1}
SYNTHETIC = {"iid": (0.0, True), "0_0": (0.0, False), "05_05": (0.5, False), "1_1": (1.0, False)}
SLOW = {"stragglers50": 0.5, "stragglers90": 0.9}

each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)


def test_all_variants_meet_all_partitions() -> None:
    grid = {f"{variant}_{partition}" for variant in ATTENTION for partition in ALPHA}
    assert {config.stem for config in CONFIGS if config.parent == FOLDER} == grid | {"quickstart", "smoke"}


def read(name: str) -> dict:  # type: ignore[type-arg]
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("config", CONFIGS + STUDIES, ids=lambda config: config.stem)
def test_a_config_begins_with_its_own_command_and_what_it_shows(config: Path) -> None:
    command, shows, *_ = config.read_text().splitlines()
    assert (
        command == f"# fedlit {'study' if config in STUDIES else 'fit'} --config configs/{config.relative_to(FOLDER)}"
    )
    assert re.match(r"# \w.{20,}\.$", shows)


@pytest.mark.parametrize("partition", ALPHA)
@pytest.mark.parametrize("variant", ATTENTION)
def test_configs_of_the_grid_differ_in_their_name_only(variant: str, partition: str) -> None:
    expected = read("plain_iid")
    if name := ATTENTION[variant]:
        expected["model"] = {"net": {"init_args": {"attention": f"fedlit.attention.{name}"}}}
    if alpha := ALPHA[partition]:
        skew = {"class_path": "fedlit.data.Dirichlet", "init_args": {"alpha": alpha}}
        expected["data"]["init_args"] = {"partition": skew}
    assert read(f"{variant}_{partition}") == expected


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
@pytest.mark.parametrize("study", ["study", "study_gate_norm"])
def test_a_studys_combinations_are_configs_that_fit_takes(study: str) -> None:
    plan = read_plan(FOLDER / f"{study}.yaml")
    assert plan.seeds == tuple(range(3 if study == "study" else 10))
    assert plan.claims == (read_claims(CLAIMS) if study == "study" else None)
    assert {each.rounds for each in plan.combinations} == {20}
    for each in plan.combinations:
        assert each.config["data"]["class_path"] == "fedlit.data.EMNIST"
        variant, _, partition = each.name.rpartition("_")
        attention = each.config["model"]["net"]["init_args"]["attention"] or {"class_path": "fedlit.attention.None"}
        expected = {"cbam": "CBAM", "spatial_group": "Spatial", "spatial_batch": "Spatial"} | ATTENTION
        assert attention["class_path"] == f"fedlit.attention.{expected[variant]}"
        alpha = each.config["data"]["init_args"]["partition"].get("init_args", {}).get("alpha")
        assert alpha == (ALPHA | {"dir005": 0.05})[partition]


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
def test_the_study_of_gates_over_time_and_space_differs_in_gates_only() -> None:
    gates = {"plain": None, "temporal": "Temporal", "sensorwise": "Sensorwise", "spatio_temporal": "SpatioTemporal"}
    plan = read_plan(FOLDER / "sensors" / "study_gates.yaml")
    assert [each.name for each in plan.combinations] == list(gates)
    expected = copy.deepcopy(plan.combinations[0].config)
    for each in plan.combinations:
        found = each.config["model"]["net"]["init_args"]["attention"]
        assert (found and found["class_path"]) == (gates[each.name] and f"fedlit.attention.{gates[each.name]}")
        expected["model"]["net"]["init_args"]["attention"] = found
        assert each.config == expected


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
def test_the_search_holds_out_clients_and_varies_learning_rate_and_mu() -> None:
    plan = read_plan(FOLDER / "study_lr_mu.yaml")
    assert plan.select == "global/accuracy"
    tried = set()
    for each in plan.combinations:
        assert each.config["data"]["init_args"]["validation_clients"] == 10
        model = each.config["model"]
        tried.add((model["client_optimizer"]["init_args"]["lr"], model["mu"]))
    assert tried == {(lr, mu) for lr in (0.03, 0.1, 0.3) for mu in (0.0, 0.01, 0.1, 1.0)}


def fedprox_grid() -> Iterator[tuple[str, tuple[float, bool], float, dict[str, object]]]:
    """The paper's runs: name, (alpha and beta, iid), mu, stragglers."""
    for mu in (0, 1):
        for name, spread in SYNTHETIC.items():
            yield f"synthetic_{name}_mu{mu}", spread, mu, {}
        for name, fraction in SLOW.items():
            yield f"synthetic_1_1_{name}_mu{mu}", SYNTHETIC["1_1"], mu, {"fraction": fraction}
    for name, fraction in SLOW.items():
        yield f"synthetic_1_1_{name}_dropped", SYNTHETIC["1_1"], 0, {"fraction": fraction, "drop": True}


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
def test_runs_of_the_fedprox_studies_differ_in_data_mu_and_stragglers_only() -> None:
    plans = [read_plan(FOLDER / "fedprox" / f"study_{name}.yaml") for name in ("heterogeneity", "stragglers")]
    runs = {each.name: each for plan in plans for each in plan.combinations}
    assert {plan.base for plan in plans} == {FOLDER / "fedprox" / "synthetic.yaml"}
    assert runs.keys() == {name for name, *_ in fedprox_grid()}
    for name, (spread, iid), mu, stragglers in fedprox_grid():
        expected = copy.deepcopy(runs["synthetic_1_1_mu0"].config)
        expected["model"]["mu"] = mu
        expected["data"]["init_args"] |= {"alpha": spread, "beta": spread, "iid": iid}
        if stragglers:
            partial = {"class_path": "fedlit.federated.PartialWork", "init_args": {"drop": False} | stragglers}
            expected["federation"]["stragglers"] = partial
        assert runs[name].config == expected
        assert runs[name].rounds == 200


@each_config
def test_a_config_runs_for_a_round(config: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "EMNIST" in config.read_text():
        request.getfixturevalue("real_data")
    little = "--trainer.max_epochs=1 --federation.clients_per_round=2 --federation.local_epochs=0.05".split()
    assert main(["fit", "--config", str(config), f"--logs_dir={tmp_path}", "--trainer.accelerator=cpu", *little]) == 0
    run = tmp_path / config.stem / "version_0"
    assert list(pd.read_csv(run / "metrics.csv")["round"]) == [1]
    assert yaml.safe_load((run / "config.yaml").read_text())["name"] is None


def test_smoke_runs_unchanged(tmp_path: Path) -> None:
    smoke = next(config for config in CONFIGS if config.stem == "smoke")
    assert main(["fit", "--config", str(smoke), f"--logs_dir={tmp_path}"]) == 0
    assert list(pd.read_csv(tmp_path / "smoke" / "version_0" / "metrics.csv")["round"]) == [1, 2]


@cache
def whole_study() -> Plan:
    return read_plan(FOLDER / "study_decided.yaml")


@pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it
@pytest.mark.parametrize("study", sorted((FOLDER / "choices").glob("*.yaml")), ids=lambda study: study.stem)
def test_a_study_of_a_choice_has_the_claims_and_partitions_of_the_main_study(study: Path) -> None:
    plan, whole = read_plan(study), whole_study()
    assert plan.claims == whole.claims
    names = [each.name for each in plan.combinations]
    assert {"plain_iid", "plain_dir005", "spatial_iid", "spatial_dir005"} <= set(names)
    for each in plan.combinations:
        (like,) = [other for other in whole.combinations if other.name == each.name.replace("_averaged", "")]
        is_same = (each.config, each.rounds) == (like.config, like.rounds)
        assert is_same is (study.stem == "study_reference")  # elsewhere the choice takes effect
        assert each.config["data"]["init_args"]["partition"] == like.config["data"]["init_args"]["partition"]
