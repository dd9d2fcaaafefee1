"""A user's own sampling and stragglers give the same cohorts at the same seed, or are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import SIZES, data, fit, weights
from lightning import Callback

from fedlit.core.errors import InputError
from fedlit.core.seeding import rng
from fedlit.data import Partition
from fedlit.federated import FederatedLoop, Sampling, Stragglers
from fedlit.federated.cohort import draw_cohort
from fedlit.sampling import Draw


class Drawing(Sampling):
    """Draws by a given function; has its own generator and count."""

    by_size = False

    def __init__(self, how: Callable[..., Any]) -> None:
        self.how, self.rng, self.calls = how, np.random.default_rng(0), 0

    def draw(self, partition: Partition, clients_per_round: int, seed: int, round: int) -> Draw:
        self.calls += 1
        return self.how(self, seed, round)  # type: ignore[no-any-return]


class Working(Stragglers):
    """Does the work that a given function returns."""

    def __init__(self, how: Callable[..., Any]) -> None:
        self.how, self.rng = how, np.random.default_rng(0)

    def work(self, clients: Any, epochs: float, seed: int, round: int) -> Any:
        return self.how(self, clients, epochs, seed, round)


def once(*clients: Any) -> Draw:
    return Draw(np.array(clients), np.ones(len(clients), dtype=int))


def some(generator: Any) -> Draw:
    return once(*generator.choice(len(SIZES), 3, replace=False))


AGAIN = "gives other clients each time it is called for the same round"
#: Draws of three of six clients with the message that refuses them; None if they train.
DRAWS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "at an address": (lambda self, seed, round: some(rng(seed, "cohort", round)), None),
    "a generator of its own": (lambda self, seed, round: some(self.rng), AGAIN),
    "NumPy's generator": (lambda self, seed, round: some(np.random), AGAIN),
    "a count of its calls": (lambda self, seed, round: once(self.calls % 6), AGAIN),
    "in no order": (lambda self, seed, round: once(3, 0, 5), None),
    "lists": (lambda self, seed, round: Draw([0, 3, 5], [1, 1, 1]), None),  # type: ignore[arg-type]
    "a client twice": (lambda self, seed, round: once(2, 0, 2), "gives client 2 more than once for round 1"),
    "a client too many": (lambda self, seed, round: once(0, 6), "gives clients from 0 to 6, where there are 0 to 5"),
    "a client below 0": (lambda self, seed, round: once(-1, 2), "gives clients from -1 to 2"),
    "clients alone": (lambda self, seed, round: np.array([0, 3]), r"gives clients of shape \(\) and times of shape"),
    "many clients alone": (lambda self, seed, round: np.array([0, 3, 5]), "gives a ndarray"),
    "nothing": (lambda self, seed, round: None, "gives a NoneType"),
    "floats": (lambda self, seed, round: once(0.0, 3.0), "gives clients of float64"),
    "no times": (lambda self, seed, round: Draw(np.array([0, 3]), np.array([1, 0])), "a client that was drawn 0 times"),
    "too few times": (lambda self, seed, round: Draw(np.array([0, 3]), np.array([1])), r"times of shape \(1,\)"),
}

OTHER_WORK = "gives other work each time it is called for the same round"
#: The same of the work of a cohort that is asked for two passes.
WORK: dict[str, tuple[Callable[..., Any], str | None]] = {
    "at an address": (lambda self, c, e, seed, round: e * rng(seed, "slow", round).random(len(c)), None),
    "a list": (lambda self, c, e, seed, round: [e] * len(c), None),
    "a generator of its own": (lambda self, c, e, seed, round: e * self.rng.random(len(c)), OTHER_WORK),
    "NumPy's generator": (lambda self, c, e, seed, round: e * np.random.rand(len(c)), OTHER_WORK),  # noqa: NPY002
    "of one": (lambda self, c, e, seed, round: np.array([e]), r"gives numbers of shape \(1,\) for 3 clients"),
    "more": (lambda self, c, e, seed, round: np.full(len(c), 3.5), "gives 3.5 passes for client"),
    "less than none": (lambda self, c, e, seed, round: np.full(len(c), -1), "gives -1.0 passes for client"),
    "NaN": (lambda self, c, e, seed, round: np.full(len(c), np.nan), "gives nan passes for client"),
    "infinite": (lambda self, c, e, seed, round: np.full(len(c), np.inf), "gives inf passes for client"),
    "nothing": (lambda self, c, e, seed, round: None, "for 3 clients in round 1"),
    "words": (lambda self, c, e, seed, round: ["all"] * len(c), "gives a list in round 1"),
}


@pytest.mark.parametrize("by", ["a listener", "a callback, at the end of a round"])
@pytest.mark.parametrize("piece", ["sampling", "stragglers"])
def test_a_rule_that_depends_on_what_it_learned_in_the_run_is_refused(piece: str, by: str) -> None:
    losses: dict[int, float] = {}

    class Learning(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            losses[trainer.current_epoch % 2] = pl_module.round_metrics["clients/train_loss"]

    def draw(self: Any, seed: int, round: int) -> Draw:
        """The clients of the smallest losses."""
        return once(*sorted(range(len(SIZES)), key=lambda client: losses.get(client, 0.0))[:3])

    rules = {
        "sampling": Drawing(draw),
        "stragglers": Working(lambda self, c, e, *_: np.full(len(c), e / 2 ** len(losses))),
    }
    loop = FederatedLoop(3, 2, seed=0, **{piece: rules[piece]})  # type: ignore[arg-type]
    if by == "a listener":
        loop.on_update.append(lambda answer: losses.update({answer.task.client: answer.metrics["loss"]}))  # type: ignore[union-attr]
    said = "Drawing.draw gives other clients" if piece == "sampling" else "Working.work gives other work"
    with pytest.raises(InputError, match=f"{said} for round 1 after it than before it"):
        fit(loop=loop, rounds=2, callbacks=[] if by == "a listener" else [Learning()])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize(
    ("piece", "refused"),
    [
        *(pytest.param({"sampling": how}, said, id=f"draws {name}") for name, (how, said) in DRAWS.items()),
        *(pytest.param({"stragglers": how}, said, id=f"work: {name}") for name, (how, said) in WORK.items()),
    ],
)
def test_a_users_class_is_refused_or_its_run_resumes_to_the_bit(
    piece: dict[str, Any], refused: str | None, tmp_path: Path
) -> None:
    def run(rounds: int, **kwargs: Any) -> torch.Tensor:
        made = {"sampling": Drawing, "stragglers": Working}
        loop = FederatedLoop(3, 2, seed=0, **{name: made[name](how) for name, how in piece.items()})
        return weights(fit(loop=loop, rounds=rounds, **kwargs).net)

    np.random.seed(0)  # noqa: NPY002
    if refused:
        with pytest.raises(InputError, match=refused):
            run(3)
        return
    straight = run(3)
    run(2, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(run(3, root=tmp_path, ckpt_path=path), straight)


def test_an_unordered_draw_equals_the_ordered_one() -> None:
    federation = data()
    federation.setup()
    given = Draw(np.array([3, 0, 5]), np.array([1, 2, 3]))
    found = draw_cohort(Drawing(lambda self, seed, round: given), federation.partition, 3, 0, 0)
    assert (found.clients.tolist(), found.times.tolist()) == ([0, 3, 5], [2, 1, 3])


def test_rounds_beyond_the_runs_end_are_not_drawn() -> None:
    cohorts = [once(0, 1), once(2, 3)]
    fit(loop=FederatedLoop(2, seed=0, sampling=Drawing(lambda self, seed, round: cohorts[round])), rounds=2)


def test_a_sampling_has_to_define_by_size() -> None:
    class Silent(Sampling):
        def draw(self, partition: Partition, clients_per_round: int, seed: int, round: int) -> Draw:
            return once(0)

    with pytest.raises(InputError, match="Silent does not define by_size; set it in the class: True if"):
        FederatedLoop(4, sampling=Silent())


def test_stragglers_may_change_the_array_that_they_are_given() -> None:
    def change(self: Any, clients: Any, epochs: float, *_: int) -> Any:
        clients //= 2
        return np.where(clients == 0, epochs / 2, epochs)

    federation = data()
    federation.setup()
    tasks = FederatedLoop(6, 2, seed=0, stragglers=Working(change)).cohort(0, federation)
    assert [task.client for task in tasks] == [*range(6)]
    assert [task.epochs for task in tasks] == [1, 1, 2, 2, 2, 2]
