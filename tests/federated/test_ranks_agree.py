"""All metrics of a round are the same to the bit for one process and for several ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federations import Absent, data, fit, net, table, two_ranks
from torch.optim import SGD, Adam

from fedlit.algorithms import (
    AttentiveAggregation,
    BatchNormPolicy,
    ClippedMean,
    CoordinateMedian,
    FedDyn,
    FedNova,
    KeepLocal,
    Krum,
    PrivateMean,
    Scaffold,
    TrimmedMean,
)
from fedlit.engines import LoopEngine, TrainerEngine, WorkersEngine
from fedlit.federated import AdaptiveMu, Diagnostics, FederatedLoop, FederatedModule, PartialWork, SizeSampling
from fedlit.runs import MetricsTable

#: Every rank logs the same numbers, of all ranks.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")

SIZES = (8, 4, 16, 4, 12, 6, 10, 18, 4)
#: Metrics that are times.
TIMES = ("round/seconds", "round/samples_per_second")

#: Arguments of the loop, of the module and of the data, each made anew for either run.
CASES: dict[str, dict[str, Any]] = {
    "fedprox": {"norm": True},
    "mu that adapts": {"mu": lambda: AdaptiveMu(0.5, patience=1), "norm": True},
    "adam on the server": {"server_optimizer": lambda p: Adam(p, lr=0.01)},
    "stragglers": {"stragglers": lambda: PartialWork(0.5), "norm": True},
    "some dropped": {"stragglers": lambda: Absent(1, 4, 5)},
    "all but one dropped": {"stragglers": lambda: Absent(*range(1, 9)), "clients": 9},
    "drawn by size": {"sampling": SizeSampling},
    "one client": {"clients": 1},
    "diagnostics": {"diagnostics": lambda: Diagnostics(every=1, blocks={"head": r"^4\."}), "norm": True},
    "own examples": {"holdout": 0.25},
    "statistics of their own": {"algorithm": BatchNormPolicy, "norm": True},
    "scaffold": {"algorithm": Scaffold, "mu": lambda: 0.0, "stragglers": lambda: PartialWork(0.5)},
    "fednova": {"algorithm": FedNova, "stragglers": lambda: PartialWork(0.5)},
    "feddyn": {"algorithm": FedDyn},
    "gates of their own": {"algorithm": lambda: KeepLocal(["0.weight"])},
    "attentive": {"algorithm": lambda: AttentiveAggregation("similarity")},
    "median": {"algorithm": CoordinateMedian, "norm": True},
    "trimmed": {"algorithm": lambda: TrimmedMean(0.2)},
    "clipped": {"algorithm": ClippedMean},
    "krum": {"algorithm": lambda: Krum(1, 2)},
    "private": {"algorithm": lambda: PrivateMean(0.5, 0.0), "averaging": lambda: "uniform"},
    "trainers": {"engine": TrainerEngine, "norm": True},
    "workers": {"engine": lambda: WorkersEngine(workers=2), "norm": True},
}


def logged(case: dict[str, Any], folder: Path, **trainer: Any) -> list[dict[str, str]]:
    """All that is logged in two rounds, as written: floats in full."""
    made = {"engine": LoopEngine, **case}
    model = {name: made.pop(name) for name in ("mu", "server_optimizer") if name in made}
    if "mu" in model:
        model["mu"] = model["mu"]()
    network = net(norm=made.pop("norm", False))
    examples = data(SIZES, eval_batch_size=7, client_holdout=made.pop("holdout", 0.0))
    loop = FederatedLoop(made.pop("clients", 7), 2, seed=0, **{name: make() for name, make in made.items()})
    module = FederatedModule(network, client_optimizer=lambda p: SGD(p, lr=0.1), **model)
    path = folder / "metrics.csv"
    fit(module, loop, examples, logger=MetricsTable(path), default_root_dir=folder, **trainer)
    return [{name: value for name, value in row.items() if name not in TIMES} for row in table(path)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_log_what_one_process_logs(case: str, tmp_path: Path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    one = logged(CASES[case], folders[0])
    two = logged(CASES[case], folders[1], **two_ranks())
    assert len(one) == 2
    assert two == one


def test_metrics_that_once_differed_are_compared(tmp_path: Path):
    names = {name for row in logged(CASES["diagnostics"], tmp_path) for name in row}
    assert {"global/loss", "drift/cosine", "drift/cosine_of_pairs", "diagnostics/gradient_variance"} <= names
