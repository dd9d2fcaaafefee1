"""The table of verdicts by choice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from choices import main, to_markdown

PLACE = "spatial - plain, dir005"


def part(
    choice: str, claim: int, verdict: str, metric: str, finding: str, mean: float, n: float = 5
) -> dict[str, object]:
    interval = {"low": mean - 0.01, "high": mean + 0.01}
    what = {"contrast": PLACE, "metric": metric, "claimed": "lower", "finding": finding}
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
    assert lines[-2:] == ["| mu0 | undecided |", "| lr003 | contradicted |"]


def test_a_folder_without_studies_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"no table: no studies in {tmp_path}; make them with fedlit study --logs_dir {tmp_path}\n"
    )
