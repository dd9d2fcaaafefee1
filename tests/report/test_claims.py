"""Verdicts on claims, tested on made-up runs for which the right verdict is known."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from studies import made_up, study_of

from fedlit.core.errors import InputError
from fedlit.report.claims import Kind, claims_of, read_claims
from fedlit.report.intervals import Difference, Interval
from fedlit.report.judge import Finding, Judgement, finding, rules, verdict
from fedlit.report.judge import judge as judge_claims
from fedlit.report.sequential import Looks

STEADIER, SHAKIER = {"wobble": -0.005}, {"wobble": 0.01}
WORSE = {"wobble": 0.01, "accuracy": -0.1}
#: As the paper says it is.
PAPER = {"channel": {"wobble": -0.003}, "channel_mlp": STEADIER, "spatial_dir01": WORSE}

ROOT = Path(__file__).parents[2]
#: The paper's claims, as their file holds them.
FILE = yaml.safe_load((ROOT / "configs/claims.yaml").read_text())


def judge(measured: pd.DataFrame, baseline: str = "plain", tree: dict[str, Any] = FILE) -> list[Judgement]:
    return judge_claims(measured, study_of(measured), claims_of(tree), baseline)


def claims(noise: float = 0.001, seeds: int = 3, **effects: dict[str, float]) -> list[Judgement]:
    return judge(made_up(noise, seeds, **effects))


def effect(mean: float, half: float) -> Difference:
    return Difference(Interval(mean, mean - half, mean + half, 3), math.nan, math.nan)


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
def test_a_part_is_for_against_or_open(kind: Kind, mean: float, half: float, p: float, expected: Finding) -> None:
    assert finding(kind, effect(mean, half), p, margin=0.01) == expected


def test_without_a_measure_of_chance_a_part_is_open() -> None:
    assert finding("lower", effect(-0.5, math.nan), math.nan, 0.01) == "open"
    assert finding("not lower", effect(0.5, 0.1), 0.01, math.nan) == "open"


def test_a_claim_needs_all_parts_and_is_contradicted_by_any() -> None:
    assert verdict(["for", "for"]) == "supported"
    assert verdict(["for", "open"]) == "undecided"
    assert verdict(["for", "open", "against"]) == "contradicted"
    assert verdict([]) == "undecided"


def test_runs_like_the_papers_support_all_claims() -> None:
    assert [claim.verdict for claim in claims(noise=0.0005, **PAPER)] == ["supported"] * 4


def test_opposite_runs_contradict_all_claims() -> None:
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
    assert [part.finding for part in first.parts] == ["for", "against", "for"]
    assert first.verdict == "contradicted"


def test_equal_variants_contradict_claimed_differences_and_leave_no_harm_to_mitigate() -> None:
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
    assert "cannot give less than p = 0.25" in claims(noise=0.0005, **PAPER)[0].reason
    assert "cannot give less than" not in claims(noise=0.0005, seeds=6, **PAPER)[0].reason


@pytest.mark.parametrize("lacking", ["plain", "channel_mlp", "spatial"])
def test_claims_about_variants_that_were_not_run_are_undecided(lacking: str) -> None:
    measured = made_up(0.0005, **PAPER).query("variant != @lacking")
    found = judge(measured)
    lost = {"plain": [0, 2, 3], "channel_mlp": [1], "spatial": [2, 3]}[lacking]
    assert [i for i, claim in enumerate(found) if not claim.parts] == lost
    assert all(found[i].verdict == "undecided" and lacking in found[i].reason for i in lost)


def test_partitions_of_unknown_heterogeneity_are_left_out() -> None:
    measured = made_up(0.0005, **PAPER).query("partition == 'iid'")
    assert [claim.parts == () for claim in judge(measured)] == [False, False, True, True]


def test_parts_are_corrected_for_their_number() -> None:
    third = claims(**PAPER)[2]
    raw = sorted(part.difference.p for part in third.parts)
    assert sorted(part.corrected_p for part in third.parts) == pytest.approx([2 * raw[0], max(2 * raw[0], raw[1])])


def test_a_variant_is_not_compared_with_itself() -> None:
    measured = made_up(**PAPER)
    first = judge(measured, baseline="channel")[0]
    assert first.parts[0].text == "channel_mlp - channel, mean over dir01, dir05, iid"


def test_margins_of_loss_and_wobble_are_shares_of_the_plain_model() -> None:
    measured = made_up(**PAPER)
    plain = measured[measured["variant"] == "plain"]
    margins = [
        part.margin for part in judge(measured, tree=FILE | {"margins": FILE["margins"] | {"accuracy": 0.02}})[0].parts
    ]
    assert np.allclose(margins, [0.1 * plain["wobble"].mean(), 0.02, 0.05 * plain["loss"].mean()])


@pytest.mark.parametrize(
    ("plain", "margin", "finding"),
    [
        ([2.0, 2.0, 2.0], 0.2, "for"),
        ([-2.0, -2.0, -2.0], 0.2, "for"),  # a score below 0: what counts is the size of its mean
        ([0.001, 0.001, 0.001], 0.0001, "open"),
        ([2.0, 2.0, math.inf], math.nan, "open"),  # diverged: any effect would be smaller than a share of it
        ([math.nan, math.nan, math.nan], math.nan, "open"),
    ],
)
@pytest.mark.parametrize("kind", ["unchanged", "not lower", "not higher"])
def test_a_margin_is_a_share_of_the_size_of_a_finite_mean(
    kind: str, plain: list[float], margin: float, finding: str
) -> None:
    measured = made_up(noise=1e-6)
    measured["loss"] = [0.01 * np.sin(17 * i) for i in range(len(measured))]  # no effect
    measured.loc[measured["variant"] == "plain", "loss"] = plain * 3
    keys = {"metric": "loss", "is": kind, "compare": {"channel": 1, "spatial": -1}, "at": "iid"}
    (claim,) = judge(measured, tree=one(**keys, margin={"share": 0.1}))
    (part,) = claim.parts
    assert part.margin == pytest.approx(margin, nan_ok=True)
    assert part.finding == finding
    assert ("mean final loss of plain, which is not finite" in claim.reason) is math.isnan(margin)


@pytest.mark.parametrize(("how", "mean"), [("mean_of", 0.7 + 0.2), ("first_of", 0.7 + 0.3)])
def test_a_margin_is_a_share_of_what_a_group_stands_for(how: str, mean: float) -> None:
    measured = made_up(channel={"loss": 0.3}, channel_mlp={"loss": 0.1})
    groups = {"gates": {how: ["channel", "channel_mlp"]}}
    tree = one(metric="loss", margin={"share": 0.1, "of": "gates"}) | {"groups": groups}
    (claim,) = judge(measured, tree=tree)
    assert claim.parts[0].margin == pytest.approx(0.1 * mean, abs=1e-3)


def test_the_rules_are_those_of_the_docstring() -> None:
    text = " ".join(rules())
    assert "supported" in text
    assert all(f"**{kind}**" in text for kind in ("lower", "higher", "unchanged", "not lower", "not higher"))


def test_no_claim_is_decided_with_a_spatial_baseline() -> None:
    measured = made_up(**PAPER)
    found = judge(measured, baseline="spatial")
    assert {claim.verdict for claim in found} == {"undecided"}
    assert all("spatial, the baseline, has attention itself" in claim.reason for claim in found)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_committed_study_has_the_verdicts_and_numbers_that_were_published() -> None:
    folder = ROOT / "notebooks/results/study"
    measured = pd.read_csv(folder / "runs.csv")
    alphas = {"dir005": 0.05, "dir01": 0.1, "dir05": 0.5, "iid": math.inf}
    study = dataclasses.replace(study_of(measured), partitions=tuple(alphas), alphas=alphas)
    found = judge_claims(measured, study, read_claims(ROOT / "configs/claims.yaml"), "plain")
    rows = [(c.number, c.verdict, p.text, p.metric.key, p.kind, p.finding, p) for c in found for p in c.parts]
    published = pd.read_csv(folder / "claims.csv")
    words = published[["claim", "verdict", "contrast", "metric", "claimed", "finding"]]
    assert [row[:-1] for row in rows] == list(words.itertuples(index=False, name=None))
    numbers = [[*dataclasses.astuple(p.difference.interval), p.margin, p.corrected_p] for *_, p in rows]
    assert np.allclose(numbers, published[["mean", "low", "high", "n", "margin", "p_t_holm"]], rtol=1e-9, atol=0)


def one(**keys: Any) -> dict[str, Any]:
    """A file of one claim with one part, channel minus the baseline, with changed keys."""
    part = {"metric": "accuracy", "is": "higher", "compare": {"channel": 1, "baseline": -1}, "margin": 0.01}
    return {"claims": [{"claim": "It helps.", "parts": [part | keys]}]}


@pytest.mark.parametrize(
    ("keys", "text", "effect"),
    [
        ({}, "channel - plain, mean over dir01, dir05, iid", (0.01 + 0.02 + 0.04) / 3),
        ({"at": "dir05"}, "channel - plain, dir05", 0.02),
        ({"at": "smallest_alpha"}, "channel - plain, dir01", 0.01),
        ({"at": "largest_alpha"}, "channel - plain, iid", 0.04),
        ({"at": {"iid": 1, "dir05": -1}}, "(channel - plain, iid) - (channel - plain, dir05)", 0.04 - 0.02),
        ({"compare": {"baseline": -2, "channel": 2}, "at": "dir01"}, "- 2 plain + 2 channel, dir01", 2 * 0.01),
    ],
)
def test_a_part_is_a_sum_of_weights_over_variants_and_places(keys: dict[str, Any], text: str, effect: float) -> None:
    helped = {f"channel_{p}": {"accuracy": x} for p, x in (("dir01", 0.01), ("dir05", 0.02), ("iid", 0.04))}
    (claim,) = judge(made_up(noise=1e-6, **helped), tree=one(**keys))
    assert claim.parts[0].text == text
    assert claim.parts[0].difference.mean == pytest.approx(effect, abs=1e-4)


def test_partitions_of_the_same_alpha_are_one_place() -> None:
    helped = {f"channel_{p}": {"accuracy": x} for p, x in (("dir01", 0.01), ("dir05", 0.02), ("iid", 0.04))}
    measured = made_up(noise=1e-6, **helped)
    study = dataclasses.replace(study_of(measured), alphas={"dir01": 0.1, "dir05": 0.1, "iid": math.inf})
    (claim,) = judge_claims(measured, study, claims_of(one(at="smallest_alpha")), "plain")
    assert claim.parts[0].text == "channel - plain, mean over dir01, dir05"
    assert claim.parts[0].difference.mean == pytest.approx(0.015, abs=1e-4)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"compare": {"unknown": 1, "baseline": -1}}, "no seed has finished runs of unknown and of plain at one"),
        ({"compare": {"plain": 1, "baseline": -1}}, "it compares plain with itself"),
        ({"at": "dir07"}, "partition dir07 does not have runs of all its variants; only dir01, dir05, iid"),
        ({"at": {"dir01": 1, "smallest_alpha": -1}}, "it needs runs at two partitions"),
    ],
)
def test_a_claim_that_does_not_apply_is_left_out_with_the_reason(keys: dict[str, Any], why: str) -> None:
    (claim,) = judge(made_up(), tree=one(**keys))
    assert (claim.verdict, claim.parts) == ("undecided", ())
    assert claim.reason.startswith(f"left out: {why}")


#: Of each: a change to the paper's file, what the error names, and the remedy.
MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "key": (lambda t: t.update(claim=[]), "a file of claims: no such key claim", "did you mean claims?"),
    "no claims": (lambda t: t.pop("claims"), "claims must be a list, got None", "is an example"),
    "text": (lambda t: t["claims"][0].update(claim=3), "claim 1: claim must be text, got 3", "quotes"),
    "metric": (lambda t: t["claims"][1]["parts"][0].update(metric="wobbel"), "claim 2, part 1: metric", "wobble?"),
    "kind": (lambda t: t["claims"][0]["parts"][1].update({"is": "equal"}), "part 2: is must be lower,", "got equal"),
    "weights": (lambda t: t["claims"][0]["parts"][0].update(compare={"a": 1}), "compare must have", "sum to 0, got"),
    "variant": (lambda t: t["claims"][0]["parts"][0].update(compare="a"), "must be names with weights, got a", "-1}"),
    "no number": (lambda t: t["claims"][0]["parts"][0].update(at={"iid": "x"}), "at.iid must be a number, got x", "1"),
    "no margin": (lambda t: t["margins"].pop("loss"), "claim 1, part 3: loss has no margin", "add margins:"),
    "margin": (lambda t: t["margins"].update(loss=-1), "margins.loss must be a number >= 0, got -1", "example"),
    "group": (lambda t: t["groups"].update(all=["a"]), "groups.all must be keys and values", "mean_of or first_of"),
    "empty group": (lambda t: t["groups"].update(all={}), "groups.all must have mean_of or first_of", "mean_of: [a"),
    "later": (lambda t: t["claims"][3]["presumes"].update(claim=4), "earlier claim, got 4", "the first claim is 1"),
    "alone": (lambda t: t["claims"][0]["parts"][0].update(stands_alone="x"), "stands_alone must be true", "leave it"),
    "bound": (lambda t: t["claims"][2].update(alpha_at_most=math.nan), "claim 3: alpha_at_most must be", "got nan"),
    "beside": (lambda t: t.update(beside=["x"]), "beside: there is no metric x", "use accuracy,"),
}


@pytest.mark.parametrize(("change", "told", "remedy"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_in_the_file_is_one_line_that_names_the_key_and_the_remedy(
    change: Callable[[dict[str, Any]], object], told: str, remedy: str, tmp_path: Path
) -> None:
    tree = copy.deepcopy(FILE)
    change(tree)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError) as error:
        read_claims(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert told in message
    assert remedy in message


@pytest.mark.parametrize(
    ("groups", "partition", "at", "why"),
    [
        ({"channel": {"first_of": ["spatial"]}}, "iid", "iid", "the name channel means a group of variants, but a"),
        ({}, "mean", "mean", "the place mean is chosen from all partitions, but one has this name; rename it"),
        ({}, "mean", "dir01", ""),
    ],
)
def test_a_name_with_two_meanings_is_not_guessed(groups: dict[str, Any], partition: str, at: str, why: str) -> None:
    part = {"metric": "accuracy", "is": "lower", "compare": {"channel": 1, "baseline": -1}, "at": at, "margin": 0.1}
    tree = {"groups": groups, "claims": [{"claim": "X.", "parts": [part]}]}
    (claim,) = judge(made_up().replace({"partition": {"iid": partition}}), tree=tree)
    assert claim.reason.startswith(f"left out: {why}") == bool(why)


def test_a_look_waits_for_a_seed_that_is_missing() -> None:
    """If a later seed took its place, the verdict would depend on which runs fail or are removed."""
    measured = made_up(seeds=12)
    study = dataclasses.replace(study_of(measured), looks=Looks.every(5, 5, 15))
    part = {"metric": "accuracy", "is": "lower", "compare": {"spatial": 1, "baseline": -1}, "at": "iid", "margin": 0.0}
    tree = {"claims": [{"claim": "X.", "parts": [part]}]}
    for lost, seeds in ((), 10), ((2,), 2), ((7,), 5), ((11,), 10):
        left = measured[~(measured["seed"].isin(lost) & (measured["variant"] == "spatial"))]
        (claim,) = judge_claims(left, study, claims_of(tree), "plain")
        assert claim.parts[0].difference.n == seeds
