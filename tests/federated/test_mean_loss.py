"""The loss on held-out data is the mean over examples, for any batches and any distribution over ranks."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from federations import data, fit, net, table, two_ranks
from lightning import Trainer
from sklearn.metrics import f1_score

from fedlit.data import Tensors
from fedlit.engines import LoopEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.federated.mean_loss import MeanLoss
from fedlit.runs import MetricsTable

SIZES = (8, 4, 16, 4, 12, 6)
#: Every rank logs the same numbers, of all ranks.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.mark.parametrize(
    ("batches", "mean"),
    [
        ([(1.0, 1024), (3.0, 60)], (1.0 * 1024 + 3.0 * 60) / 1084),
        ([(2.0, 1), (0.5, 3), (1.0, 2)], (2.0 + 1.5 + 2.0) / 6),
        ([(0.1, 7)] * 4, float(torch.tensor(0.1))),
        ([(1.0, 1), (math.nan, 9)], math.nan),
        ([(1.0, 1), (math.inf, 9)], math.inf),
        ([(3e38, 5), (3e38, 5)], float(torch.tensor(3e38))),  # the sum is beyond float32
        ([], math.nan),
    ],
)
def test_batches_count_by_their_sizes(batches: list[tuple[float, int]], mean: float):
    for order in permutations(batches):
        metric = MeanLoss()
        metric.update(torch.tensor(99.0), 5)
        metric.reset()
        for loss, size in order:
            metric.update(torch.tensor(loss), size)
        assert metric.compute() == pytest.approx(mean, rel=1e-15, abs=0, nan_ok=True)


def federation(eval_batch_size: int | None) -> Tensors:
    return data(SIZES, eval_batch_size=eval_batch_size)


def by_hand(module: FederatedModule) -> dict[str, float]:
    """Of the 20 held-out examples of ``data()``, at once and in float64."""
    held_out = federation(None)
    held_out.setup()
    inputs, targets = held_out.test.inputs, held_out.test.targets
    with torch.no_grad():
        logits = module.net.eval().double()(inputs.double())
    module.net.float()
    return {
        "loss": float(F.cross_entropy(logits, targets)),
        "accuracy": float((logits.argmax(1) == targets).double().mean()),
        "f1_macro": f1_score(targets, logits.argmax(1), average="macro"),
    }


def assert_right(found: Any, module: FederatedModule) -> None:
    for name, value in by_hand(module).items():
        assert float(found[f"global/{name}"]) == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("ranks", [{}, two_ranks()], ids=["one process", "two ranks"])
@pytest.mark.parametrize("eval_batch_size", [1, 7, 19, 1000, None])
def test_fit_validate_and_test_report_the_mean_over_examples(
    eval_batch_size: int | None, ranks: dict[str, Any], tmp_path: Path
):
    module = FederatedModule(net(norm=True))
    path = tmp_path / "metrics.csv"
    loop = FederatedLoop(4, seed=0, engine=LoopEngine())
    fit(module, loop, federation(eval_batch_size), rounds=2, logger=MetricsTable(path), root=tmp_path, **ranks)
    row = table(path)[-1]
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    module.load_state_dict(stored)
    assert_right(row, module)
    gap = float(row["global/loss"]) - float(row["clients/train_loss"])
    assert float(row["global/generalisation_gap"]) == gap
    for verb in ("validate", "test"):
        trainer = Trainer(callbacks=[FederatedLoop(4, seed=0)], **(QUIET | ranks))
        (found,) = getattr(trainer, verb)(module, datamodule=federation(eval_batch_size), verbose=False)
        assert_right(found, module)


def test_a_nan_loss_of_one_example_makes_the_mean_nan():
    class Diverging(torch.nn.CrossEntropyLoss):
        def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            loss = super().forward(logits, targets)
            return loss if self.training else loss * math.nan if len(targets) < 7 else loss

    module = FederatedModule(net(), loss=Diverging())
    trainer = Trainer(callbacks=[FederatedLoop(4, seed=0)], **QUIET)
    (found,) = trainer.validate(module, datamodule=federation(7), verbose=False)  # 7, 7 and 6
    assert math.isnan(found["global/loss"])


LOSSES = {
    "weights": lambda: torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.2, 5.0])),
    "a class left out": lambda: torch.nn.CrossEntropyLoss(ignore_index=1),
    "both, and smoothing": lambda: torch.nn.CrossEntropyLoss(
        weight=torch.tensor([1.0, 0.2, 5.0]), ignore_index=2, label_smoothing=0.1
    ),
    "a class of no weight": lambda: torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 5.0])),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(
    ("eval_batch_size", "ranks"),
    [(1, {}), (7, {}), (1000, {}), (7, two_ranks())],
    ids=["alone", "by seven", "at once", "by seven on two ranks"],
)
def test_examples_count_by_the_weights_of_their_classes(kind: str, eval_batch_size: int, ranks: dict[str, Any]):
    module = FederatedModule(net(), loss=LOSSES[kind]())
    examples = federation(eval_batch_size)
    examples.setup()
    trainer = Trainer(callbacks=[FederatedLoop(4, seed=0)], **(QUIET | ranks))
    (found,) = trainer.validate(module, datamodule=examples, verbose=False)
    with torch.no_grad():
        expected = float(module.loss(module.net.eval()(examples.test.inputs), examples.test.targets))
    assert found["global/loss"] == pytest.approx(expected, rel=1e-6)
