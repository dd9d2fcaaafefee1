"""What a client keeps at its site: the version that the server names, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedlit.flower.frame import WireError
from fedlit.flower.kept import Versions
from fedlit.flower.wire import Receipt


def versions(folder: Path, count: int = 4) -> tuple[Versions, list[Receipt]]:
    kept = Versions(folder, "f1")
    return kept, [kept.keep(3, round, torch.full((5,), float(round))) for round in range(count)]


def test_the_version_of_a_receipt_is_found_whichever_came_later(tmp_path: Path):
    kept, receipts = versions(tmp_path)
    for round, receipt in enumerate(receipts):
        row = kept.find(receipt)
        assert row is not None
        assert torch.equal(row.read(), torch.full((5,), float(round)))
    assert kept.find(Receipt()) is None


def test_a_missing_or_different_version_is_refused(tmp_path: Path):
    kept, receipts = versions(tmp_path)
    with pytest.raises(WireError, match=r"kept in round 10 is not in .*put the folder back, or start a new run"):
        kept.find(Receipt(9, 1))
    with pytest.raises(WireError, match=r"kept in round 2 is not in .*other content"):
        kept.find(Receipt(1, receipts[1].crc ^ 1))


def test_versions_that_no_checkpoint_needs_are_removed_and_later_ones_kept(tmp_path: Path):
    kept, _ = versions(tmp_path, 6)
    kept.prune(4, [1, 3])
    assert sorted(int(path.stem) for path in tmp_path.rglob("*.pack")) == [1, 3, 4, 5]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "é", "x" * 65, "a b"])
def test_a_federation_name_that_is_not_valid_as_a_folder_is_refused(name: str, tmp_path: Path):
    with pytest.raises(WireError, match="is not valid"):
        Versions(tmp_path, name)


def test_federations_do_not_share_what_is_kept(tmp_path: Path):
    _, receipts = versions(tmp_path)
    with pytest.raises(WireError, match="is not in"):
        Versions(tmp_path, "f2").find(receipts[0])
