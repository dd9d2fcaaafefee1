"""Simulated recordings of sensors at many sites: sequences (T, S), one client for each site."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedlit.core.counts import at_least, share_of
from fedlit.core.errors import InputError
from fedlit.core.seeding import rng
from fedlit.data.convert import MAX_CLASSES
from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData
from fedlit.data.partition import Partitioner
from fedlit.data.partitioners import ByGroup

FloatArray = NDArray[np.float64]

#: Distance, in sensors, over which an event's strength falls to 1/e.
REACH = 1.5
#: Length of an event: the standard deviation of its envelope as a share of the recording.
DURATION = 1 / 16
#: Noise of a faulty sensor, in units of a working sensor's.
FAULTY_NOISE = 3.0
#: With a greater spread, exp(spread * e) may overflow float32.
MAX_SPREAD = 10.0
#: The most numbers in memory; in float32 they take 4 GB.
MAX_NUMBERS = 1_000_000_000


class SimulatedSensors(FederatedData):
    r"""Simulated recordings of one event each, (T, S), by the S sensors of a site; the class is the event's frequency.

    The sensors are in a row, at the positions s = 0 .. S - 1. At site k::

        g_s = exp(spread * N(0, 1)), o_s = spread * N(0, 1)     gain and offset of each sensor
        d_s ~ Bernoulli(faulty)                                 whether the sensor is faulty

    and a recording of class y there, at the steps t = 0 .. T - 1, is::

        q ~ U(0, T), p ~ U(0, S - 1), phi ~ U(0, 2 pi)          when and where the event is, and its phase
        u = t - q, f_y = (y + 1) / (2 C + 2), w = T / 16        cycles a step, and length of the event
        event = sin(2 pi f_y u + phi) exp(-u^2 / (2 w^2)) exp(-|s - p| / 1.5)
        x = o_s + g_s * event + noise * N(0, 1)                 of a working sensor
        x = o_s + 3 * noise * N(0, 1)                           of a faulty one

    A recording shows its event only for a part of the time and at nearby sensors. All sites have the same distribution
    of classes; they differ in their sensors, unless ``spread`` and ``faulty`` are 0. ``Dirichlet`` and other partitions
    by class mix the recordings of all sites.

    Draws are addressed by (seed, site): a site's recordings do not depend on the number of sites, and at one seed all
    values of ``noise``, ``spread`` and ``faulty`` use the same random variates. Inputs are float32, (N, T, S), for
    ``fedlit.models.SequenceCNN``.

    Args:
        sensors: Number S of sensors of a site.
        steps: Length T of a recording.
        classes: Number C of frequencies, one for each class.
        recordings: Number of recordings of each site, for training and testing together.
        noise: Standard deviation of the noise, >= 0; the strongest event has the amplitude 1.
        spread: Standard deviation of the gains (their logarithm) and of the offsets, in [0, 10].
        faulty: Probability in [0, 1] that a sensor is faulty.
        test_fraction: Fraction of every site's recordings held out for testing, in (0, 1), rounded down.
        partition: As for `FederatedData`; None is ``fedlit.data.ByGroup``, one client for each site.
        num_clients: Number of sites.
        **kwargs: The other arguments of `FederatedData`.

    Raises:
        InputError: If an argument is out of range, or the recordings do not fit in memory.
    """

    def __init__(
        self,
        sensors: int = 8,
        steps: int = 64,
        classes: int = 5,
        recordings: int = 100,
        noise: float = 0.2,
        spread: float = 0.3,
        faulty: float = 0.2,
        test_fraction: float = 0.2,
        partition: Partitioner | None = None,
        num_clients: int = 20,
        **kwargs: Any,
    ) -> None:
        super().__init__(partition=partition or ByGroup(), num_clients=num_clients, **kwargs)
        counts = {"sensors": (sensors, 1), "steps": (steps, 1), "classes": (classes, 2), "recordings": (recordings, 2)}
        sensors, steps, classes, recordings = (at_least(least, name, n) for name, (n, least) in counts.items())
        if classes > MAX_CLASSES:
            raise InputError(f"classes must be at most {MAX_CLASSES:,}, got {classes}; 5 is the default")
        if (numbers := num_clients * recordings * steps * sensors) > MAX_NUMBERS:
            raise InputError(
                f"the recordings have {numbers:,} numbers, but at most {MAX_NUMBERS:,} are supported; make fewer"
            )
        for name, (value, most) in {
            "noise": (noise, 1e6),
            "spread": (spread, MAX_SPREAD),
            "faulty": (faulty, 1),
        }.items():
            if not 0 <= value <= most:
                raise InputError(f"{name} must be from 0 to {most:g}, got {value}; leave it out for the default")
        if not 0 < test_fraction < 1:
            raise InputError(f"test_fraction must be between 0 and 1, got {test_fraction}; 0.2 holds out a fifth")
        self.sensors, self.steps, self.classes, self.recordings = sensors, steps, classes, recordings
        self.noise, self.spread, self.faulty = noise, spread, faulty
        self.test_fraction = test_fraction

    @property
    def class_names(self) -> list[str]:
        """The frequencies in cycles per step."""
        return [f"{number}/{2 * self.classes + 2}" for number in range(1, self.classes + 1)]

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`."""
        sites = range(self._requested_clients or self.num_clients)
        inputs, targets = map(np.concatenate, zip(*map(self.site, sites), strict=True))
        groups = np.repeat(sites, self.recordings)
        examples = Examples(torch.from_numpy(inputs), torch.from_numpy(targets), groups)
        # A site's recordings are in random order, so the last ones are a random test set.
        num_train = self.recordings - share_of(self.recordings, self.test_fraction)
        is_test = np.arange(len(groups)) % self.recordings >= num_train
        return examples.take(np.flatnonzero(~is_test)), examples.take(np.flatnonzero(is_test))

    def site(self, site: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """A site's recordings, (n, T, S), and their classes, (n,)."""
        gains, offsets, is_faulty = self.site_sensors(site)  # (S,) each
        draw = rng(self.seed, "sensor recordings", site)
        labels = draw.integers(self.classes, size=self.recordings)  # (n,)
        when, where, phase = draw.random((3, self.recordings))  # (n,) each, in [0, 1)
        frequency = (labels + 1) / (2 * self.classes + 2)
        events = event(
            frequency, when * self.steps, where * (self.sensors - 1), 2 * np.pi * phase, self.steps, self.sensors
        )
        noise = self.noise * draw.standard_normal(events.shape)
        signal = np.where(is_faulty, FAULTY_NOISE * noise, gains * events + noise)  # (n, T, S)
        return (offsets + signal).astype(np.float32), labels

    def site_sensors(self, site: int) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Gain and offset of a site's sensors, and whether each is faulty, (S,) each."""
        draw = rng(self.seed, "sensor site", site)
        gains, offsets = self.spread * draw.standard_normal((2, self.sensors))
        return np.exp(gains), offsets, draw.random(self.sensors) < self.faulty


def event(
    frequency: FloatArray, when: FloatArray, where: FloatArray, phase: FloatArray, steps: int, sensors: int
) -> FloatArray:
    """The signal of events at sensors with gain 1 and without noise: (n, steps, sensors).

    Args:
        frequency: In cycles per step, (n,).
        when: Step of the middle of each event, (n,).
        where: Position of each event in the row of sensors, (n,).
        phase: In radians, (n,).
        steps: T.
        sensors: S.
    """
    u = np.arange(steps) - when[:, None]  # (n, T)
    wave = np.sin(2 * np.pi * frequency[:, None] * u + phase[:, None]) * np.exp(-((u / (DURATION * steps)) ** 2) / 2)
    strength = np.exp(-np.abs(np.arange(sensors) - where[:, None]) / REACH)  # (n, S)
    return wave[:, :, None] * strength[:, None]
