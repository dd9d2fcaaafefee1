"""The round as a function: no Trainer, no callback, values in and values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from federations import facts, fit, net, site, weights
from torch.nn import CrossEntropyLoss
from torch.optim import SGD

from fedlit.algorithms import Algorithm, Clip, CoordinateMedian, FedDyn, chain
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state
from fedlit.core.records import Broadcast, ClientAnswer, ClientFailure, ClientTask, ClientUpdate
from fedlit.engines import LoopEngine, Site, VectorizedEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule
from fedlit.federated.round import RoundResult, run_round
from fedlit.mu import ConstantMu

MU = 0.1


def rate(parameters: object) -> SGD:
    return SGD(parameters, lr=0.1)


def sent(mu: float = MU) -> Broadcast:
    model = net()
    layout = Layout.of(model)
    start = read_state(model, layout)
    return Broadcast(start, (mu,) * len(layout.trainable), start.floats[:0])


def tasks(here: Site, *clients: int, epochs: int = 2) -> list[ClientTask]:
    """One for each client, with its size as its weight."""
    sizes = here.data.partition.sizes
    batch = here.data.batch_size
    return [
        ClientTask(k, 0, 0, epochs * -(-int(sizes[k]) // batch), float(epochs), int(sizes[k]), float(sizes[k]))
        for k in clients
    ]


def run(engine: LoopEngine, algorithm: Algorithm | None = None, **options: object) -> tuple[RoundResult, list]:
    here, heard = site(), []
    algorithm = algorithm or Algorithm()
    algorithm.prepare(facts(net(), mu=ConstantMu(MU), num_clients=6))
    client = ClientModule(net(), rate, CrossEntropyLoss(), algorithm)
    result = run_round(
        sent(), tasks(here, 0, 2, 4), client, engine, algorithm, here, listeners=[heard.append], **options
    )
    return result, heard


def test_the_target_is_the_mean_of_the_updates_with_the_weights_of_their_tasks():
    result, heard = run(LoopEngine())
    sizes = torch.tensor([u.task.weight for u in heard], dtype=torch.float64)
    models = torch.stack([u.weights.floats.double() for u in heard])
    torch.testing.assert_close(result.target.floats.double(), sizes @ models / sizes.sum(), rtol=1e-6, atol=1e-7)
    assert result.metrics["round/clients"] == 3
    assert list(result.rejected) == []


def test_run_round_gives_the_round_of_a_trainer():
    loop = FederatedLoop(6, 2, seed=0, engine=LoopEngine())
    module = fit(FederatedModule(net(), mu=MU, client_optimizer=rate), loop, rounds=1)
    here = site()
    algorithm = Algorithm()
    algorithm.prepare(facts(net()))
    client = ClientModule(net(), rate, CrossEntropyLoss(), algorithm)
    result = run_round(sent(), tasks(here, *range(6)), client, LoopEngine(), algorithm, here)
    # SGD of rate 1 on w_t - target: the target, but for the rounding of two subtractions.
    torch.testing.assert_close(result.target.floats.double(), weights(module.net), rtol=1e-6, atol=1e-7)
    assert result.metrics["clients/train_loss"] == module.round_metrics["clients/train_loss"]


def test_engines_agree_and_so_do_two_calls():
    expected, _ = run(LoopEngine())
    again, _ = run(LoopEngine())
    assert torch.equal(again.target.floats, expected.target.floats)
    batched, _ = run(VectorizedEngine(2))
    torch.testing.assert_close(batched.target.floats, expected.target.floats, rtol=1e-4, atol=1e-5)


def test_an_algorithms_state_goes_in_and_comes_out():
    first, _ = run(LoopEngine(), FedDyn())
    second, _ = run(LoopEngine(), FedDyn(), state=first.state)
    torch.testing.assert_close(second.state["h"], 2 * first.state["h"])  # the same round once more


def test_a_chain_changes_what_is_averaged():
    result, heard = run(LoopEngine(), chain(Clip(0.01), CoordinateMedian()))
    start = sent().weights.floats
    assert all((u.weights.floats - start).norm() > 0.01 for u in heard)
    assert (result.target.floats - start).norm() <= 0.01 * 3**0.5


class Failing(LoopEngine):
    """Of client 2 there is no update."""

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        for answer in super().run(client, tasks, site):
            yield ClientFailure(answer.task, "no memory") if answer.task.client == 2 else answer


class Diverging(LoopEngine):
    """All weights are NaN."""

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        for answer in super().run(client, tasks, site):
            assert isinstance(answer, ClientUpdate)
            broken = answer.weights._replace(floats=answer.weights.floats * torch.nan)
            yield answer._replace(weights=broken)


def test_a_client_that_fails_is_left_out_and_named():
    with pytest.warns(UserWarning, match="client 2: no memory"):
        result, heard = run(Failing())
    assert list(result.rejected) == [2]
    assert len(heard) == 3
    assert result.metrics["round/clients"] == 2


def test_too_many_rejected_clients_end_the_round():
    with pytest.raises(InputError, match="3 of 3 updates of round 1 are not finite"):
        run(Diverging())
    with pytest.warns(UserWarning, match="3 of 3 updates of round 1 are not finite"):
        result, _ = run(Diverging(), max_rejected=1.0)
    assert result.target is None
