"""The learning rates of a federation, round by round: an optimizer's own rate times the factor of a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer

from fedlit.core.errors import InputError
from fedlit.core.given import object_of
from fedlit.core.limits import FLOAT32_MAX
from fedlit.schedules import Constant, Schedule


class Rates:
    """The schedules of the clients' and the server's learning rate, by role: ``client``, ``server``.

    Args:
        schedules: A schedule for each role; None for a constant rate. Kept in ``given``.
    """

    def __init__(self, **schedules: Schedule | None) -> None:
        for role, schedule in schedules.items():
            if schedule is not None:
                object_of(f"{role}_schedule", schedule, Schedule, "a schedule, such as fedlit.schedules.Cosine(100)")
        self.given = schedules
        self._schedules = {role: schedule or Constant() for role, schedule in schedules.items()}
        self._own: dict[str, float | None] = {}

    def begin(self, optimizers: Mapping[str, Optimizer], rounds: int | None) -> None:
        """Check the optimizers once before training, and reset the schedules.

        Args:
            optimizers: One for each role.
            rounds: Number of rounds of the run; None or -1 for no limit.

        Raises:
            InputError: If a schedule has no rate to change, or no valid factor for the first or the last round.
        """
        for schedule in self._each():
            schedule.renew()
        for role, optimizer in optimizers.items():
            self.measure(role, optimizer)
            if self.given[role] is not None and not all("lr" in group for group in optimizer.param_groups):
                raise InputError(
                    f"model.{role}_schedule changes the learning rate lr, which {type(optimizer).__name__} does not "
                    f"have; leave the schedule out, or use another model.{role}_optimizer"
                )
            for round in {0, max(0, (rounds or 0) - 1)}:
                self.factor(role, round)

    def leave(self) -> None:
        """Note the schedules' attributes at the end of a fit."""
        for schedule in self._each():
            schedule.leave()

    def _each(self) -> list[Schedule]:
        """The schedules, one that is used for both roles once."""
        return [*{id(schedule): schedule for schedule in self._schedules.values()}.values()]

    def measure(self, role: str, optimizer: object) -> None:
        """Take a role's own rate from its present optimizer, as a callback or a client's own class may set another.

        Args:
            role: The role.
            optimizer: Its optimizer; anything else, such as optimizers with schedulers, has no known rate.
        """
        self._own[role] = rate_of(optimizer) if isinstance(optimizer, Optimizer) else None

    def factor(self, role: str, round: int) -> float:
        """The factor of a role's learning rate in a round (from 0).

        Raises:
            InputError: If the schedule does not return a finite number > 0.
        """
        schedule = self._schedules[role]
        factor = schedule.factor(round)
        if not 0 < factor <= FLOAT32_MAX:
            raise InputError(
                f"model.{role}_schedule {type(schedule).__name__} gives {factor} for round {round + 1}, but the factor "
                "of a learning rate must be a finite number > 0; change its arguments, or trainer.max_epochs"
            )
        return float(factor)

    def metrics(self, round: int) -> dict[str, float]:
        """The learning rates of a round (from 0); for an optimizer with several, that of its first group."""
        return {
            f"federation/{role}_lr": own * self.factor(role, round)
            for role, own in self._own.items()
            if own is not None
        }

    def update(self, metrics: Mapping[str, float], following: int | None) -> None:
        """Update the schedules with the metrics of a finished round.

        Args:
            metrics: The metrics of that round.
            following: The next round, from 0, if a run resumed there must have the same rates; else None.

        Raises:
            InputError: If a resumed run would have another rate.
        """
        for schedule in self._each():
            if following is None:
                schedule.update(metrics)
            else:
                schedule.update_and_check(metrics, lambda each: [each.factor(following)])

    def state_dict(self) -> dict[str, Any]:
        """The schedules' states, by role, with their classes."""
        return {
            role: {"class": type(each).__name__, "state": each.state_dict()} for role, each in self._schedules.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint; a schedule that is new, or of another class than there, starts anew."""
        for role, schedule in self._schedules.items():
            then = state.get(role, {})
            if then.get("class") == type(schedule).__name__:
                schedule.load_state_dict(then["state"])


def scale(optimizer: Optimizer, factor: float) -> None:
    """Multiply the learning rate of each of an optimizer's parameter groups."""
    if factor != 1:  # without a schedule, the optimizer may have no lr
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor


@contextmanager
def scaled(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """``scale`` within the block; outside of it, and so in checkpoints, an optimizer has its own rates."""
    own = [dict(group) for group in optimizer.param_groups]
    scale(optimizer, factor)
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, own, strict=True):
            group.update({"lr": before["lr"]} if "lr" in before else {})


def rate_of(optimizer: Optimizer) -> float | None:
    """The learning rate of an optimizer's first parameter group; None if it has none."""
    rate = optimizer.param_groups[0].get("lr")
    return None if rate is None else float(rate)
