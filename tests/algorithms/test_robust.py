"""Robust averages against numpy and scipy, and against attackers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attackers import NOISE, SCALED, SIGN_FLIP, Attack, attacked, label_flip
from federations import Absent, Watch, fit, net, quadratic_module, quadratics, weights
from scipy.stats import trim_mean
from sklearn.datasets import make_blobs
from torch import Tensor
from torch.optim import SGD

from fedlit.algorithms import Clip, ClippedMean, CoordinateMedian, Krum, TrimmedMean
from fedlit.algorithms import collected as chunks
from fedlit.algorithms.robust import clipped, krum_scores, median, squared_distances, trimmed
from fedlit.core.errors import InputError
from fedlit.core.layout import read_state
from fedlit.data import ByGroup, Tensors
from fedlit.federated import (
    Algorithm,
    ClientUpdate,
    FederatedLoop,
    FederatedModule,
    PartialWork,
    SizeSampling,
)

RULES = {
    "median": CoordinateMedian,
    "trimmed": lambda: TrimmedMean(0.3),
    "clipped": ClippedMean,
    "krum": lambda: Krum(2),
    "multi-krum": lambda: Krum(2, multi=3),
}


def rows(clients: int, columns: int = 7) -> Tensor:
    return torch.randn(clients, columns, generator=torch.Generator().manual_seed(clients))


# --- the maths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [1, 2, 5, 8])
def test_the_median_is_numpys(clients: int):
    x = rows(clients)
    np.testing.assert_allclose(median(x).numpy(), np.median(x.double().numpy(), axis=0), rtol=1e-12)


@pytest.mark.parametrize(("clients", "fraction"), [(1, 0.4), (5, 0.2), (8, 0.3), (10, 0.1), (9, 0.0), (10, 0.49)])
def test_the_trimmed_mean_is_scipys(clients: int, fraction: float):
    x = rows(clients)
    expected = trim_mean(x.double().numpy(), fraction, axis=0)
    np.testing.assert_allclose(trimmed(x, int(fraction * clients)).numpy(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("clients", "fraction", "cut"), [(100, 0.29, 29), (10, 0.3, 3), (9, 0.49, 4), (2, 0.4, 0)])
def test_the_fraction_of_a_trimmed_mean_is_not_rounded_down_by_a_float(clients: int, fraction: float, cut: int):
    assert TrimmedMean(fraction).cut(clients) == cut


def test_clipping_keeps_the_direction_and_shortens_to_the_norm():
    start = torch.tensor([1.0, 1.0])
    state = torch.tensor([4.0, 5.0])  # start + (3, 4), of norm 5
    torch.testing.assert_close(clipped(state, start, 2.5), torch.tensor([2.5, 3.0], dtype=torch.float64))
    assert clipped(state, start, 5.0) is state
    torch.testing.assert_close(clipped(state, start, 0.0), start.double())


@pytest.mark.parametrize(("clients", "attackers"), [(5, 1), (7, 2), (9, 0)])
def test_krums_scores_are_sums_over_the_nearest(clients: int, attackers: int):
    x = rows(clients).double().numpy()
    expected = []
    for k in range(clients):
        squares = sorted(float(((x[k] - x[j]) ** 2).sum()) for j in range(clients) if j != k)
        expected.append(sum(squares[: clients - attackers - 2]))
    distances = squared_distances(torch.from_numpy(x).split(3, dim=1))
    np.testing.assert_allclose(krum_scores(distances, attackers).numpy(), expected, rtol=1e-12)


# --- in a federation: client k answers with a_k after one step of rate 1 on 1/2 |w - a_k|^2 ----------------------


def server(points: list[list[float]], algorithm: Algorithm | None, sizes: tuple[int, ...] | None = None) -> Tensor:
    module = quadratic_module(lr=1.0)
    fit(module, FederatedLoop(len(points), 1, seed=0, algorithm=algorithm), quadratics(points, sizes), rounds=1)
    return module.net.w.detach()


POINTS = [[1.0, 0.0, 5.0], [2.0, 1.0, 4.0], [3.0, 7.0, 3.0], [4.0, 3.0, 1.0], [9.0, 2.0, 2.0], [3.5, 2.5, 2.5]]


def test_the_servers_median_and_trimmed_mean_are_numpys_and_scipys():
    torch.testing.assert_close(server(POINTS, CoordinateMedian()), torch.tensor(np.median(POINTS, axis=0)).float())
    expected = torch.tensor(trim_mean(POINTS, 0.2, axis=0)).float()
    torch.testing.assert_close(server(POINTS, TrimmedMean(0.2)), expected)


def test_vectors_are_processed_in_chunks(monkeypatch: pytest.MonkeyPatch):
    whole = [server(POINTS, rule()) for rule in (CoordinateMedian, lambda: Krum(1))]
    monkeypatch.setattr(chunks, "COLUMN_CHUNK", 2)
    for expected, rule in zip(whole, (CoordinateMedian, lambda: Krum(1)), strict=True):
        assert torch.equal(server(POINTS, rule()), expected)


@pytest.mark.parametrize("multi", [1, 2, 3])
def test_krum_averages_the_clients_nearest_to_their_neighbours(multi: int):
    x = np.array(POINTS)
    scores = [sum(sorted(((x - x[k]) ** 2).sum(1))[1 : 1 + len(x) - 1 - 2]) for k in range(len(x))]
    expected = x[np.argsort(scores)[:multi]].mean(0)
    torch.testing.assert_close(server(POINTS, Krum(1, multi)), torch.tensor(expected).float())


def test_clipped_updates_are_averaged_by_size():
    points = [[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]  # from 0, of norms 5 and 1
    expected = torch.tensor([3 * 3 / 5 * 2, 3 * 4 / 5 * 2, 1.0]) / 4
    torch.testing.assert_close(server(points, ClippedMean(2.0), sizes=(3, 1)), expected)
    # The median of the norms 5 and 1 is 3.
    expected = torch.tensor([3 * 3 / 5 * 3, 3 * 4 / 5 * 3, 1.0]) / 4
    torch.testing.assert_close(server(points, ClippedMean(), sizes=(3, 1)), expected)
    assert torch.equal(server(points, ClippedMean(100.0), sizes=(3, 1)), server(points, None, sizes=(3, 1)))


@pytest.mark.parametrize("rule", RULES)
def test_equal_clients_give_the_plain_mean(rule: str):
    points = [[1.0, -2.0, 0.3]] * 7
    torch.testing.assert_close(server(points, RULES[rule]()), server(points, None))


@pytest.mark.parametrize("rule", RULES)
def test_one_extreme_client_changes_robust_averages_little_but_the_mean_a_lot(rule: str):
    sound = [[1.0 + k / 10, 2.0 - k / 10, 3.0] for k in range(7)]
    wild = [*sound[:6], [1e9, -1e9, 1e9]]
    centre = torch.tensor([1.3, 1.7, 3.0])
    assert (server(wild, None) - centre).norm() > 1e8
    # All sound clients are within 0.3 sqrt(2) of the centre. A clipped one moves the mean by at most 2/7 of the
    # median norm, less than 4.
    assert (server(wild, RULES[rule]()) - centre).norm() < (1.2 if rule == "clipped" else 0.5)


def test_buffers_are_averaged_plainly():
    updates: list[ClientUpdate] = []
    module = FederatedModule(net(norm=True), client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = FederatedLoop(6, 1, seed=0, algorithm=CoordinateMedian())
    loop.on_update.append(updates.append)
    fit(module, loop, blobs(), rounds=1)
    name = "1.running_mean"
    sizes = [update.task.num_examples for update in updates]
    means = [module.layout.split(update.weights.floats)[name] for update in updates]
    expected = sum(n * m for n, m in zip(sizes, means, strict=True)) / sum(sizes)
    torch.testing.assert_close(module.net.state_dict()[name], expected)
    trainable = torch.stack([update.weights.floats[: module.layout.num_trainable] for update in updates])
    expected = np.median(trainable.double().numpy(), axis=0)
    got = read_state(module.net, module.layout).floats[: module.layout.num_trainable]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-7)


# --- attackers -----------------------------------------------------------------------------------------------------

ATTACKERS = (1, 4)


def blobs() -> Tensors:
    """Ten clients with 20 points each of three well separated classes."""
    inputs, labels = make_blobs(250, 5, centers=3, random_state=0)
    inputs, labels = (inputs / 5).astype(np.float32), labels.astype(np.int64)
    return Tensors(
        train=(inputs[:200], labels[:200], np.repeat(np.arange(10), 20)),
        test=(inputs[200:], labels[200:]),
        class_names=["a", "b", "c"],
        partition=ByGroup(),
        batch_size=10,
        seed=0,
    )


def accuracy_under(attack: Attack, algorithm: Algorithm | None) -> float:
    module = attacked(attack, ATTACKERS)(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, FederatedLoop(10, 4, seed=0, algorithm=algorithm), blobs(), rounds=6)
    assert weights(module.net).isfinite().all()
    return float(module.trainer.callback_metrics["global/accuracy"])


@pytest.mark.trust
@pytest.mark.parametrize("attack", [SIGN_FLIP, SCALED, NOISE])
def test_robust_averages_learn_under_attack_where_the_mean_does_not(attack: Attack):
    plain = accuracy_under(attack, None)
    robust = {name: accuracy_under(attack, rule()) for name, rule in RULES.items()}
    assert plain < 0.7
    assert min(robust.values()) > 0.9, robust


@pytest.mark.trust
def test_robust_averages_learn_where_some_train_on_flipped_labels():
    robust = {name: accuracy_under(label_flip(3), rule()) for name, rule in RULES.items()}
    assert min(robust.values()) > 0.9, robust


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [-0.1, 0.5, float("nan")])
def test_a_fraction_that_leaves_no_client_is_refused(fraction: float):
    with pytest.raises(InputError, match=f"fraction must be at least 0 and less than 0.5, got {fraction}; 0.1 leaves"):
        TrimmedMean(fraction)


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_norm_of_0_is_refused(norm: float):
    with pytest.raises(InputError, match=f"norm must be > 0, got {norm}; leave it out"):
        ClippedMean(norm)


def test_krum_refuses_impossible_arguments_and_small_cohorts():
    with pytest.raises(InputError, match="attackers must be at least 0, got -1"):
        Krum(-1)
    with pytest.raises(InputError, match="multi must be at least 1, got 0; 1 is Krum"):
        Krum(1, multi=0)
    with pytest.raises(InputError, match=r"Krum with 2 attackers .* at least 7 clients a round, got 6; raise"):
        server(POINTS, Krum(2))
    with pytest.raises(InputError, match=r"Krum with 1 attackers and multi 4 needs .* 7 clients a round, got 6"):
        server(POINTS, Krum(1, multi=4))


def test_a_fit_is_refused_if_too_few_clients_for_krum_will_train_in_a_later_round():
    """Clients that are drawn twice, are dropped or have no examples send no update of their own."""
    cases: dict[str, dict[str, Any]] = {
        "are repeated draws": {"sampling": SizeSampling()},
        "are dropped": {"stragglers": PartialWork(0.5, drop=True)},
    }
    for said, options in cases.items():
        loop = FederatedLoop(6, 1, seed=0, algorithm=[Clip(1.0), Krum(1)], **options)
        watch = Watch()
        with pytest.raises(
            InputError, match=rf"Clip \+ Krum needs .* 5 clients .* in round \d+ only.* {said}.*; raise"
        ):
            fit(quadratic_module(), loop, quadratics(POINTS), rounds=50, callbacks=[watch])
        assert not hasattr(watch, "session")  # it did not start
    nobody = FederatedLoop(6, 1, seed=0, algorithm=Krum(1), stragglers=Absent(*range(6)))
    with pytest.warns(UserWarning, match="every client of round 1 was dropped"):
        fit(quadratic_module(), nobody, quadratics(POINTS), rounds=1)


def test_all_rules_are_the_same_whatever_the_order_of_the_clients():
    points = [*POINTS, [1.5, 1.5, 1.5]]
    for rule in RULES.values():
        torch.testing.assert_close(server(points, rule()), server(points[::-1], rule()))
