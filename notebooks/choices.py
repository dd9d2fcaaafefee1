"""Does the answer depend on our choices? The verdicts of small studies that differ in one choice each, side by side.

  for choice in configs/choices/*.yaml; do fedlit study --config $choice --logs_dir logs/choices; done
  python notebooks/choices.py

Each folder in logs/choices is a study of its own, with the claims that its file names. `fedlit report` is made of each,
and what it found of a part of a claim is put into one table, a row a choice: NAME.csv and NAME.md. The first row is
that of ``study_reference``, the choices as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedlit.core.errors import InputError
from fedlit.report.at_chance import at_chance
from fedlit.report.command import report
from fedlit.runs.folder import STUDY

#: Columns that say which part of which claim a row is of.
PART = ["claim", "contrast", "metric", "claimed"]
#: The study that makes no other choice.
REFERENCE = "reference"


def read(folder: Path) -> pd.DataFrame:
    """What is found of each part of the claims, by ``choice``, with the runs that learned nothing, ``unlearned``.

    Args:
        folder: Holds the studies.

    Raises:
        InputError: When there is none, or one has no runs or no claims.
    """
    studies = sorted(path.parent for path in folder.glob(f"*/{STUDY}"))
    if not studies:
        raise InputError(f"no studies in {folder}; make them with fedlit study --logs_dir {folder}")
    tables = []
    for study in studies:
        unlearned = ", ".join(f"{run.name}, seed {run.seed}" for run in at_chance(report(study).study))
        table = pd.read_csv(study / "report" / "claims.csv")
        tables.append(table.assign(choice=study.name.removeprefix("study_"), unlearned=unlearned))
    tables.sort(key=lambda table: not (table["choice"] == REFERENCE).all())
    return pd.concat(tables, ignore_index=True)


def to_markdown(found: pd.DataFrame) -> str:
    """A row a choice, a column a part of a claim, with the mean and the interval of its difference.

    Args:
        found: What `read` gives. Parts that no study has runs for are left out.
    """
    judged = found[found["n"].fillna(0) > 0]
    parts = [tuple(part) for part in judged[PART].drop_duplicates().itertuples(index=False)]
    lines = [
        "Mean difference (95 % interval, wider in a study that adds seeds), the finding for or against the part of the "
        "claim, and the seeds.",
        "",
        "| choice | " + " | ".join(f"{claim}: {metric} {kind}, {text}" for claim, text, metric, kind in parts) + " |",
        "| --- |" + " --- |" * len(parts),
    ]
    for choice, rows in judged.groupby("choice", sort=False):
        known = {tuple(row[key] for key in PART): _cell(row) for _, row in rows.iterrows()}
        lines.append(f"| {choice} | " + " | ".join(known.get(part, "") for part in parts) + " |")
    verdicts = found[["choice", "claim", "verdict", "unlearned"]].drop_duplicates()
    numbers = sorted({claim for claim, *_ in parts})
    lines += ["", "| choice | " + " | ".join(f"claim {number}" for number in numbers) + " | learned nothing |"]
    lines.append("| --- |" + " --- |" * (len(numbers) + 1))
    for choice, rows in verdicts.groupby("choice", sort=False):
        of = dict(zip(rows["claim"], rows["verdict"], strict=True))
        cells = [str(of.get(number, "")) for number in numbers]
        lines.append(f"| {choice} | " + " | ".join([*cells, rows["unlearned"].iloc[0]]) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: pd.Series) -> str:
    digits = 4 if row["metric"] == "wobble" else 3
    mean, low, high = (f"{row[key]:+.{digits}f}".replace("-", "\u2212") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high}), **{row['finding']}**, {row['n']:.0f}"


def main(words: Sequence[str] | None = None) -> int:
    """Write both tables.

    Returns:
        0 when they are written, 2 where there is nothing to write.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("logs/choices"), help="holds the studies")
    parser.add_argument("--out", type=Path, default=None, help="a file NAME.md (default: FOLDER/choices.md)")
    options = parser.parse_args(words)
    out = options.out or options.folder / "choices.md"
    try:
        found = read(options.folder)
    except InputError as error:
        sys.stderr.write(f"no table: {error}\n")
        return 2
    found.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6g")
    out.write_text(to_markdown(found), encoding="utf-8")
    sys.stdout.write(f"tables: {out}, {out.with_suffix('.csv')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
