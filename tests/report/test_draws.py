"""Checking and reporting whether compared runs share their random draws."""

from __future__ import annotations

from pathlib import Path

from studies import write_outcome, write_study

from fedlit.report.collect import collect
from fedlit.report.command import main
from fedlit.report.draws import compare_draws

CLAIMS = Path(__file__).parents[2] / "configs/claims.yaml"
CELLS = {(variant, "dir01"): (0.8, 0.01) for variant in ("plain", "channel", "spatial")}


def report(folder: Path, *words: str) -> str:
    assert main([str(folder), *words]) == 0
    return (folder / "report/report.md").read_text()


def test_equal_hashes_at_each_seed_and_partition_are_reported(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0, 1))
    for variant, _ in CELLS:
        for seed in (0, 1):
            write_outcome(tmp_path / f"{variant}_dir01/seed_{seed}", (0.5,), order=f"of seed {seed}")
    draws = compare_draws(collect(tmp_path))
    assert (draws.groups, draws.agreeing, draws.differing, draws.unknown) == (2, 2, (), 0)
    assert "at 2 of 2 combinations of seed and partition all variants have equal hashes of partition" in report(
        tmp_path
    )


def test_a_variant_with_another_batch_order_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0,))
    for (variant, _), order in zip(CELLS, ("a", "a", "b"), strict=True):
        write_outcome(tmp_path / f"{variant}_dir01/seed_0", (0.5,), order=order)
    draws = compare_draws(collect(tmp_path))
    assert (draws.groups, draws.agreeing) == (1, 0)
    assert draws.differing == ("batch order at dir01, seed 0: `a` plain, channel; `b` spatial",)
    text = report(tmp_path, "--claims", str(CLAIMS))
    assert text.index("**Not all runs are paired**") < text.index("## The paper's claims")


def test_runs_without_hashes_are_not_taken_for_equal(tmp_path: Path) -> None:
    write_study(tmp_path, CELLS, seeds=(0,))
    assert "**Shared draws**: unknown" in report(tmp_path)
    for variant in ("plain", "spatial"):
        write_outcome(tmp_path / f"{variant}_dir01/seed_0", (0.5,))
    assert compare_draws(collect(tmp_path)).unknown == 1
    assert "1 run without `draws.json` could not be checked" in report(tmp_path)
