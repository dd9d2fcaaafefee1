"""Finding runs in a folder: in any layout, finished or not."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies import scalars, shapes, write_run, write_study

from fedlit.core.errors import InputError
from fedlit.report.collect import Gap, collect
from fedlit.runs.read import config_of

TWO = {("plain", "dir01"): (0.8, 0.01), ("channel_mlp", "dir01"): (0.8, 0.01)}


def test_a_studys_record_gives_variant_and_partition(tmp_path: Path) -> None:
    study = collect(write_study(tmp_path, shapes(), seeds=(0, 4)))
    assert study.variants == ("plain", "channel", "channel_mlp", "spatial")
    assert study.partitions == ("dir01", "dir05", "iid")
    assert study.alphas == {"dir01": 0.1, "dir05": 0.5, "iid": math.inf}
    assert (study.seeds, study.horizon, study.planned, study.gaps) == ((0, 4), 20, 20, ())
    assert len(study.finished) == 24


def test_without_a_record_names_are_split_at_their_last_underscore_and_plain_comes_first(tmp_path: Path) -> None:
    study = collect(write_study(tmp_path, TWO, record=False))
    assert study.variants == ("plain", "channel_mlp")
    assert study.partitions == ("dir01",)


def test_a_variant_with_an_underscore_is_not_split_where_no_partition_follows(tmp_path: Path) -> None:
    for name in ("plain", "channel_mlp"):
        write_run(tmp_path / name / "version_0", scalars(0.8, 0), None)
    study = collect(tmp_path)
    assert (study.variants, study.partitions, study.gaps) == (("plain", "channel_mlp"), ("all",), ())


@pytest.mark.parametrize("layout", ["{name}/seed_{seed}", "{name}/version_{seed}"])
def test_runs_are_found_in_each_layout(layout: str, tmp_path: Path) -> None:
    for name in ("plain_iid", "spatial_iid"):
        for seed in (0, 1):
            write_run(tmp_path / layout.format(name=name, seed=seed), scalars(0.8, 0), None, seed=seed)
    study = collect(tmp_path)
    assert (study.variants, study.seeds, len(study.finished)) == (("plain", "spatial"), (0, 1), 4)


def test_a_variant_and_a_run_that_were_replaced_by_links_are_found(tmp_path: Path) -> None:
    logs = write_study(tmp_path / "logs", shapes(), seeds=(0, 1))
    (tmp_path / "disk").mkdir()
    for moved in ("spatial_iid", "channel_iid/seed_1"):
        to = (logs / moved).rename(tmp_path / "disk" / moved.replace("/", "_"))
        (logs / moved).symlink_to(to)
    study = collect(logs)
    assert (len(study.finished), study.gaps) == (24, ())


def test_if_a_seed_has_two_versions_the_newer_one_is_used(tmp_path: Path) -> None:
    for version, final in ((9, 0.5), (10, 0.9)):
        write_run(tmp_path / f"plain_iid/version_{version}", scalars(final, 0), None, seed=3)
    (run,) = collect(tmp_path).runs
    assert (run.seed, run.folder.name) == (3, "version_10")


@pytest.mark.parametrize("record", [True, False])
def test_a_copy_of_a_run_is_not_a_seed_more(record: bool, tmp_path: Path) -> None:
    """Otherwise the spread over seeds would be too small, and a difference too significant."""
    write_study(tmp_path, TWO, seeds=(0, 1, 2), record=record)
    copied, true = tmp_path / "plain_dir01/seed_2", tmp_path / "plain_dir01/seed_0"
    (copied / "config.yaml").write_bytes((true / "config.yaml").read_bytes())
    study = collect(tmp_path)
    assert sorted(run.seed for run in study.runs if run.variant == "plain") == [0, 1]
    assert (study.superseded, study.gaps) == ((copied,), (Gap("plain", "dir01", 2, 0),))
    assert [run.folder for run in study.runs if (run.variant, run.seed) == ("plain", 0)] == [true]


def test_a_single_name_is_split_only_at_a_known_partition(tmp_path: Path) -> None:
    for name, variant, partition in (("channel_mlp", "channel_mlp", "all"), ("channel_dir05", "channel", "dir05")):
        write_run(tmp_path / name / name / "version_0", scalars(0.8, 0), 0.5)
        study = collect(tmp_path / name)
        assert (study.variants, study.partitions) == ((variant,), (partition,))


def test_only_axes_with_several_values_are_part_of_the_variant(tmp_path: Path) -> None:
    write_study(tmp_path, TWO, seeds=(0,))
    record = json.loads((tmp_path / "study.json").read_text())
    record["axes"] |= {"mu": [0, 1], "norm": ["group"]}
    for i, run in enumerate(record["runs"]):
        run["axes"] |= {"mu": i, "norm": "group"}
    (tmp_path / "study.json").write_text(json.dumps(record))
    assert collect(tmp_path).variants == ("plain 0", "channel_mlp 1")


def test_unfinished_runs_are_gaps(tmp_path: Path) -> None:
    write_study(tmp_path, TWO, seeds=(0, 1))
    (tmp_path / "plain_dir01/seed_1/metrics.csv").unlink()
    scalars(0.8, 0, rounds=7).to_csv(tmp_path / "channel_mlp_dir01/seed_0/metrics.csv", index=False)
    (tmp_path / "channel_mlp_dir01/seed_1/metrics.csv").write_text("")  # killed before its first round was written
    study = collect(tmp_path)
    assert set(study.gaps) == {
        Gap("plain", "dir01", 1, 0),
        Gap("channel_mlp", "dir01", 0, 7),
        Gap("channel_mlp", "dir01", 1, 0),
    }
    assert [(run.variant, run.seed) for run in study.finished] == [("plain", 0)]


def test_without_a_record_every_variant_is_expected_at_every_partition_and_seed(tmp_path: Path) -> None:
    cells = {("plain", "iid"): (0.8, 0.0), ("spatial", "dir01"): (0.8, 0.0)}
    gaps = collect(write_study(tmp_path, cells, seeds=(0,), record=False)).gaps
    assert gaps == (Gap("plain", "dir01", 0, 0), Gap("spatial", "iid", 0, 0))


def test_before_any_run_has_ended_they_are_compared_at_the_furthest_round(tmp_path: Path) -> None:
    write_study(tmp_path, TWO, seeds=(0,))
    scalars(0.8, 0, rounds=7).to_csv(tmp_path / "plain_dir01/seed_0/metrics.csv", index=False)
    scalars(0.8, 0, rounds=5).to_csv(tmp_path / "channel_mlp_dir01/seed_0/metrics.csv", index=False)
    study = collect(tmp_path)
    assert (study.horizon, study.planned, len(study.finished)) == (7, 20, 1)
    assert len(collect(tmp_path, rounds=5).finished) == 2
    with pytest.raises(InputError, match=r"no run under .* has reached round 8; the furthest has reached 7"):
        collect(tmp_path, rounds=8)


@pytest.mark.parametrize(
    ("partition", "alpha"), [("dir01", 0.1), ("dir05", 0.5), ("dir1", 1), ("dir0.3", 0.3), ("iid", math.inf)]
)
def test_without_a_config_alpha_is_read_from_the_name(partition: str, alpha: float, tmp_path: Path) -> None:
    write_run(tmp_path / f"plain_{partition}/seed_0", scalars(0.8, 0), None)
    (tmp_path / f"plain_{partition}/seed_0/config.yaml").unlink()
    assert collect(tmp_path).alphas == {partition: alpha}


def test_a_partition_of_another_kind_has_no_alpha_and_comes_last(tmp_path: Path) -> None:
    write_run(tmp_path / "plain_iid/seed_0", scalars(0.8, 0), None)
    write_run(tmp_path / "plain_shards/seed_0", scalars(0.8, 0), None)
    config = "data: {init_args: {partition: {class_path: fedlit.data.Shards}}}"
    (tmp_path / "plain_shards/seed_0/config.yaml").write_text(config)
    study = collect(tmp_path)
    assert study.partitions == ("iid", "shards")
    assert math.isnan(study.alphas["shards"])


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no NAME/seed_K/metrics.csv under .*; start runs with"):
        collect(tmp_path)
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        collect(tmp_path / "nowhere")


@pytest.mark.parametrize("record", ["{", "[]", '{"axes": {}, "runs": [{"name": "a"}]}'])
def test_an_invalid_record_is_reported(record: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(record)
    with pytest.raises(InputError, match=r"study.json is not the record of a study"):
        collect(tmp_path)


def write_data(run: Path, data: str) -> None:
    (run / "config.yaml").write_text(f"trainer: {{max_epochs: 20}}\ndata: {data}\n")


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("{class_path: fedlit.data.EMNIST}", "{class_path: fedlit.data.MNIST5k}", "data.class_path is fedlit.data"),
        ("{class_path: E, init_args: {split: letters}}", "{class_path: E}", "data.split is"),
        ("{class_path: E, init_args: {validation_clients: 10}}", "{class_path: E}", "data.validation_clients is"),
    ],
)
def test_runs_of_different_data_are_refused(one: str, other: str, told: str, tmp_path: Path) -> None:
    write_study(tmp_path, TWO, seeds=(0,))
    write_data(tmp_path / "plain_dir01/seed_0", one)
    write_data(tmp_path / "channel_mlp_dir01/seed_0", other)
    with pytest.raises(InputError, match=f"runs of different data cannot be compared: {told}.*make a report for"):
        collect(tmp_path)


def test_a_study_says_which_axis_variants_are_compared_within(tmp_path: Path) -> None:
    runs = []
    for data, variant, seed in itertools.product(("digits", "letters"), ("mu0", "mu1"), (0, 1)):
        write_run(run := tmp_path / f"{data}_{variant}/seed_{seed}", scalars(0.8, 0, 3), None, 3, seed)
        write_data(run, f"{{class_path: E, init_args: {{split: {data}}}}}")
        runs.append({"name": f"{data}_{variant}", "seed": seed, "axes": {"data": data, "method": variant}})
    axes = {"data": ["digits", "letters"], "method": ["mu0", "mu1"]}
    record = {"axes": axes, "within": "data", "baseline": "mu0", "rounds": 3, "runs": runs}
    (tmp_path / "study.json").write_text(json.dumps(record))
    study = collect(tmp_path)
    assert (study.variants, study.partitions) == (("mu0", "mu1"), ("digits", "letters"))
    assert (study.within, study.baseline, len(study.finished)) == ("data", "mu0", 8)
    assert all(math.isnan(alpha) for alpha in study.alphas.values())  # no partitions, so neither even nor uneven
    write_data(tmp_path / "digits_mu0/seed_0", "{class_path: E, init_args: {split: letters}}")
    with pytest.raises(InputError, match=r"runs of different data.* data.split is .*name the axis .* by within:"):
        collect(tmp_path)


def test_runs_may_divide_the_same_data_in_their_own_ways(tmp_path: Path) -> None:
    write_study(tmp_path, TWO, seeds=(0,))
    write_data(tmp_path / "plain_dir01/seed_0", "{class_path: E, init_args: {num_clients: 9, root: a, split: letters}}")
    write_data(tmp_path / "channel_mlp_dir01/seed_0", "{class_path: E, init_args: {batch_size: 9, split: letters}}")
    assert len(collect(tmp_path).runs) == 2


def test_accuracy_of_validation_clients_is_called_that(tmp_path: Path) -> None:
    write_study(tmp_path, TWO, seeds=(0,))
    assert collect(tmp_path).held_out == "test"
    for name in ("plain_dir01", "channel_mlp_dir01"):
        write_data(tmp_path / name / "seed_0", "{class_path: E, init_args: {validation_clients: 10}}")
    assert collect(tmp_path).held_out == "validation"


@pytest.mark.parametrize("names", [("lr_01", "lr_03"), ("net_a", "net_b", "plain_a")])
def test_names_are_not_split_where_what_follows_is_no_partition(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        write_run(tmp_path / name / "version_0", scalars(0.8, 0), 0.5)
    study = collect(tmp_path)
    assert (set(study.variants), study.partitions) == (set(names), ("all",))


#: Tables beside a run's that are none of rounds, by their places.
FOREIGN = {
    "a CSVLogger's within a run": ("plain_iid/seed_0/mine/version_7", "epoch,step,loss\n0,1,0.5\n"),
    "a CSVLogger's of the run's name": ("plain_iid/version_9", "epoch,step,global/accuracy,round\n0,1,0.5,1\n"),
    "another program's": ("other/version_3", "time,value\n1,2\n"),
}


@pytest.mark.parametrize(("place", "table"), FOREIGN.values(), ids=list(FOREIGN))
def test_tables_that_are_not_of_rounds_change_nothing(place: str, table: str, tmp_path: Path) -> None:
    cells = {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}
    write_study(tmp_path, cells, seeds=(0, 1), record=False)
    before = collect(tmp_path)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "metrics.csv").write_text(table)
    after = collect(tmp_path)
    assert (after.variants, after.partitions, after.seeds) == (before.variants, before.partitions, before.seeds)
    assert (after.gaps, len(after.finished)) == ((), 4)


def test_what_is_logged_before_the_first_round_is_no_round(tmp_path: Path) -> None:
    table = pd.concat([pd.DataFrame([{"round": 0, "mine": 1.0}]), scalars(0.8, 0)])
    write_run(tmp_path / "plain/seed_0", table, None)
    (run,) = collect(tmp_path).finished
    assert run.table["round"].tolist() == list(range(1, 21))


def test_runs_without_an_accuracy_are_told_apart_from_none(tmp_path: Path) -> None:
    write_run(tmp_path / "plain/seed_0", scalars(0.8, 0).drop(columns="global/accuracy"), None)
    with pytest.raises(InputError, match=r"no run under .* has a global/accuracy yet"):
        collect(tmp_path)


def test_a_round_up_to_which_no_run_was_validated_is_refused(tmp_path: Path) -> None:
    for name in ("plain", "spatial"):
        table = scalars(0.8, 0)
        table.loc[table["round"] % 5 > 0, "global/accuracy"] = math.nan
        write_run(tmp_path / name / "seed_0", table, None)
    with pytest.raises(InputError, match=r"no run under .* was validated up to round 4; give a later one by --rounds"):
        collect(tmp_path, 4)
    assert collect(tmp_path, 5).horizon == 5


def test_each_config_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def reading(run: Path) -> dict[str, Any]:
        read.append(run)
        return config_of(run)

    monkeypatch.setattr("fedlit.report.run.config_of", reading)
    study = collect(write_study(tmp_path, {("plain", "dir01"): (0.8, 0.01), ("plain", "iid"): (0.8, 0.01)}))
    assert sorted(read) == sorted(run.folder for run in study.runs)
    assert [run.config for run in study.runs] == [config_of(run.folder) for run in study.runs]
