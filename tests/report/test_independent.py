"""The numbers of a report, computed once more from the runs' tables, in another way and by scipy."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from studies import scalars, write_run

from fedlit.report.command import main

VARIANTS, PLACES, SEEDS = ("plain", "a", "b"), ("iid", "dir05"), range(6)
COLUMNS = {"accuracy": "global/accuracy", "loss": "global/loss"}
#: Two parts, one of them with a margin that is a share of the baseline's mean.
CLAIM = {
    "claim": "X.",
    "parts": [
        {"metric": "accuracy", "is": "higher", "compare": {"a": 1, "baseline": -1}, "at": "mean", "margin": 0},
        {"metric": "loss", "is": "lower", "compare": {"b": 1, "a": -1}, "at": "iid", "margin": {"share": 0.05}},
    ],
}


def write(folder: Path) -> None:
    """Runs by hand, a version for each seed, in an order of their own."""
    finals = {"plain": 0.8, "a": 0.801, "b": 0.81}
    for variant, place in itertools.product(VARIANTS, PLACES):
        for version, seed in enumerate(reversed(SEEDS)):
            number = 100 * VARIANTS.index(variant) + 10 * PLACES.index(place) + seed
            table = scalars(finals[variant], 0.01, seed=number, noise=0.003)
            alpha = None if place == "iid" else 0.5
            write_run(folder / f"{variant}_{place}" / f"version_{version}", table, alpha, seed=seed)


def at_end(run: Path, column: str, value: float) -> None:
    table = pd.read_csv(run / "metrics.csv")
    table.loc[table.index[-1], column] = value
    table.to_csv(run / "metrics.csv", index=False, na_rep="nan")


def everywhere(folder: Path, column: str, value: float) -> None:
    for run in folder.glob("*/version_*"):
        at_end(run, column, value)


# How the folder of runs differs from a complete one.
FOLDERS: dict[str, Callable[[Path], object]] = {
    "complete": lambda folder: None,
    "a seed is missing": lambda folder: (folder / "a_iid/version_2/metrics.csv").unlink(),
    "two seeds of one, one of another": lambda folder: [
        (folder / run / "metrics.csv").unlink() for run in ("a_iid/version_0", "a_iid/version_1", "plain_iid/version_5")
    ],
    "a seed twice": lambda folder: write_run(folder / "a_iid/version_9", scalars(0.5, 0, seed=9), None, seed=3),
    "constant": lambda folder: everywhere(folder, "global/loss", 0.25),
    "diverged": lambda folder: at_end(folder / "a_iid/version_2", "global/loss", math.nan),
    "infinite": lambda folder: at_end(folder / "plain_dir05/version_2", "global/loss", math.inf),
}


def ends(folder: Path) -> dict[tuple[str, str, str], dict[int, float]]:
    """The last value by metric, variant and place, by seed; a later version replaces an earlier one."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for run in sorted(folder.glob("*/version_*")):
        variant, place = run.parent.name.split("_")
        if not (run / "metrics.csv").exists():
            continue
        seed = yaml.safe_load((run / "config.yaml").read_text())["seed_everything"]
        for metric, column in COLUMNS.items():
            value = float(pd.read_csv(run / "metrics.csv")[column].iloc[-1])
            value = math.inf if metric == "loss" and math.isnan(value) else value
            found.setdefault((metric, variant, place), {})[seed] = value
    return found


def paired(first: dict[int, float], second: dict[int, float]) -> tuple[float, float, float, float, int]:
    """Mean, interval and p of the paired t-test, and the number of pairs."""
    seeds = sorted(first.keys() & second.keys())
    x, y = (np.array([each[seed] for seed in seeds]) for each in (first, second))
    with np.errstate(invalid="ignore"):
        d = x - y
    if not np.isfinite(d).all():
        return float(d.mean()), math.nan, math.nan, math.nan, len(d)
    if (d == 0).all():
        return 0.0, 0.0, 0.0, 1.0, len(d)
    result = stats.ttest_rel(x, y)
    interval = result.confidence_interval(0.95)
    return float(d.mean()), interval.low, interval.high, float(result.pvalue), len(d)


def stepped_down(ps: list[float]) -> list[float]:
    """Holm's correction as the closed test that it is: the largest Bonferroni p of all sets of hypotheses with it."""
    known = [i for i, p in enumerate(ps) if not math.isnan(p)]
    sets = [each for n in range(1, len(known) + 1) for each in itertools.combinations(known, n)]
    return [max((min(1.0, len(each) * min(ps[j] for j in each)) for each in sets if i in each), default=math.nan)
            for i in range(len(ps))]  # fmt: skip


@pytest.mark.parametrize("change", FOLDERS.values(), ids=list(FOLDERS))
def test_differences_and_claims_are_those_of_scipy(change: Callable[[Path], object], tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    write(folder)
    change(folder)
    (tmp_path / "claims.yaml").write_text(json.dumps({"claims": [CLAIM]}))
    assert main([str(folder), "--claims", str(tmp_path / "claims.yaml")]) == 0
    known = ends(folder)
    shown = pd.read_csv(folder / "report/differences.csv").set_index(["metric", "partition", "variant"])
    for metric in COLUMNS:
        cells = [(place, variant) for place in PLACES for variant in ("a", "b")]
        expected = [paired(known[metric, v, p], known[metric, "plain", p]) for p, v in cells]
        corrected = stepped_down([p for *_, p, _ in expected])
        for (place, variant), (mean, low, high, p, n), holm in zip(cells, expected, corrected, strict=True):
            row = shown.loc[(metric, place, variant)]
            values = [row["mean"], row["low"], row["high"], row["p_t"], row["n"], row["p_t_holm"]]
            assert values == pytest.approx([mean, low, high, p, n, holm], nan_ok=True, abs=1e-12)
    claimed = pd.read_csv(folder / "report/claims.csv")
    a, plain = ([known["accuracy", variant, place] for place in PLACES] for variant in ("a", "plain"))
    common = sorted(set.intersection(*map(set, (*a, *plain))))
    over_places = ({seed: (one[seed] + other[seed]) / 2 for seed in common} for one, other in (a, plain))
    parts = [paired(*over_places), paired(known["loss", "b", "iid"], known["loss", "a", "iid"])]
    holm = stepped_down([p for *_, p, _ in parts])
    margins = [0.0, 0.05 * np.mean([*known["loss", "plain", "iid"].values()])]
    assert claimed["mean"].tolist() == pytest.approx([mean for mean, *_ in parts], nan_ok=True)
    assert claimed["n"].tolist() == [n for *_, n in parts]
    assert claimed["p_t_holm"].tolist() == pytest.approx(holm, nan_ok=True, abs=1e-12)
    assert claimed["margin"].tolist() == pytest.approx(margins)
