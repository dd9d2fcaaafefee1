"""``python -m tests.benchmarks.native``: what the loops in C save, with and without them in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD

from fedlit.allocator import keep_freed_memory
from fedlit.federated import aggregate
from fedlit.federated.records import Weights
from fedlit.models import EmnistCNN, conv_pool

REPEATS = 300
WARMUP = 50


@contextmanager
def without_libraries() -> Iterator[None]:
    """As where there was no C compiler."""
    with patch.object(conv_pool, "library", lambda name: None), patch.object(aggregate, "library", lambda name: None):
        yield


def training_step() -> Callable[[], None]:
    """A step of the default network on a batch of 32."""
    net = EmnistCNN().to(memory_format=torch.channels_last)
    optimizer = SGD(net.parameters(), lr=0.01)
    x, y = torch.randn(32, 1, 28, 28), torch.randint(0, 47, (32,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def evaluation() -> Callable[[], Tensor]:
    """The default network's logits of 64 images."""
    net, x = EmnistCNN().to(memory_format=torch.channels_last), torch.randn(64, 1, 28, 28)
    return torch.no_grad()(lambda: net(x))


def adding_a_client() -> Callable[[], None]:
    """One more model of the default network's size in an average."""
    model = Weights(torch.randn(426_415), torch.zeros(0, dtype=torch.int64))
    mean = aggregate.WeightedMean(model)
    return lambda: mean.add_state(model, 300.0)


def main() -> None:
    """Print a line for each, on one thread and on two."""
    keep_freed_memory()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for make in (training_step, evaluation, adding_a_client):
            fast, slow = (1e3 * seconds for seconds in compare(make()))
            name = f"{make.__name__.replace('_', ' ')}, threads: {threads}"
            sys.stdout.write(f"{name}: {fast:.2f} ms, without {slow:.2f} ms, {slow / fast:.2f} times as long\n")


def compare(work: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of a call with the libraries and without."""
    with_them: list[float] = []
    without: list[float] = []
    for _ in range(REPEATS):
        with_them.append(seconds(work))
        with without_libraries():
            without.append(seconds(work))
    return median(with_them[WARMUP:]), median(without[WARMUP:])


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, after one that brings back what the other way pushed out of the caches."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
