"""``python -m tests.benchmarks.choice``: where blocks of clients are faster than one client after the other.

What the rule of ``fedlit.engines.auto`` rests on. One thread, as a worker has; the fits alone, without averages. Each
line is a network, a batch size and a number of clients, and how many times as fast ``VectorizedEngine`` is as
``LoopEngine``: the median of a few interleaved pairs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from lightning.pytorch.plugins import Precision
from torch import nn
from torch.optim import SGD

from fedlit.clients.client import ClientModule
from fedlit.core.layout import read_state
from fedlit.core.records import Broadcast, ClientTask
from fedlit.data import Tensors, Uniform
from fedlit.engines import Engine, LoopEngine, Site, VectorizedEngine
from fedlit.models import MLP, EmnistCNN, SoftmaxRegression

STEPS = 2
PAIRS = 3
SIDE = 28

NETS: dict[str, Callable[[], nn.Module]] = {
    "softmax regression": lambda: SoftmaxRegression(image_size=SIDE),
    "MLP 16": lambda: MLP((16,)),
    "MLP 64": lambda: MLP((64,)),
    "MLP 128": lambda: MLP((128,)),
    "MLP 64, 64, 64": lambda: MLP((64, 64, 64)),
    "MLP 256": lambda: MLP((256,)),
    "MLP 256, 256": lambda: MLP((256, 256)),
    "MLP 1024": lambda: MLP((1024,)),
    "CNN 8, 16": lambda: EmnistCNN(widths=(8, 16), hidden=32),
}


def cases() -> Iterator[tuple[str, int, int]]:
    """A network, a batch size and a number of clients."""
    for name in NETS:
        for batch in (1, 10, 32, 128):
            yield name, batch, 50
    for clients in (1, 2, 4, 8, 16, 25):
        yield "MLP 64", 10, clients


def seconds(engine: Engine, client: ClientModule, tasks: list[ClientTask], site: Site) -> float:
    """How long the fits take."""
    started = time.perf_counter()
    answers = list(engine.run(client, tasks, site))
    assert len(answers) == len(tasks)
    return time.perf_counter() - started


def ratio(name: str, batch: int, clients: int) -> float:
    """How many times as fast blocks are."""
    inputs = torch.randint(0, 256, (clients * batch, 1, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(len(inputs)) % 47
    names = [str(c) for c in range(47)]
    data = Tensors(
        train=(inputs, labels),
        test=(inputs[:2], labels[:2]),
        class_names=names,
        partition=Uniform(),
        num_clients=clients,
        batch_size=batch,
    )
    data.setup()
    client = ClientModule(NETS[name](), lambda p: SGD(p, lr=0.01), nn.CrossEntropyLoss())
    start = read_state(client.net, client.layout)
    client.receive(Broadcast(start, (0.01,) * len(client.layout.trainable), start.floats[:0]))
    tasks = [ClientTask(k, 0, 0, STEPS, STEPS, batch, batch) for k in range(clients)]
    site = Site(data, torch.device("cpu"), Precision())
    engines = LoopEngine(), VectorizedEngine()
    for engine in engines:
        seconds(engine, client, tasks, site)
    pairs = [[seconds(engine, client, tasks, site) for engine in engines] for _ in range(PAIRS)]
    return median(loop / blocks for loop, blocks in pairs)


def main() -> None:
    """Measure and print a table."""
    torch.set_num_threads(1)
    for name, batch, clients in cases():
        parameters = sum(p.numel() for p in NETS[name]().parameters())
        line = f"{name:20s} {parameters:8,} parameters, batch {batch:3d}, {clients:2d} clients"
        sys.stdout.write(f"{line}: {ratio(name, batch, clients):.2f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
