"""Turn a study's runs into tables, curves, statistical tests and verdicts.

Reads every run in a folder, finished or not, and writes to FOLDER/report: report.html, a page that needs no other file;
report.md and its pictures; and the numbers as CSV. Runs are paired by their seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from fedlit.command.parser import PlainParser
from fedlit.core.bundled import find
from fedlit.core.errors import InputError
from fedlit.core.tables import escape_cell
from fedlit.core.terminal import Terminal
from fedlit.report.analysis import Analysis, analyse
from fedlit.report.claims import read_claims
from fedlit.report.collect import collect
from fedlit.report.content import document
from fedlit.report.judge import Judgement
from fedlit.report.markdown import to_markdown
from fedlit.report.metrics import METRICS
from fedlit.report.outlook import MOST_SEEDS
from fedlit.report.page import to_html
from fedlit.report.pictures import together
from fedlit.report.proposal import propose
from fedlit.report.statistics import Comparison
from fedlit.runs.folder import usable

#: The page, and the text in it by which an earlier report is recognised.
PAGE, PAGE_MARK = "report.html", b'<meta name="generator" content="fedlit report">'
TABLES = ("runs.csv", "seconds.csv", "summary.csv", "differences.csv", "claims.csv", "missing.csv")


def report(
    folder: str | Path,
    out: str | Path | None = None,
    target: float | None = None,
    baseline: str | None = None,
    rounds: int | None = None,
    claims: str | Path | None = None,
) -> Analysis:
    """Read a folder of runs and write its report.

    Args:
        folder: The study's folder.
        out: The folder of the report, FOLDER/report by default.
        target: The target accuracy of ``to_target``; None is 0.9 of the baseline's best final accuracy at each
            partition.
        baseline: The variant with which others are compared; None takes that of the study, by default plain.
        rounds: Compare at this round; None is the last round of the study.
        claims: A file of claims to test on the runs; None takes those of the study, if it has any.

    Raises:
        InputError: If there are no runs to report on.
    """
    asked, folder = read_claims(Path(claims)) if claims else None, Path(folder)
    out = Path(out or folder / "report")
    study = collect(folder, rounds)
    if baseline is not None and baseline not in study.variants:
        raise InputError(f"--baseline: there is no variant {baseline}; use one of {', '.join(study.variants)}")
    usable(out, "--out")
    found = analyse(study, target, baseline, asked or study.claims)
    write(found, out)
    return found


def write(found: Analysis, out: Path) -> None:
    """Write the page, the Markdown, the tables and the pictures.

    Raises:
        InputError: If a file with one of these names exists and does not belong to an earlier report.
    """
    _refuse_foreign(out, [PAGE, *TABLES, "report.md", *(f"{chart.name}.png" for chart in found.charts)])
    text = document(found)
    page = to_html(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / PAGE).write_text(page, encoding="utf-8")  # first: if this is interrupted, it marks a report's folder
    for chart in found.charts:
        together(chart, found.study.variants).savefig(out / f"{chart.name}.png")
    _tables(found, out)
    _save(_differences(found.comparisons), out / "differences.csv")
    _save(_judged(found.judged), out / "claims.csv")
    gaps = pd.DataFrame([asdict(gap) for gap in found.study.gaps], columns=["variant", "partition", "seed", "done"])
    _save(gaps, out / "missing.csv")
    (out / "report.md").write_text(to_markdown(text, out), encoding="utf-8")


def _refuse_foreign(out: Path, names: Sequence[str]) -> None:
    """Refuse to replace the user's files: only a folder with a page that fedlit wrote holds an earlier report."""
    with suppress(OSError):
        if PAGE_MARK in (out / PAGE).read_bytes():
            return
    if there := next((name for name in names if (out / name).exists()), None):
        raise InputError(
            f"{out / there} exists and does not belong to an earlier report; move it, or give another --out"
        )


def _tables(found: Analysis, out: Path) -> None:
    """Write ``runs.csv`` and ``summary.csv`` with reproducible numbers, ``seconds.csv`` with times."""
    measured, timed = (
        found.measured,
        [metric.key for metric in METRICS if metric.timed and metric.key in found.measured],
    )
    _save(measured.drop(columns=timed), out / "runs.csv")
    _save(measured[["variant", "partition", "seed", *timed]], out / "seconds.csv")
    _save(found.summary[~found.summary["metric"].isin(timed)], out / "summary.csv")


def _save(table: pd.DataFrame, path: Path) -> None:
    """Write a table; names that a spreadsheet would evaluate are quoted."""
    words = table.select_dtypes(exclude="number")
    table.assign(**{str(name): words[name].map(escape_cell) for name in words}).to_csv(path, index=False)


def _differences(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    rows = [
        {
            "metric": c.metric.key,
            "partition": c.partition,
            "variant": c.variant,
            **asdict(c.difference.interval),
            "p_t": c.difference.p,
            "p_t_holm": c.corrected_p,
            "detectable": c.difference.detectable,
        }
        for c in comparisons
    ]
    columns = ["metric", "partition", "variant", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=[*columns, "p_t", "p_t_holm", "detectable"])


def _judged(judged: Sequence[Judgement]) -> pd.DataFrame:
    rows = [
        {
            "claim": claim.number,
            "verdict": claim.verdict,
            "contrast": part.text,
            "metric": part.metric.key,
            "claimed": part.kind,
            "finding": part.finding,
            **asdict(part.difference.interval),
            "margin": part.margin,
            "p_t_holm": part.corrected_p,
        }
        for claim in judged
        for part in claim.parts
    ]
    undecided = [{"claim": claim.number, "verdict": claim.verdict} for claim in judged if not claim.parts]
    columns = ["claim", "verdict", "contrast", "metric", "claimed", "finding", "mean", "low", "high", "n"]
    table = pd.DataFrame([*rows, *undecided], columns=[*columns, "margin", "p_t_holm"])
    return table.sort_values("claim", kind="stable")


# --- command line -----------------------------------------------------------------------------------------------------


def main(words: Sequence[str]) -> int:
    """Write a report and print its verdicts.

    Returns:
        0.

    Raises:
        InputError: If an option is wrong, or there are no runs to report on.
    """
    options = parser().parse_args(words)
    out = options.out or options.folder / "report"
    found = report(options.folder, out, options.target, options.baseline, options.rounds, options.claims)
    planned = list(propose(found, out, options.plan)) if options.plan else []
    console = Terminal()
    for claim in found.judged:
        console.print(f"claim {claim.number} {claim.verdict}: {claim.text}")
    for line in planned:
        console.print(line)
    if found.study.gaps:
        console.print(f"missing: {len(found.study.gaps)} runs have not reached round {found.study.horizon}")
    console.print(f"report: {out / 'report.html'}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    options = PlainParser(prog="fedlit report", description=__doc__)
    options.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder with runs in NAME/seed_K or NAME/version_N"
    )
    options.add_argument("--out", type=Path, help="folder of the report (default: FOLDER/report)")
    options.add_argument(
        "--target",
        type=_share,
        help="target accuracy, in (0, 1], of the metric rounds to target (default: 0.9 of the baseline's best "
        "final one)",
    )
    options.add_argument(
        "--baseline", help="the variant with which others are compared (default: that of the study, else plain)"
    )
    options.add_argument(
        "--claims",
        type=find,
        help="YAML file of claims to judge, like configs/claims.yaml (default: that of the study file)",
    )
    options.add_argument(
        "--plan",
        type=_seeds,
        nargs="?",
        const=MOST_SEEDS,
        metavar="SEEDS",
        help="print how many seeds would decide each open claim, and write a study file that adds seeds until they are "
        f"decided, at most this many (default: {MOST_SEEDS})",
    )
    options.add_argument("--rounds", type=_count, help="compare at this round (default: the last round of the study)")
    return options


def _seeds(word: str) -> int:
    if _count(word) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {word}")
    return int(word)


def _share(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in (0, 1], got {word}")
    return number


def _count(word: str) -> int:
    number = int(word) if word.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {word}")
    return number
