"""The section with the setting that a study has chosen, if it searches for one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fedlit.report.collect import Study
from fedlit.report.document import Element, Table, Text
from fedlit.report.numbers import count, fixed
from fedlit.report.select import SELECT_ROUNDS, best_first, mean, metric_of, scores_of


def ranking(study: Study) -> list[tuple[str, str, list[float]]]:
    """Variant, partition and the score at each seed, best mean first, for combinations with runs at all seeds.

    Combinations that diverged at any seed, whose score is not finite, come last.
    """
    by_seed = sorted(study.finished, key=lambda run: run.seed)
    runs = (((run.variant, run.partition), run.folder) for run in by_seed)
    scores = scores_of(runs, metric_of(study.select), study.horizon)
    whole = {cell: found for cell, found in scores.items() if len(found) == len(study.seeds)}
    return [(*cell, whole[cell]) for cell in best_first(study.select, whole)]


def choice(study: Study) -> Iterable[Element]:
    """The best setting and the ranking of all; nothing for a study that does not select by a metric."""
    if not study.select:
        return
    ranked = ranking(study)
    by = f"`{study.select}`, mean of the last {SELECT_ROUNDS} rounds and over seeds"
    if not ranked or not np.isfinite(mean(ranked[0][2])):
        yield Text(f"None yet: no combination has finished all its seeds with {by}.")
        return
    single = len({partition for _, partition, _ in ranked}) == 1
    names = [variant if single else f"{variant}, {partition}" for variant, partition, _ in ranked]
    means = [mean(scores) for *_, scores in ranked]
    data = (
        "the examples of validation clients, which never train; the test set was not used"
        if study.validated
        else "the test set, so the accuracy of the chosen setting is biased upwards"
    )
    final = "" if not study.gaps else f" {count(len(study.gaps), 'run')} still missing, so this may change."
    yield Text(f"**{names[0]}** is best by {by}: {means[0]:.4f}. Measured on {data}.{final}")
    rows = [
        (name, *(fixed(s, 4) for s in scores), fixed(of_all, 4), fixed(of_all - means[0], 4, "+"))
        for name, of_all, (*_, scores) in zip(names, means, ranked, strict=True)
    ]
    yield Table(("combination", *(f"seed {seed}" for seed in study.seeds), "mean", "minus the best"), {"": rows})
