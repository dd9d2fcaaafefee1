"""A client whose fit fails is left out by name without effect on others; too many failures stop the run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contents import kept
from federations import Absent, HalfSquare, data, fit, net, quadratic_module, quadratics, weights
from torch import Tensor
from torch.optim import SGD

from fedlit.algorithms import Scaffold
from fedlit.core.errors import InputError
from fedlit.data import Tensors
from fedlit.data.examples import Batches
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import (
    ClientAnswer,
    ClientFailure,
    ClientModule,
    ClientUpdate,
    FederatedLoop,
    FederatedModule,
)

pytestmark = pytest.mark.trust

ENGINES: dict[str, Callable[[], Engine]] = {
    "loop": LoopEngine,
    "trainer": TrainerEngine,
    "vectorized": VectorizedEngine,
    "vectorized, blocks of 2": lambda: VectorizedEngine(2),
    "workers": lambda: WorkersEngine(workers=2),
    "a worker": lambda: WorkersEngine(workers=1),
    "workers, vectorized": lambda: WorkersEngine(VectorizedEngine(2), workers=2, block_size=4),
}
CLIENTS = 6


def failing(datamodule: Tensors, errors: dict[int, BaseException], rounds: tuple[int, ...] = (0, 1)) -> Tensors:
    """The data, of which some clients' own cannot be read in some rounds."""
    whole = datamodule.client_batches

    def client_batches(client: int, round: int, seed: int) -> Batches:
        if client in errors and round in rounds:
            raise errors[client]
        return whole(client, round, seed)

    datamodule.client_batches = client_batches  # type: ignore[method-assign]
    return datamodule


def run(
    errors: dict[int, BaseException], rounds: int = 2, root: Path | None = None, **loop: object
) -> tuple[FederatedModule, list[ClientAnswer]]:
    answers: list[ClientAnswer] = []
    federation = FederatedLoop(CLIENTS, 1, seed=0, **loop)
    federation.on_update.append(answers.append)
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    return fit(module, federation, failing(data(), errors), rounds=rounds, root=root), answers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "error", [ValueError("a bad sample"), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")]
)
def test_a_failed_client_has_no_influence_on_the_others(engine: str, error: Exception):
    told = f"client 2: .*{type(error).__name__}"
    with pytest.warns(UserWarning, match=rf"1 of 6 fits of round [12] failed and were left out of the .*: {told}"):
        module, answers = run({2: error}, engine=ENGINES[engine]())
    without, expected = run({}, engine=ENGINES[engine](), stragglers=Absent(2))
    if "vectorized" in engine:  # whose bits depend on who shares a block
        torch.testing.assert_close(weights(module.net), weights(without.net), rtol=1e-6, atol=1e-7)
    else:
        assert torch.equal(weights(module.net), weights(without.net))
    assert module.round_metrics["round/rejected"] == 1
    assert module.round_metrics["round/clients"] == without.round_metrics["round/clients"] == CLIENTS - 1
    failures = [answer for answer in answers if isinstance(answer, ClientFailure)]
    assert [(f.task.client, f.task.round) for f in failures] == [(2, 0), (2, 1)]
    assert len(answers) - len(failures) == len(expected)


@pytest.mark.parametrize("engine", [e for e in ENGINES if "vectorized" not in e])
def test_all_engines_and_numbers_of_workers_agree_to_the_bit_on_a_round_with_failures(engine: str):
    errors = {0: ValueError("a bad sample"), 4: MemoryError()}
    with pytest.warns(UserWarning, match=re.escape("client 0: ValueError: a bad sample; client 4: MemoryError")):
        reference, _ = run(errors, engine=TrainerEngine())
    with pytest.warns(UserWarning, match=re.escape("client 0: ValueError: a bad sample; client 4: MemoryError")):
        module, _ = run(errors, engine=ENGINES[engine]())
    assert torch.equal(weights(module.net), weights(reference.net))


class FailsHalfway(ClientModule):
    """Client 2 fails in its third step, after it has moved weights and generators."""

    def start(self, task):
        super().start(task)
        self.fails = task.client == 2

    def training_step(self, batch, batch_idx):
        if self.fails and batch_idx == 2:
            raise ValueError("a bad sample")
        return super().training_step(batch, batch_idx)


class FailsAtTheEnd(ClientModule):
    """Client 2 fails when it is all but done."""

    def measure(self, task, data):
        if task.client == 2:
            raise ValueError("a bad sample")
        return super().measure(task, data)


@pytest.mark.parametrize("client", [FailsHalfway, FailsAtTheEnd])
@pytest.mark.parametrize("engine", ["loop", "trainer", "workers"])
def test_a_fit_that_fails_halfway_leaves_no_traces(engine: str, client: type[ClientModule], tmp_path: Path):
    """Dropout, BatchNorm and kept vectors are those of a federation without the client."""

    def scaffold(client_class: type[ClientModule], root: Path, **loop: object) -> Tensor:
        algorithm = Scaffold()
        module = FederatedModule(net(dropout=0.3, norm=True), mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1))
        module.client_class = client_class
        federation = FederatedLoop(CLIENTS, 1, seed=0, algorithm=algorithm, engine=ENGINES[engine](), **loop)
        fit(module, federation, data((8, 4, 16, 4, 12, 6)), rounds=3, root=root)
        return torch.cat([weights(module.net), federation.algorithm_state["control"].double()])

    with pytest.warns(UserWarning, match="client 2: ValueError: a bad sample"):
        failed = scaffold(client, tmp_path / "failed")
    assert torch.equal(failed, scaffold(ClientModule, tmp_path / "without", stragglers=Absent(2)))
    remembered = [kept(tmp_path / run / "clients") for run in ("failed", "without")]
    assert remembered[0] == remembered[1]
    assert [*remembered[0]] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_in_all_fits_stops_the_run_and_is_shown_in_full(engine: str):
    with pytest.raises(RuntimeError) as stopped:
        run(dict.fromkeys(range(CLIENTS), ValueError("a bad sample")), engine=ENGINES[engine]())
    first, *_, last = str(stopped.value).strip().splitlines()
    assert first == (
        "6 of 6 fits of round 1 failed (client 0, 1, 2, 3, 4, 5: ValueError: a bad sample), "
        "more than federation.max_rejected = 0.5 allows; correct the cause of the failures; the checkpoint of the "
        "round before is complete. The first error:"
    )
    assert last == "ValueError: a bad sample"
    assert "in client_batches" in str(stopped.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mistake_in_the_config_stops_the_run_at_once(engine: str):
    with pytest.raises(InputError, match=r"^lr must be > 0; raise it$"):
        run({2: InputError("lr must be > 0; raise it")}, engine=ENGINES[engine]())


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_ctrl_c_in_a_fit_is_no_failure_of_the_client(engine: str):
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run({2: KeyboardInterrupt()}, engine=ENGINES[engine]())


def test_failed_and_diverged_clients_are_counted_together():
    class Diverging(ClientModule):
        def finish(self, task, data):
            update = super().finish(task, data)
            return update._replace(metrics={**update.metrics, "loss": math.inf}) if task.client == 1 else update

    def both(**loop: object) -> FederatedModule:
        module = FederatedModule(net())
        module.client_class = Diverging
        return fit(module, FederatedLoop(CLIENTS, 1, seed=0, **loop), failing(data(), {2: MemoryError()}), rounds=1)

    with (
        pytest.warns(UserWarning, match=r"1 of 6 updates of round 1 are not finite .*: client 1$"),
        pytest.warns(UserWarning, match=r"1 of 6 fits of round 1 failed .*: client 2: MemoryError$"),
    ):
        module = both()
    assert module.round_metrics["round/rejected"] == 2
    message = r"1 of 6 .* not finite \(client 1\) and 1 of 6 .* \(client 2: MemoryError\)"
    with pytest.raises(RuntimeError, match=message):
        both(max_rejected=0.3)


def test_a_loss_that_explodes_is_rejected_even_where_the_weights_are_finite():
    class Exploding(HalfSquare):
        """Infinite, without a gradient, where the first coordinate is far off."""

        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            return super().forward(logits, targets) + (math.inf if float(logits.detach()[0, 0].abs()) > 5 else 0.0)

    module = quadratic_module(lr=1.0)
    module.loss = Exploding()
    points = [[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [9.0, 0.0, 0.0]]
    with pytest.warns(UserWarning, match="1 of 3 updates of round 1 are not finite .*: client 2$"):
        fit(module, FederatedLoop(3, 1, seed=0, engine=LoopEngine()), quadratics(points), rounds=1)
    assert module.net.w.tolist() == [2.0, 0.0, 0.0]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_checkpoint_of_the_previous_round_is_complete_and_resumes(tmp_path: Path):
    with pytest.raises(RuntimeError, match="6 of 6 fits of round 2 failed"):
        fit(
            loop=FederatedLoop(CLIENTS, 1, seed=0),
            datamodule=failing(data(), dict.fromkeys(range(CLIENTS), MemoryError()), rounds=(1,)),
            rounds=3,
            root=tmp_path,
        )
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 1
    resumed = fit(loop=FederatedLoop(CLIENTS, 1, seed=0), rounds=3, root=tmp_path, ckpt_path=path)
    assert torch.equal(weights(resumed.net), weights(fit(loop=FederatedLoop(CLIENTS, 1, seed=0), rounds=3).net))


def test_a_client_that_failed_takes_part_again():
    answers: list[ClientAnswer] = []
    loop = FederatedLoop(CLIENTS, 1, seed=0, engine=LoopEngine())
    loop.on_update.append(answers.append)
    with pytest.warns(UserWarning, match="1 of 6 fits of round 1 failed"):
        fit(loop=loop, datamodule=failing(data(), {2: MemoryError()}, rounds=(0,)))
    assert [isinstance(answer, ClientUpdate) for answer in answers if answer.task.client == 2] == [False, True]
