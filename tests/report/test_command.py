"""``fedlit report`` on finished and unfinished studies."""

from __future__ import annotations

import io
import json
import math
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
from studies import scalars, shapes, write_outcome, write_run, write_study

from fedlit.cli import main as fedlit
from fedlit.report.command import main, report

#: The paper's claims, which reports on studies that name none are told of.
CLAIMS = ("--claims", str(Path(__file__).parents[2] / "configs/claims.yaml"))
CELLS = {cell: shape for cell, shape in shapes(spatial_dir01=(0.7, 0.05)).items() if cell[1] != "dir05"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a finished study."""
    folder = write_study(tmp_path_factory.mktemp("logs") / "emnist", CELLS, rounds=12)
    with redirect_stdout(io.StringIO()) as told:
        assert main([str(folder), *CLAIMS]) == 0
    (folder / "told.txt").write_text(told.getvalue())
    return folder / "report"


def said(folder: Path, *words: str) -> str:
    """The Markdown of a report, without emphasis."""
    assert main([str(folder), *words]) == 0
    return (folder / "report/report.md").read_text()


def test_the_page_needs_nothing_else(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    places = re.findall(r'(?:src|srcset|href)="([^"]{0,40})', page)
    assert places
    assert all(place.startswith(("data:image/", "#")) for place in places)
    assert "@import" not in page
    assert not set(re.findall(r"https?://[^\s\"']+", page)) - {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert "url(" not in page


def test_the_page_is_light_and_dark_and_light_on_paper(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    assert page.count("@media screen and (prefers-color-scheme: dark)") == page.count("prefers-color-scheme") == 2


def test_the_page_is_whole_without_its_script(whole: Path) -> None:
    page = (whole / "report.html").read_text().partition("<script")[0]
    titles = re.findall(r"<figure><h3>(.+?)</h3>", page)
    assert {"Accuracy over the rounds", "Paired differences to the baseline"} <= set(titles)
    assert page.count("<svg") == page.count('role="img"') >= 2 * len(titles)  # a panel a partition
    assert 'class="line"' in page
    assert 'class="controls"' not in page


def test_the_script_is_given_every_seed_of_every_curve(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    panels = json.loads(page.partition('id="numbers">')[2].partition("</script>")[0])["panels"]
    curves = [panel for panel in panels if panel.get("label") == "round"]
    assert curves
    table = pd.read_csv(whole.parent / "plain_dir01/seed_2/metrics.csv")
    assert curves[0]["lines"][0]["seeds"]["2"] == pytest.approx(table["global/accuracy"], rel=1e-3)
    assert {tuple(line["seeds"]) for panel in curves for line in panel["lines"]} == {("0", "1", "2")}
    frames = re.findall(r'data-panel="(\d+)" data-frame', page)
    assert [panels[int(number)]["label"] for number in frames] == [p["label"] for p in panels if p.get("label")]


def test_the_answer_comes_first(whole: Path) -> None:
    text = (whole / "report.md").read_text()
    first = text.split("\n\n")[2:5]
    assert first[0] == "## In short"
    assert first[1].startswith("In final test accuracy over 3 seeds, beyond chance: worse than plain: **spatial**")
    assert "Of 4 claims:" in first[1]
    assert first[2] == "**Final test accuracy, after round 12**"
    assert "| variant | dir01, \u03b1 = 0.1 | iid, even |" in text


def test_two_seeds_are_shown_as_two_values_and_nothing_is_marked(tmp_path: Path) -> None:
    text = said(write_study(tmp_path, CELLS, seeds=(0, 1), rounds=6), *CLAIMS)
    runs = pd.read_csv(tmp_path / "report/runs.csv").query("variant == 'plain' and partition == 'iid'")["accuracy"]
    assert f"| plain | {runs.mean():.3f} ({runs.iloc[0]:.3f} and {runs.iloc[1]:.3f}) |" in text.replace("**", "")
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    assert "**" not in tables
    assert pd.read_csv(tmp_path / "report/summary.csv")[["low", "high"]].isna().all(axis=None)
    assert pd.read_csv(tmp_path / "report/differences.csv")[["low", "high", "p_t_holm"]].isna().all(axis=None)
    assert '<path class="dots"' in (tmp_path / "report/report.html").read_text()
    assert 'class="bar"' not in (tmp_path / "report/report.html").read_text()


def test_runs_of_different_lengths_are_compared_at_the_last_common_round(tmp_path: Path) -> None:
    for name, rounds in (("plain", 10), ("other", 20)):
        for seed in (0, 1, 2):
            write_run(tmp_path / name / f"version_{seed}", scalars(0.8, 0, rounds), None, rounds, seed)
    text = said(tmp_path)
    assert "6 runs compared at round 10 of 20" in text
    assert "**Runs of different lengths**: 3 runs of 10, 3 runs of 20 rounds." in text
    assert "have not reached round" not in text
    assert "3 of 6 runs have not reached round 20" in said(tmp_path, "--rounds", "20")


def test_metrics_that_need_more_rounds_say_so(tmp_path: Path) -> None:
    text = said(write_study(tmp_path, CELLS, rounds=2), *CLAIMS)
    assert "nan" not in text
    assert "in common" not in text.partition("## How this was computed")[0].replace("seeds in common", "")
    assert "The runs have no wobble, which needs three rounds of a model that learns" in text
    heterogeneity = [line for line in text.splitlines() if "heterogeneity.png" in line]
    assert heterogeneity
    page = (tmp_path / "report/report.html").read_text()
    assert all("<path" in svg or "<rect" in svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert ">wobble</text>" not in page  # no empty panel


def test_what_was_run_is_one_table(tmp_path: Path) -> None:
    folder = write_study(tmp_path, CELLS, seeds=(0, 1), rounds=6)
    for path in folder.glob("*/*/config.yaml"):
        mu = 0.5 if "spatial" in str(path) else 0
        net = "{class_path: fedlit.EmnistCNN, init_args: {hidden: 128, norm: none}}"
        sgd = "{class_path: torch.optim.SGD, init_args: {lr: 0.1, momentum: 0.0}}"
        data = "{class_path: fedlit.data.EMNIST, init_args: {split: letters, num_clients: 30, batch_size: 32}}"
        path.write_text(
            f"trainer: {{max_epochs: 6}}\nmodel: {{mu: {mu}, net: {net}, client_optimizer: {sgd}}}\ndata: {data}\n"
            "federation: {clients_per_round: 10, local_epochs: 2.0}\n"
        )
        made_with = [{"torch": "2.14.0", "commit": "abc", "processor": "AMD EPYC", "cores": "2"}]
        (path.parent / "origin.json").write_text(json.dumps(made_with))
    record = json.loads((folder / "study.json").read_text())
    changes = {"variant": {"plain": {}, "spatial": {"model.mu": 0.5}}}
    (folder / "study.json").write_text(json.dumps(record | {"file": {"axes": changes}}))
    text = said(folder)
    for row in (
        "| data | EMNIST(split=letters) |",
        "| clients | 30 |",
        "| clients a round | 10 |",
        "| local epochs | 2 |",
        "| mu | 0 (plain, channel, channel\\_mlp); 0.5 (spatial) |".replace("\\_", "_"),
        "| clients' optimizer | SGD(lr=0.1) |",
        "| network | EmnistCNN(hidden=128, norm=none) |",
        "| numbers in the model | 426,415 |",
        "| rounds | 6 |",
        "| versions | torch 2.14.0 |",
        "| machine | AMD EPYC, 2 cores |",
        "| axis variant | **plain**: as the base config; **spatial**: `model.mu` 0.5 |",
    ):
        assert row in text


def test_fairness_says_on_which_data(whole: Path) -> None:
    text = (whole / "report.md").read_text()
    assert "**Fairness, on clients' training data**" in text
    assert "**Fairness**" not in text


def test_minus_signs_are_real_minus_signs(whole: Path) -> None:
    page = (whole / "report.html").read_text().partition("<script")[0]
    assert "\u22120." in page
    assert not re.findall(r">[^<]*(?<![\w.])-\d", page.partition("</style>")[2])


def test_the_page_says_what_the_markdown_says(whole: Path) -> None:
    page, text = (whole / "report.html").read_text(), (whole / "report.md").read_text()
    for heading in re.findall(r"^## (.+)$", text, re.MULTILINE):
        assert f"<h2>{heading.replace(chr(39), '&#x27;')}</h2>" in page
    assert page.count("<h2>") == text.count("\n## ")
    assert page.count('class="claim') == 4


def test_the_markdowns_pictures_are_there(whole: Path) -> None:
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", (whole / "report.md").read_text())
    assert {"accuracy.png", "differences.png", "../plain_dir01/seed_0/partition.png"} <= set(pictures)
    assert all((whole / picture).is_file() for picture in pictures)


def test_the_numbers_are_tables_too(whole: Path) -> None:
    runs = pd.read_csv(whole / "runs.csv")
    summary = pd.read_csv(whole / "summary.csv").set_index(["variant", "partition", "metric"])
    spatial = runs.query("variant == 'spatial' and partition == 'dir01'")["accuracy"]
    assert len(spatial) == 3
    assert summary.loc[("spatial", "dir01", "accuracy"), "mean"] == pytest.approx(spatial.mean())
    differences = pd.read_csv(whole / "differences.csv")
    plain = runs.query("variant == 'plain' and partition == 'dir01'")["accuracy"]
    row = differences.query("variant == 'spatial' and partition == 'dir01' and metric == 'accuracy'").iloc[0]
    assert row["mean"] == pytest.approx(spatial.mean() - plain.mean())
    assert (pd.read_csv(whole / "claims.csv").groupby("claim")["verdict"].nunique() == 1).all()


def test_with_three_seeds_the_smallest_possible_p_is_shown(whole: Path) -> None:
    assert "cannot give less than p = 0.25" in (whole / "report.md").read_text()


def test_verdicts_are_printed_at_the_end(whole: Path) -> None:
    told = (whole.parent / "told.txt").read_text()
    assert "claim 3 supported: Spatial attention is unstable" in told
    assert f"report: {whole / 'report.html'}" in told


def test_claims_come_from_the_option_or_the_study_and_without_claims_there_are_no_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(tmp_path / "study", CELLS, seeds=(0, 1), rounds=6)
    assert "claims" not in said(folder)
    assert "claim 1" not in capsys.readouterr().out
    part = {"metric": "loss", "is": "higher", "compare": {"spatial": 1, "baseline": -1}, "margin": 0.01}
    claims = {"title": "A question", "claims": [{"claim": "It costs.", "parts": [part]}]}
    record = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(record | {"claims": claims}))
    assert "## A question\n" in said(folder)
    assert re.search(r"claim 1 \w+: It costs\.", capsys.readouterr().out)
    assert "## The paper's claims\n" in said(folder, *CLAIMS)
    (folder / "study.json").write_text(json.dumps(record | {"claims": {"claims": 3}}))
    assert fedlit(["report", str(folder)]) == 2
    assert "study.json: claims: claims must be a list, got 3" in capsys.readouterr().err
    assert fedlit(["report", str(folder), "--claims", "none.yaml"]) == 2
    assert "none.yaml: cannot be read" in capsys.readouterr().err


def test_a_half_finished_study_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}, rounds=8)
    scalars(0.8, 0, rounds=3).to_csv(tmp_path / "spatial_iid/seed_1/metrics.csv", index=False)
    (tmp_path / "spatial_iid/seed_2/metrics.csv").unlink()
    text = said(tmp_path)
    assert "2 of 6 runs have not reached round 8: 1 started, 1 did not" in text
    assert "| spatial | iid | 1 | 3 |" in text
    assert "(1 of 3)" in text  # the one spatial run that is finished
    assert "missing: 2 runs have not reached round 8" in capsys.readouterr().out


def test_a_single_seed_has_neither_intervals_nor_verdicts(tmp_path: Path) -> None:
    text = said(write_study(tmp_path, CELLS, seeds=(0,), rounds=6), *CLAIMS)
    assert "**One seed**: chance cannot be measured" in text
    assert "\u00b1 0" not in text
    assert "so differences cannot be tested" in text
    assert set(pd.read_csv(tmp_path / "report/claims.csv")["verdict"]) == {"undecided"}


def test_without_a_plain_model_there_are_results_but_no_differences(tmp_path: Path) -> None:
    cells = {("channel", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}
    write_study(tmp_path, cells, rounds=6)
    text = said(tmp_path)
    assert "**No finished run of `plain`**" in text
    assert "## Results" in text
    assert "## Differences" not in text
    assert "## Differences to channel" in said(tmp_path, "--baseline", "channel")


def test_a_target_that_no_run_reaches_is_shown_as_not_reached(tmp_path: Path) -> None:
    text = said(write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, rounds=6), "--target", "0.99")
    assert "not reached" in text
    assert "target 0.990" in text


def test_runs_with_nothing_but_accuracy_are_reported(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / f"default/version_{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("round,global/accuracy\n1,0.1\n")
    text = said(tmp_path)
    assert "1 variant, 1 partition, 2 seeds; 2 runs compared at round 1" in text
    assert "0.100" in text


def test_a_report_is_written_to_the_given_folder(tmp_path: Path) -> None:
    write_study(tmp_path / "s", {("plain", "iid"): (0.8, 0.0)}, rounds=3)
    assert main([str(tmp_path / "s"), "--out", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here/report.html").is_file()
    assert not (tmp_path / "s/report").exists()


def test_a_folder_without_runs_is_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedlit(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedlit: error: there is no NAME/seed_K/metrics.csv under")
    assert error.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("logs --target 2", "must be a number in (0, 1], got 2"),
        ("logs --target x", "must be a number in (0, 1], got x"),
        ("logs --rounds 0", "must be at least 1, got 0"),
        ("", "required: FOLDER"),
    ],
)
def test_a_mistake_is_one_line(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedlit(["report", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert line.endswith("; fedlit report --help explains the arguments")


def test_it_is_a_module_and_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("fedlit.report", run_name="__main__")
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "usage: fedlit report" in told
    assert "report.html" in told


def test_runs_without_tables_of_clients_and_classes_are_counted(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, seeds=(0, 1), rounds=6)
    text = said(tmp_path)
    assert "**Accuracy by client** is known for 0 of 2 compared runs" in text
    assert "client p10, in fits" in text
    assert "mean client |" not in text
    write_outcome(tmp_path / "plain_iid/seed_0", (0.2, 0.6), rounds=6)
    write_outcome(tmp_path / "plain_iid/seed_1", (0.4, 0.8), rounds=6)
    text = said(tmp_path)
    assert "is known for" not in text
    assert "| mean client | std of clients | client p10 | worst decile |" in text
    assert "![Accuracy over clients](clients.png)" in text
    assert "![Accuracy by class](classes.png)" in text


def test_all_tables_except_that_of_times_have_the_same_bytes(tmp_path: Path) -> None:
    tables = []
    for slow in (1, 3):
        folder = write_study(tmp_path / str(slow), CELLS, seeds=(0, 1), rounds=6)
        for path in folder.glob("*/*/metrics.csv"):
            table = pd.read_csv(path)
            table["round/seconds"] *= slow
            table.to_csv(path, index=False)
        assert main([str(folder)]) == 0
        tables.append({path.name: path.read_bytes() for path in (folder / "report").glob("*.csv")})
    assert {name for name, text in tables[0].items() if tables[1][name] != text} == {"seconds.csv"}


def write_mus(folder: Path, *runs: tuple[int, float]) -> Path:
    """Versions of a run, each with a seed and a mu."""
    for version, (seed, mu) in enumerate(runs):
        write_run(folder / f"plain/version_{version}", scalars(0.8, 0, rounds=5, seed=seed), None, 5, seed)
        config = folder / f"plain/version_{version}/config.yaml"
        config.write_text(f"{config.read_text()}model: {{mu: {mu}}}\n")
    return folder


def test_seeds_with_different_settings_are_named(tmp_path: Path) -> None:
    text = said(write_mus(tmp_path / "unlike", (0, 0.0), (1, 0.1)))
    assert "- plain at all, compared with seed 0: model.mu: 0.0 -> 0.1 at seed 1" in text
    alike = write_mus(tmp_path / "alike", (0, 0.1), (1, 0.1))
    for seed in (0, 1):
        config = alike / f"plain/version_{seed}/config.yaml"
        config.write_text(config.read_text().replace("init_args: {", f"init_args: {{seed: {seed}, "))
    assert "different settings" not in said(alike)


def test_a_run_that_is_left_out_for_a_newer_one_is_named(tmp_path: Path) -> None:
    text = said(write_mus(tmp_path, (3, 0.0), (3, 0.1)))
    assert (
        "as another run has the same name and the same `seed_everything` in its config: 1 run, `plain/version_0`."
        in text
    )


def test_runs_that_stopped_early_say_why_all_are_compared_there(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)})
    run = tmp_path / "spatial_iid/seed_1"
    pd.read_csv(run / "metrics.csv")[:7].to_csv(run / "metrics.csv", index=False)
    assert "stopped early" not in said(tmp_path)  # it was interrupted
    (run / "run.json").write_text('{"state": "finished", "rounds": 20}')
    assert "**1 run stopped early**, the first after round 7: spatial at iid, seed 1. All" in said(tmp_path)


@pytest.mark.parametrize(
    ("precision", "trained_in", "told"),
    [
        ("auto", {"plain": ["32-true"], "spatial": ["32-true"]}, ""),
        ("auto", {"plain": ["32-true"], "spatial": ["bf16-mixed"]}, "dir01, seed 0: 32-true plain; bf16-mixed spatial"),
        ("auto", {"plain": ["32-true"], "spatial": []}, ""),  # of an earlier version
        ("auto", {"plain": ["32-true", "16-mixed"]}, "plain at dir01, seed 0: trained in 32-true and in 16-mixed"),
        ("bf16-mixed", {"plain": ["32-true"], "spatial": ["bf16-mixed"]}, ""),  # set on purpose, by an axis
    ],
)
def test_a_precision_that_the_machine_chose_differently_is_told(
    precision: str, trained_in: dict[str, list[str]], told: str, tmp_path: Path
) -> None:
    write_study(tmp_path, {(variant, "dir01"): (0.8, 0.01) for variant in trained_in}, seeds=(0,))
    for variant, found in trained_in.items():
        run = tmp_path / f"{variant}_dir01/seed_0"
        (run / "origin.json").write_text(json.dumps([{"precision": each} for each in found]))
        (run / "config.yaml").write_text(f"trainer: {{max_epochs: 20, precision: {precision}}}\n")
    text = said(tmp_path)
    assert told in text
    assert ("trained in" in text) == bool(told)


def test_a_run_that_was_resumed_with_other_settings_is_named(tmp_path: Path) -> None:
    run = write_mus(tmp_path, (0, 0.1)) / "plain/version_0"
    before = (run / "config.yaml").read_text().replace("mu: 0.1", "mu: 0.01").replace("max_epochs: 5", "max_epochs: 3")
    (run / "config_until_round_3.yaml").write_text(before)
    assert "- plain at all, seed 0, after round 3: model.mu: 0.01 -> 0.1\n" in said(tmp_path)


@pytest.mark.parametrize("lost", ["nan", "inf"])
def test_a_loss_that_diverged_is_not_passed_over(lost: str, tmp_path: Path) -> None:
    cells = {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}
    path = write_study(tmp_path, cells, rounds=6) / "spatial_iid/seed_1/metrics.csv"
    path.write_text(pd.read_csv(path).assign(**{"global/loss": float(lost)}).to_csv(index=False, na_rep="nan"))
    text = said(tmp_path)
    assert "**1 run diverged**: the loss of spatial at iid, seed 1 is not finite" in text
    differences = pd.read_csv(tmp_path / "report/differences.csv").set_index("metric")
    assert (differences["mean"]["loss"], differences["n"]["loss"]) == (float("inf"), 3)
    assert differences["p_t"].isna()["loss"]


def test_a_baseline_that_is_no_variant_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, rounds=3)
    assert fedlit(["report", str(tmp_path), "--baseline", "plian"]) == 2
    assert "--baseline: there is no variant plian; use one of plain" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("name", ["runs.csv", "report.md", "report.html", "accuracy.png", "claims.csv"])
def test_files_of_the_users_are_not_written_over(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path / "s", {("plain", "iid"): (0.8, 0.0)}, rounds=3)
    mine = tmp_path / "mine" / name
    mine.parent.mkdir()
    content = "<p>What I think of fedlit's report</p>"
    mine.write_text(content)
    assert fedlit(["report", str(tmp_path / "s"), "--out", str(mine.parent)]) == 2
    assert f"{mine} exists and does not belong to an earlier report; move it" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in mine.parent.iterdir()] == [(name, content)]


def test_a_report_replaces_one_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, rounds=3)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedlit.report.command._differences", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main([str(tmp_path)])
    assert (tmp_path / "report/runs.csv").is_file()
    assert said(tmp_path)


def test_variants_may_have_other_numbers_of_clients(tmp_path: Path) -> None:
    for name, clients in (("plain", 2), ("spatial", 4)):
        write_run(tmp_path / name / "seed_0", scalars(0.8, 0), None)
        write_outcome(tmp_path / name / "seed_0", [0.1 * k for k in range(clients)])
    assert "Every client" in said(tmp_path)


def test_a_report_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, rounds=3)
    before = said(tmp_path)
    scalars(0.5, 0, rounds=3).to_csv(tmp_path / "plain_iid/seed_0/metrics.csv", index=False)
    assert said(tmp_path) != before


def test_a_margin_that_refers_to_a_variant_without_runs_is_named(tmp_path: Path) -> None:
    write_study(tmp_path / "s", CELLS, rounds=3)
    part = {"metric": "loss", "is": "higher", "compare": {"spatial": 1, "baseline": -1}}
    claim = {"claim": "X.", "parts": [part | {"margin": {"share": 0.1, "of": "plian"}}]}
    (tmp_path / "c.yaml").write_text(json.dumps({"claims": [claim]}))
    text = said(tmp_path / "s", "--claims", str(tmp_path / "c.yaml"))
    assert "A margin is a share of the mean of plian, which has no finished run." in text


@pytest.mark.parametrize("column", ["mine/score", "accuracy"])
def test_a_column_of_the_users_can_be_claimed_on(column: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}, rounds=4)
    for i, path in enumerate(sorted(folder.glob("*/seed_*/metrics.csv"))):
        table = pd.read_csv(path).assign(**{column: float(i // 3)})  # 0 of plain, 1 of spatial
        table.loc[3, column] = math.nan  # in a round without it the last one counts
        table.to_csv(path, index=False)
    part = {"metric": {"column": column}, "is": "higher", "compare": {"spatial": 1, "baseline": -1}, "margin": 0.1}
    (tmp_path / "c.yaml").write_text(json.dumps({"claims": [{"claim": "X.", "parts": [part]}]}))
    assert main([str(folder), "--claims", str(tmp_path / "c.yaml")]) == 0
    judged = pd.read_csv(folder / "report/claims.csv")
    assert judged[["metric", "finding", "mean", "n"]].values.tolist() == [[f"column {column}", "for", 1.0, 3]]


@pytest.mark.parametrize("lost", ["nan", "inf"])
def test_a_column_that_is_no_number_at_the_end_of_a_run_is_not_replaced_by_an_earlier_value(
    lost: str, tmp_path: Path
) -> None:
    folder = write_study(tmp_path / "s", {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}, rounds=4)
    for i, path in enumerate(sorted(folder.glob("*/seed_*/metrics.csv"))):
        table = pd.read_csv(path).assign(mine=float(i // 3))  # 0 of plain, 1 of spatial
        table.loc[2:, "mine"] = float(lost) if "spatial_iid/seed_1" in str(path) else table["mine"]
        path.write_text(table.to_csv(index=False, na_rep="nan"))
    part = {"metric": {"column": "mine"}, "is": "higher", "compare": {"spatial": 1, "baseline": -1}, "margin": 0.1}
    (tmp_path / "c.yaml").write_text(json.dumps({"claims": [{"claim": "X.", "parts": [part]}]}))
    text = said(folder, "--claims", str(tmp_path / "c.yaml"))
    judged = pd.read_csv(folder / "report/claims.csv")
    assert judged[["finding", "mean", "n"]].values.tolist() == [["open", math.inf, 3]]
    assert "**The last value of `mine` is not a finite number** in 1 run: spatial at iid, seed 1." in text


def test_a_column_that_no_run_has_is_told(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}, rounds=4)
    part = {"metric": {"column": "mine"}, "is": "higher", "compare": {"spatial": 1, "baseline": -1}, "margin": 0.1}
    (tmp_path / "c.yaml").write_text(json.dumps({"claims": [{"claim": "X.", "parts": [part]}]}))
    text = said(folder, "--claims", str(tmp_path / "c.yaml"))
    assert "The runs have no mine, which needs this column in metrics.csv" in text


def test_code_that_was_changed_between_runs_is_told(tmp_path: Path) -> None:
    cells = {("plain", "iid"): (0.8, 0.0), ("spatial", "iid"): (0.8, 0.0)}
    folder = write_study(tmp_path, cells, rounds=3)
    for code in ("nets 11aa", "nets 22bb, blocks 33cc"):
        for run in folder.glob(f"{'plain' if '11' in code else 'spatial'}_iid/seed_*"):
            (run / "origin.json").write_text(json.dumps([{"torch": "2.14", "own code": code}]))
    text = said(folder)
    assert (
        "- `nets`: 11aa in 3 runs, first plain at iid, seed 0; 22bb in 3 runs, first spatial at iid, seed 0\n" in text
    )
    assert "`blocks`" not in text  # all runs that used it had the same


def test_runs_that_a_study_does_not_plan_are_told(tmp_path: Path) -> None:
    folder = write_study(tmp_path, {("plain", "iid"): (0.8, 0.0)}, rounds=3)
    write_run(folder / "extra/seed_0", scalars(0.8, 0, rounds=3), None, 3)
    assert "as the study does not plan them: 1 run, `extra/seed_0`." in said(folder)


def test_from_python_paths_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(Path("s"), {("plain", "iid"): (0.8, 0.0)}, rounds=3)
    assert report("s", out="here", claims=CLAIMS[1]).study.variants == ("plain",)
    assert Path("here/report.html").is_file()
