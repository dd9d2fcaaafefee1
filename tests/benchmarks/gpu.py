"""``python -m tests.benchmarks.gpu``: W1 and W2 on a GPU, every engine and precision beside a loop written by hand.

The loop by hand has the data on the GPU, autocast, and in 16-mixed a gradient scaler. Contenders take turns in one
process, ``--repeats`` times; of each run the first round is left out. Evaluation, logging and checkpoints are off.
Those named deterministic run as ``fedlit fit`` does by default, with the same bits each time.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

import fedlit.engines
from tests.benchmarks import api, prepare
from tests.benchmarks.baselines import Data, build, load
from tests.benchmarks.workloads import LEARNING_RATE, MU, W1, W2, WARMUP_ROUNDS, Plan, Workload, quick

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
ENGINES = {
    "LoopEngine": fedlit.engines.LoopEngine,
    "TrainerEngine": fedlit.engines.TrainerEngine,
    "VectorizedEngine": fedlit.engines.VectorizedEngine,
}


class Rounds(Callback):
    """Seconds of each round, evaluation excluded."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(pl_module.round_metrics["round/seconds"])


def by_hand(plan: Plan, data: Data, precision: str) -> list[float]:
    """Client after client, then the mean of the state dicts: seconds of each round."""
    server = build(plan.workload).cuda()
    seconds = []
    for cohort in plan.cohorts:
        started = time.perf_counter()
        states, sizes = [], []
        for client in cohort:
            x, y = data.client(client)
            states.append(fit(server, x, y, plan.workload.batch, precision).state_dict())
            sizes.append(len(y))
        shares = [size / sum(sizes) for size in sizes]
        server.load_state_dict(
            {n: sum(p * state[n] for p, state in zip(shares, states, strict=True)) for n in states[0]}
        )
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def fit(server: nn.Module, x: Tensor, y: Tensor, batch: int, precision: str) -> nn.Module:
    """One local epoch of FedProx from the server's model."""
    net = copy.deepcopy(server)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    anchor = [p.detach() for p in server.parameters()]
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "16-mixed")
    half = HALVES.get(precision)
    for rows in torch.randperm(len(y), device=y.device).split(batch):
        with torch.autocast("cuda", half, enabled=half is not None):
            loss = F.cross_entropy(net(x[rows]), y[rows])
        proximal = sum(((p - a) ** 2).sum() for p, a in zip(net.parameters(), anchor, strict=True))
        optimizer.zero_grad()
        scaler.scale(loss + MU / 2 * proximal).backward()
        scaler.step(optimizer)
        scaler.update()
    return net


def with_engine(plan: Plan, folder: Path, name: str, precision: str, deterministic: bool) -> list[float]:
    """Seconds of each round of fedlit with an engine."""
    rounds = Rounds()
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        api.run(plan, folder, ENGINES[name](), rounds, accelerator="gpu", devices=1, precision=precision)
    finally:
        torch.use_deterministic_algorithms(False)
    return rounds.seconds


def race(workload: Workload, repeats: int, folder: Path) -> None:
    """All contenders in turn; prints a line for each."""
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    prepare.main(folder)
    plan = Plan.load(folder)
    on_cpu = load(workload, folder / "data.npz")
    data = Data(on_cpu.images.cuda(), on_cpu.labels.cuda(), on_cpu.bounds)
    contenders: dict[tuple[str, str], Callable[[], list[float]]] = {}
    for precision in PRECISIONS:
        contenders["by hand", precision] = lambda p=precision: by_hand(plan, data, p)
        for name in ENGINES:
            if (name, precision) == ("VectorizedEngine", "16-mixed"):  # refused: gradients are scaled
                continue
            for how, exact in (("", False), (", deterministic", True)):
                contenders[name + how, precision] = lambda n=name, p=precision, e=exact: with_engine(
                    plan, folder, n, p, e
                )
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    memory: dict[tuple[str, str], float] = {}
    samples = sum(plan.samples[WARMUP_ROUNDS:])
    clients = sum(map(len, plan.cohorts[WARMUP_ROUNDS:]))
    for _ in range(repeats):
        for key, contender in contenders.items():
            torch.cuda.reset_peak_memory_stats()
            speeds[key].append(sum(contender()[WARMUP_ROUNDS:]))
            memory[key] = torch.cuda.max_memory_allocated() / 1e6
    reference = median(speeds["by hand", "32-true"])
    sys.stdout.write(f"{workload.name} on {torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    sys.stdout.write("| contender | precision | samples/s | ms a client | times by hand in 32-true | MB |\n")
    sys.stdout.write("|---|---|---:|---:|---:|---:|\n")
    for (name, precision), seconds in speeds.items():
        typical = median(seconds)
        sys.stdout.write(
            f"| {name} | {precision} | {samples / typical:,.0f} | {1e3 * typical / clients:.2f} | "
            f"{reference / typical:.2f} ({reference / max(seconds):.2f} to {reference / min(seconds):.2f}) | "
            f"{memory[name, precision]:.0f} |\n"
        )
    sys.stdout.flush()


def main() -> None:
    """Race on both workloads."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work?")
    options = parser.parse_args()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # as Lightning's deterministic=True does
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: python -m tests.benchmarks measures on the CPU")
    for workload in (W1, W2):
        with tempfile.TemporaryDirectory() as folder:
            race(quick(workload) if options.quick else workload, options.repeats, Path(folder))


if __name__ == "__main__":
    main()
