"""What ``fedlit test`` and ``fedlit predict`` write."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import data, net
from sklearn.metrics import f1_score

from fedlit.cli import main
from fedlit.data import MNIST5k
from fedlit.federated import FederatedModule
from fedlit.models import EmnistCNN
from fedlit.runs.evaluation import class_accuracy, client_accuracy, is_chance, remove_other_predictions


def test_class_accuracy_is_the_share_of_right_predictions() -> None:
    np.testing.assert_array_equal(class_accuracy(np.array([3, 6, 0]), np.array([4, 8, 0])), [0.75, 0.75, np.nan])


@pytest.mark.parametrize(
    ("hits", "samples", "chance"),
    [
        ([10, 0, 0, 0], [10, 10, 10, 10], True),  # one class is always named
        ([9, 9, 0, 1], [10, 10, 10, 10], False),  # 0.475 is above 1/4 and 2 errors of sqrt(1/4 * 3/4 / 40), 0.387
        ([5, 5, 2, 2], [10, 10, 10, 10], True),  # 0.35 is not
        ([0, 90], [10, 90], True),  # 0.9 is what the frequent class gives
        ([9, 90], [10, 90], False),
        ([0, 0], [10, 10], True),
        ([0], [10], False),  # one class
        ([0, 0], [0, 0], False),  # no sample
    ],
)
def test_chance_is_the_accuracy_of_always_predicting_the_most_frequent_class(
    hits: list[int], samples: list[int], chance: bool
) -> None:
    assert is_chance(np.array(hits), np.array(samples)) is chance


@pytest.mark.parametrize("eval_batch_size", [1, 7, 1000])
def test_client_accuracy_equals_a_loop_over_clients(eval_batch_size: int) -> None:
    federation = data(eval_batch_size=eval_batch_size)
    federation.setup()
    module = FederatedModule(net()).eval()
    expected = []
    for k in range(federation.num_clients):
        rows = federation.partition.client(k)
        with torch.no_grad():
            guesses = module.net(federation.transform(federation.train.inputs[rows])).argmax(-1)
        expected.append((guesses == federation.train.targets[rows]).float().mean().item())
    np.testing.assert_allclose(client_accuracy(module, federation), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("ranks", "left"),
    [(1, ["predictions.csv"]), (2, ["predictions_rank0.csv", "predictions_rank1.csv"])],
)
def test_predictions_of_another_number_of_ranks_are_removed_and_nothing_else(
    ranks: int, left: list[str], tmp_path: Path
) -> None:
    own = ["mine.csv", "predictions_old.csv"]
    for name in (*own, "predictions.csv", *(f"predictions_rank{rank}.csv" for rank in range(4))):
        (tmp_path / name).touch()
    remove_other_predictions(tmp_path, ranks)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*own, *left])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_agree_with_the_model_and_with_scikit_learn(tmp_path: Path) -> None:
    words = (
        "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=8 --data.num_clients=8 "
        f"--federation.clients_per_round=4 --logs_dir={tmp_path}"
    ).split()
    assert main(["fit", "--trainer.max_epochs=1", "--federation.local_epochs=0.2", *words]) == 0
    assert main(["test", "--ckpt_path=best", *words]) == 0
    assert main(["predict", "--ckpt_path=best", *words]) == 0
    run = tmp_path / "default" / "version_0"

    model = EmnistCNN(num_classes=10, widths=(2,), hidden=8).eval()
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("net."): tensor for name, tensor in stored.items()})
    digits = MNIST5k(num_clients=8, seed=0)
    digits.setup()
    with torch.no_grad():
        sure, guess = model(digits.transform(digits.test.inputs)).softmax(-1).max(-1)
    true = digits.test.targets

    rows = read(run / "predictions.csv")
    assert [int(row["index"]) for row in rows] == list(range(1000))
    assert [row["true"] for row in rows] == [digits.class_names[t] for t in true.tolist()]
    assert [row["predicted"] for row in rows] == [digits.class_names[g] for g in guess.tolist()]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], sure, atol=1e-4)

    summary = json.loads((run / "test.json").read_text())
    assert summary["accuracy"] == pytest.approx((guess == true).float().mean().item(), abs=1e-6)
    assert summary["f1_macro"] == pytest.approx(f1_score(true, guess, average="macro"), abs=1e-6)
    classes = {row["class"]: float(row["accuracy"]) for row in read(run / "test_classes.csv")}
    assert classes == {str(c): pytest.approx((guess[true == c] == c).float().mean().item()) for c in range(10)}
    clients = read(run / "test_clients.csv")
    assert [int(row["samples"]) for row in clients] == [500] * 8
    accuracies = [float(row["accuracy"]) for row in clients]
    assert summary["clients_accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert summary["clients_accuracy_p10"] == pytest.approx(np.percentile(accuracies, 10))
