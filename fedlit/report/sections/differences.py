"""The section on differences between variants and the baseline, in every tested metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedlit.report.analysis import Analysis
from fedlit.report.document import Element, Table, Text
from fedlit.report.intervals import LEAST_SEEDS, LEVEL, smallest_p
from fedlit.report.numbers import count, effect_in_words, number, p_value
from fedlit.report.statistics import Comparison


def differences(found: Analysis) -> Iterable[Element]:
    """The chart, a paragraph about the power of the tests, and a table for each metric."""
    if not found.comparisons:
        return
    if not any(c.difference.n > 1 for c in found.comparisons):
        yield Text("No variant has two seeds in common with the baseline, so differences cannot be tested.")
        return
    yield from (chart for chart in found.charts if chart.name == "differences")
    pairs = [c for c in found.comparisons if c.difference.n >= LEAST_SEEDS]
    if not pairs:
        yield Text(f"With fewer than {LEAST_SEEDS} common seeds there are no intervals and no tests.")
        return
    yield Text(_power(pairs))
    by_metric: dict[str, list[Comparison]] = {}
    for c in pairs:
        by_metric.setdefault(c.metric.key, []).append(c)
    for chosen in by_metric.values():
        yield _table(found.study.within, chosen)


def _table(within: str, chosen: Sequence[Comparison]) -> Table:
    """All differences in a metric."""
    metric = chosen[0].metric
    notes = {
        "p": "paired t-test, two-sided, corrected by Holm within the metric; bold if at most 0.05",
        "detectable": "the true difference that a test with these seeds would find 4 times in 5, without correction",
        "n": "seeds in common",
    }
    rows = [
        (
            c.partition,
            c.variant,
            *effect_in_words(metric, c.difference.interval),
            str(c.difference.n),
            f"**{p_value(c.corrected_p)}**" if c.decided else p_value(c.corrected_p),
            number(metric, c.difference.detectable),
        )
        for c in chosen
    ]
    decided = sum(c.decided for c in chosen)
    title = f"{metric.title}: {decided} of {count(len(chosen), 'difference')} beyond chance"
    columns = (within, "variant", "mean", f"{LEVEL:.0%} interval", "n", "p", "detectable")
    return Table(columns, {"": rows}, words=2, folded=title, notes=notes)


def _power(pairs: Sequence[Comparison]) -> str:
    """A paragraph about the effects that this number of seeds can show."""
    n = max(c.difference.n for c in pairs)
    family = max(sum(c.metric.key == key for c in pairs) for key in {c.metric.key for c in pairs})
    floor = smallest_p(n)
    text = (
        f"A pair is two runs of one seed, with the same data, initial weights and cohorts. With {n} pairs, a test "
        f"without assumptions about their distribution cannot give less than p = {floor:.3g}"
    )
    if floor > 1 - LEVEL:
        text += ", however large the difference, so it could not confirm anything here"
    elif floor * family > 1 - LEVEL:
        corrected = min(1.0, floor * family)
        text += f", or {corrected:.3g} when corrected for {family} comparisons, so it could not confirm anything here"
    return (
        f"{text}. The p values here are those of the t-test, which can be lower, but assumes normal differences, which "
        f"{n} of them cannot confirm. They are corrected by Holm for the {family} comparisons of each metric, not "
        "across metrics, which are related. A large p does not prove that there is no difference: see the column "
        "detectable."
    )
