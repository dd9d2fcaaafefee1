"""Updates that are not finite are rejected, named and counted; too many of them stop a run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import Absent, fit, net, quadratic_module, quadratics, weights
from torch.optim import SGD

from fedlit.algorithms import Scaffold
from fedlit.core.errors import InputError
from fedlit.data import ByGroup, Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import Algorithm, FederatedLoop, FederatedModule

pytestmark = pytest.mark.trust

SIZES = (9, 4, 17, 1, 12, 6)
ENGINES = [LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine]


def poisoned(*clients: int, value: float = math.nan) -> Tensors:
    """Data of six clients, of which some have a pixel that is no number, so that their fits diverge."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(len(SIZES)), SIZES)
    inputs = rng.normal(size=(len(groups), 5)).astype(np.float32)
    labels = rng.integers(0, 3, len(groups))
    test = inputs[:20].copy(), labels[:20]
    inputs[np.isin(groups, clients), 2] = value
    return Tensors(
        train=(inputs, labels, groups),
        test=test,
        class_names=["a", "b", "c"],
        partition=ByGroup(),
        batch_size=4,
        seed=0,
    )


def run(data: Tensors, rounds: int = 2, algorithm: Algorithm | None = None, **loop: object) -> FederatedModule:
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    return fit(module, FederatedLoop(6, 1, seed=0, algorithm=algorithm, **loop), data, rounds=rounds)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("client", [0, 2])
def test_a_client_that_diverged_changes_no_bit_of_the_round(engine: type[Engine], value: float, client: int):
    with pytest.warns(UserWarning, match=rf"1 of 6 updates of round [12] are not finite .*: client {client}$"):
        module = run(poisoned(client, value=value), engine=engine())
    without = run(poisoned(), engine=engine(), stragglers=Absent(client))
    assert torch.equal(weights(module.net), weights(without.net))
    assert module.round_metrics["round/rejected"] == 1
    for metric in ("round/clients", "clients/train_loss", "drift/mean", "drift/cosine"):
        assert module.round_metrics[metric] == without.round_metrics[metric]


def test_a_round_of_finite_updates_has_none_rejected():
    assert run(poisoned()).round_metrics["round/rejected"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_stops_when_more_than_the_share_diverge(engine: type[Engine]):
    message = (
        "4 of 6 updates of round 1 are not finite (client 0, 2, 3, 5), more than federation.max_rejected = 0.5 allows; "
        "lower the learning rate"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        run(poisoned(0, 2, 3, 5), engine=engine())


def test_exactly_the_share_may_diverge():
    with pytest.warns(UserWarning, match="3 of 6 updates"):
        module = run(poisoned(0, 2, 5), rounds=1)
    assert module.round_metrics["round/clients"] == 3
    with pytest.raises(InputError, match="1 of 6"):
        run(poisoned(0), max_rejected=0)


def test_a_round_in_which_all_diverged_leaves_the_model_as_it_was():
    start = weights(net())
    with (
        pytest.warns(UserWarning, match="6 of 6 updates of round 1 are not finite"),
        pytest.warns(UserWarning, match="every client of round 1 was dropped or rejected: the model stays"),
    ):
        module = run(poisoned(*range(6)), rounds=1, max_rejected=1)
    assert torch.equal(weights(module.net), start)
    assert module.round_metrics["round/rejected"] == 6
    assert module.round_metrics["round/clients"] == 0


def test_the_checkpoint_of_the_previous_round_is_complete(tmp_path: Path):
    fits: list[int] = []

    def diverging_from_round_two(parameters: object) -> SGD:
        return SGD(parameters, lr=0.5 if len(fits) < 2 else 1e38)

    module = quadratic_module()
    module.client_optimizer = diverging_from_round_two
    loop = FederatedLoop(2, 3, seed=0, engine=LoopEngine())
    loop.on_update.append(lambda update: fits.append(update.task.client))
    with pytest.raises(InputError, match="2 of 2 updates of round 2 are not finite"):
        fit(module, loop, quadratics([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), rounds=3, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["global_step"] == 1
    # Three steps of rate 1/2 from 0 on 1/2 |w - a|^2 end at 7/8 a; the mean over both clients is half of that.
    torch.testing.assert_close(checkpoint["state_dict"]["net.w"], torch.tensor([7 / 16, 7 / 16, 0.0]))


def test_the_vector_of_a_diverged_client_is_not_kept():
    algorithm = Scaffold()
    with pytest.warns(UserWarning, match="client 2"):
        module = run(poisoned(2), rounds=3, algorithm=algorithm)
    assert weights(module.net).isfinite().all()
    assert module.loop.algorithm_state["control"].isfinite().all()


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(share: float):
    with pytest.raises(InputError, match=f"max_rejected must be from 0 to 1, got {share}; 1 never stops"):
        FederatedLoop(max_rejected=share)
