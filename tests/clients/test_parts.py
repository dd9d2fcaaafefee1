"""A client that trains only a part of its net, or changes it otherwise: engines agree, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import SIZES, data, fit, net, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from fedlit.algorithms import Algorithm, KeepLocal
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule

BODY, HEAD = 0, 3  # linear layers of ``net``
SETTINGS = [
    {},
    {"mu": 1.0},
    {"client_clip_norm": 0.1},
    {"mu": 1.0, "client_clip_norm": 0.1},
]


class Freezing(ClientModule):
    """Never trains the head (FedBABU, Oh et al. 2022)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net[HEAD].requires_grad_(False)  # type: ignore[index]


class Leaving(ClientModule):
    """The same by an optimizer without the head, whose gradients nothing resets."""

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.net[BODY].parameters())  # type: ignore[index]


class InTurn(ClientModule):
    """Trains the head alone in the first half of its steps and the body alone in the second (FedRep)."""

    def start(self, task: Any) -> None:
        super().start(task)
        self.step, self.steps_of_head = 0, task.steps // 2

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        is_first = self.step < self.steps_of_head
        self.step += 1
        self.net[HEAD].requires_grad_(is_first)  # type: ignore[index]
        self.net[BODY].requires_grad_(not is_first)  # type: ignore[index]
        return super().training_step(batch, batch_idx)


class Both(ClientModule):
    """Steps two optimizers on the gradients of one backward pass."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [self.optimizer(self.net[part].parameters()) for part in (BODY, HEAD)]  # type: ignore[index]

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        self.net.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        for optimizer in optimizers:
            optimizer.step()


def run(
    client: type[ClientModule], engine: Engine | None, rounds: int = 3, algorithm: Any = None, **settings: Any
) -> Tensor:
    trainer = {name: settings.pop(name) for name in ("root", "ckpt_path") if name in settings}
    module = FederatedModule(net(), client=client, client_optimizer=lambda p: SGD(p, lr=0.1), **settings)
    loop = FederatedLoop(4, 2, seed=0, engine=engine, algorithm=algorithm, max_rejected=0)
    return weights(fit(module, loop, rounds=rounds, **trainer).net)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("client", [Freezing, Leaving, InTurn])
def test_engines_and_a_resumed_run_agree_on_a_part_that_is_trained(
    client: type[ClientModule], settings: dict[str, float], tmp_path: Path
) -> None:
    straight = run(client, TrainerEngine(), **settings)
    engines: list[Engine] = [LoopEngine(), WorkersEngine(workers=2)]
    for engine in engines:
        assert torch.equal(run(client, engine, **settings), straight)
    run(client, LoopEngine(), rounds=1, root=tmp_path, **settings)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(run(client, LoopEngine(), root=tmp_path, ckpt_path=path, **settings), straight)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_part_that_the_optimizer_lacks_counts_as_frozen(settings: dict[str, float]) -> None:
    assert torch.equal(run(Leaving, LoopEngine(), **settings), run(Freezing, LoopEngine(), **settings))


@pytest.mark.parametrize("mu", [0.0, 5.0])
def test_each_of_two_optimizers_completes_the_gradients_of_its_own_parameters(mu: float) -> None:
    assert torch.equal(run(Both, TrainerEngine(), mu=mu), run(ClientModule, TrainerEngine(), mu=mu))


def test_fedrep_is_a_plain_loop() -> None:
    """Collins et al. 2021, Algorithm 1, with heads that stay with the clients."""
    federation, loop = data(), FederatedLoop(4, 2, seed=0)
    federation.setup("fit")
    model: nn.Sequential = net()
    heads: dict[int, dict[str, Tensor]] = {}
    for round in range(3):
        tasks = loop.cohort(round, federation)
        ended = []
        for task in tasks:
            mine = net()
            mine.load_state_dict(model.state_dict())
            mine[HEAD].load_state_dict(heads.get(task.client, model[HEAD].state_dict()))
            batches = federation.client_batches(task.client, round, task.seed)
            order = [*batches, *batches]  # a pass each
            assert len(order) == task.steps
            for step, (inputs, targets) in enumerate(order):
                part = mine[HEAD] if step < task.steps // 2 else mine[BODY]
                gradients = torch.autograd.grad(F.cross_entropy(mine(inputs), targets), [*part.parameters()])
                for parameter, gradient in zip(part.parameters(), gradients, strict=True):
                    parameter.data -= 0.1 * gradient
            heads[task.client] = {name: value.clone() for name, value in mine[HEAD].state_dict().items()}
            ended.append(torch.cat([p.detach().flatten() for p in mine.parameters()]))
        shares = torch.tensor([task.weight for task in tasks])
        mean = (torch.stack(ended) * (shares / shares.sum())[:, None]).sum(0)
        nn.utils.vector_to_parameters(mean, model.parameters())
    found = run(InTurn, LoopEngine(), algorithm=KeepLocal([rf"^{HEAD}\."]), mu=0.0)
    torch.testing.assert_close(found, weights(model), rtol=1e-5, atol=1e-6)


class Replacing(ClientModule):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net[HEAD] = nn.Linear(8, 3)  # type: ignore[index]


class Adding(ClientModule):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net.append(nn.Linear(3, 3))  # type: ignore[operator]


class Wrapping(ClientModule):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net = nn.Sequential(self.net)


class Removing(ClientModule):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.parameters_ = self.parameters_[:2]


@pytest.mark.parametrize("engine", [None, LoopEngine(), TrainerEngine(), VectorizedEngine()])
@pytest.mark.parametrize(
    ("client", "name"),
    [(Replacing, "3.weight"), (Adding, "4.bias"), (Wrapping, "0.0.bias"), (Removing, "3.weight")],
)
def test_a_client_that_trains_other_tensors_than_are_sent_is_refused(
    client: type[ClientModule], name: str, engine: Engine | None
) -> None:
    with pytest.raises(InputError, match=f"{client.__name__} changes {name} in its copy of the net"):
        run(client, engine)


class Masking(ClientModule):
    """Trains no weight of the head, by a hook for its gradient."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net[HEAD].weight.register_hook(torch.zeros_like)  # type: ignore[index]


def _clear(parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.zero_()


class MaskingAfter(ClientModule):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        weight = self.net[HEAD].weight  # type: ignore[index]
        weight.register_post_accumulate_grad_hook(_clear)  # type: ignore[operator,union-attr]


class Keeping(Algorithm):
    """Counts a client's fits with the client."""

    @property
    def kept_size(self) -> int:
        return 1

    def end(self, sent: Any, ended: Any, steps: int, kept: Tensor | None) -> Tensor:
        return torch.ones(1) if kept is None else kept + 1


@pytest.mark.parametrize(
    ("client", "algorithm", "why"),
    [
        (Freezing, None, f"Freezing freezes {HEAD}.weight"),
        (Masking, None, f"Masking has a hook for the gradient of {HEAD}.weight"),
        (MaskingAfter, None, f"MaskingAfter has a hook for the gradient of {HEAD}.weight"),
        (ClientModule, Keeping, "Keeping keeps a vector with each client"),
    ],
)
def test_what_a_block_would_leave_out_is_refused_and_other_engines_do(
    client: type[ClientModule], algorithm: Callable[[], Algorithm] | None, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        run(client, VectorizedEngine(), algorithm=algorithm and algorithm())
    straight = run(client, TrainerEngine(), algorithm=algorithm and algorithm())
    assert torch.equal(run(client, LoopEngine(), algorithm=algorithm and algorithm()), straight)
    if client is not ClientModule:
        head = dict(net().named_parameters())[f"{HEAD}.weight"].detach().flatten().double()
        assert torch.equal(straight[5 * 8 + 8 :][: len(head)], head)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_hook_for_a_gradient_that_copies_of_the_net_lose_is_refused(register: str) -> None:
    given = net()
    getattr(given[HEAD].weight, register)(lambda gradient: None)
    with pytest.raises(InputError, match=f"the net's {HEAD}.weight has a hook for its gradient"):
        fit(FederatedModule(given), FederatedLoop(4, 1, seed=0), data(SIZES), rounds=1)
