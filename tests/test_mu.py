"""The strength of the proximal term: the paper's rule on given losses, and its use in a federation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import data, fit, net, weights
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback, Trainer
from torch.optim import SGD

from fedlit.core.errors import InputError
from fedlit.engines import LoopEngine
from fedlit.federated import AdaptiveMu, ConstantMu, Diagnostics, FederatedLoop, FederatedModule, Mu, MuByName

LOSS = "clients/train_loss"


def follow(mu: Mu, losses: list[float | None]) -> list[float]:
    """mu after each round of these losses; None is a round without one."""
    values = []
    for loss in losses:
        mu.update({"round/clients": 3.0} if loss is None else {LOSS: loss, "round/clients": 3.0})
        values.append(mu.value)
    return values


def adaptive(start: float = 1.0, **kwargs: object) -> AdaptiveMu:
    """Steps of 1/4, which floats add without error."""
    return AdaptiveMu(**{"start": start, "step": 0.25, "most": 2.0, **kwargs})


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("losses", "mus"),
    [
        ([3.0], [1.0]),  # there is nothing to compare the first loss with
        ([3, 4, 5, 6], [1, 1.25, 1.5, 1.75]),  # each rise adds a step
        ([3, 4, 3, 4, 3], [1, 1.25, 1.25, 1.5, 1.5]),  # a single fall takes none away
        ([9, 8, 7, 6, 5, 4], [1, 1, 1, 1, 1, 0.75]),  # five falls in a row do
        ([9, 8, 7, 6, 5, 6, 5, 4, 3, 2, 1], [1, 1, 1, 1, 1, 1.25, 1.25, 1.25, 1.25, 1.25, 1]),  # a rise in between
        ([9, 8, 7, 6, 5, 5, 4, 3, 2, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.75]),  # an equal loss ends the row
        ([3, 3, 3], [1, 1, 1]),  # and is no rise
        ([3, 4, 5, 6, 7, 8, 7], [1, 1.25, 1.5, 1.75, 2, 2, 2]),  # never above most
        ([3, NAN], [1, 1.25]),  # a loss that is no number has not fallen
        ([9, 8, 7, 6, 5, NAN], [1, 1, 1, 1, 1, 1.25]),
        ([3, INF], [1, 1.25]),
        ([3, None, 4], [1, 1, 1.25]),  # a round without a loss is passed: 4 is compared with 3
        ([9, 8, 7, None, 6, 5, 4], [1, 1, 1, 1, 1, 1, 0.75]),  # and does not end a row
        ([None, 3, 4], [1, 1, 1.25]),
    ],
)
def test_mu_follows_the_papers_rule(losses: list[float | None], mus: list[float]):
    assert follow(adaptive(), losses) == mus


@pytest.mark.parametrize(
    ("restart", "mus"),
    [
        # 16 losses fall 15 times. Counted anew, falls 5, 10 and 15 lower mu; counted on, the fifth and each after it.
        (True, [2] * 5 + [1.75] * 5 + [1.5] * 5 + [1.25]),
        (False, [2] * 5 + [1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0]),  # never below 0
    ],
)
def test_whether_the_count_starts_again_after_a_decrease_is_an_option(restart: bool, mus: list[float]):
    assert follow(adaptive(2.0, restart=restart), list(range(16, 0, -1))) == mus


def test_patience_and_the_least_mu_are_options():
    assert follow(adaptive(patience=1, least=0.6), [3, 2, 1, 0]) == [1, 0.75, 0.6, 0.6]
    assert follow(adaptive(patience=2), [3, 2, 1, 0, -1]) == [1, 1, 0.75, 0.75, 0.5]


def test_the_defaults_are_the_papers():
    # Steps of 0.1, five falls, from 0 on non-IID data, never below 0 and without an upper bound.
    assert follow(AdaptiveMu(), [1, 2, 3]) == pytest.approx([0, 0.1, 0.2])
    assert follow(AdaptiveMu(), [6, 5, 4, 3, 2, 1]) == [0] * 6
    assert follow(AdaptiveMu(1.0), [6, 5, 4, 3, 2, 1]) == pytest.approx([1] * 5 + [0.9])
    assert follow(AdaptiveMu(1.0), list(range(100)))[-1] == pytest.approx(1 + 99 * 0.1)


def test_another_metric_can_be_watched():
    mu = adaptive(watch="diagnostics/train_loss")
    for loss in (1.0, 2.0, 3.0):
        mu.update({LOSS: loss})
    assert mu.value == 1
    for loss in (1.0, 2.0, 3.0):
        mu.update({LOSS: 0.0, "diagnostics/train_loss": loss})
    assert mu.value == 1.5


some_losses = st.lists(st.none() | st.sampled_from([1.0, 2.0, NAN, INF]) | st.floats(-5, 5), max_size=30)


@given(some_losses, st.booleans(), st.integers(1, 3))
def test_mu_moves_by_a_step_at_most_and_stays_in_its_bounds(losses: list[float | None], restart: bool, patience: int):
    mus = [0.5, *follow(adaptive(0.5, least=0.2, most=1.1, restart=restart, patience=patience), losses)]
    assert min(mus) >= 0.2
    assert max(mus) <= 1.1
    assert np.abs(np.diff(mus)).max(initial=0) <= 0.25 + 1e-12


@given(some_losses, some_losses, st.booleans())
def test_mu_goes_on_from_its_state_exactly(before: list[float | None], after: list[float | None], restart: bool):
    straight = adaptive(patience=2, restart=restart)
    follow(straight, before)
    resumed = adaptive(0.0, patience=2, restart=restart)
    resumed.load_state_dict(straight.state_dict())
    assert resumed.value == straight.value
    assert follow(resumed, after) == follow(straight, after)


@pytest.mark.parametrize("stop", range(8))
def test_a_row_of_falls_and_the_loss_before_survive_a_resume(stop: int):
    losses, mus = [9, 8, 7, 6, 5, 4, 3, 5], [1, 1, 1, 1, 1, 0.75, 0.75, 1]  # by hand, as above
    before, after = adaptive(), adaptive()
    follow(before, losses[:stop])
    after.load_state_dict(before.state_dict())
    assert follow(after, losses[stop:]) == mus[stop:]


@pytest.mark.parametrize("mu", [ConstantMu(0.3), MuByName({"bias": 1.0}, mu=0.3)])
def test_a_constant_mu_has_no_state_and_ignores_metrics(mu: Mu):
    assert follow(mu, [1, 2, 3, NAN]) == [0.3] * 4
    assert mu.state_dict() == {}
    mu.load_state_dict({})
    assert mu.value == 0.3


def test_the_first_pattern_that_matches_counts():
    mu = MuByName({r"^conv1\.": 1.0, "bias$": 2.0, r"\battention\b": 0.0}, mu=0.3)
    names = ["conv1.weight", "conv1.bias", "conv2.bias", "block.attention.weight", "self_attention.weight", "fc.weight"]
    assert [mu.of(name) for name in names] == [1, 1, 2, 0, 0.3, 0.3]
    assert mu.value == 0.3  # the mu of all other parameters is logged


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ConstantMu(-0.1), "mu must be a finite number >= 0, got -0.1; 0 is FedAvg"),
        (lambda: ConstantMu(NAN), "mu must be a finite number >= 0, got nan"),
        (lambda: ConstantMu(INF), "mu must be a finite number >= 0, got inf"),
        (lambda: MuByName({}, mu=-1), "mu must be a finite number >= 0, got -1"),
        (lambda: MuByName({"fc": -2.0}), "mu of 'fc' must be a finite number >= 0, got -2"),
        (lambda: MuByName({"fc": NAN}), "mu of 'fc' must be a finite number >= 0, got nan"),
        (lambda: MuByName({"fc": INF}), "mu of 'fc' must be a finite number >= 0, got inf"),
        (lambda: MuByName({"(fc": 1.0}), r"'\(fc' is not a regular expression: .*; correct it, or give a plain word"),
        (lambda: AdaptiveMu(start=-0.1), "start must be a finite number >= 0, got -0.1"),
        (lambda: AdaptiveMu(start=NAN), "start must be a finite number >= 0, got nan"),
        (lambda: AdaptiveMu(start=INF), "start must be a finite number >= 0, got inf"),
        (lambda: AdaptiveMu(start=0.1, least=0.2), "start must be between least 0.2 and most inf, got 0.1; widen"),
        (lambda: AdaptiveMu(start=3.0, most=2.0), "start must be between least 0.0 and most 2.0, got 3.0; widen"),
        (lambda: AdaptiveMu(least=-1.0), "start must be between least -1.0"),
        (lambda: AdaptiveMu(most=NAN), "most nan"),
        (lambda: AdaptiveMu(step=0.0), "step must be a finite number > 0, got 0.0; the paper's is 0.1"),
        (lambda: AdaptiveMu(step=-0.1), "step must be a finite number > 0, got -0.1"),
        (lambda: AdaptiveMu(patience=0), "patience must be at least 1, got 0; the paper's is 5"),
        (lambda: AdaptiveMu(step=NAN), "step must be a finite number > 0, got nan"),
        (lambda: AdaptiveMu(step=INF), "step must be a finite number > 0, got inf"),
        (
            lambda: FederatedModule(net(), mu=MuByName({"weight": 1.0, r"\battention\b": 1.0})),
            r"no trainable parameter has '\\\\battention\\\\b' in its name; their names are 0.weight, 0.bias, .*; corr",
        ),
    ],
)
def test_impossible_values_are_refused_by_value(make, says: str):
    with pytest.raises(InputError, match=says):
        make()


def test_a_pattern_that_only_finds_frozen_parameters_is_refused():
    model = net()
    model[0].requires_grad_(False)
    with pytest.raises(InputError, match=r"no trainable parameter has '\^0' in its name; their names are 3.weight"):
        FederatedModule(model, mu=MuByName({"^0": 1.0}))


class Recorder(Callback):
    """Metrics after each round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: FederatedModule, *_: object) -> None:
        self.rounds.append(pl_module.round_metrics)


def federation(
    mu: float | Mu, rounds: int = 2, lr: float = 0.1, epochs: float = 2, **kwargs: object
) -> FederatedModule:
    module = FederatedModule(net(), mu=mu, client_optimizer=lambda p: SGD(p, lr=lr))
    return fit(module, FederatedLoop(4, epochs, seed=0), data(), rounds, **kwargs)


@pytest.mark.parametrize("mu", [0.25, ConstantMu(0.25), MuByName({"bias": 3.0}, mu=0.25), AdaptiveMu(0.25)])
def test_the_mu_of_a_round_is_among_its_metrics(mu: float | Mu):
    assert federation(mu, rounds=1).round_metrics["federation/mu"] == 0.25


def test_mu_adapts_to_the_loss_of_the_rounds_before():
    recorder = Recorder()
    # The paper's step and one fall for patience, so that mu moves in every round.
    module = federation(AdaptiveMu(0.5, patience=1), rounds=6, lr=1.0, callbacks=[recorder])
    losses = [metrics[LOSS] for metrics in recorder.rounds]
    # The mu of round t has heard of the losses before it: 0.1 for each rise, -0.1 for each fall.
    moves = 0.1 * np.sign(np.diff(losses))
    mus = 0.5 + np.cumsum([0, *moves])
    assert [m["federation/mu"] for m in recorder.rounds] == pytest.approx([0.5, *mus[:-1]])
    assert module.mu.value == pytest.approx(mus[-1])
    assert {-1, 1} <= set(np.sign(moves))  # the losses rose and fell


def test_a_proximal_term_that_adapts_is_trained_with():
    # The first round is FedAvg's, those after it have the mu that rose.
    class Always(ConstantMu):
        """0 in the first round, then 0.5, without the rule."""

        def update(self, metrics):
            self._mu = 0.5

    class Rising(AdaptiveMu):
        """The rule with a rising loss after each round."""

        def update(self, metrics):
            super().update({LOSS: 1.0})
            super().update({LOSS: 2.0})

    rule = Rising(0.0, step=0.5, most=0.5)
    assert torch.equal(weights(federation(rule, rounds=3).net), weights(federation(Always(0.0), rounds=3).net))
    assert not torch.equal(weights(federation(0.0, rounds=3).net), weights(federation(Always(0.0), rounds=3).net))


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")  # the resumed run writes no checkpoints
@pytest.mark.parametrize("resume_after", [1, 3])
def test_a_resumed_run_goes_on_with_the_mu_that_it_had(tmp_path: Path, resume_after: int):
    def make() -> AdaptiveMu:
        return AdaptiveMu(0.5, patience=1, restart=False)

    straight = federation(make(), rounds=5)
    federation(make(), rounds=resume_after, root=tmp_path)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    resumed = federation(make(), rounds=5, ckpt_path=checkpoint)
    assert torch.equal(weights(resumed.net), weights(straight.net))
    assert resumed.mu.value == straight.mu.value
    assert resumed.mu.state_dict() == straight.mu.state_dict()
    assert resumed.round_metrics["federation/mu"] == straight.round_metrics["federation/mu"]


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")
def test_a_run_is_not_resumed_with_another_kind_of_mu(tmp_path: Path):
    federation(0.5, rounds=1, root=tmp_path)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(InputError, match="rule for mu is ConstantMu there, but AdaptiveMu here"):
        federation(AdaptiveMu(0.5), ckpt_path=checkpoint)


def test_one_mu_for_all_names_is_a_plain_mu_to_the_bit():
    plain = weights(federation(0.7).net)
    assert torch.equal(weights(federation(MuByName({"": 0.7}, mu=5.0)).net), plain)
    assert torch.equal(weights(federation(MuByName({}, mu=0.7)).net), plain)
    assert torch.equal(weights(federation(MuByName({"weight": 0.7, "bias": 0.7})).net), plain)
    assert torch.equal(weights(federation(ConstantMu(0.7)).net), plain)


def test_mu_zero_by_name_is_fedavg_to_the_bit():
    assert torch.equal(weights(federation(MuByName({"": 0.0}, mu=5.0)).net), weights(federation(0.0).net))


def test_a_huge_mu_on_one_layers_name_holds_that_layer_alone():
    # With mu = 1/lr a step is w <- w - lr (g + (w - w_t)/lr) = w_t - lr g: however many steps there are, the layer ends
    # one step away from where it began, while the other goes on.
    lr, epochs = 0.01, 50
    start = net()
    moves = {}
    for name, mu in (("free", MuByName({}, mu=0.0)), ("held", MuByName({r"^3\.": 1 / lr}, mu=0.0))):
        trained = federation(mu, rounds=1, lr=lr, epochs=epochs).net
        moves[name] = [(weights(trained[layer]) - weights(start[layer])).norm().item() for layer in (0, 3)]
    assert 0 < moves["held"][1] < moves["free"][1] / 20
    assert moves["held"][0] > moves["free"][0] / 3


def test_each_parameter_is_pulled_with_the_mu_of_its_name():
    # One client, its three samples one batch: two steps of w <- w - lr (g(w) + mu (w - w_t)) by hand.
    lr, strengths = 0.1, {"0.weight": 0.0, "0.bias": 2.0, "3.weight": 0.5, "3.bias": 0.5}
    d = data(sizes=(3,))
    module = FederatedModule(
        net(), mu=MuByName({r"^0\.w": 0.0, r"^0\.b": 2.0}, mu=0.5), client_optimizer=lambda p: SGD(p, lr=lr)
    )
    fit(module, FederatedLoop(1, 2, seed=0), d, rounds=1)
    by_hand, anchor = net().double(), net().double().state_dict()
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(by_hand(d.train.inputs.double()), d.train.targets)
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for (name, w), g in zip(by_hand.named_parameters(), gradients, strict=True):
                w -= lr * (g + strengths[name] * (w - anchor[name]))
    torch.testing.assert_close(weights(module.net), weights(by_hand), rtol=1e-5, atol=1e-7)


def test_bounds_that_change_on_a_resume_count_at_once():
    mu = AdaptiveMu(0.2, most=0.5)
    mu.load_state_dict({"mu": 1.0, "loss": 2.0, "falls": 3})
    assert mu.value == 0.5
    assert mu.state_dict() == {"mu": 0.5, "loss": 2.0, "falls": 3}


@pytest.mark.parametrize(
    ("watch", "diagnostics", "refused"),
    [
        ("clients/train_los", None, True),
        ("global/loss", None, True),  # is measured after mu was updated
        ("diagnostics/train_loss", None, True),
        ("diagnostics/train_loss", Diagnostics(every=1), False),
    ],
)
def test_a_watched_metric_that_no_round_has_is_refused(watch: str, diagnostics: Diagnostics | None, refused: bool):
    module = FederatedModule(net(), AdaptiveMu(watch=watch))
    loop = FederatedLoop(4, seed=0, engine=LoopEngine(), diagnostics=diagnostics)
    if refused:
        with pytest.raises(InputError, match=f"AdaptiveMu watches '{watch}', which no round has .*clients/accuracy"):
            fit(module, loop)
    else:
        fit(module, loop)
