"""A user's own algorithm: silent errors and lost state are refused before the first round."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import fit, net, two_ranks, weights
from torch import Tensor
from torch.optim import SGD

import fedlit.algorithms.trial
from fedlit.algorithms import Algorithm, Clip, FedDyn, Mean, chain
from fedlit.core.errors import InputError
from fedlit.core.seeding import generator
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule


def to(average: Any, floats: Tensor) -> Any:
    return average.weights._replace(floats=floats)


class ByState(Algorithm):
    """Momentum on the server, in its state."""

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        move = average.weights.floats - sent.weights.floats
        velocity = 0.9 * state["velocity"] + move if state else move
        return {"velocity": velocity}, to(average, sent.weights.floats + velocity)


class ByAttribute(Algorithm):
    velocity: Any = 0.0

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        self.velocity = 0.9 * self.velocity + average.weights.floats - sent.weights.floats
        return state, to(average, sent.weights.floats + self.velocity)


class InPlace(ByAttribute):
    """The same in a list that is as long as before."""

    def __init__(self) -> None:
        self.memory = [0.0]

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        self.memory[0] = 0.9 * self.memory[0] + average.weights.floats - sent.weights.floats
        return state, to(average, sent.weights.floats + self.memory[0])


class StateInPlace(Algorithm):
    """Writes to its state, which is its own."""

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        state = dict(state) or {"velocity": torch.zeros_like(sent.weights.floats)}
        state["velocity"].mul_(0.9).add_(average.weights.floats - sent.weights.floats)
        return state, to(average, sent.weights.floats + state["velocity"])


class Cached(Algorithm):
    """Computes a value once for all rounds, under a lock."""

    def __init__(self) -> None:
        self.lock, self.share = threading.Lock(), None

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        with self.lock:
            self.share = self.share or 0.5
        return state, to(average, sent.weights.floats.lerp(average.weights.floats, self.share))


class OfTheClients(Algorithm):
    """An attribute that one client sets changes the next client's gradients."""

    left: Tensor | None = None

    def begin(self, sent: Any, kept: Any) -> Tensor | None:
        return self.left

    def end(self, sent: Any, ended: Any, steps: int, kept: Any) -> None:
        self.left = 0.1 * (ended.floats - sent.weights.floats)[: self.facts.layout.num_trainable]


class WithinAFit(OfTheClients):
    """``begin`` sets an attribute for the ``end`` of the same fit."""

    def begin(self, sent: Any, kept: Any) -> None:
        self.left = sent.weights.floats.clone()

    @property
    def kept_size(self) -> int:
        return self.facts.layout.num_trainable

    def end(self, sent: Any, ended: Any, steps: int, kept: Any) -> Tensor:
        assert self.left is not None
        return (ended.floats - self.left)[: self.kept_size]


class NothingKept(Algorithm):
    def end(self, sent: Any, ended: Any, steps: int, kept: Any) -> Tensor:
        return ended.floats - sent.weights.floats


class Counted(Algorithm):
    """Counts updates as they pass, and weighs the later ones less."""

    seen = 0

    def transform(self, sent: Any, update: Any) -> Any:
        self.seen += 1
        return update._replace(weights=to(update, sent.weights.floats.lerp(update.weights.floats, 1 / self.seen)))


class WritesToTheModel(Algorithm):
    def start(self, floats: Tensor, kept: Any) -> Tensor:
        return floats.mul_(0.5)


class Drawing(Algorithm):
    """The step that the server takes is random."""

    def draw(self, round: int) -> float:
        return float(torch.rand((), generator=generator(self.facts.seed, "drawing", round)))

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        return state, to(average, sent.weights.floats.lerp(average.weights.floats, self.draw(sent.round)))


class OfTorch(Drawing):
    def draw(self, round: int) -> float:
        return float(torch.rand(()))


class OfNumPy(Drawing):
    def draw(self, round: int) -> float:
        return float(np.random.rand())  # noqa: NPY002


class OfPython(Drawing):
    def draw(self, round: int) -> float:
        return random.random()


class OfItsOwn(Drawing):
    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, round: int) -> float:
        return float(torch.rand((), generator=self.generator))


class Remembering(Algorithm):
    """Has something in its state."""

    what: Any = 1

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        return {"what": self.what}, average.weights


class AnArray(Remembering):
    what = np.ones(3)


class AFunction(Remembering):
    what = staticmethod(len)


class ACounter(Remembering):
    what = Counter(a=1)  # noqa: RUF012


class Nested(Remembering):
    what = {"a": [1, (2.0, "b")], 3: torch.ones(2)}  # noqa: RUF012


class Unready(Algorithm):
    """Takes the updates of clients 0 to 3 alone."""

    def transform(self, sent: Any, update: Any) -> Any:
        assert update.metrics["loss"] != 1.0, "a made-up update"
        return update


MEMORY = "returns another value each time for the same arguments, for example because of an attribute"
GLOBAL = "draws from a global generator"
#: Each algorithm with the message that refuses it; None if engines and a resumed run agree.
CASES: list[tuple[type[Algorithm], str | None]] = [
    (ByState, None),
    (ByAttribute, rf"ByAttribute.conclude {MEMORY}"),
    (InPlace, rf"InPlace.conclude {MEMORY}"),
    (StateInPlace, None),
    (Cached, None),
    (OfTheClients, rf"OfTheClients.begin {MEMORY}"),
    (WithinAFit, None),
    (NothingKept, r"NothingKept.end returns 75 numbers to keep, but its kept_size is 0"),
    (Counted, rf"Counted.transform {MEMORY}"),
    (WritesToTheModel, "WritesToTheModel changes the model that was sent"),
    (Drawing, None),
    (OfTorch, rf'OfTorch {GLOBAL}.*generator\(self.facts.seed, "OfTorch", round\)'),
    (OfNumPy, GLOBAL),
    (OfPython, GLOBAL),
    (OfItsOwn, MEMORY),
    (AnArray, "AnArray.conclude returns a state in which what is a numpy.ndarray, which a checkpoint cannot hold"),
    (AFunction, "what is a builtin_function_or_method"),
    (ACounter, None),
    (Nested, None),
    (Unready, None),
]
ENGINES: list[Callable[[], Engine]] = [TrainerEngine, lambda: WorkersEngine(workers=2)]


def run(algorithm: Algorithm, engine: Engine | None = None, rounds: int = 3, **kwargs: Any) -> Tensor:
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = FederatedLoop(4, seed=0, algorithm=algorithm, engine=engine or LoopEngine())
    return weights(fit(module, loop, rounds=rounds, **kwargs).net)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize(("algorithm", "refused"), CASES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("chained", [False, True], ids=["alone", "in a chain"])
def test_an_algorithm_is_refused_or_engines_and_a_resumed_run_agree(
    algorithm: type[Algorithm], refused: str | None, chained: bool, tmp_path: Path
) -> None:
    def made() -> Algorithm:
        return chain(Clip(100.0), algorithm(), Mean()) if chained else algorithm()

    if refused:
        with pytest.raises(InputError, match=refused):
            run(made())
        return
    straight = run(made())
    for engine in ENGINES:
        assert torch.equal(run(made(), engine()), straight)
    run(made(), rounds=2, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(run(made(), root=tmp_path, ckpt_path=path), straight)


def test_the_trial_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(ByState):
        calls = 0

        def conclude(self, state: Any, sent: Any, average: Any) -> Any:
            self.calls += 1
            return super().conclude(state, sent, average)

    algorithm = Seen()
    tried = run(algorithm)
    assert algorithm.calls == 3
    monkeypatch.setattr(fedlit.algorithms.trial, "ROUNDS", 0)
    assert torch.equal(run(ByState()), tried)


def test_parts_of_a_chain_have_separate_states() -> None:
    class Twice(ByState):
        """Under the same name as the other."""

    # Each is the server's momentum; the second one gets the result of the first.
    class Both(Algorithm):
        def conclude(self, state: Any, sent: Any, average: Any) -> Any:
            first, middle = ByState().conclude(state.get("a", {}), sent, average)
            second, model = ByState().conclude(state.get("b", {}), sent, average._replace(weights=middle))
            return {"a": first, "b": second}, model

    assert torch.equal(run(chain(ByState(), Twice())), run(Both()))


def test_a_chain_resumes_from_an_old_state_that_its_parts_shared() -> None:
    together = chain(FedDyn(), ByState())
    state = {"h": torch.zeros(3), "alpha": 0.1}
    assert together._states(state) == [state, state]  # type: ignore[attr-defined]
    assert together._states({"0": state}) == [state, {}]  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["start", "begin"])
def test_algorithms_that_change_fits_are_detected(method: str) -> None:
    def unchanged(self: Any, *given: Any) -> Any:
        return given[0] if method == "start" else None

    own = type("Own", (Algorithm,), {method: unchanged})()
    assert own.changes_fit
    assert chain(own, Mean()).changes_fit
    assert not Algorithm().changes_fit
    with pytest.raises(InputError, match="Own changes how clients train, which VectorizedEngine does not support"):
        run(own, VectorizedEngine())


def test_a_users_own_average_in_a_chain_is_used() -> None:
    class Own(Algorithm):
        def reducer(self, sent: Any) -> Any:
            raise LookupError("asked")

    assert Own().averages
    with pytest.raises(LookupError, match="asked"):
        run(chain(Clip(1.0), Own()))


def test_a_diverged_model_of_an_algorithm_is_not_blamed_on_the_clients() -> None:
    class Endless(Algorithm):
        def conclude(self, state: Any, sent: Any, average: Any) -> Any:
            return state, to(average, average.weights.floats / 0)

    with (
        pytest.warns(UserWarning, match="the global model's loss is not finite after round 1"),
        pytest.raises(
            InputError,
            match=r"4 of 4 updates of round 2 are not finite .*; the model that they were sent is not finite either",
        ),
    ):
        run(Endless())


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_two_ranks_check_an_algorithm_together(tmp_path: Path) -> None:
    straight = run(ByState())
    run(ByState(), root=tmp_path, **two_ranks())
    (path,) = tmp_path.rglob("*.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    network = net()
    network.load_state_dict({name.removeprefix("net."): tensor for name, tensor in state.items()})
    assert torch.equal(weights(network), straight)
