"""Parameters that stay with a client are restored in its next round, and nowhere else."""

from __future__ import annotations

import lightning
import pytest
import torch
from federations import data, facts, fit, net, weights
from torch import Tensor
from torch.optim import SGD

from fedlit.algorithms import Algorithm, BatchNormPolicy, ClippedMean, KeepLocal, chain
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout
from fedlit.engines import LoopEngine, TrainerEngine, WorkersEngine
from fedlit.federated import ClientModule, ClientUpdate, FederatedLoop, FederatedModule
from fedlit.models import EmnistCNN

HEAD = (r"^4\.",)
SIZES = (8, 4, 16, 4, 12, 6)  # no batch of one, which BatchNorm cannot take


def run(algorithm: KeepLocal, rounds: int = 3, mu: float = 0.0, engine: object = None, cohort: int = 6):
    """Updates by (round, client), the models that rounds started from, and the module."""
    updates: dict[tuple[int, int], ClientUpdate] = {}
    starts: dict[tuple[int, int], dict[str, Tensor]] = {}

    class Watched(ClientModule):
        def start(self, task):
            super().start(task)
            starts[task.round, task.client] = {n: t.detach().clone() for n, t in self.net.state_dict().items()}

    class Server(FederatedModule):
        client_class = Watched

    module = Server(net(norm=True), mu=mu, client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = FederatedLoop(cohort, 1, seed=0, algorithm=algorithm, engine=engine or LoopEngine())
    loop.on_update.append(lambda u: updates.__setitem__((u.task.round, u.task.client), u))
    return updates, starts, fit(module, loop, data(SIZES), rounds=rounds)


def parts(module: FederatedModule, update: ClientUpdate) -> dict[str, Tensor]:
    return module.layout.split(update.weights.floats)


def test_a_client_starts_from_its_own_part_and_the_servers_rest():
    updates, starts, module = run(KeepLocal(HEAD), cohort=4)
    for (round, client), start in starts.items():
        earlier = [r for r, k in updates if k == client and r < round]
        others = [starts[round, k] for r, k in updates if r == round and k != client]
        assert all(torch.equal(start["0.weight"], other["0.weight"]) for other in others)  # shared
        if earlier:
            own = parts(module, updates[max(earlier), client])["4.weight"]
            assert torch.equal(start["4.weight"].reshape(-1), own)
    assert any(r > 0 for r, _ in starts)


def test_local_parameters_have_no_proximal_term():
    calm, _, module = run(KeepLocal(HEAD), rounds=1, mu=1e3)
    free, *_ = run(KeepLocal(HEAD), rounds=1, mu=0.0)
    # With rate 0.1 and mu 1,000 the shared part would blow up if a fit took two steps: client 3 has one batch.
    assert torch.equal(parts(module, calm[0, 3])["4.weight"], parts(module, free[0, 3])["4.weight"])
    bound, _, module = run(KeepLocal(HEAD), rounds=1, mu=5.0)
    start = net(norm=True).state_dict()
    for key in free:
        tight, loose = (parts(module, u[key])["0.weight"] - start["0.weight"].reshape(-1) for u in (bound, free))
        assert tight.norm() <= loose.norm() * 1.01


@pytest.mark.parametrize("engine", [TrainerEngine(), WorkersEngine(workers=2)])
def test_every_engine_gives_the_same_bits(engine: object):
    def final(chosen: object) -> Tensor:
        module = FederatedModule(net(norm=True), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
        loop = FederatedLoop(4, 1, seed=0, algorithm=KeepLocal(HEAD), engine=chosen)
        return weights(fit(module, loop, data(SIZES), rounds=3).net)

    assert torch.equal(final(engine), final(LoopEngine()))


def test_fedbn_keeps_statistics_and_affine_parameters():
    updates, starts, module = run(BatchNormPolicy("all"), rounds=2)
    for name in ("1.weight", "1.bias", "1.running_mean", "1.running_var"):
        mine = {k: parts(module, updates[0, k])[name] for k in range(6)}
        assert all(torch.equal(starts[1, k][name], mine[k]) for k in range(6))
        assert not torch.equal(mine[0], mine[1])


def test_only_affine_parameters_can_be_averaged():
    updates, starts, module = run(BatchNormPolicy("statistics"), rounds=2)
    assert all(
        torch.equal(starts[1, k]["1.running_mean"], parts(module, updates[0, k])["1.running_mean"]) for k in range(6)
    )
    assert all(torch.equal(starts[1, k]["1.weight"], starts[1, 0]["1.weight"]) for k in range(6))


def test_a_clients_own_accuracy_is_measured_on_examples_it_never_trained_on():
    federation = data(sizes=(20, 30, 40), client_holdout=0.25)
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    updates: list[ClientUpdate] = []
    loop = FederatedLoop(3, 5, seed=0, algorithm=KeepLocal((r"^3\.",)), engine=LoopEngine())
    loop.on_update.append(updates.append)
    fit(module, loop, federation, rounds=2)
    assert federation.partition.sizes.tolist() == [15, 23, 30]
    final = net()
    for update in updates[-3:]:
        torch.nn.utils.vector_to_parameters(update.weights.floats, final.parameters())
        [(inputs, targets)] = federation.client_holdout_batches(update.task.client)
        expected = float((final(inputs).argmax(-1) == targets).float().mean())
        assert update.metrics["own_accuracy"] == pytest.approx(expected)
    mean = sum(u.metrics["own_accuracy"] for u in updates[-3:]) / 3
    assert module.round_metrics["clients/own_accuracy_mean"] == pytest.approx(mean)


def test_attention_is_local_by_default():
    from fedlit.attention import Spatial

    algorithm, net = KeepLocal(), EmnistCNN(Spatial)
    layout = Layout.of(net)
    algorithm.prepare(facts(net))
    assert algorithm.local == {name for name in layout.trainable if ".attention." in name}
    assert algorithm.local


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (lambda: KeepLocal(), "KeepLocal found nothing to keep in this network, whose tensors are named 0.weight"),
        (lambda: BatchNormPolicy(), "BatchNormPolicy found nothing to keep"),
        (
            lambda: KeepLocal([r"^0\.", "attn", "gate"]),
            r"KeepLocal found nothing named 'attn' in this network, whose tensors are named 0.weight",
        ),
        (lambda: KeepLocal([]), "KeepLocal found nothing to keep in this network"),
        (lambda: KeepLocal(("(",)), "not a regular expression"),
    ],
)
def test_patterns_without_a_match_are_refused(algorithm: object, message: str):
    with pytest.raises(InputError, match=message):
        fit(FederatedModule(net()), FederatedLoop(4, 1, seed=0, algorithm=algorithm()))


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (Algorithm(), ""),
        (ClippedMean(1.0), ""),
        (KeepLocal(["0"]), "KeepLocal: the global model is evaluated"),
        (chain(ClippedMean(1.0), KeepLocal(["0"])), "KeepLocal: the global model is evaluated"),
        (BatchNormPolicy(), "BatchNormPolicy: the global model is evaluated"),
    ],
    ids=["none", "clip", "local", "chain", "norm"],
)
def test_outside_of_a_fit_it_is_said_which_model_is_evaluated(
    algorithm: Algorithm, said: str, capsys: pytest.CaptureFixture[str]
):
    module = FederatedModule(net(norm=True))
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[FederatedLoop(algorithm=algorithm)]
    )
    trainer.test(module, datamodule=data(), verbose=False)
    err = capsys.readouterr().err
    assert ("the global model is evaluated" in err) is bool(said)
    assert said in err


def test_one_text_in_place_of_a_list_of_patterns_is_refused():
    """Each of its letters would be a pattern."""
    with pytest.raises(
        InputError, match=r"names must be a list of regular expressions, got the text 'gate'; give \['gate'\]"
    ):
        KeepLocal("gate")
