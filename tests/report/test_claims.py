"""Verdicts on the paper's claims follow from the numbers: on made-up runs it is known which they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from studies import made_up, study_of

from fedlit.report.claims import Claim, Kind, Outcome, judge, outcome, rules, verdict
from fedlit.report.statistics import Difference, Interval

STEADIER, SHAKIER = {"wobble": -0.005}, {"wobble": 0.01}
WORSE = {"wobble": 0.01, "accuracy": -0.1}
#: As the paper says it is.
PAPER = {"channel": {"wobble": -0.003}, "channel_mlp": STEADIER, "spatial_dir01": WORSE}


def claims(noise: float = 0.001, seeds: int = 3, **effects: dict[str, float]) -> list[Claim]:
    measured = made_up(noise, seeds, **effects)
    return judge(measured, study_of(measured))


def effect(mean: float, half: float) -> Difference:
    return Difference(Interval(mean, mean - half, mean + half, 3), math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("kind", "mean", "half", "p", "expected"),
    [
        ("lower", -0.05, 0.02, 0.01, "for"),
        ("lower", 0.05, 0.02, 0.01, "against"),
        ("lower", -0.05, 0.08, 0.20, "open"),
        ("lower", 0.00, 0.005, 0.80, "against"),  # no room for an effect of 0.01
        ("higher", 0.05, 0.02, 0.01, "for"),
        ("higher", -0.05, 0.02, 0.01, "against"),
        ("higher", 0.05, 0.02, 0.06, "open"),  # clear alone, not when corrected
        ("unchanged", 0.002, 0.005, 0.30, "for"),
        ("unchanged", 0.002, 0.001, 0.01, "for"),  # clear, but smaller than what counts
        ("unchanged", 0.05, 0.02, 0.01, "against"),
        ("unchanged", -0.05, 0.02, 0.01, "against"),
        ("unchanged", 0.00, 0.02, 0.90, "open"),
        ("not lower", 0.00, 0.005, 0.90, "for"),
        ("not lower", 0.05, 0.02, 0.01, "for"),
        ("not lower", -0.05, 0.02, 0.01, "against"),
        ("not lower", -0.01, 0.02, 0.20, "open"),
        ("not higher", 0.05, 0.02, 0.01, "against"),
        ("not higher", -0.05, 0.02, 0.01, "for"),
    ],
)
def test_a_part_is_for_against_or_open(kind: Kind, mean: float, half: float, p: float, expected: Outcome) -> None:
    assert outcome(kind, effect(mean, half), p, margin=0.01) == expected


def test_without_a_measure_of_chance_a_part_is_open() -> None:
    assert outcome("lower", effect(-0.5, math.nan), math.nan, 0.01) == "open"
    assert outcome("not lower", effect(0.5, 0.1), 0.01, math.nan) == "open"


def test_a_claim_needs_all_of_its_parts_and_falls_with_any() -> None:
    assert verdict(["for", "for"]) == "supported"
    assert verdict(["for", "open"]) == "undecided"
    assert verdict(["for", "open", "against"]) == "contradicted"
    assert verdict([]) == "undecided"


def test_runs_that_are_as_the_paper_says_support_all_claims() -> None:
    assert [claim.verdict for claim in claims(noise=0.0005, **PAPER)] == ["supported"] * 4


def test_runs_that_are_the_other_way_round_contradict_them() -> None:
    opposite = {
        "channel": {"wobble": 0.003},
        "channel_mlp": SHAKIER,
        "spatial_dir01": {"wobble": -0.005, "accuracy": 0.1},
        "spatial_iid": WORSE,
    }
    assert [claim.verdict for claim in claims(noise=0.0005, **opposite)] == ["contradicted"] * 4


def test_runs_that_scatter_decide_nothing() -> None:
    assert [claim.verdict for claim in claims(noise=0.1, **PAPER)] == ["undecided"] * 4


def test_a_steadier_model_of_another_accuracy_contradicts_the_first_claim() -> None:
    first = claims(channel=STEADIER | {"accuracy": 0.05}, channel_mlp=STEADIER | {"accuracy": 0.05})[0]
    assert [part.outcome for part in first.parts] == ["for", "against", "for"]
    assert first.verdict == "contradicted"


def test_variants_that_are_all_alike_contradict_what_is_said_to_differ_and_leave_nothing_to_mend() -> None:
    alike = claims(noise=0.0001)
    assert [claim.verdict for claim in alike] == ["contradicted", "contradicted", "contradicted", "undecided"]
    assert "no harm under high heterogeneity" in alike[3].reason


def test_harm_that_even_data_do_not_remove_contradicts_the_last_claim() -> None:
    everywhere = claims(noise=0.0005, spatial=WORSE)
    assert [claim.verdict for claim in everywhere[2:]] == ["supported", "contradicted"]


def test_instability_that_is_less_but_not_gone_is_mitigated() -> None:
    less = claims(noise=0.0005, spatial_dir01=WORSE, spatial_iid={"wobble": 0.002})
    assert [claim.verdict for claim in less[2:]] == ["supported", "supported"]


def test_one_seed_decides_nothing_and_says_why() -> None:
    for claim in claims(seeds=1, **PAPER):
        assert claim.verdict == "undecided"
        assert "no measure of chance" in claim.reason


def test_a_verdict_from_few_seeds_names_the_assumption_that_it_rests_on() -> None:
    assert "cannot go below p = 0.25" in claims(noise=0.0005, **PAPER)[0].reason
    assert "cannot go below" not in claims(noise=0.0005, seeds=6, **PAPER)[0].reason


@pytest.mark.parametrize("lacking", ["plain", "channel_mlp", "spatial"])
def test_claims_about_variants_that_were_not_run_are_undecided(lacking: str) -> None:
    measured = made_up(0.0005, **PAPER).query("variant != @lacking")
    found = judge(measured, study_of(measured))
    lost = {"plain": [0, 2, 3], "channel_mlp": [1], "spatial": [2, 3]}[lacking]
    assert [i for i, claim in enumerate(found) if not claim.parts] == lost
    assert all(found[i].verdict == "undecided" and lacking in found[i].reason for i in lost)


def test_partitions_of_unknown_or_no_heterogeneity_say_nothing_of_it() -> None:
    measured = made_up(0.0005, **PAPER).query("partition == 'iid'")
    assert [claim.parts == () for claim in judge(measured, study_of(measured))] == [False, False, True, True]


def test_parts_are_corrected_for_their_number() -> None:
    third = claims(**PAPER)[2]
    raw = sorted(part.difference.p_t for part in third.parts)
    assert sorted(part.p for part in third.parts) == pytest.approx([2 * raw[0], max(2 * raw[0], raw[1])])


def test_a_variant_is_not_compared_with_itself() -> None:
    measured = made_up(**PAPER)
    first = judge(measured, study_of(measured), baseline="channel")[0]
    assert first.parts[0].text == "channel_mlp - channel, mean over dir01, dir05, iid"


def test_margins_of_loss_and_wobble_are_shares_of_the_plain_model() -> None:
    measured = made_up(**PAPER)
    plain = measured[measured["variant"] == "plain"]
    margins = [part.margin for part in judge(measured, study_of(measured), margin=0.02)[0].parts]
    assert np.allclose(margins, [0.1 * plain["wobble"].mean(), 0.02, 0.05 * plain["loss"].mean()])


def test_the_rules_are_those_of_the_docstring() -> None:
    text = " ".join(rules())
    assert "supported" in text
    assert all(f"**{kind}**" in text for kind in ("lower", "higher", "unchanged", "not lower", "not higher"))


def test_a_spatial_baseline_settles_no_claim() -> None:
    measured = made_up(**PAPER)
    found = judge(measured, study_of(measured), baseline="spatial")
    assert {claim.verdict for claim in found} == {"undecided"}
    assert all("spatial, the baseline, has attention itself" in claim.reason for claim in found)
