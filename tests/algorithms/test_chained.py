"""Combined algorithms: their results, in every engine and after a resume, and refused combinations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import (
    Displacement,
    HalfSquare,
    data,
    facts,
    fit,
    net,
    quadratic_module,
    quadratics,
    two_ranks,
    weights,
)
from torch import Tensor, nn
from torch.optim import SGD

from fedlit.algorithms import (
    Algorithm,
    AttentiveAggregation,
    BatchNormPolicy,
    Chain,
    Clip,
    ClippedMean,
    CoordinateMedian,
    FedDyn,
    FedNova,
    KeepLocal,
    Krum,
    Mean,
    Noise,
    PrivateMean,
    Scaffold,
    TrimmedMean,
    chain,
)
from fedlit.algorithms.aggregation import Aggregation
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state
from fedlit.core.records import Broadcast, ClientTask, Weights
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientUpdate, FederatedLoop, FederatedModule
from fedlit.mu import ConstantMu

SIZES = (8, 4, 16, 4, 12, 6)  # no batch of one, which BatchNorm cannot take

#: Algorithms that change the clients' fits or the server's step, and averages; every pair is tried.
RULES: dict[str, Callable[[], Algorithm]] = {
    "scaffold": Scaffold,
    "feddyn": FedDyn,
    "local head": lambda: KeepLocal([r"^4\."]),
    "fedbn": BatchNormPolicy,
}
AVERAGES: dict[str, Callable[[], tuple[Algorithm, ...]]] = {
    "mean": lambda: (Mean(),),
    "clip, mean": lambda: (Clip(0.1), Mean()),
    "median": lambda: (CoordinateMedian(),),
    "clip, trimmed": lambda: (Clip(0.2), TrimmedMean(0.3)),
    "clip, krum": lambda: (Clip(0.2), Krum(0)),
    "clipped to the median": lambda: (ClippedMean(),),
    "attentive": lambda: (AttentiveAggregation("similarity", 0.5),),
    "median, noise": lambda: (Clip(0.2), CoordinateMedian(), Noise(0.1, delta=None)),
    "noise on updates": lambda: (Clip(0.2), Noise(0.1, delta=None), Mean()),
    "fednova": lambda: (FedNova(),),
}
PAIRS = [(rule, average) for rule in RULES for average in AVERAGES if (rule, average) != ("scaffold", "fednova")]
CHAINS: dict[str, Callable[[], Algorithm]] = {
    **{f"{rule}, {average}": lambda r=rule, a=average: chain(RULES[r](), *AVERAGES[a]()) for rule, average in PAIRS},
    "scaffold, fedbn": lambda: chain(Scaffold(), BatchNormPolicy()),
    "feddyn, fedbn, clip, krum": lambda: chain(FedDyn(), BatchNormPolicy(), Clip(0.2), Krum(0)),
    "local head, fedbn": lambda: chain(KeepLocal([r"^4\."]), BatchNormPolicy()),
}


def run(
    algorithm: Algorithm | None,
    rounds: int = 3,
    engine: Engine | None = None,
    root: Path | None = None,
    ckpt: Path | None = None,
    norm: bool = True,
    **trainer: Any,
) -> Tensor:
    module = FederatedModule(net(norm=norm), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.05))
    loop = FederatedLoop(
        4, 2, seed=0, averaging="uniform", algorithm=algorithm, engine=engine or LoopEngine(), max_rejected=0
    )
    return weights(fit(module, loop, data(SIZES), rounds=rounds, root=root, ckpt_path=ckpt, **trainer).net)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_chain_resumes_to_the_bit_and_with_workers(name: str, tmp_path: Path):
    whole = run(CHAINS[name]())
    assert whole.isfinite().all()
    run(CHAINS[name](), rounds=2, root=tmp_path, engine=WorkersEngine(workers=2))
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(run(CHAINS[name](), root=tmp_path, ckpt=checkpoint), whole)


@pytest.mark.parametrize(
    "name",
    [
        "scaffold, clip, mean",
        "scaffold, noise on updates",
        "scaffold, fedbn",
        "feddyn, fedbn, clip, krum",
        "feddyn, median, noise",
        "local head, attentive",
        "fedbn, clip, trimmed",
        "fedbn, clipped to the median",
    ],
)
@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")  # all ranks log the same
def test_two_ranks_give_a_chain_the_bits_of_one(name: str, tmp_path: Path):
    assert torch.equal(of_two_ranks(CHAINS[name], tmp_path), run(CHAINS[name]()))


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
def test_two_ranks_give_private_means_the_bits_of_one(tmp_path: Path):
    pytest.importorskip("dp_accounting", reason="epsilon needs dp-accounting")

    def private() -> Algorithm:
        return chain(Clip(0.1), Mean(), Noise(1.0))

    assert torch.equal(of_two_ranks(private, tmp_path, norm=False), run(private(), norm=False))


def of_two_ranks(make: Callable[[], Algorithm], root: Path, norm: bool = True) -> Tensor:
    """The final state of two ranks, read from their checkpoint: they are processes of their own."""
    run(make(), root=root, norm=norm, **two_ranks())
    (checkpoint,) = root.rglob("*.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    network = net(norm=norm)
    network.load_state_dict({name.removeprefix("net."): tensor for name, tensor in state.items()})
    return weights(network)


@pytest.mark.parametrize("name", ["scaffold, clip, mean", "feddyn, fedbn, clip, krum", "scaffold, fedbn"])
def test_the_reference_engine_gives_a_chain_the_same_bits(name: str):
    assert torch.equal(run(CHAINS[name](), engine=TrainerEngine()), run(CHAINS[name]()))


def test_chains_that_leave_fits_alone_run_as_batched_programs():
    def clipped(engine: Engine) -> Tensor:
        return run(chain(Clip(0.2), TrimmedMean(0.3)), engine=engine, norm=False)

    torch.testing.assert_close(clipped(VectorizedEngine(2)), clipped(LoopEngine()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "alone"),
    [
        (lambda: (Mean(),), lambda: None),
        (lambda: (Clip(math.inf), Mean()), lambda: None),
        (lambda: (Clip(0.1), Mean()), lambda: ClippedMean(0.1)),
        (lambda: (Clip(math.inf), CoordinateMedian()), CoordinateMedian),
        (lambda: (Scaffold(), Mean()), Scaffold),
        (lambda: (Clip(math.inf), Scaffold()), Scaffold),
        (lambda: (BatchNormPolicy(), Mean()), BatchNormPolicy),
        (lambda: (chain(Scaffold(), Mean()), BatchNormPolicy()), lambda: chain(Scaffold(), BatchNormPolicy(), Mean())),
    ],
)
def test_parts_without_effect_change_no_bit(parts: Callable, alone: Callable):
    assert torch.equal(run(chain(*parts())), run(alone()))


def test_a_list_is_a_chain():
    assert torch.equal(run([Scaffold(), Clip(0.1)]), run(chain(Scaffold(), Clip(0.1))))


def server(points: list[list[float]], *parts: Algorithm) -> Tensor:
    """w from 0, where client k answers with a_k after one step of rate 1 on 1/2 |w - a_k|^2."""
    module = quadratic_module(lr=1.0)
    loop = FederatedLoop(len(points), 1, seed=0, averaging="uniform", algorithm=list(parts))
    fit(module, loop, quadratics(points), rounds=1)
    return module.net.w.detach()


def test_updates_are_clipped_before_they_are_averaged():
    points = [[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [30.0, 40.0, 0.0]]  # of norms 5, 1 and 50
    torch.testing.assert_close(server(points, Clip(2.5), Mean()), torch.tensor([3.0, 4.0, 1.0]) / 3)
    torch.testing.assert_close(server(points, Clip(2.5), CoordinateMedian()), torch.tensor([1.5, 2.0, 0.0]))


def test_a_private_mean_is_a_chain_of_its_parts():
    pytest.importorskip("dp_accounting", reason="epsilon needs dp-accounting")
    parts = run(chain(Clip(0.1), Mean(), Noise(1.0)), norm=False)
    assert torch.equal(parts, run(PrivateMean(0.1, 1.0), norm=False))


def test_noise_on_updates_has_the_deviation_of_the_clip():
    points = [[0.0, 0.0, 0.0]] * 400
    mean = server(points, Clip(0.5), Noise(2.0, delta=None), Mean())
    # The mean of 400 updates of deviation 1 has the deviation 1/20.
    assert (mean.abs() < 5 / 20).all()
    assert (mean != 0).all()


def test_scaffold_uses_the_clients_unclipped_updates():
    """Where no update is longer than the clip, and where all are: the clients' control variates are the same."""
    kept: dict[float, list[Tensor]] = {}
    for norm in (math.inf, 1e-3):
        updates: list[ClientUpdate] = []
        loop = FederatedLoop(4, 1, seed=0, algorithm=[Scaffold(), Clip(norm)], engine=LoopEngine())
        loop.on_update.append(updates.append)
        fit(FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.05)), loop, rounds=1)
        kept[norm] = [update.weights.floats for update in updates]
    assert all(torch.equal(a, b) for a, b in zip(*kept.values(), strict=True))


class PersonalAndShared(nn.Module):
    """``Displacement`` with a part for each client: personal + shared - x."""

    def __init__(self) -> None:
        super().__init__()
        self.personal = nn.Parameter(torch.zeros(3))
        self.shared = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.personal + self.shared - inputs


@pytest.mark.parametrize("rule", [Algorithm, Scaffold, FedDyn, FedNova])
def test_what_stays_with_a_client_fits_that_client_beside_any_other_rule(rule: Callable[[], Algorithm]):
    """Every client can fit its point exactly by its personal part; a correction towards the server's would pull it."""
    module = FederatedModule(PersonalAndShared(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1), loss=HalfSquare())
    algorithm: list[Algorithm] = [rule(), KeepLocal(["personal"])]
    loop = FederatedLoop(3, 5, seed=0, averaging="uniform", engine=LoopEngine(), algorithm=algorithm)
    found: dict[int, Tensor] = {}
    loop.on_update.append(lambda answer: found.update({answer.task.client: answer.weights.floats}))
    points = [[1.0, 0.0, 0.0], [0.0, 4.0, 0.0], [-9.0, 0.0, 0.0]]
    fit(module, loop, quadratics(points), rounds=40)
    fitted = torch.stack([found[k][:3] + found[k][3:] for k in range(3)])
    torch.testing.assert_close(fitted, torch.tensor(points), rtol=0, atol=0.1)


@pytest.mark.parametrize("local", ["personal", "shared"])
def test_fednovas_normaliser_takes_mu_of_the_shared_parameters(local: str):
    """(1 - (1 - eta mu)^tau)/(eta mu), whichever parameter of the net comes first."""
    net = PersonalAndShared()
    algorithm = chain(FedNova(), KeepLocal([local]))
    algorithm.prepare(facts(net, mu=ConstantMu(1.0)))
    mu = tuple(0.0 if name == local else 1.0 for name in ("personal", "shared"))
    model = read_state(net, Layout.of(net))
    task = ClientTask(0, 0, 0, steps=10, epochs=1.0, num_examples=1, weight=1.0)
    found = algorithm.extra_weights(Broadcast(model, mu, model.floats[:0]), task)
    assert found["normalised"] == pytest.approx(0.1 / (1 - 0.9**10))


def averaged(algorithm: Algorithm, clients: dict[int, float], **changed: Any) -> tuple[Any, Tensor]:
    """The server's state and target of a cohort of four, whose ``clients`` (with weights) answered a move by 1."""
    algorithm.prepare(facts(Displacement(), mu=ConstantMu(0.1), **changed))
    start = Weights(torch.zeros(3), torch.zeros(0, dtype=torch.int64))
    sent = Broadcast(start, (0.1,), algorithm.message({}, start))
    aggregation = Aggregation(algorithm, sent)
    for client, weight in clients.items():
        task = ClientTask(client, 0, 0, steps=1, epochs=1.0, num_examples=1, weight=weight)
        aggregation.add(ClientUpdate(task, start._replace(floats=torch.ones(3)), [3.0], {"loss": 1.0}))
    average = aggregation.average()
    assert average is not None
    state, target = algorithm.conclude({}, sent, average)
    return state, target.floats


@pytest.mark.parametrize(
    ("clients", "expected"),
    [({0: 1.0, 1: 1.0}, 0.5), ({0: 2.0, 1: 1.0, 2: 1.0}, 1.0), ({0: 2.0, 1: 1.0}, 0.75)],
    ids=["two missing", "one drawn twice", "one drawn twice, one missing"],
)
def test_missing_clients_count_as_updates_of_zero_and_clients_drawn_twice_are_not_missing(
    clients: dict[int, float], expected: float
):
    assert averaged(Mean("zero"), clients)[1].tolist() == pytest.approx([expected] * 3)


def test_missing_clients_count_only_where_all_clients_have_the_same_weight():
    with pytest.raises(InputError, match=r"missing 'zero' .* set federation.averaging to uniform"):
        averaged(Mean("zero"), {0: 100.0}, averaging="size")
    _, mean = averaged(chain(Clip(9.0), Mean(), Noise(0.0, delta=None)), {0: 100.0}, averaging="size")
    assert mean.tolist() == [1.0] * 3  # left out


@pytest.mark.parametrize("rule", [Scaffold, FedDyn])
def test_the_servers_state_depends_only_on_clients_that_answered(rule: Callable[[], Algorithm]):
    """Its sums are over them, whether missing clients count in the mean or not."""
    states = [averaged(chain(rule(), Mean(missing)), {0: 1.0, 1: 1.0})[0]["0"] for missing in ("left out", "zero")]
    for name, value in states[0].items():
        assert torch.as_tensor(value).tolist() == pytest.approx(torch.as_tensor(states[1][name]).tolist())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: (), "a chain needs at least one algorithm"),
        (lambda: (CoordinateMedian(), Krum(0)), "CoordinateMedian and Krum each define how updates are averaged"),
        (lambda: (FedNova(), Mean()), "FedNova and Mean each define how updates are averaged"),
        (lambda: (Scaffold(), FedDyn()), "each of Scaffold and FedDyn adds to the clients' gradients"),
        (lambda: (Mean(), Clip(1.0)), "Clip changes single updates, but comes after Mean"),
        (
            lambda: (Clip(1.0), FedNova()),
            "FedNova averages updates as clients sent them, so Clip would have no effe",
        ),
        (lambda: (Mean(), Noise(1.0)), "units of the norm that updates are clipped to; put fedlit.algorithms.Clip"),
        (lambda: (Clip(math.inf), Mean(), Noise(1.0)), "Clip with a finite norm"),
        (lambda: (Clip(1.0), Noise(1.0), CoordinateMedian()), "epsilon is not known for noise on single updates"),
        (lambda: (Clip(1.0), CoordinateMedian(), Noise(1.0)), "not for CoordinateMedian; use Mean"),
        (lambda: (Clip(1.0), Mean("left out"), Noise(1.0)), "not for Mean; use Mean"),
        (lambda: (Clip(1.0), Noise(1.0)), "put fedlit.algorithms.Mean between Clip and Noise"),
        (lambda: (Scaffold(), Clip(1.0), Mean(), Noise(1.0)), "epsilon does not hold with Scaffold, which uses more"),
        (lambda: (FedDyn(), Clip(1.0), Mean(), Noise(1.0)), "epsilon does not hold with FedDyn before Noise"),
    ],
)
def test_impossible_combinations_are_refused(parts: Callable[[], tuple[Algorithm, ...]], message: str):
    with pytest.raises(InputError, match=message):
        Chain(*parts()).prepare(facts(net()))


def test_the_vector_that_a_chain_keeps_has_the_declared_size():
    algorithm = chain(Scaffold(), BatchNormPolicy())
    algorithm.prepare(facts(net(norm=True)))
    trainable = sum(p.numel() for p in net(norm=True).parameters())
    assert algorithm.kept_size == trainable + 4 * 8  # weight, bias, mean and variance of 8 channels
