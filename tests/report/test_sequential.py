from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

from fedlit.report.claims import Expectation, Kind, Margin
from fedlit.report.judge import Contrast, Part, look_by_look
from fedlit.report.metrics import BY_KEY
from fedlit.report.sequential import Looks

MARGIN = 0.01
STUDIES = 1000
#: As a study of attention may have it: 5 seeds, then 5 more at a time.
USUAL = Looks.every(5, at_least=5, at_most=60)


def test_looks_are_at_the_batches_and_the_last_at_all_seeds() -> None:
    assert Looks.every(5, at_least=4, at_most=17).at == (4, 9, 14, 17)
    assert Looks.every(5, at_least=4, at_most=4).at == (4,)
    assert [USUAL.after(n) for n in (0, 5, 7, 59, 60)] == [5, 10, 10, 60, None]


def test_a_single_look_has_the_whole_level() -> None:
    assert Looks((12,)).levels(0.05) == pytest.approx((0.05,))


@pytest.mark.parametrize("at", [(5, 10), (2, 3, 20), (5, 10, 20, 40)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_all_looks_together_have_the_level_that_was_asked_for(at: Sequence[int], alpha: float) -> None:
    """Computed independently: 1 - P(no statistic is beyond its bound), where cor(Z_i, Z_j) = sqrt(n_i / n_j) for n_i <
    n_j."""
    n = np.array(at, dtype=float)
    correlation = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))
    levels = Looks(tuple(at)).levels(alpha)
    for looks in range(1, len(at) + 1):
        bounds = norm.isf(np.array(levels[:looks]) / 2)
        within = multivariate_normal(cov=correlation[:looks, :looks]).cdf(bounds, lower_limit=-bounds)
        assert 1 - within == pytest.approx(alpha * (n[looks - 1] / n[-1]) ** 2, abs=2e-5)


def part(kind: Kind, pairs: Sequence[float], looks: Looks, parts: int = 1) -> Part:
    """A part of a claim about accuracy, with these differences at the seeds 0, 1, ..."""
    contrast = Contrast(Expectation(BY_KEY["accuracy"], kind, {}, {}, Margin(MARGIN)), "a - b", {}, ())
    return look_by_look(contrast, pd.Series(pairs), lambda seeds: MARGIN, looks, parts)


def test_before_the_first_look_nothing_is_decided() -> None:
    found = part("higher", [0.1, 0.1001, 0.1002, 0.0999], USUAL)
    assert (found.finding, found.difference.n) == ("open", 4)
    assert np.isnan(found.corrected_p)


def test_a_seed_whose_run_lacks_the_metric_still_counts_for_the_looks() -> None:
    """It does not count for the difference; otherwise a study would wait for a pair that no seed gives."""
    found = part("higher", [0.1, 0.1001, float("nan"), 0.1002, 0.0999], USUAL)
    assert (found.finding, found.difference.n, found.seeds) == ("for", 4, 5)
    found = part("higher", [0.5, -0.5, float("nan"), 0.4, -0.4], USUAL)
    assert (found.finding, found.difference.n, USUAL.after(found.seeds)) == ("open", 4, 10)


def test_a_decision_of_a_look_is_kept_whatever_comes_later() -> None:
    settled = [0.1, 0.11, 0.12, 0.09, 0.1]
    found = part("higher", [*settled, *[-0.5] * 20], USUAL)
    assert (found.finding, found.difference.n) == ("for", 5)
    assert found.difference.mean == pytest.approx(np.mean(settled))


def test_seeds_between_two_looks_change_nothing() -> None:
    first = [0.1, -0.1, 0.3, -0.2, 0.0]
    assert part("higher", [*first, 9.0, 9.0], USUAL) == part("higher", first, USUAL)


def simulated(kind: Kind, effect: float, spread: float, looks: Looks, parts: int = 1) -> list[Part]:
    """Studies of normal differences with this mean and standard deviation."""
    draws = np.random.default_rng(0).normal(effect, spread, (STUDIES, looks.at[-1]))
    return [part(kind, row, looks, parts) for row in draws]


def share(parts: Sequence[Part], *findings: str) -> float:
    return sum(each.finding in findings for each in parts) / len(parts)


#: Three standard errors of a share of 5 % over the studies.
CHANCE = 3 * (0.05 * 0.95 / STUDIES) ** 0.5


@pytest.mark.parametrize("looks", [USUAL, Looks.every(1, at_least=3, at_most=30)], ids=["every 5", "every seed"])
def test_where_there_is_no_difference_few_studies_find_one(looks: Looks) -> None:
    """At most 5 %, with a spread so large that equality is not found before an effect could be."""
    found = simulated("unchanged", 0.0, 10 * MARGIN, looks)
    assert share(found, "against") <= 0.05 + CHANCE
    clear = [each.corrected_p <= 0.05 for each in simulated("higher", 0.0, 10 * MARGIN, looks)]
    assert np.mean(clear) <= 0.05 + CHANCE


def test_three_parts_of_a_claim_share_the_level() -> None:
    draws = np.random.default_rng(1).normal(0, 10 * MARGIN, (STUDIES, 3, 60))
    any_clear = [any(part("higher", row, USUAL, parts=3).corrected_p <= 0.05 for row in rows) for rows in draws]
    assert np.mean(any_clear) <= 0.05 + CHANCE


def test_a_difference_of_two_margins_is_found() -> None:
    """With a standard deviation of four margins: one look at 60 seeds would miss it in 3 of 100 studies."""
    for kind, finding in (("higher", "for"), ("lower", "against"), ("unchanged", "against"), ("not higher", "against")):
        found = simulated(kind, 2 * MARGIN, 4 * MARGIN, USUAL)  # type: ignore[arg-type]
        assert share(found, finding) >= 0.9, kind
    seeds = [each.difference.n for each in found]
    assert np.mean(seeds) < 40  # and on the way many studies stop


def test_a_zero_difference_is_found_to_be_unchanged() -> None:
    found = simulated("unchanged", 0.0, 1.5 * MARGIN, USUAL)
    assert share(found, "for") >= 0.9
    assert share(found, "against") <= 0.05
    assert np.mean([each.difference.n for each in found]) < 50


def test_a_difference_of_a_margin_is_seldom_found_to_be_unchanged() -> None:
    assert share(simulated("unchanged", MARGIN, 2 * MARGIN, USUAL), "for") <= 0.05 + CHANCE
    assert share(simulated("higher", MARGIN, 2 * MARGIN, USUAL), "against") <= 0.05 + CHANCE
