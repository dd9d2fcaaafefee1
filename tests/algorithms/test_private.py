"""Clipping and noise against arithmetic, epsilon against closed forms and the library itself."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import Absent, data, fit, net, quadratic_module, quadratics, weights
from scipy.stats import kstest, norm
from torch import Tensor
from torch.optim import SGD

from fedlit.algorithms import PrivateMean
from fedlit.algorithms.accountant import accountant
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, WorkersEngine
from fedlit.federated import AdaptiveMu, Algorithm, FederatedLoop, FederatedModule, SizeSampling

CLIENTS = 6


@pytest.fixture
def _library() -> None:
    pytest.importorskip("dp_accounting")


needs_library = pytest.mark.usefixtures("_library")


def run(
    algorithm: Algorithm | None, rounds: int = 2, root: Path | None = None, ckpt: Path | None = None, **loop: object
) -> FederatedModule:
    module = FederatedModule(net(dropout=0.2), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
    settings = {"clients_per_round": 4, "averaging": "uniform", "engine": LoopEngine(), **loop}
    federation = FederatedLoop(local_epochs=2, seed=0, algorithm=algorithm, **settings)
    return fit(module, federation, rounds=rounds, root=root, ckpt_path=ckpt)


def server(points: list[list[float]], algorithm: Algorithm, **loop: object) -> Tensor:
    """w from 0, where client k answers with a_k after one step of rate 1 on 1/2 |w - a_k|^2."""
    module = quadratic_module(lr=1.0)
    federation = FederatedLoop(len(points), 1, seed=0, averaging="uniform", algorithm=algorithm, **loop)
    fit(module, federation, quadratics(points), rounds=1)
    return module.net.w.detach()


# --- the mean ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [(), (1, 4)])
@pytest.mark.parametrize("engine", [LoopEngine(), WorkersEngine(workers=2)])
def test_no_noise_and_an_infinite_clip_change_no_bit(engine: Engine, absent: tuple[int, ...]):
    plain, private = (run(a, engine=engine, stragglers=Absent(*absent)) for a in (None, PrivateMean(math.inf, 0)))
    assert torch.equal(weights(private.net), weights(plain.net))
    assert "privacy/epsilon" not in private.round_metrics


def test_a_clip_that_no_update_reaches_changes_no_bit():
    assert torch.equal(weights(run(PrivateMean(1e6, 0)).net), weights(run(None).net))


def test_longer_updates_are_scaled_down_to_the_clip():
    points = [[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]  # of norms 5 and 1
    torch.testing.assert_close(server(points, PrivateMean(2.5, 0)), torch.tensor([1.5, 2.0, 1.0]) / 2)


def test_clients_that_are_missing_count_as_updates_of_zero():
    points = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    mean = server(points, PrivateMean(2.5, 0), stragglers=Absent(1, 3))
    torch.testing.assert_close(mean, torch.tensor([1.0, 0.0, 1.0]) / 4)


@needs_library
def test_the_noise_is_normal_and_of_the_deviation_that_is_accounted_for():
    def wide(algorithm: Algorithm) -> Tensor:
        module = FederatedModule(net(features=500), client_optimizer=lambda p: SGD(p, lr=0.1))
        loop = FederatedLoop(4, 1, seed=3, averaging="uniform", algorithm=algorithm)
        return weights(fit(module, loop, data(features=500), rounds=1).net)

    noise = (wide(PrivateMean(0.5, 2.0, 0.1)) - wide(PrivateMean(0.5, 0))).numpy()
    assert len(noise) > 4000
    assert kstest(noise, norm(0, 2.0 * 0.5 / 4).cdf).pvalue > 0.01


@needs_library
def test_a_round_without_answers_still_releases_noise():
    points = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert (server(points, PrivateMean(1.0, 1.0), stragglers=Absent(0, 1)) != 0).all()


@needs_library
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_noise_differs_by_round_and_resumes_to_the_bit_with_its_epsilon(tmp_path: Path):
    def private() -> PrivateMean:
        return PrivateMean(0.5, 1.0)

    whole = run(private(), rounds=3)
    first = run(private(), rounds=2, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    resumed = run(private(), rounds=3, root=tmp_path, ckpt=path, engine=WorkersEngine(workers=2))
    assert torch.equal(weights(resumed.net), weights(whole.net))
    name = "privacy/epsilon"
    assert first.round_metrics[name] < resumed.round_metrics[name] == whole.round_metrics[name]
    expected = accountant(1.0, CLIENTS, 4, 1e-5)
    assert [first.round_metrics[name], whole.round_metrics[name]] == [expected(2), expected(3)]
    with pytest.raises(InputError, match=r"one noise_multiplier, which was 1\.0 and now is 2\.0; use the run's config"):
        run(PrivateMean(0.5, 2.0), rounds=4, root=tmp_path, ckpt=path)


# --- epsilon -------------------------------------------------------------------------------------------------------


@needs_library
@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (4.0, 10), (8.0, 100)])
def test_with_all_clients_in_each_round_epsilon_is_that_of_the_gaussian_mechanism(noise: float, rounds: int):
    delta = 1e-5
    epsilon = accountant(noise, 50, 50, delta)(rounds)
    # Rounds of sensitivity 2 and deviation `noise` are one Gaussian mechanism of sensitivity over deviation
    mu = 2 * math.sqrt(rounds) / noise
    # whose exact delta is that of Balle and Wang 2018 (arXiv:1805.06530, Theorem 8), and Renyi accounting is no lower,
    exact = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
    assert exact <= delta
    # but no higher than min over alpha of alpha mu^2 / 2 + log(1/delta)/(alpha - 1) (Mironov 2017, Proposition 3).
    assert epsilon <= mu**2 / 2 + mu * math.sqrt(2 * math.log(1 / delta))


@needs_library
@pytest.mark.parametrize("cohort", [5, 50, 200])
def test_epsilon_of_sampled_cohorts_is_the_librarys(cohort: int):
    import dp_accounting as dp

    event = dp.SampledWithoutReplacementDpEvent(200, cohort, dp.GaussianDpEvent(1.5 / 2))
    library = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE).compose(event, 30)
    assert accountant(1.5, 200, cohort, 1e-4)(30) == pytest.approx(library.get_epsilon(1e-4), rel=1e-12)


@needs_library
def test_epsilon_grows_with_rounds_and_cohorts_and_falls_with_noise():
    values = np.array([accountant(z, 100, k, 1e-5)(t) for z, k, t in [(1, 10, 5), (1, 10, 6), (1, 20, 5), (2, 10, 5)]])
    assert values[3] < values[0] < min(values[1:3])


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0.0, 0.0), r"clip must be > 0, got 0\.0; \.inf with"),
        ((math.nan, 0.0), "clip must be > 0, got nan"),
        ((1.0, -1.0), r"noise_multiplier must be a finite number >= 0, got -1\.0"),
        ((1.0, math.inf), "noise_multiplier must be a finite number >= 0, got inf"),
        ((math.inf, 1.0), r"noise_multiplier 1\.0 is in units of clip, which is infinite; set clip"),
        ((1.0, 1.0, 0.0), r"delta must be more than 0 and less than 1, got 0\.0"),
    ],
)
def test_impossible_settings_are_refused(settings: tuple[float, ...], message: str):
    with pytest.raises(InputError, match=message):
        PrivateMean(*settings)


def test_federations_for_which_epsilon_does_not_hold_are_refused():
    private = PrivateMean(1.0, 1.0)
    with pytest.raises(InputError, match=r"weights all clients equally.*set federation\.averaging to uniform"):
        run(private, averaging="size")
    with pytest.raises(InputError, match="accounts for UniformSampling, not SizeSampling"):
        run(private, sampling=SizeSampling())
    with pytest.raises(InputError, match=r"delta must be less than 1/6, 1 / number of clients, got 0\.2; lower it"):
        run(PrivateMean(1.0, 1.0, 0.2))
    loop = FederatedLoop(4, seed=0, averaging="uniform", algorithm=PrivateMean(1.0, 0.0))
    with pytest.raises(
        InputError, match=r"buffers such as 1\.running_mean are not private; use a network without BatchNorm"
    ):
        fit(FederatedModule(net(norm=True)), loop)
    with pytest.raises(InputError, match=r"AdaptiveMu depends on the clients' losses.*set model\.mu to a number"):
        fit(FederatedModule(net(), mu=AdaptiveMu()), loop)


def test_without_the_library_epsilon_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(InputError, match="needs the dp-accounting package for epsilon; pip install dp-accounting"):
        run(PrivateMean(1.0, 1.0))
    run(PrivateMean(1.0, 0.0), rounds=1)
