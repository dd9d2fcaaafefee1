"""A stopped run resumes to the bit with any state of an algorithm, on the server or with the clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import data, fit, net, weights
from torch.optim import SGD

from fedlit.algorithms import AttentiveAggregation, BatchNormPolicy, FedDyn, FedNova, KeepLocal, Scaffold
from fedlit.core.errors import InputError
from fedlit.core.packs import read_pack
from fedlit.engines import LoopEngine, WorkersEngine
from fedlit.federated import Algorithm, ClientUpdate, FederatedLoop, FederatedModule
from fedlit.optim import FedYogi

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]
SIZES = (8, 4, 16, 4, 12, 6)  # no batch of one, which BatchNorm cannot take
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "scaffold": Scaffold,
    "feddyn": FedDyn,
    "fednova": FedNova,
    "attentive": lambda: AttentiveAggregation("similarity", 0.5),
    "local head": lambda: KeepLocal([r"^4\."]),
    "fedbn": BatchNormPolicy,
}


def run(
    root: Path, algorithm: Algorithm, rounds: int, ckpt: Path | None = None, stop: tuple[int, int] | None = None, **kw
) -> torch.Tensor:
    """The final state; ``stop = (round, clients)`` breaks off after so many updates of a round."""
    module = FederatedModule(
        net(norm=True, dropout=0.2),
        mu=0.1,
        client_optimizer=lambda p: SGD(p, lr=0.05),
        server_optimizer=lambda p: FedYogi(p, lr=0.05),
    )
    loop = FederatedLoop(4, 2, seed=0, algorithm=algorithm, engine=kw.get("engine") or LoopEngine())
    seen = [0]

    def break_off(update: ClientUpdate) -> None:
        seen[0] += update.task.round == stop[0]
        if seen[0] == stop[1]:
            raise RuntimeError("pulled the plug")

    if stop:
        loop.on_update.append(break_off)
    return weights(fit(module, loop, data(SIZES), rounds=rounds, root=root, ckpt_path=ckpt).net)


def checkpoint(root: Path) -> Path:
    return max(root.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_interrupted_in_a_round_resumes_to_the_bit(name: str, tmp_path: Path):
    make = ALGORITHMS[name]
    whole = run(tmp_path / "whole", make(), rounds=6)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        run(tmp_path / "broken", make(), rounds=6, stop=(4, 3))
    resumed = run(tmp_path / "broken", make(), rounds=6, ckpt=checkpoint(tmp_path / "broken"))
    assert torch.equal(resumed, whole)


def test_a_run_with_workers_resumes_to_the_bit(tmp_path: Path):
    whole = run(tmp_path / "whole", Scaffold(), rounds=5)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        run(tmp_path / "broken", Scaffold(), rounds=5, stop=(3, 2), engine=WorkersEngine(workers=2))
    last = checkpoint(tmp_path / "broken")
    assert torch.equal(run(tmp_path / "broken", Scaffold(), 5, last, engine=WorkersEngine(workers=2)), whole)


def test_another_algorithm_is_not_resumed(tmp_path: Path):
    run(tmp_path, Scaffold(), rounds=2)
    with pytest.raises(InputError, match="algorithm is Scaffold there, but FedDyn here"):
        run(tmp_path, FedDyn(), rounds=4, ckpt=checkpoint(tmp_path))


def test_a_run_is_not_resumed_without_the_clients_vectors(tmp_path: Path):
    run(tmp_path / "a", Scaffold(), rounds=2)
    with pytest.raises(InputError, match=r"clients has no vectors of the clients; resume in the run's own folder"):
        run(tmp_path / "b", Scaffold(), rounds=4, ckpt=checkpoint(tmp_path / "a"))


def test_versions_that_no_checkpoint_needs_are_removed(tmp_path: Path):
    run(tmp_path, Scaffold(), rounds=30)
    entries = [read_pack(path).entries for path in (tmp_path / "clients").glob("*.pack")]
    clients = np.concatenate([each["client"] for each in entries])
    assert len(set(clients)) == len(SIZES)
    # Two for each that the last checkpoint needs, the last round's, and those that it took the place of.
    assert len(clients) <= 2 * len(SIZES) + 2 * 3


def test_other_tensors_that_stay_with_clients_are_refused_on_a_resume(tmp_path: Path):
    """Weights of the same size would else be written into another layer."""
    run(tmp_path, KeepLocal([r"^1\.weight"]), 2)
    with pytest.raises(InputError, match=r"KeepLocal keeps 1.bias with the clients, but until now kept 1.weight; use"):
        run(tmp_path, KeepLocal([r"^1\.bias"]), 3, checkpoint(tmp_path))
