"""The privacy budget (epsilon) of noise on the server's averages."""

from __future__ import annotations

from collections.abc import Callable

from fedlit.core.errors import InputError


def accountant(noise_multiplier: float, clients: int, cohort: int, delta: float) -> Callable[[int], float]:
    """A function from a number of rounds to their epsilon, if one client is replaced by another.

    Args:
        noise_multiplier: Standard deviation of the noise on the sum of a cohort's updates, in units of their greatest
            norm, more than 0.
        clients: Number of all clients.
        cohort: Number of clients in a round, drawn uniformly without replacement.
        delta: The delta of (epsilon, delta)-differential privacy.

    Raises:
        InputError: If the package dp-accounting is not installed.
    """
    try:
        import dp_accounting as dp
    except ImportError as error:
        raise InputError(
            "PrivateMean needs the dp-accounting package for epsilon; pip install dp-accounting"
        ) from error
    gaussian = dp.GaussianDpEvent(noise_multiplier / 2)  # replacing a client moves the sum by up to twice its norm
    one_round = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    one_round.compose(dp.SampledWithoutReplacementDpEvent(clients, cohort, gaussian))

    def epsilon(rounds: int) -> float:
        return float(dp.rdp.compute_epsilon(one_round.orders, rounds * one_round.rdp, delta)[0])

    return epsilon
