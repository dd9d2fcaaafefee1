"""Writes the study file of a new study that would decide the open claims of a finished one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fedlit.core.errors import InputError
from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study
from fedlit.report.outlook import Open, fresh_looks, open_parts
from fedlit.report.record import cell_of

CLAIMS = "claims.yaml"


def propose(found: Analysis, out: Path, at_most: int) -> Iterator[str]:
    """Write a study file for the open parts, and describe what they would need.

    The seeds are new ones, as the seeds that raised a question must not answer it. Values of axes that no open part
    compares are left out.

    Args:
        found: The analysis of the finished study.
        out: The folder to which ``NAME_decide.yaml`` and the claims are written.
        at_most: The largest number of seeds.

    Raises:
        InputError: If there are no claims, if the study's file is unknown, or if one of the files exists with other
            content.
    """
    study = found.study
    if found.claims is None:
        raise InputError("--plan needs claims, but there are none; give a file of claims by --claims")
    looks = fresh_looks(at_most)
    undecided = list(open_parts(found.judged, looks, anew=True))
    if not undecided:
        yield "no part of a claim is open, so there is nothing to plan"
        return
    for each in undecided:
        needed = f"about {each.seeds}" if each.seeds else f"more than {at_most}"
        yield f"claim {each.claim}, {each.part.metric.title} {each.part.kind}, {each.part.text}: {needed} seeds"
    tree = _file_of(study)
    path = out / f"{study.folder.resolve().name}_decide.yaml"
    seeds = {"first": max(study.seeds) + 1, "at_least": looks.at[0], "at_most": at_most, "until": "decided"}
    kept = {
        "base": os.path.relpath(_base_of(study), out),
        **{key: tree[key] for key in ("rounds", "set", "within") if key in tree},
        "seeds": seeds,
        "claims": CLAIMS,
        "baseline": found.baseline,
        "axes": _needed(study, tree["axes"], undecided),
    }
    claims = yaml.safe_dump(found.claims.tree, sort_keys=False, allow_unicode=True)
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    files = {out / CLAIMS: claims, path: f"# The open claims of {study.folder}, at new seeds.\n{text}"}
    for file, content in files.items():
        if file.exists() and file.read_text(encoding="utf-8", errors="replace") != content:
            raise InputError(f"{file} exists with other content; move it, or give another --out")
    for file, content in files.items():
        file.write_text(content, encoding="utf-8")
    yield f"to decide them, run: fedlit study --config {path}"


def _file_of(study: Study) -> Mapping[str, Any]:
    tree = study.record.get("file")
    if not isinstance(tree, Mapping) or not isinstance(tree.get("axes"), Mapping):
        raise InputError(
            f"the record of {study.folder} does not have its study file, as it was written by an early version; run "
            "the study's command again, which keeps finished runs and adds the study file"
        )
    return tree


def _base_of(study: Study) -> Path:
    base = Path(str(study.record["base"]))
    if not base.is_file():
        raise InputError(
            f"the base config {base} does not exist; run the command from the folder in which the study was run"
        )
    return base.resolve()


def _needed(study: Study, axes: Mapping[str, Mapping[str, Any]], undecided: Iterable[Open]) -> dict[str, Any]:
    """The axes, with only those values that open parts compare."""
    cells = {cell for each in undecided for cell in each.part.contrast.cells}
    every = study.record["axes"]
    runs = [
        run["axes"] for run in study.record["runs"] if cell_of(run["name"], run["axes"], every, study.within) in cells
    ]
    return {
        axis: {name: change for name, change in values.items() if str(name) in {str(run[axis]) for run in runs}}
        for axis, values in axes.items()
    }
