"""A user's own mu and schedule: all of their state is in the checkpoint, or they are refused."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import fit, net, weights
from torch.optim import SGD

from fedlit.core.errors import InputError
from fedlit.federated import AdaptiveMu, FederatedLoop, FederatedModule, Mu
from fedlit.schedules import Schedule


class Growing(Mu):
    """Grows by half in each round; a subclass defines its state in a checkpoint."""

    def __init__(self) -> None:
        self.mu = 0.1

    @property
    def value(self) -> float:
        return self.mu

    def update(self, metrics: Mapping[str, float]) -> None:
        self.mu *= 1.5


class Kept(Growing):
    def state_dict(self) -> dict[str, Any]:
        return {"mu": self.mu}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mu = state["mu"]


class Lists(Kept):
    """Keeps all that it was, in one list that it gives away and takes."""

    def __init__(self) -> None:
        self.before = [0.1]

    @property
    def value(self) -> float:
        return self.before[-1]

    def update(self, metrics: Mapping[str, float]) -> None:
        self.before.append(sum(self.before))

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.before = state["before"]


class SecondFalls(Kept):
    """Moves in each second round, and forgets which of the two it is in."""

    rounds = 0

    def update(self, metrics: Mapping[str, float]) -> None:
        self.rounds += 1
        if self.rounds % 2 == 0:
            super().update(metrics)


class MorePatient(AdaptiveMu):
    """The paper's rule with a count of its own, which its state lacks."""

    seen = 0

    def update(self, metrics: Mapping[str, float]) -> None:
        self.seen += 1
        super().update({"clients/train_loss": float(self.seen)})


class Drawn(Growing):
    @property
    def value(self) -> float:
        return random.random()


class Negative(Kept):
    def update(self, metrics: Mapping[str, float]) -> None:
        self.mu = -1.0


class OfATensor(Kept):
    @property
    def value(self) -> Any:
        return torch.tensor(0.1)


class Halving(Schedule):
    def __init__(self) -> None:
        self.rate = 1.0

    def factor(self, round: int) -> float:
        return self.rate

    def update(self, metrics: Mapping[str, float]) -> None:
        self.rate /= 2


class KeptHalving(Halving):
    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rate = state["rate"]


class Counting(Halving):
    """Halves with each question."""

    def factor(self, round: int) -> float:
        self.rate /= 2
        return self.rate


class Listed(Schedule):
    """Has a factor for each of four rounds, and no more."""

    def factor(self, round: int) -> float:
        return [1.0, 0.5, 0.25, 0.125][round]


REFUSED = r"gives .* for the next round, but .* in a resumed run, as its state_dict is incomplete"
#: Each rule with the message that refuses it; None if a resumed run continues with it.
RULES: list[tuple[type[Mu] | type[Schedule], str | None]] = [
    (Growing, r"Growing gives 0.15 for the next round, but 0.1 in a resumed run"),
    (Kept, None),
    (Lists, None),
    (SecondFalls, REFUSED),
    (MorePatient, REFUSED),
    (Drawn, REFUSED),
    (Negative, r"model.mu Negative gives -1.0 for 0.weight, but mu is a finite number >= 0"),
    (OfATensor, None),
    (Halving, r"Halving gives 0.5 for the next round, but 1 in a resumed run"),
    (KeptHalving, None),
    (Counting, REFUSED),
    (Listed, None),
]


def run(rule: Mu | Schedule, rounds: int, **kwargs: Any) -> torch.Tensor:
    given: dict[str, Any] = {"mu": rule} if isinstance(rule, Mu) else {"client_schedule": rule, "server_schedule": rule}
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1), **given)
    return weights(fit(module, FederatedLoop(4, 3, seed=0), rounds=rounds, **kwargs).net)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize(("rule", "refused"), RULES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_is_refused_or_resumes_to_the_bit(
    rule: type[Mu] | type[Schedule], refused: str | None, tmp_path: Path
) -> None:
    if refused:
        with pytest.raises(InputError, match=refused):
            run(rule(), 4, root=tmp_path)
        return
    straight = run(rule(), 4, root=tmp_path / "straight")
    assert torch.equal(run(rule(), 4), straight)  # comparing with a resumed run changes nothing
    run(rule(), 2, root=tmp_path)
    (path,) = (tmp_path / "checkpoints").glob("*.ckpt")
    assert torch.equal(run(rule(), 4, root=tmp_path, ckpt_path=path), straight)


def test_a_rule_needs_no_state_without_checkpoints() -> None:
    assert not torch.equal(run(Growing(), 4), run(Negative(), 1))
    run(Halving(), 4)
