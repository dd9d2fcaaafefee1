import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import seed_everything

from fedlit.core.seeding import (
    address,
    generator,
    isolated_fit_rng,
    isolated_rng,
    reseed,
    reseed_all,
    resolve_seed,
    rng,
)

ADDRESS = st.tuples(st.integers(0, 2**31), st.sampled_from(["cohort", "batches"]), st.integers(0, 10**6))


@given(ADDRESS, ADDRESS)
def test_addresses_are_equal_only_when_all_their_parts_are(one, other):
    assert (address(*one) == address(*other)) == (one == other)


def test_the_parts_of_an_address_are_separated():
    assert address(1, "x", 12) != address(1, "x", 1, 2) != address(11, "x", 2)


@given(ADDRESS)
def test_a_seed_fits_every_generator(where):
    assert 0 <= address(*where) < 2**63
    generator(*where)
    rng(*where)


def test_a_draw_depends_on_its_address_alone():
    first = torch.rand(3, generator=generator(0, "batches", 4))
    torch.rand(1000)
    np.random.default_rng().random()
    assert torch.equal(first, torch.rand(3, generator=generator(0, "batches", 4)))


def test_addresses_are_the_same_on_every_machine():
    # BLAKE2b of "7/cohort/3" to 8 bytes, little endian, shifted right by one: computed with coreutils' b2sum -l 64.
    assert address(7, "cohort", 3) == int.from_bytes(bytes.fromhex("f5d790f32dae7185"), "little") >> 1


def test_without_a_seed_that_of_seed_everything_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert resolve_seed(None) == 0
    seed_everything(5, verbose=False)
    assert resolve_seed(None) == 5
    assert resolve_seed(2) == 2
    monkeypatch.delenv("PL_GLOBAL_SEED")


def test_reseeding_a_device_is_seeding_torch():
    torch.manual_seed(11)
    expected = torch.rand(3)
    reseed(torch.device("cpu"), 11)
    assert torch.equal(torch.rand(3), expected)


def draws() -> list[float]:
    """One from each global generator."""
    return [float(torch.rand(())), float(np.random.random()), random.random()]  # noqa: NPY002


def test_all_global_generators_begin_at_a_seed():
    found = []
    for seed in (5, 5, 6):
        reseed_all(torch.device("cpu"), seed)
        found.append(draws())
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[1], found[2], strict=True))


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30])
def test_a_seed_may_be_any_whole_number(seed: int):
    def draws() -> tuple[float, float, float]:
        with isolated_rng(seed, torch.device("cpu")):
            return torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002

    assert draws() == draws()


def test_fits_leave_the_generators_of_numpy_and_python_unchanged():
    reseed_all(torch.device("cpu"), 3)
    expected = [draws()[1:] for _ in range(2)]
    reseed_all(torch.device("cpu"), 3)
    first = draws()[1:]
    with isolated_fit_rng():
        reseed_all(torch.device("cpu"), 9)
        inside = draws()
        with isolated_rng(4, torch.device("cpu")):
            draws()
        assert draws() != inside
    assert [first, draws()[1:]] == expected


def test_transforms_and_the_fit_around_them_draw_independently():
    def fit(transforms: int) -> list[list[float]]:
        with isolated_fit_rng():
            reseed_all(torch.device("cpu"), 9)
            found = []
            for _ in range(3):
                with isolated_rng(4, torch.device("cpu")):
                    for _ in range(transforms):
                        draws()
                found.append(draws())
        return found

    assert fit(0) == fit(1) == fit(5)
