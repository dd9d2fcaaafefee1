"""The number of seeds for an effect, compared with scipy's power of the t-test."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import stats
from studies import made_up, study_of

from fedlit.report.claims import read_claims
from fedlit.report.judge import judge
from fedlit.report.outlook import MOST_SEEDS, fresh_looks, open_parts, seeds_to_show
from fedlit.report.sections.verdicts import would_decide


@pytest.mark.parametrize("tests", [1, 20])
@pytest.mark.parametrize("effect", [0.5, 0.2])
def test_the_estimated_seeds_show_an_effect_four_times_in_five(effect: float, tests: int) -> None:
    seeds = seeds_to_show(effect, 1.0, tests)
    assert seeds is not None

    def power(n: int) -> float:
        return float(stats.nct.sf(stats.t.ppf(1 - 0.025 / tests, n - 1), n - 1, effect * math.sqrt(n)))

    assert power(seeds) == pytest.approx(0.8, abs=0.03)
    assert power(seeds // 2) < 0.6


def test_an_open_part_shows_its_result_and_what_would_decide_it() -> None:
    measured = made_up(noise=0.02, seeds=5)
    claims = read_claims(Path(__file__).parents[2] / "configs/claims.yaml")
    undecided = list(open_parts(judge(measured, study_of(measured), claims, "plain"), fresh_looks(), anew=True))
    (still,) = [each for each in undecided if each.claim == 2]
    found = still.part.difference
    told = would_decide(still, MOST_SEEDS)
    assert told.startswith("wobble lower, channel_mlp \u2212 channel, mean over dir01, dir05, iid: ")
    assert f"{found.mean:+.4f}, interval {found.interval.low:+.4f} … {found.interval.high:+.4f}" in told.replace(
        "\u2212", "-"
    )
    settles = f"about {still.seeds}" if still.seeds else "more than 60"
    assert f"; {settles} seeds would decide it, about " in told
    assert told.endswith(f"would show {still.part.margin:.4f}")


def test_no_estimate_is_made_without_a_scatter_or_of_a_thousand_seeds() -> None:
    assert seeds_to_show(0.001, 1.0) is None
    assert seeds_to_show(0.1, math.nan) is None
    assert seeds_to_show(math.nan, 0.1) is None
