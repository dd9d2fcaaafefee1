"""Steps of few elements are computed by one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fedlit.core.threads import SMALL, one_thread_if_small


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("elements", "device", "threads"), [(SMALL, "cpu", 1), (SMALL + 1, "cpu", 2), (1, "meta", 2)])
def test_small_tensors_of_the_cpu_have_one_thread_within_and_all_after(
    elements: int, device: str, threads: int
) -> None:
    with one_thread_if_small(torch.empty(elements, dtype=torch.uint8, device=device)):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_an_error_restores_the_number_of_threads() -> None:
    with pytest.raises(ValueError, match="within"), one_thread_if_small(torch.empty(1)):
        raise ValueError("within")
    assert torch.get_num_threads() == 2
