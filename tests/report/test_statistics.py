"""Metrics of a run and statistics over seeds, compared with hand-computed values and scipy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import made_up, study_of

from fedlit.report.intervals import LEAST_SEEDS, bounded_interval, difference, holm, smallest_p, t_interval
from fedlit.report.statistics import against, compare, contrast, fairness, measure, stability, summarise, targets


def test_steady_progress_has_a_spread_but_no_wobble() -> None:
    steady = stability(np.linspace(0.1, 0.9, 9))  # steps of 0.1
    assert steady["wobble"] == pytest.approx(0, abs=1e-12)
    assert steady["std"] == pytest.approx(0.1 * math.sqrt(60 / 8))  # sum of squares of -4 ... 4 is 60
    assert steady["change"] == pytest.approx(0.1)
    assert steady["largest_drop"] == 0


def test_a_zigzag_wobbles() -> None:
    zigzag = stability(np.array([0.0, 1.0, 0.0, 1.0]))
    # Its straight line: slope 0.2, residuals -0.2, 0.6, -0.6, 0.2, of which the squares sum to 0.8.
    assert zigzag["wobble"] == pytest.approx(math.sqrt(0.8 / 2))
    assert (zigzag["largest_drop"], zigzag["change"]) == (1, 1)


def test_wobble_and_std_are_of_the_last_ten_rounds_and_the_largest_drop_of_all() -> None:
    found = stability(np.array([0.9, 0.1, *[0.5] * 10]))
    assert (found["wobble"], found["std"]) == (0, 0)
    assert found["largest_drop"] == pytest.approx(0.8)


def test_a_single_round_says_nothing_of_stability() -> None:
    assert all(math.isnan(value) for value in stability(np.array([0.5])).values())


def test_a_run_is_measured_at_its_end_and_its_best() -> None:
    table = pd.DataFrame(
        {
            "round": [1, 2, 3],
            "global/accuracy": [0.2, 0.8, 0.6],
            "global/loss": [3.0, 2.0, 1.0],
            "round/seconds": [9.0, 2.0, 1.0],
            "round/clients": [10.0] * 3,
            "round/megabytes_down": [40.0] * 3,
            "round/megabytes_up": [20.0] * 3,
        }
    )
    found = measure(table, target=0.6)
    assert (found["accuracy"], found["best_accuracy"], found["loss"]) == (0.6, 0.8, 1.0)
    assert found["to_target"] == 2
    assert found["seconds"] == 2  # a slow first round does not count
    assert found["megabytes"] == 180
    assert found["values"] == 500_000  # 20 MB from 10 clients, 4 bytes each
    assert "f1_macro" not in found
    assert measure(table, target=0.9)["to_target"] == math.inf


def test_intervals_are_students_t_intervals() -> None:
    values = [0.71, 0.74, 0.78, 0.72]
    found = t_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.half == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("most", [1.0, math.inf])
def test_an_interval_of_a_bounded_metric_stays_within_its_bounds(most: float) -> None:
    values = [0.0, 0.02, 0.01, 0.15, 0.03]
    plain, found = t_interval(values), bounded_interval(values, most)
    assert plain.low < 0 <= found.low < found.mean < found.high
    # Its ends are t standard errors from the mean, at the scatter that such a mean would have.
    for end in (found.low, found.high):
        scatter = end * (1 - end / most) / (found.mean * (1 - found.mean / most))
        assert abs(end - found.mean) == pytest.approx(plain.half * math.sqrt(scatter))
    near_one = bounded_interval([1 - value for value in values], 1.0)
    assert near_one.high <= 1 < t_interval([1 - value for value in values]).high


def test_far_from_the_bounds_an_interval_agrees_with_students() -> None:
    values = [0.50, 0.51, 0.49, 0.505]
    plain, found = t_interval(values), bounded_interval(values, 1.0)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-4)


def test_bounded_intervals_cover_the_mean_as_often_as_students() -> None:
    rng = np.random.default_rng(0)
    draws = rng.beta(18, 2, (4000, 5))  # of mean 0.9
    held = [found.low <= 0.9 <= found.high for found in (bounded_interval(each, 1) for each in draws)]
    students = [found.low <= 0.9 <= found.high for found in map(t_interval, draws)]
    assert np.mean(held) >= 0.93
    assert np.mean(held) >= np.mean(students)


def test_equal_values_and_values_below_zero_have_students_interval() -> None:
    assert (bounded_interval([0.5] * 3, 1).low, bounded_interval([0.0] * 3, 1).high) == (0.5, 0)
    below = [-1.0, 0.5, 2.0]
    assert bounded_interval(below) == t_interval(below)


def test_below_three_seeds_there_is_neither_interval_nor_test() -> None:
    assert LEAST_SEEDS == 3
    assert math.isnan(bounded_interval([0.5, 0.6], 1).low)
    measured = made_up(seeds=2, channel={"accuracy": 0.05})
    found = [c for c in compare(measured, study_of(measured), "plain") if c.metric.key == "accuracy"]
    assert found[0].difference.mean == pytest.approx(0.05, abs=0.01)
    assert all(math.isnan(c.difference.interval.low) and not c.decided for c in found)
    assert not summarise(measured, study_of(measured))["best"].any()


def test_times_are_never_marked_as_best() -> None:
    measured = made_up(seeds=5)
    measured["seconds"] = np.where(measured["variant"] == "plain", 1.0, 2.0) + 0.01 * measured["seed"]
    best = summarise(measured, study_of(measured)).query("metric == 'seconds'")
    assert len(best) == 12
    assert not best["best"].any()


def test_one_seed_has_no_interval() -> None:
    found = t_interval([0.7])
    assert (found.mean, found.n) == (0.7, 1)
    assert math.isnan(found.low)
    assert math.isnan(difference([0.1]).p)


@pytest.mark.parametrize("pairs", [3, 5, 6, 9])
def test_p_values_agree_with_scipy(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    a, b = rng.normal(0.8, 0.02, pairs), rng.normal(0.79, 0.02, pairs)
    found = difference(a - b)
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


@pytest.mark.parametrize(("pairs", "least"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_without_normality_few_pairs_cannot_give_a_small_p(pairs: int, least: float) -> None:
    assert stats.wilcoxon(np.linspace(1, 1.1, pairs)).pvalue == least == smallest_p(pairs)


def test_equal_runs_do_not_differ() -> None:
    none = difference([0.0, 0.0, 0.0])
    assert (none.p, none.detectable) == (1, 0)


def test_what_is_detectable_is_found_four_times_in_five() -> None:
    pairs = np.random.default_rng(0).normal(0, 1, 8)
    noncentrality = difference(pairs).detectable / (pairs.std(ddof=1) / math.sqrt(8))
    power = stats.nct.sf(stats.t.ppf(0.975, 7), 7, noncentrality)
    assert power == pytest.approx(0.8, abs=0.03)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * 0.01, then 2 * 0.03, then no less
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm([0.02, math.nan]) == pytest.approx([0.02, math.nan], nan_ok=True)
    assert holm([]) == []


def test_pairs_are_runs_of_one_seed_and_incomplete_seeds_are_left_out() -> None:
    rows = [("a", "p", 0, 0.5), ("a", "p", 1, 0.7), ("a", "p", 2, 0.9), ("plain", "p", 2, 0.8), ("plain", "p", 0, 0.45)]
    measured = pd.DataFrame(rows, columns=["variant", "partition", "seed", "accuracy"])
    assert contrast(measured, "accuracy", against("a", "plain", "p")).tolist() == pytest.approx([0.05, 0.1])
    assert len(contrast(measured, "accuracy", against("a", "other", "p"))) == 0
    assert len(contrast(measured, "loss", against("a", "plain", "p"))) == 0


def test_comparisons_are_corrected_within_their_metric() -> None:
    measured = made_up(channel={"accuracy": 0.05}, noise=0.002)
    found = [c for c in compare(measured, study_of(measured), "plain") if c.metric.key == "accuracy"]
    assert len(found) == 9  # three variants at three partitions
    assert [c.corrected_p for c in found] == holm([c.difference.p for c in found])
    assert {c.variant for c in found if c.decided} == {"channel"}


def test_only_a_variant_significantly_better_than_every_other_is_best() -> None:
    measured = made_up(channel={"accuracy": 0.05}, noise=0.002)
    best = summarise(measured, study_of(measured)).query("best")
    assert set(zip(best["variant"], best["metric"], strict=True)) == {("channel", "accuracy")}
    even = made_up(channel={"accuracy": 0.05}, spatial={"accuracy": 0.05}, noise=0.002)
    assert not summarise(even, study_of(even))["best"].any()


@pytest.mark.parametrize(("gain", "best"), [(0.01, True), (-0.01, False)])
def test_the_best_is_better_at_the_seeds_that_it_shares(gain: float, best: bool) -> None:
    """Where it lacks the seeds with low accuracy, its mean is the highest even if it is worse at each seed."""
    measured = made_up(noise=1e-5, seeds=8, spatial={"accuracy": gain})
    measured["accuracy"] += 0.02 * measured["seed"]
    left = measured[measured["variant"].isin(["plain", "spatial"])]
    left = left[(left["variant"] == "plain") | (left["seed"] > 3)]
    summary = summarise(left, study_of(left)).query("metric == 'accuracy'")
    means = summary.groupby("variant")["mean"].mean()
    assert means["spatial"] > means["plain"]
    assert summary.query("variant == 'spatial'")["best"].tolist() == [best] * 3
    assert not summary.query("variant == 'plain'")["best"].any()


def test_the_target_is_nine_tenths_of_the_best_final_accuracy_of_the_plain_model() -> None:
    study = study_of(
        made_up(channel={"accuracy": 0.1}), finals={("plain", 0): 0.5, ("plain", 1): 0.6, ("channel", 0): 1}
    )
    assert targets(study, "plain")["dir01"] == pytest.approx(0.54)
    assert targets(study, "none")["dir01"] == pytest.approx(0.9)  # without the baseline the best of all
    assert targets(study, "plain", 0.7) == dict.fromkeys(study.partitions, 0.7)


def test_fairness_by_hand() -> None:
    clients = np.array([0.9, *[0.5] * 18, 0.1, 0.3, math.nan])  # 21 clients with data: the worst three are a tenth
    found = fairness(clients)
    assert found["client_mean"] == pytest.approx((0.9 + 18 * 0.5 + 0.4) / 21)
    assert found["client_std"] == pytest.approx(math.sqrt(np.mean((clients[:-1] - found["client_mean"]) ** 2)))
    assert found["client_p10"] == 0.5  # the third lowest of 21
    assert found["client_worst"] == pytest.approx((0.1 + 0.3 + 0.5) / 3)
    assert fairness(np.array([])) == fairness(np.array([math.nan])) == {}
