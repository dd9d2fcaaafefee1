"""Simulated sensors: the distribution of recordings, one client per site, and addressed draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlit.core.errors import InputError
from fedlit.data import Dirichlet, SimulatedSensors
from fedlit.data.sensors import event


def ready(**options: object) -> SimulatedSensors:
    data = SimulatedSensors(**({"num_clients": 4, "seed": 0} | options))  # type: ignore[arg-type]
    data.setup()
    return data


def test_every_client_is_a_site_with_four_fifths_of_its_recordings_for_training() -> None:
    data = ready(sensors=3, steps=16, classes=4, recordings=11, test_fraction=0.2)
    assert (data.num_clients, data.num_classes, data.partition.sizes.tolist()) == (4, 4, [9] * 4)
    assert data.class_names == ["1/10", "2/10", "3/10", "4/10"]
    assert data.train.groups is not None
    assert data.test.groups is not None
    for k in range(4):
        inputs, labels = data.site(k)
        assert (inputs.shape, inputs.dtype, labels.shape) == ((11, 16, 3), np.float32, (11,))
        rows = data.partition.client(k)
        assert (data.train.groups[rows] == k).all()
        assert np.array_equal(data.train.inputs[rows], inputs[:9])
        assert np.array_equal(data.train.targets[rows], labels[:9])
        assert np.array_equal(data.test.inputs[torch.from_numpy(data.test.groups == k)], inputs[9:])


def test_an_event_is_a_wave_of_its_frequency_that_fades_in_time_and_with_distance() -> None:
    of = {"frequency": np.array([0.125]), "when": np.array([32.0]), "where": np.array([2.0])}
    heard = event(**of, phase=np.array([np.pi / 2]), steps=64, sensors=4)[0]  # (T, S)
    assert heard[32, 2] == 1  # the cosine in its middle, where it is
    np.testing.assert_allclose(heard[36], -np.exp(-(4**2) / (2 * 4**2)) * heard[32])  # half a cycle and w = 4 later
    np.testing.assert_allclose(heard[:, 3], np.exp(-1 / 1.5) * heard[:, 2])  # a place further
    np.testing.assert_allclose(heard[:, 0], np.exp(-2 / 1.5) * heard[:, 2])


def test_the_class_is_the_frequency() -> None:
    data = ready(num_clients=1, noise=0.0, spread=0.0, faulty=0.0, steps=128, classes=3, recordings=200)
    inputs, labels = data.site(0)
    loudest = np.take_along_axis(inputs, np.abs(inputs).max(1).argmax(1)[:, None, None], 2)[..., 0]  # (n, T)
    power = np.abs(np.fft.rfft(loudest, axis=1)) ** 2  # (n, T / 2 + 1)
    mean = (power * np.fft.rfftfreq(128)).sum(1) / power.sum(1)
    is_whole = np.abs(loudest[:, [0, -1]]).max(1) < 0.02  # no event cut off by an end
    # f_y = (y + 1) / 8; an envelope of w = 8 steps spreads it by 1 / (2 pi w sqrt 2) = 0.014
    np.testing.assert_allclose(mean[is_whole], (labels[is_whole] + 1) / 8, atol=0.014)
    assert is_whole.sum() > 100
    assert set(labels) == {0, 1, 2}


def test_sensors_have_their_gain_and_offset_or_nothing_but_noise() -> None:
    quiet, data = ready(noise=0.0, spread=0.0, faulty=0.0), ready(noise=0.5, spread=0.7, faulty=0.3)
    events, inputs = quiet.site(1)[0], data.site(1)[0]
    gains, offsets, is_faulty = data.site_sensors(1)
    assert 0 < is_faulty.sum() < 8
    rest = (inputs - offsets - np.where(is_faulty, 0, gains * events)) / np.where(is_faulty, 1.5, 0.5)
    # Standard normal variates are left: 6,400 a sensor, so the errors of mean and deviation are 0.0125 and 0.009.
    np.testing.assert_allclose(rest.mean((0, 1)), 0, atol=0.05)
    np.testing.assert_allclose(rest.std((0, 1)), 1, atol=0.04)


def test_gains_offsets_and_faults_are_drawn_as_documented() -> None:
    gains, offsets, is_faulty = ready(sensors=4000, recordings=5, steps=1, spread=0.5, faulty=0.2).site_sensors(0)
    # Errors of a standard deviation of 0.5 and of a share of 0.2 among 4,000: 0.0056 and 0.0063.
    assert np.log(gains).std() == pytest.approx(0.5, abs=0.025)
    assert offsets.std() == pytest.approx(0.5, abs=0.025)
    assert is_faulty.mean() == pytest.approx(0.2, abs=0.025)


def test_a_site_is_the_same_at_one_seed_however_many_others_there_are() -> None:
    few, many, other = ready(num_clients=2), ready(num_clients=5), ready(num_clients=2, seed=1)
    for mine, same, different in zip(few.site(1), many.site(1), other.site(1), strict=True):
        assert np.array_equal(mine, same)
        assert not np.array_equal(mine, different)
    assert not np.array_equal(few.site(0)[0], few.site(1)[0])


def test_sites_without_spread_and_faults_are_alike() -> None:
    for k in range(3):
        gains, offsets, is_faulty = ready(spread=0.0, faulty=0.0).site_sensors(k)
        assert (gains == 1).all()
        assert (offsets == 0).all()
        assert not is_faulty.any()


def test_another_partition_splits_the_recordings_of_all_sites() -> None:
    data = ready(partition=Dirichlet(0.5))
    assert data.train.groups is not None
    assert len(set(data.train.groups[data.partition.client(0)])) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensors": 0}, "sensors must be at least 1, got 0"),
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"classes": 10**9}, "classes must be at most 1,000,000, got 1000000000"),
        ({"steps": -1}, "steps must be at least 1, got -1"),
        ({"recordings": 1}, "recordings must be at least 2, got 1"),
        ({"recordings": 10**7}, "have 20,480,000,000 numbers, but at most 1,000,000,000 are supported; make fewer"),
        ({"noise": -1.0}, "noise must be from 0 to 1e\\+06, got -1.0"),
        ({"spread": float("inf")}, "spread must be from 0 to 10, got inf"),
        ({"faulty": float("nan")}, "faulty must be from 0 to 1, got nan"),
        ({"test_fraction": 1.0}, "test_fraction must be between 0 and 1, got 1.0"),
    ],
)
def test_impossible_arguments_of_recordings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SimulatedSensors(num_clients=4, **options)  # type: ignore[arg-type]
