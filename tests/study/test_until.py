"""A study that adds seeds until its claims are decided: its runs, its end, and its resume."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fedlit.cli import main
from fedlit.study import sweep

BASE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
#: Spatial is clearly worse at dir01, and as good as plain at iid; of channel it takes many seeds to say.
CLAIMS = """
margins: {accuracy: 0.01}
claims:
  - claim: Spatial is worse at dir01.
    parts: [{metric: accuracy, is: lower, compare: {spatial: 1, baseline: -1}, at: dir01}]
  - claim: Spatial changes nothing at iid.
    parts: [{metric: accuracy, is: unchanged, compare: {spatial: 1, baseline: -1}, at: iid}]
  - claim: Channel is better at iid.
    parts: [{metric: accuracy, is: higher, compare: {channel: 1, baseline: -1}, at: iid}]
"""
STUDY = f"""
base: {BASE}
rounds: 2
seeds: {{at_least: 3, at_most: 12, batch: 3, until: decided}}
claims: claims.yaml
axes:
  variant:
    plain: {{model.net.attention: null}}
    spatial: {{}}
    channel: {{model.net.attention: fedlit.attention.Channel}}
  partition:
    iid: {{data.partition: fedlit.data.Uniform}}
    dir01: {{data.partition: fedlit.data.Dirichlet, data.partition.alpha: 0.1}}
"""
#: Stands in for fedlit: an accuracy for each name and seed, and a failure of the runs that FAIL names.
STAND_IN = """
import json, os, random, sys
from pathlib import Path
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
name, version = words["--name"], words["--version"]
if f"{name}/{version}" in os.environ.get("FAIL", "").split():
    sys.exit("fedlit: error: nothing works; mend it")
mean, spread = {"spatial_dir01": (-0.1, 0.01), "spatial_iid": (0, 0.001), "channel_iid": (0.02, 0.03)}.get(name, (0, 0))
seed = int(version.removeprefix("seed_"))
accuracy = 0.7 + 0.05 * random.Random(seed).random() + mean + random.Random(f"{name} {seed}").gauss(0, spread)
folder = Path(words["--logs_dir"], name, version)
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
(folder / "checkpoints" / "last.ckpt").touch()
rounds = int(words["--trainer.max_epochs"])
rows = "".join(f"{r + 1},{accuracy},1.0,30.0\\n" for r in range(rounds))
(folder / "metrics.csv").write_text("round,global/accuracy,global/loss,round/seconds\\n" + rows)
(folder / "run.json").write_text(json.dumps({"state": "finished", "rounds": rounds}))
"""


@pytest.fixture(autouse=True)
def _made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(STUDY)
    Path("claims.yaml").write_text(CLAIMS)
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(sweep, "FEDLIT", (sys.executable, str(script)))


def study(*words: str) -> int:
    return main(["study", "--config=grid.yaml", "--jobs=2", *words])


def seeds_run() -> dict[str, int]:
    """How many seeds each combination has finished."""
    return {folder.name: len(list(folder.glob("seed_*/run.json"))) for folder in Path("logs/grid").glob("*_*")}


def settled(out: str) -> dict[str, str]:
    """The last verdict of each claim."""
    return dict(re.findall(r"^claim (\d) (\w+):", out, re.MULTILINE))


def test_seeds_are_added_only_where_a_part_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    runs, out = seeds_run(), capsys.readouterr().out
    assert settled(out)["1"] == settled(out)["2"] == "supported"
    # All have the first seeds. What is clear after them asks for no more; the third claim needs channel and plain, at
    # iid, and the spatial network at dir01 is not compared by it.
    assert runs["spatial_dir01"] == runs["plain_dir01"] == runs["channel_dir01"] < runs["channel_iid"]
    assert runs["plain_iid"] == runs["channel_iid"] <= 12
    assert "likely" in out


def test_the_report_finds_what_the_study_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    in_study = settled(capsys.readouterr().out)
    assert main(["report", "logs/grid"]) == 0
    assert settled(capsys.readouterr().out) == in_study
    assert len(pd.read_csv("logs/grid/report/runs.csv")) == sum(seeds_run().values())
    assert pd.read_csv("logs/grid/report/missing.csv").empty
    assert "repeated looks" in Path("logs/grid/report/report.md").read_text()


def test_the_same_command_again_runs_nothing_and_finds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    runs, found = seeds_run(), settled(capsys.readouterr().out)
    assert study() == 0
    assert (seeds_run(), settled(capsys.readouterr().out)) == (runs, found)


def test_a_study_stopped_half_way_ends_like_an_uninterrupted_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study("--name=whole") == 0
    whole = {folder.name: len(list(folder.glob("seed_*/run.json"))) for folder in Path("logs/whole").glob("*_*")}
    found = settled(capsys.readouterr().out)
    monkeypatch.setenv("FAIL", "channel_iid/seed_1 plain_dir01/seed_2")
    assert study() == 1
    monkeypatch.delenv("FAIL")
    assert study() == 0
    assert (seeds_run(), settled(capsys.readouterr().out)) == (whole, found)


def test_a_damaged_table_is_named_before_claims_are_judged_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    runs = seeds_run()
    table = Path("logs/grid/channel_iid/seed_1/metrics.csv")
    whole = table.read_text()
    table.write_text(whole.replace("1.0,30.0", "high,30.0", 1))
    capsys.readouterr()
    assert study() == 2
    assert f"{table} is not a table of a run's rounds" in capsys.readouterr().err
    assert seeds_run() == runs
    table.write_text(whole)
    assert study() == 0


def test_a_run_that_always_fails_ends_the_study(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", " ".join(f"channel_iid/seed_{seed}" for seed in range(12)))
    assert study() == 1
    assert settled(capsys.readouterr().out)["1"] == "supported"


def test_a_seed_that_always_fails_is_not_replaced_by_others_and_the_claims_that_wait_for_it_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "channel_iid/seed_1")
    assert study() == 1
    out = " ".join(capsys.readouterr().out.split())
    assert seeds_run()["channel_iid"] == 2
    assert "1 of 18 runs failed; the same command tries them again claim 3 cannot be tested further" in out


def test_a_dry_run_shows_the_state_of_the_claims_and_the_likely_rest(capsys: pytest.CaptureFixture[str]) -> None:
    assert study("--dry_run") == 0
    assert "18 runs: 0 done, 0 part-done, 18 to do" in capsys.readouterr().out
    assert not Path("logs").exists()
    assert study() == 0
    capsys.readouterr()
    assert study("--dry_run") == 0
    assert set(settled(capsys.readouterr().out)) == {"1", "2", "3"}


def test_the_looks_cannot_be_changed_once_there_are_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    for seeds in ("{at_least: 3, at_most: 15, batch: 3, until: decided}", "[0, 1, 2]"):
        Path("grid.yaml").write_text(re.sub("seeds: .*", f"seeds: {seeds}", STUDY))
        assert study() == 2
        assert "was started with looks at [3, 6, 9, 12] seeds" in capsys.readouterr().err


# Of each: what is changed in the study file between two looks, and what is said of it.
AXES = {
    "a compared variant is gone": ("    channel:", "    other:", "channel at iid is missing;"),
    "a compared partition has another name": (
        "    dir01:",
        "    skewed:",
        "plain at dir01 is missing, spatial at dir01 is missing;",
    ),
    "a partition is new, over which a claim takes a mean": (
        "    dir01:",
        "    more: {}\n    dir01:",
        "channel at more is new, plain at more is new;",
    ),
    "a variant is new that no claim compares": ("    plain:", "    more: {}\n    plain:", ""),
}


@pytest.mark.parametrize(("old", "new", "message"), AXES.values(), ids=list(AXES))
def test_the_runs_that_claims_compare_cannot_be_changed_once_there_are_runs(
    old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "more" in message:
        head, _, last = CLAIMS.rpartition(", at: iid")
        Path("claims.yaml").write_text(head + last)
    assert study() == 0
    Path("grid.yaml").write_text(STUDY.replace(old, new))
    capsys.readouterr()
    assert study("--dry_run") == (2 if message else 0)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("{at_most: 9, until: decided}", "seeds.at_least must be a whole number >= 2, got None"),
        ("{at_least: 1, at_most: 9, until: decided}", "seeds.at_least must be a whole number >= 2, got 1"),
        ("{at_least: 5, at_most: 3, until: decided}", "seeds.at_most must be >= at_least (5), got 3"),
        ("{at_least: 5, at_most: 9}", "seeds.until must be decided, got None"),
        ("{at_least: 5, at_most: 9, until: tired}", "seeds.until must be decided, got tired"),
        ("{at_least: 5, at_most: 9, until: decided, step: 2}", "seeds: no such key step"),
        ("{at_least: 5, at_most: 9, until: decided, batch: 0}", "seeds.batch must be a whole number >= 1, got 0"),
        ("{at_least: 5, at_most: 9, until: decided, first: x}", "seeds.first must be a whole number >= 0, got x"),
    ],
)
def test_a_mistake_in_the_seeds_is_reported(seeds: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("grid.yaml").write_text(re.sub("seeds: .*", f"seeds: {seeds}", STUDY))
    assert study() == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("claims", None, "needs claims: FILE"),
        ("select", "global/accuracy", "cannot be used with select:"),
        ("baseline", "none", "baseline: there is no variant none; use one of plain, spatial, channel"),
        ("within", "data", "within: there is no axis data; use one of variant, partition"),
        ("baseline", 3, "baseline must be the name of a variant, got 3"),
    ],
)
def test_a_study_that_cannot_be_decided_is_refused(
    key: str, value: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = yaml.safe_load(STUDY)
    tree.pop(key, None)
    if value is not None:
        tree[key] = value
    Path("grid.yaml").write_text(json.dumps(tree))
    assert study() == 2
    assert message in capsys.readouterr().err
    assert not Path("logs").exists()


def test_a_metric_that_depends_on_other_runs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("claims.yaml").write_text(CLAIMS.replace("metric: accuracy", "margin: 1, metric: to_target"))
    assert study() == 2
    assert "cannot test the metric to_target" in capsys.readouterr().err


def test_the_first_seed_may_be_another(capsys: pytest.CaptureFixture[str]) -> None:
    Path("grid.yaml").write_text(STUDY.replace("until", "first: 100, until"))
    assert study() == 0
    assert Path("logs/grid/plain_iid/seed_100").is_dir()
    assert not Path("logs/grid/plain_iid/seed_0").exists()


def test_a_finished_study_says_what_would_decide_its_open_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """Three seeds decide the first two claims; what the third claim compares is run at new seeds."""
    Path("grid.yaml").write_text(re.sub("seeds: .*", "seeds: [0, 1, 2]", STUDY))
    assert study() == 0
    assert main(["report", "logs/grid", "--plan", "200"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"claim 3, final accuracy higher, channel - plain, iid: about \d+ seeds", out)
    plan = Path("logs/grid/report/grid_decide.yaml")
    assert f"to decide them, run: fedlit study --config {plan}" in out
    tree = yaml.safe_load(plan.read_text())
    assert tree["seeds"] == {"first": 3, "at_least": 5, "at_most": 200, "until": "decided"}
    assert {axis: list(values) for axis, values in tree["axes"].items()} == {
        "variant": ["plain", "channel"],
        "partition": ["iid"],
    }
    assert main(["study", "--config", str(plan), "--dry_run"]) == 0
    assert "10 runs: 0 done" in capsys.readouterr().out


def test_a_plan_without_claims_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    tree = yaml.safe_load(STUDY)
    Path("grid.yaml").write_text(json.dumps({**tree, "seeds": [0], "claims": None} | {"claims": "claims.yaml"}))
    assert study() == 0
    record = Path("logs/grid/study.json")
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({**facts, "claims": None}))
    assert main(["report", "logs/grid", "--plan"]) == 2
    assert "--plan needs claims, but there are none" in capsys.readouterr().err
    record.write_text(json.dumps({key: value for key, value in facts.items() if key != "file"}))
    assert main(["report", "logs/grid", "--plan"]) == 2
    assert "does not have its study file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("{spatial: 1", "{spatail: 1", "the study has no variant spatail"),
        ("{spatial: 1", "{attentive: 1", "the study has no variant cbam or eca"),
        ("at: dir01", "at: dir1", "the study has no partition dir1"),
        ("at: dir01", "at: dir01, margin: {share: 0.1, of: none}", "the study has no variant none"),
    ],
)
def test_a_claim_on_a_variant_or_partition_without_runs_is_named_before_anything_runs(
    old: str, new: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = "groups: {attentive: {mean_of: [cbam, eca]}}"
    Path("claims.yaml").write_text(groups + CLAIMS.replace(old, new, 1))
    assert study("--dry_run") == 0
    assert f"claim 1 cannot be tested: {why}" in capsys.readouterr().out
    alone = yaml.safe_load(Path("claims.yaml").read_text())
    Path("claims.yaml").write_text(yaml.safe_dump(alone | {"claims": alone["claims"][:1]}))
    assert study("--dry_run") == 2
    assert f"needs a claim that can be tested, but {why}; correct the file of claims" in capsys.readouterr().err


def test_a_variant_called_baseline_must_be_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    Path("grid.yaml").write_text(STUDY.replace("channel:", "baseline:"))
    assert study("--dry_run") == 2
    error = capsys.readouterr().err
    assert "claims: the name baseline means the variant plain, but another variant has this name" in error


@pytest.mark.parametrize(
    "compared",
    [
        "compare: {channel: 1, baseline: -1}, margin: 0.1",
        "compare: {spatial: 1, baseline: -1}, margin: {share: 0.1, of: channel}",
    ],
)
def test_a_part_on_runs_that_diverged_asks_for_no_more_seeds(compared: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Channel's loss is no number at any seed, and no further seed changes that."""
    Path("stand_in.py").write_text(
        STAND_IN.replace("{accuracy},1.0,", "{accuracy},{'nan' if 'channel' in name else 1.0},")
    )
    part = f"{{metric: loss, is: unchanged, at: iid, {compared}}}"
    Path("claims.yaml").write_text(f"claims: [{{claim: X., parts: [{part}]}}]")
    assert study() == 0
    assert set(seeds_run().values()) == {3}
    assert settled(capsys.readouterr().out) == {"1": "undecided"}
