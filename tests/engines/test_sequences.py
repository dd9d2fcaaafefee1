"""Tokens and sequences train by every engine, from the first round to the last picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import fit, weights
from sequences import CLASSES, VOCABULARY, Bag, Steps, sentences, steps
from torch import nn
from torch.optim import SGD

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.data import Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import Diagnostics, FederatedLoop, FederatedModule

KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Any, Any]]]] = {
    "tokens": (Bag, sentences),
    "sequences": (Steps, steps),
}


def trained(kind: str, engine: Engine, rounds: int = 2) -> tuple[torch.Tensor, float]:
    net, arrays = KINDS[kind]
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=1.0))
    loop = FederatedLoop(4, 5, seed=0, engine=engine, diagnostics=Diagnostics(every=1))
    data = Tensors(train=arrays(), test=arrays(), num_clients=6, batch_size=4, client_holdout=0.2, seed=0)
    fit(module, loop, data, rounds=rounds)
    logits = module(data.test.inputs)
    return weights(module), float((logits.argmax(-1) == data.test.targets).float().mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", [TrainerEngine(), VectorizedEngine(), WorkersEngine(workers=2)])
def test_every_engine_trains_them_as_the_loop_does(kind: str, engine: Engine) -> None:
    expected, accuracy = trained(kind, LoopEngine())
    found, _ = trained(kind, engine)
    assert accuracy > 0.6  # chance is a third
    if isinstance(engine, VectorizedEngine):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_traces_of_many_steps_are_right_for_them_too(kind: str) -> None:
    net, arrays = KINDS[kind]
    found = []
    for engine in (LoopEngine(), VectorizedEngine()):
        module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
        data = Tensors(train=arrays(), test=arrays(), num_clients=3, batch_size=2, seed=0)
        found.append(weights(fit(module, FederatedLoop(3, 11, seed=0, engine=engine), data, rounds=1)))  # 110 steps
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("tokens", f"{CLASSES} classes; inputs are 7 int64 tokens from 0 to {VOCABULARY - 1}, not normalised"),
        ("sequences", f"{CLASSES} classes; inputs are 7x3 float32 numbers, not normalised"),
    ],
)
def test_the_command_trains_them_and_says_once_what_it_took_them_for(
    kind: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net, arrays = KINDS[kind]
    inputs, labels = arrays()
    np.savez("data.npz", inputs=inputs, labels=labels)
    words = (
        f"fit --model.net {net.__module__}.{net.__name__} --data fedlit.data.Tensors --data.path data.npz "  # type: ignore[attr-defined]
        "--data.num_clients 4 --federation.clients_per_round 2 --trainer.max_epochs 2 --trainer.accelerator cpu"
    )
    assert main(words.split()) == 0
    out, err = capsys.readouterr()
    assert (out + err).count(told) == 1
    run = Path("logs/default/version_0")
    assert (run / "confusion.png").is_file()
    assert not (run / "attention.png").exists()


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [(VOCABULARY, ""), (VOCABULARY - 1, r"int64 tokens from 0 to 39.*an embedding for all of them")],
)
def test_a_token_that_the_net_does_not_know_is_found_before_the_first_round(vocabulary: int, said: str) -> None:
    arrays = sentences()
    assert arrays[0].max() == VOCABULARY - 1
    data = Tensors(train=arrays, test=(arrays[0][1:9], arrays[1][1:9]), num_clients=6, seed=0)
    module = FederatedModule(Bag(vocabulary=vocabulary))
    if not said:
        fit(module, FederatedLoop(2, seed=0, engine=LoopEngine()), data, rounds=1)
        return
    with pytest.raises(InputError, match=said):
        fit(module, FederatedLoop(2, seed=0, engine=LoopEngine()), data, rounds=1)
