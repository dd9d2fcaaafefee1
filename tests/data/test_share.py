"""Every rank evaluates whole pieces, no example twice, and all ranks have the same number of batches."""

from __future__ import annotations

import pytest
import torch

from fedlit.data.examples import Examples
from fedlit.data.share import Share


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize(("count", "batch_size", "piece"), [(20, 8, 4), (21, 8, 4), (3, 7, 7), (1, 8, 4), (64, 16, 16)])
def test_pieces_are_the_same_for_every_number_of_ranks(count: int, batch_size: int, piece: int, ranks: int):
    examples = Examples(torch.arange(count).float()[:, None], torch.arange(count))
    alone = [part.tolist() for part in torch.arange(count).split(piece)]
    shares = [Share(examples, batch_size, piece, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    met = []
    for share in shares:
        batches = list(share)
        assert len(batches) == len(share)
        for inputs, targets in batches:
            assert inputs.flatten().tolist() == targets.tolist()
            met += [part.tolist() for part in targets.split(piece) if len(part)]
    assert sorted(met) == alone


def test_one_rank_has_all_in_order_without_an_index():
    examples = Examples(torch.arange(5).float()[:, None], torch.arange(5))
    assert [y.tolist() for _, y in Share(examples, 2, 2)] == [[0, 1], [2, 3], [4]]
    assert Share(examples, 2, 2).indices is None
