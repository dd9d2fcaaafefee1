"""An engine of a user's own: a round takes its answers, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import pytest
import torch
from federations import data, fit, net, weights

from fedlit.algorithms import CoordinateMedian
from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask, ClientUpdate
from fedlit.engines import Engine, LoopEngine, Site, VectorizedEngine, WorkersEngine
from fedlit.engines.loop import passes
from fedlit.federated import FederatedLoop, FederatedModule


class Own(LoopEngine):
    """Answers as it should."""

    def changed(self, answers: list[Any], tasks: Sequence[ClientTask], client: ClientModule) -> Any:
        return answers

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Any:
        return self.changed(list(super().run(client, tasks, site)), tasks, client)


class Reversed(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return answers[::-1]


class Lazy(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        yield from answers


class Wrapping(Engine):
    """Runs another engine, as one that measures times would."""

    def __init__(self) -> None:
        self.engine = LoopEngine()

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        yield from self.engine.run(client, tasks, site)


class Failing(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return [ClientFailure(answers[0].task, "no reason"), *answers[1:]]


class Lacking(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return answers[1:]


class Twice(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return [*answers, *answers[:1]]


class Another(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return [answer._replace(task=answer.task._replace(client=99)) for answer in answers]


class Weighing(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return [answer._replace(task=answer.task._replace(weight=1.0)) for answer in answers]


class Plain(Engine):
    """A loop of its own, which leaves out the precision on request."""

    def __init__(self, context: Callable[[Site], AbstractContextManager[Any]]) -> None:
        self.context = context

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        for task in tasks:
            client.start(task)
            optimizer = client.configure_optimizers()
            batches = site.data.client_batches(task.client, task.round, task.seed)
            for batch_idx, batch in islice(passes(batches), task.steps):
                optimizer.zero_grad()
                with self.context(site):
                    loss = client.training_step(batch, batch_idx)
                loss.backward()
                client.on_before_optimizer_step(optimizer)
                optimizer.step()
            yield client.finish(task, site.data)


@pytest.mark.parametrize("wrap", [lambda engine: engine, lambda engine: WorkersEngine(engine, workers=2)])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_an_engine_that_ignores_the_precision_is_refused(wrap: Callable[[Engine], Engine], precision: str):
    def train(engine: Engine) -> torch.Tensor:
        return weights(fit(loop=FederatedLoop(4, 2, seed=0, engine=engine), precision=precision))

    expected = train(LoopEngine())
    assert torch.equal(train(wrap(Plain(lambda site: site.precision.forward_context()))), expected)
    ignoring = wrap(Plain(lambda site: nullcontext()))
    if precision == "32-true":
        assert torch.equal(train(ignoring), expected)
        return
    with pytest.raises(InputError, match=r"trains clients in 32-true, but trainer.precision is bf16-mixed; call"):
        train(ignoring)


class Nothing(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return None


class Pairs(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return [(answer.task, answer.weights) for answer in answers]


class Short(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        return [with_floats(answer, answer.weights.floats[:-1]) for answer in answers]


class OneBuffer(Own):
    def changed(self, answers: list[Any], *_: Any) -> Any:
        buffer = torch.empty_like(answers[0].weights.floats)
        for answer in answers:
            yield with_floats(answer, buffer.copy_(answer.weights.floats))


class Writing(Own):
    def changed(self, answers: list[Any], tasks: Any, client: ClientModule) -> Any:
        client.broadcast.weights.floats.mul_(1.01)
        return answers


class Remembering(Own):
    def __init__(self) -> None:
        self.fits = 0

    def changed(self, answers: list[Any], *_: Any) -> Any:
        self.fits += 1
        return [with_floats(answer, answer.weights.floats + 0.01 * self.fits) for answer in answers]


class Bare(Engine):
    """A loop of one's own, which forgets what ``on_before_optimizer_step`` adds."""

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        for task in tasks:
            client.start(task)
            optimizer = client.configure_optimizers()
            for step in range(task.steps):
                batches = list(site.data.client_batches(task.client, task.round, task.seed))
                optimizer.zero_grad()
                client.training_step(batches[step % len(batches)], step).backward()
                optimizer.step()
            yield client.finish(task, site.data)


def with_floats(answer: ClientUpdate, floats: torch.Tensor) -> ClientUpdate:
    return answer._replace(weights=answer.weights._replace(floats=floats))


def trained(engine: Engine, **options: Any) -> torch.Tensor:
    module = FederatedModule(net(), mu=0.5)
    return weights(fit(module, FederatedLoop(3, seed=0, engine=engine, **options), data()))


@pytest.mark.parametrize("kind", [Own, Reversed, Lazy, Wrapping])
def test_an_engine_that_answers_each_task_trains_as_the_loop_does(kind: type[Engine]) -> None:
    expected = trained(LoopEngine())
    assert torch.equal(trained(kind()), expected)
    assert torch.equal(trained(WorkersEngine(kind(), workers=2)), expected)


REFUSED = {
    Lacking: "yields no answer for client",
    Twice: "which is no task of this round or has an answer",
    Another: "which is no task of this round or has an answer",
    Weighing: "which is no task of this round or has an answer",
    Nothing: "run returns a NoneType; let it yield a ClientUpdate",
    Pairs: "run yields a tuple; yield a ClientUpdate",
    Short: r"yields weights of shapes .* but the network has",
    OneBuffer: "in the memory of those of client",
    Writing: "writes to client.broadcast.weights",
    Remembering: "trains a client differently each time",
    Bare: "trains a client differently from TrainerEngine .* call client.on_before_optimizer_step",
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("in_workers", [False, True])
def test_another_is_refused_before_the_first_round(kind: type[Engine], in_workers: bool) -> None:
    engine = WorkersEngine(kind(), workers=2) if in_workers else kind()
    loop = FederatedLoop(3, seed=0, engine=engine)
    met: list[ClientAnswer] = []
    loop.on_update.append(met.append)
    with pytest.raises(InputError, match=rf"^{kind.__name__}.*{REFUSED[kind]}"):
        fit(FederatedModule(net(), mu=0.5), loop, data())
    assert not met


class LaterLacking(Own):
    """Lacks a client from the second round on."""

    def changed(self, answers: list[Any], tasks: Sequence[ClientTask], *_: Any) -> Any:
        return answers[1:] if tasks[0].round else answers


def test_one_that_goes_wrong_later_is_refused_then() -> None:
    with pytest.raises(InputError, match=r"LaterLacking\.run yields no answer for client"):
        trained(LaterLacking())
    with pytest.raises(InputError, match=r"LaterLacking\.run yields no answer for client"):
        trained(LaterLacking(), algorithm=CoordinateMedian())


def test_failures_are_answers() -> None:
    with pytest.warns(UserWarning, match="no reason"):
        trained(Failing())


class Blocks(VectorizedEngine):
    """Inherits what it does."""


def test_a_batched_engine_agrees_to_rounding_and_passes() -> None:
    torch.testing.assert_close(trained(Blocks()), trained(LoopEngine()), rtol=1e-5, atol=1e-6)
