"""Synthetic(alpha, beta): its laws, its readings, its addresses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.data import SimulatedSensors, Synthetic, Uniform


def ready(alpha: float = 1.0, beta: float = 1.0, **kwargs) -> Synthetic:
    data = Synthetic(alpha, beta, **{"seed": 0, **kwargs})
    data.setup()
    return data


def client_mean(data: Synthetic, client: int) -> np.ndarray:
    """A client's mean input, (60,), in float64."""
    return data.client_examples(client)[0].mean(0, dtype=np.float64)


def test_thirty_clients_hold_their_own_examples_nine_tenths_of_them_for_training() -> None:
    data = ready()
    sizes = np.array([data.client_size(k) for k in range(30)])
    assert (data.num_clients, data.num_classes, data.in_channels) == (30, 10, 60)
    assert data.partition.sizes.tolist() == (sizes - sizes // 10).tolist()
    assert np.bincount(data.test.groups).tolist() == (sizes // 10).tolist()
    for k in (0, 29):
        inputs, labels = data.client_examples(k)
        for examples, rows in ((data.train, slice(0, -(sizes[k] // 10))), (data.test, slice(-(sizes[k] // 10), None))):
            mine = torch.from_numpy(examples.groups == k)
            assert np.array_equal(examples.inputs[mine], inputs[rows])
            assert np.array_equal(examples.targets[mine], labels[rows])
        assert (data.train.groups[data.partition.client(k)] == k).all()


def test_sizes_are_50_more_than_a_lognormal_draw() -> None:
    data = ready(num_clients=1)
    drawn = np.log(np.array([data.client_size(k) for k in range(4000)]) - 50 + 0.5)  # the fraction was cut off
    lower, median, upper = np.quantile(drawn, [0.25, 0.5, 0.75])
    # The quartiles of N(4, 2) are 4 -+ 0.6745 * 2; the outer ones' standard error is 2 * 1.36 / sqrt(4000) = 0.043.
    np.testing.assert_allclose([lower, median, upper], [4 - 1.349, 4, 4 + 1.349], atol=0.13)


def test_labels_are_the_argmax_of_the_clients_own_model() -> None:
    data = ready()
    for k in range(5):
        weights, offsets = data.client_model(k)
        inputs, labels = data.client_examples(k)
        assert labels.tolist() == [int(np.argmax(weights.T @ x + offsets)) for x in inputs.astype(np.float64)]
    assert not np.array_equal(data.client_model(0)[0], data.client_model(1)[0])


def test_features_have_variance_j_to_the_minus_1_2_and_are_uncorrelated() -> None:
    data = ready(num_clients=100)
    k = max(range(100), key=data.client_size)
    inputs = data.client_examples(k)[0].astype(np.float64)
    expected = np.arange(1.0, 61) ** -1.2
    error = np.sqrt(2 / len(inputs))  # of a variance, relative
    np.testing.assert_allclose(inputs.var(0), expected, rtol=5 * error)
    correlation = np.corrcoef(inputs.T) - np.eye(60)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(inputs))


def test_iid_clients_share_one_model_and_have_inputs_around_zero() -> None:
    data = ready(0.0, 0.0, iid=True)
    (weights, offsets), *others = (data.client_model(k) for k in range(4))
    assert all(np.array_equal(w, weights) and np.array_equal(b, offsets) for w, b in others)
    # N(0, 1) of 600 entries: the standard error of the mean is 0.041, of the variance 0.058.
    assert abs(weights.mean()) < 0.2
    assert abs(weights.var() - 1) < 0.3
    inputs = np.concatenate([data.train.inputs, data.test.inputs])
    error = np.arange(1.0, 61) ** -0.6 / np.sqrt(len(inputs))
    assert (np.abs(inputs.mean(0)) < 5 * error).all()
    assert not np.array_equal(data.client_examples(0)[0][:50], data.client_examples(1)[0][:50])


def test_clients_differ_even_at_zero_unless_iid() -> None:
    data = ready(0.0, 0.0)
    means = np.stack([client_mean(data, k) for k in range(30)])  # (30, 60)
    # v_k ~ N(0, 1): 1,800 entries, so the standard error of their variance is about 0.033.
    assert abs(means.var() - 1) < 0.2


def test_alpha_and_beta_are_standard_deviations_or_variances() -> None:
    zero, std, variance = (ready(a, a, reading=r) for a, r in ((0.0, "std"), (0.25, "std"), (0.25, "variance")))
    for k in range(3):
        # At one seed the variates underneath are the same: B_k and u_k scale by 0.25, and by sqrt(0.25) = 0.5.
        shift = [data.client_examples(k)[0] - zero.client_examples(k)[0] for data in (std, variance)]
        assert np.ptp(shift[0]) < 1e-5  # B_k, the same for all features and examples
        np.testing.assert_allclose(2 * shift[0], shift[1], atol=1e-5)
        moved = [data.client_model(k)[0] - zero.client_model(k)[0] for data in (std, variance)]
        assert np.ptp(moved[0]) < 1e-12
        np.testing.assert_allclose(2 * moved[0], moved[1])


def test_spreads_are_those_of_the_clients_means() -> None:
    zero, data = ready(0.0, 0.0, num_clients=1), ready(0.5, 2.0, num_clients=1)
    u = [(data.client_model(k)[1] - zero.client_model(k)[1])[0] for k in range(400)]
    b = [float(data.client_examples(k)[0][0, 0] - zero.client_examples(k)[0][0, 0]) for k in range(400)]
    # The relative standard error of a standard deviation of 400 draws is 1 / sqrt(800) = 0.035.
    np.testing.assert_allclose([np.std(u), np.std(b)], [0.5, 2.0], rtol=0.15)
    assert np.abs(np.corrcoef(u, b)[0, 1]) < 0.2


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_readings_agree_at_zero_and_one(spread: float) -> None:
    std, variance = (ready(spread, spread, reading=reading) for reading in ("std", "variance"))
    assert torch.equal(std.train.inputs, variance.train.inputs)
    assert torch.equal(std.train.targets, variance.train.targets)


def test_alpha_moves_all_logits_alike_and_so_no_label() -> None:
    low, high = ready(0.0, 0.5), ready(1.0, 0.5)
    assert not np.allclose(low.client_model(0)[0], high.client_model(0)[0])
    assert torch.equal(low.train.inputs, high.train.inputs)
    assert torch.equal(low.train.targets, high.train.targets)


def test_a_seed_gives_the_same_data_and_another_seed_others() -> None:
    one, same, other = (ready(num_clients=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert torch.equal(one.test.targets, same.test.targets)
    assert one.partition.sizes.tolist() != other.partition.sizes.tolist()


def test_a_clients_examples_do_not_depend_on_how_many_clients_there_are() -> None:
    few, many = ready(num_clients=4), ready(num_clients=9)
    for part in ("train", "test"):
        small, large = getattr(few, part), getattr(many, part)
        assert torch.equal(small.inputs, large.inputs[: len(small)])
        assert torch.equal(small.targets, large.targets[: len(small)])
    assert few.partition.sizes.tolist() == many.partition.sizes[:4].tolist()


def test_another_partition_deals_the_examples_anew() -> None:
    data = ready(num_clients=7, partition=Uniform())
    assert np.ptp(data.partition.sizes) <= 1


def test_fedlit_fit_learns_it(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(
        """
        trainer: {max_epochs: 10, accelerator: cpu}
        model: {net: {class_path: fedlit.models.SoftmaxRegression, init_args: {image_size: 1}}}
        data:
          class_path: fedlit.data.Synthetic
          init_args: {alpha: 0.0, beta: 0.0, iid: true, reading: variance, num_clients: 5, seed: 3}
        federation: {clients_per_round: 5, engine: fedlit.engines.LoopEngine}
        """
    )
    assert main(["fit", "--config", str(config), f"--logs_dir={tmp_path}"]) == 0
    metrics = pd.read_csv(tmp_path / "small" / "version_0" / "metrics.csv")
    assert metrics["global/accuracy"].iloc[-1] > 0.6  # of ten classes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -0.5}, "alpha must be from 0 to 1e\\+06, got -0.5"),
        ({"beta": float("nan")}, "beta must be from 0 to 1e\\+06, got nan"),
        ({"beta": float("inf")}, "beta must be from 0 to 1e\\+06, got inf"),
        ({"alpha": 0.0, "iid": True}, r"iid requires alpha = beta = 0, got 0.0 and 1.0; set both to 0"),
        ({"reading": "sd"}, "reading must be std or variance, got sd"),
        ({"test_fraction": 1.0}, "test_fraction must be between 0 and 1, got 1.0"),
        ({"num_clients": 0}, "num_clients must be at least 1, got 0"),
    ],
)
def test_impossible_arguments_are_refused_with_a_remedy(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Synthetic, SimulatedSensors])
def test_a_number_of_clients_that_is_set_later_is_made_for_the_next_fit(
    make: type[Synthetic | SimulatedSensors],
) -> None:
    data = make(num_clients=4, seed=0)
    data.setup("fit")
    data.num_clients = 3
    data.setup("fit")
    fresh = make(num_clients=3, seed=0)
    fresh.setup("fit")
    assert (data.num_clients, len(data.train), data.partition.hash) == (3, len(fresh.train), fresh.partition.hash)
