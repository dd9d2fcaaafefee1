"""The learning rates of a federation, round by round: an optimizer's own, times the factor of a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer

from fedlit.core.errors import InputError
from fedlit.core.limits import FLOAT32_MAX
from fedlit.schedules import Constant, Schedule


class Rates:
    """The schedules of the clients' and the server's learning rate, by role: ``client``, ``server``.

    Args:
        schedules: None is a constant rate.
    """

    def __init__(self, **schedules: Schedule | None) -> None:
        self._given = schedules
        self._schedules = {role: schedule or Constant() for role, schedule in schedules.items()}
        self._own: dict[str, float | None] = {}

    def begin(self, optimizers: Mapping[str, Optimizer], rounds: int | None) -> None:
        """Check the optimizers once before training, and forget those of an earlier fit.

        Args:
            optimizers: One of each role.
            rounds: Those of the run; None or -1 is no end.

        Raises:
            InputError: When a schedule has no rate to change, or gives no factor for the first round or the last.
        """
        for schedule in self._schedules.values():
            schedule.renew()
        for role, optimizer in optimizers.items():
            self._own[role] = rate_of(optimizer)
            if self._given[role] is not None and not all("lr" in group for group in optimizer.param_groups):
                raise InputError(
                    f"model.{role}_schedule changes a learning rate, and {type(optimizer).__name__} has none, no lr; "
                    f"leave the schedule out, or use another model.{role}_optimizer"
                )
            for round in {0, max(0, (rounds or 0) - 1)}:
                self.factor(role, round)

    def factor(self, role: str, round: int) -> float:
        """What a role's learning rate is multiplied by in a round, from 0.

        Raises:
            InputError: When the schedule gives other than a finite number above 0.
        """
        schedule = self._schedules[role]
        factor = schedule.factor(round)
        if not 0 < factor <= FLOAT32_MAX:
            raise InputError(
                f"model.{role}_schedule {type(schedule).__name__} gives {factor} for round {round + 1}, but a learning "
                "rate is multiplied by a finite number above 0; change its arguments, or trainer.max_epochs"
            )
        return float(factor)

    def metrics(self, round: int) -> dict[str, float]:
        """The learning rates of a round, from 0; of an optimizer with several, that of its first parameters."""
        return {
            f"federation/{role}_lr": own * self.factor(role, round)
            for role, own in self._own.items()
            if own is not None
        }

    def update(self, metrics: Mapping[str, float], following: int | None) -> None:
        """Give the schedules the metrics of a finished round.

        Args:
            metrics: Of that round.
            following: The round after it, from 0; None where a run that is resumed at it need not be the same.

        Raises:
            InputError: When it would not.
        """
        for schedule in self._schedules.values():
            if following is None:
                schedule.update(metrics)
            else:
                schedule.update_and_check(metrics, lambda each: [each.factor(following)])

    def state_dict(self) -> dict[str, Any]:
        """The schedules' states, by role, with the classes that they are of."""
        return {
            role: {"class": type(each).__name__, "state": each.state_dict()} for role, each in self._schedules.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint; a schedule that it lacks, or has of another class, starts from its beginning."""
        for role, schedule in self._schedules.items():
            then = state.get(role, {})
            if then.get("class") == type(schedule).__name__:
                schedule.load_state_dict(then["state"])


def scale(optimizer: Optimizer, factor: float) -> None:
    """Multiply the learning rate of each group of an optimizer's parameters."""
    if factor != 1:  # without a schedule there may be no rate either
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor


@contextmanager
def scaled(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """``scale`` for the time inside; before and after, and so in a checkpoint, the rates are the optimizer's own."""
    own = [dict(group) for group in optimizer.param_groups]
    scale(optimizer, factor)
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, own, strict=True):
            group.update({"lr": before["lr"]} if "lr" in before else {})


def rate_of(optimizer: Optimizer) -> float | None:
    """The learning rate of an optimizer's first group; None where it has none."""
    rate = optimizer.param_groups[0].get("lr")
    return None if rate is None else float(rate)
