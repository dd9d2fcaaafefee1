"""The first difference between two runs."""

from __future__ import annotations

import torch

from fedlit.runs.compare import first_difference, leaves, sha256


def test_the_same_contents_have_the_same_hash_and_no_difference() -> None:
    one = [("w", torch.tensor([1.0, 2.0])), ("round", 3), ("loss", float("nan"))]
    other = [("w", torch.tensor([1.0, 2.0])), ("round", 3), ("loss", float("nan"))]
    assert first_difference(one, other) == ""
    assert sha256(one) == sha256(other)


def test_one_bit_is_found_by_name_and_size() -> None:
    one, other = ([("bias", torch.zeros(2)), ("weight", torch.tensor([1.0, value]))] for value in (1.0, 1.0 + 2**-23))
    assert first_difference(one, other) == "weight: largest difference 1.19e-07"
    assert sha256(one) != sha256(other)


def test_minus_zero_is_not_zero_and_float64_not_float32() -> None:
    zero = torch.zeros(1)
    assert first_difference([("w", zero)], [("w", -zero)]) == "w: largest difference 0"
    assert first_difference([("w", zero)], [("w", zero.double())]) != ""


def test_a_different_number_is_reported_with_both_values() -> None:
    assert first_difference([("loss of round 3", "0.5")], [("loss of round 3", "0.25")]) == (
        "loss of round 3: '0.5' and '0.25'"
    )


def test_a_missing_or_repeated_point_is_a_difference() -> None:
    point, following = ("loss of round 1", 0.5), ("loss of round 2", 0.5)
    assert first_difference([point, point, following], [point, following]) == (
        "one run has loss of round 1 where the other has loss of round 2"
    )
    assert first_difference([point], [point, following]) == "one run has nothing where the other has loss of round 2"


def test_a_tree_is_its_leaves_by_dotted_keys() -> None:
    assert list(leaves([{"state": {0: {"step": 1}}, "lr": 0.1}])) == [("0.state.0.step", 1), ("0.lr", 0.1)]
