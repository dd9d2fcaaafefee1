"""The plain loop over a client's batches."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from fedlit.core.errors import InputError
from fedlit.engines.loop import passes


def test_passes_number_the_batches_of_each_pass():
    batches = [(torch.zeros(1), torch.zeros(1))] * 2
    assert [number for number, _ in islice(passes(batches), 5)] == [0, 1, 0, 1, 0]


def test_a_pass_without_a_batch_is_an_error_and_no_endless_loop():
    with pytest.raises(InputError, match="the client has no batch to train on; give each client that trains some"):
        next(passes([]))
