"""The setting that a study has chosen, if it searches for one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fedlit.report.collect import Study
from fedlit.report.document import Element, Table, Text
from fedlit.report.numbers import count
from fedlit.study.select import SELECT_ROUNDS, order, score


def ranking(study: Study) -> list[tuple[str, str, list[float]]]:
    """Variant, partition and the score at each seed, best mean first, for combinations with runs at all seeds."""
    scores: dict[tuple[str, str], list[float]] = {}
    for run in sorted(study.finished, key=lambda run: run.seed):
        table = run.table[run.table["round"] <= study.horizon].sort_values("round")
        values = table[study.select].dropna().tolist() if study.select in table else []
        scores.setdefault((run.variant, run.partition), []).append(score(values))
    whole = [(v, p, s) for (v, p), s in scores.items() if len(s) == len(study.seeds) and np.isfinite(s).all()]
    return sorted(whole, key=lambda row: order(study.select) * float(np.mean(row[2])))


def choice(study: Study) -> Iterable[Element]:
    """The best setting and the ranking of all; nothing for a study that does not select by a metric."""
    if not study.select:
        return
    ranked = ranking(study)
    by = f"`{study.select}`, mean of the last {SELECT_ROUNDS} rounds and over seeds"
    if not ranked:
        yield Text(f"None yet: no combination has finished all its seeds with {by}.")
        return
    single = len({partition for _, partition, _ in ranked}) == 1
    names = [variant if single else f"{variant}, {partition}" for variant, partition, _ in ranked]
    means = [float(np.mean(scores)) for *_, scores in ranked]
    data = (
        "the examples of validation clients, which never train; the test set was not used"
        if study.validated
        else "the test set, so the accuracy of the chosen setting is biased upwards"
    )
    final = "" if not study.gaps else f" {count(len(study.gaps), 'run')} still missing, so this may change."
    yield Text(f"**{names[0]}** is best by {by}: {means[0]:.4f}. Measured on {data}.{final}")
    rows = [
        (name, *(f"{s:.4f}" for s in scores), f"{mean:.4f}", f"{mean - means[0]:+.4f}")
        for name, mean, (*_, scores) in zip(names, means, ranked, strict=True)
    ]
    yield Table(("combination", *(f"seed {seed}" for seed in study.seeds), "mean", "minus the best"), {"": rows})
