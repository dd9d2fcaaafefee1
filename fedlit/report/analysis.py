"""All numbers of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedlit.report.charts import charts
from fedlit.report.claims import Claims
from fedlit.report.collect import Study
from fedlit.report.judge import Judgement, judge
from fedlit.report.panels import Chart
from fedlit.report.statistics import Comparison, compare, measure_all, summarise, targets


@dataclass(frozen=True)
class Analysis:
    """Everything that a report shows.

    Args:
        study: The runs.
        baseline: The variant with which others are compared.
        targets: The target accuracy of the metric ``to_target``, by partition.
        measured: The metrics, a row for each run.
        summary: A row for each variant, partition and metric.
        comparisons: The differences to the baseline.
        claims: The claims that are tested on the runs, or None.
        judged: The claims with their verdicts.
        charts: The charts, as numbers.
    """

    study: Study
    baseline: str
    targets: Mapping[str, float]
    measured: pd.DataFrame
    summary: pd.DataFrame
    comparisons: Sequence[Comparison]
    claims: Claims | None
    judged: Sequence[Judgement]
    charts: Sequence[Chart]


def analyse(
    study: Study, target: float | None = None, baseline: str | None = None, claims: Claims | None = None
) -> Analysis:
    """All numbers of a report.

    Args:
        study: The runs.
        target: The target accuracy of ``to_target``; None is 0.9 of the baseline's best final accuracy at each
            partition.
        baseline: The variant with which others are compared; None takes that of the study.
        claims: The claims to test, if any.
    """
    baseline = baseline or study.baseline
    aims = targets(study, baseline, target)
    measured = measure_all(study, aims, claims.columns if claims else ())
    comparisons = compare(measured, study, baseline)
    drawn = charts(study, measured, comparisons, baseline)
    judged = judge(measured, study, claims, baseline) if claims else []
    summary = summarise(measured, study)
    return Analysis(study, baseline, aims, measured, summary, comparisons, claims, judged, drawn)
