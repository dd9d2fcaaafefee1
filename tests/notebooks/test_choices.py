"""The table of verdicts by choice."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from choices import main, read, to_markdown
from studies import write_outcome, write_study

PLACE = "spatial - plain, dir005"


def part(
    choice: str, claim: int, verdict: str, metric: str, finding: str, mean: float, n: float = 5
) -> dict[str, object]:
    interval = {"low": mean - 0.01, "high": mean + 0.01}
    what = {"contrast": PLACE, "metric": metric, "claimed": "lower", "finding": finding}
    what["unlearned"] = "spatial_dir005, seed 4" if choice == "mu0" else ""
    return {"choice": choice, "claim": claim, "verdict": verdict, **what, "mean": mean, **interval, "n": n}


def test_a_row_is_a_choice_and_a_column_a_part_of_a_claim() -> None:
    found = pd.DataFrame(
        [
            part("mu0", 3, "undecided", "accuracy", "for", -0.05),
            part("mu0", 3, "undecided", "wobble", "open", 0.001),
            part("lr003", 3, "contradicted", "accuracy", "against", 0.05),
            part("lr003", 2, "undecided", "wobble", "open", float("nan"), n=0),
        ]
    )
    lines = to_markdown(found).splitlines()
    assert lines[2] == f"| choice | 3: accuracy lower, {PLACE} | 3: wobble lower, {PLACE} |"
    assert lines[4] == (
        "| mu0 | −0.050 (−0.060 to −0.040), **for**, 5 | +0.0010 (−0.0090 to +0.0110), **open**, 5 |"  # noqa: RUF001
    )
    assert lines[5] == "| lr003 | +0.050 (+0.040 to +0.060), **against**, 5 |  |"
    assert lines[-2:] == ["| mu0 | undecided | spatial_dir005, seed 4 |", "| lr003 | contradicted |  |"]


def test_studies_are_read_with_what_they_are_held_against_first(tmp_path: Path) -> None:
    """And a run whose model names one class alone is told."""
    cells = {(variant, partition): (0.8, 0.01) for variant in ("plain", "spatial") for partition in ("dir01", "iid")}
    part = {"metric": "accuracy", "is": "lower", "compare": {"spatial": 1, "plain": -1}, "margin": 0.01}
    claims = {"claims": [{"claim": "Spatial is worse.", "parts": [part]}]}
    for name in ("study_lr003", "study_reference"):
        study = write_study(tmp_path / name, cells)
        record = json.loads((study / "study.json").read_text())
        (study / "study.json").write_text(json.dumps(record | {"claims": claims}))
    dead = tmp_path / "study_lr003/spatial_iid/seed_2"
    write_outcome(dead, [0.5], [1.0, 0.0, 0.0])
    pd.read_csv(dead / "metrics.csv").assign(**{"global/accuracy": 1 / 3}).to_csv(dead / "metrics.csv", index=False)
    found = read(tmp_path)
    assert found[["choice", "unlearned"]].drop_duplicates().to_numpy().tolist() == [
        ["reference", ""],
        ["lr003", "spatial_iid, seed 2"],
    ]


def test_a_folder_without_studies_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"no table: no studies in {tmp_path}; make them with fedlit study --logs_dir {tmp_path}\n"
    )
