"""FedProx as a user writes it by hand in plain PyTorch: one process of two threads, or two processes of one.

``python -m tests.benchmarks.baselines NAME FOLDER`` runs one of `contenders.BASELINES` on the plan in FOLDER and
prints a JSON line: per round the wall seconds, samples and steps. Nothing of fedlit or Lightning is loaded.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.workloads import CLASSES, CORES, LEARNING_RATE, MU, SEED, Plan, Workload

Result = dict[str, list[float]]


@dataclass(frozen=True)
class Data:
    """Normalised images (N, 1, S, S), labels (N,), and the first row of each client, (K + 1,)."""

    images: Tensor
    labels: Tensor
    bounds: Sequence[int]

    def client(self, client: int) -> tuple[Tensor, Tensor]:
        """A client's images and labels."""
        rows = slice(self.bounds[client], self.bounds[client + 1])
        return self.images[rows], self.labels[rows]


def load(workload: Workload, path: Path) -> Data:
    """Read the training data."""
    with np.load(path) as file:
        images = torch.from_numpy(file["images"][: file["n_train"], None]).float()
        labels = torch.from_numpy(file["labels"][: file["n_train"]])
    std, mean = torch.std_mean(images)
    return Data(images.sub_(mean).div_(std), labels, np.concatenate([[0], workload.sizes.cumsum()]).tolist())


def build(workload: Workload) -> nn.Sequential:
    """The workload's network."""
    torch.manual_seed(SEED)
    if workload.net == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(workload.side**2, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    return cnn(workload.side, CLASSES)


def cnn(side: int, classes: int) -> nn.Sequential:
    """The convolutional network, from PyTorch's modules alone."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def fit(server: nn.Module, x: Tensor, y: Tensor, batch: int, layout: torch.memory_format) -> tuple[nn.Module, int]:
    """One local epoch from the server's model; the client's model and the number of its steps."""
    net = copy.deepcopy(server)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    anchor = [p.detach() for p in server.parameters()]
    steps = 0
    for rows in torch.randperm(len(y)).split(batch):
        loss = F.cross_entropy(net(x[rows].to(memory_format=layout)), y[rows])
        proximal = sum(((p - a) ** 2).sum() for p, a in zip(net.parameters(), anchor, strict=True))
        optimizer.zero_grad()
        (loss + MU / 2 * proximal).backward()
        optimizer.step()
        steps += 1
    return net, steps


def one_process(plan: Plan, data: Data, layout: torch.memory_format) -> Result:
    """Client after client on all cores, then the mean of the state dicts."""
    torch.set_num_threads(CORES)
    server = build(plan.workload).to(memory_format=layout)

    def round_of(cohort: list[int]) -> tuple[int, int]:
        states, sizes, steps = [], [], 0
        for client in cohort:
            x, y = data.client(client)
            net, done = fit(server, x, y, plan.workload.batch, layout)
            states.append(net.state_dict())
            sizes.append(len(y))
            steps += done
        total = sum(sizes)
        mean = {
            name: sum(n / total * state[name] for n, state in zip(sizes, states, strict=True)) for name in states[0]
        }
        server.load_state_dict(mean)
        return total, steps

    return timed(round_of, plan)


def two_processes(plan: Plan, data: Data, layout: torch.memory_format) -> Result:
    """Workers of one thread each that live as long as the run; data, model and sums are in shared memory."""
    server = build(plan.workload).to(memory_format=layout).share_memory()
    data.images.share_memory_()
    data.labels.share_memory_()
    context = mp.get_context("spawn")
    pipes, sums = [], []
    for _ in range(CORES):
        mine, theirs = context.Pipe()
        sums.append(copy.deepcopy(server).share_memory())
        arguments = (theirs, server, sums[-1], data, plan.workload.batch, layout)
        context.Process(target=work, args=arguments, daemon=True).start()
        pipes.append(mine)

    def round_of(cohort: list[int]) -> tuple[int, int]:
        shares: list[list[int]] = [[] for _ in pipes]
        loads = [0] * len(pipes)
        for client in sorted(cohort, key=lambda client: -plan.workload.sizes[client]):
            least = loads.index(min(loads))
            shares[least].append(client)
            loads[least] += plan.workload.sizes[client]
        for pipe, share in zip(pipes, shares, strict=True):
            pipe.send(share)
        samples, steps = map(sum, zip(*(pipe.recv() for pipe in pipes), strict=True))
        with torch.no_grad():
            for mean, *parts in zip(server.parameters(), *(part.parameters() for part in sums), strict=True):
                mean.copy_(sum(parts) / samples)
        return samples, steps

    return timed(round_of, plan)


def work(
    pipe: Connection, server: nn.Module, weighted: nn.Module, data: Data, batch: int, layout: torch.memory_format
) -> None:
    """A worker: for each list of clients leave the sum of n_k w_k in ``weighted`` and answer (samples, steps)."""
    torch.set_num_threads(1)
    while True:
        samples, steps = 0, 0
        cohort = pipe.recv()
        for total in weighted.parameters():
            total.data.zero_()
        for client in cohort:
            x, y = data.client(client)
            net, done = fit(server, x, y, batch, layout)
            for total, p in zip(weighted.parameters(), net.parameters(), strict=True):
                total.data.add_(p.data, alpha=len(y))
            samples += len(y)
            steps += done
        pipe.send((samples, steps))


def timed(round_of: Callable[[list[int]], tuple[int, int]], plan: Plan) -> Result:
    """Run the plan's rounds."""
    seconds: list[float] = []
    samples: list[float] = []
    steps: list[float] = []
    for cohort in plan.cohorts:
        started = time.perf_counter()
        n, done = round_of(cohort)
        seconds.append(time.perf_counter() - started)
        samples.append(n)
        steps.append(done)
    return {"seconds": seconds, "wall_seconds": seconds, "samples": samples, "steps": steps, "calls": steps}


def main(name: str, folder: Path) -> None:
    """Run a baseline."""
    plan = Plan.load(folder)
    run = two_processes if name.startswith("processes") else one_process
    layout = torch.channels_last if name.endswith("channels-last") else torch.contiguous_format
    result = run(plan, load(plan.workload, folder / "data.npz"), layout)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
