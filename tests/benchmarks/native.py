"""``python -m tests.benchmarks.native``: each version of the loops in C against PyTorch alone, in turn.

``--shapes`` measures ``conv_pool`` alone at many shapes instead, and names those at which a version is slower:
``is_faster`` in ``fedlit/models/conv_pool.py`` rests on it. An AVX-512 processor shows what one with AVX2 would do with
``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``: PyTorch's kernels are then AVX2's as well.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from statistics import median
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD

from fedlit.attention.norm import Norm
from fedlit.core import average, exact
from fedlit.core.allocator import keep_freed_memory
from fedlit.core.records import Weights
from fedlit.models import EmnistCNN, conv_pool, loops
from fedlit.native.versions import PYTORCH, runnable
from fedlit.runs.setting import processor

REPEATS = 300
WARMUP = 50
#: A shape's calls are repeated for as long, a round of all versions at a time.
SECONDS_OF_A_SHAPE = 0.05
#: What differs by less is noise.
NOISE = 0.05
LANES = {"avx512": 16, "avx2": 8, "neon": 4}


@contextmanager
def running(version: str) -> Iterator[None]:
    """With that version of the loops, or PyTorch's kernels alone."""
    with patch.object(loops, "version", lambda: version), patch.object(exact, "version", lambda: version):
        yield


def training_step(norm: Norm = "none") -> Callable[[], None]:
    """A step of the default network on a batch of 32."""
    net = EmnistCNN(norm=norm).to(memory_format=torch.channels_last)
    optimizer = SGD(net.parameters(), lr=0.01)
    x, y = torch.randn(32, 1, 28, 28), torch.randint(0, 47, (32,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def training_step_with_group_norm() -> Callable[[], None]:
    """The same with a norm in each block.

    A norm spreads the pool's sparse gradient over all places, so that no product of the convolutions is zero. PyTorch's
    time without the norm bounds what can be reached with it: that of all products, if norms cost nothing.
    """
    return training_step("group")


def evaluation() -> Callable[[], Tensor]:
    """The default network's logits of 64 images."""
    net, x = EmnistCNN().to(memory_format=torch.channels_last), torch.randn(64, 1, 28, 28)
    return torch.no_grad()(lambda: net(x))


def adding_a_client() -> Callable[[], None]:
    """One more model of the default network's size in an average."""
    model = Weights(torch.randn(426_415), torch.zeros(0, dtype=torch.int64))
    mean = average.WeightedMean(model)
    return lambda: mean.add_state(model, 300.0)


def block(images: int, depth: int, channels: int, side: int, training: bool) -> Callable[[], object]:
    """Convolution, ReLU and pool; in training with all gradients but that of grey images."""
    layout = torch.channels_last
    x = torch.randn(images, depth, side, side).relu().to(memory_format=layout).requires_grad_(training and depth > 1)
    weight = torch.randn(channels, depth, 3, 3).mul(0.1).to(memory_format=layout).requires_grad_(training)
    bias = torch.zeros(channels).requires_grad_(training)
    grad = torch.randn(images, channels, side // 2, side // 2).to(memory_format=layout)
    wanted = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]

    def work() -> object:
        pooled = conv_pool.conv_pool(x, weight, bias)
        return torch.autograd.grad(pooled, wanted, grad) if training else pooled

    return work


def main() -> None:
    """Print a line for each kind of work, or each shape, on one thread and on two."""
    keep_freed_memory()
    limits = [
        f"{name}={os.environ[name]}" for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    ]
    versions = ", ".join(f"{version} ({LANES[version]} floats a vector)" for version in runnable()) or "no version"
    of_pytorch = " ".join([torch.backends.cpu.get_cpu_capability(), *limits])
    say(f"{processor()}: {versions}; PyTorch {torch.__version__} with {of_pytorch}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        shapes() if "--shapes" in sys.argv else whole_steps()


def whole_steps() -> None:
    """What the loops save of what a run does."""
    for make in (training_step, training_step_with_group_norm, evaluation, adding_a_client):
        report(make.__name__.replace("_", " "), medians(make(), REPEATS))


def shapes() -> None:
    """What they save at each shape, and at how many a version is slower."""
    slower: dict[str, list[str]] = {version: [] for version in runnable()}
    sizes = list(product((1, 16, 48, 128), (16, 48, 128), (2, 5, 8, 14, 28), (2, 3, 8, 32), (True, False)))
    one_thread = torch.get_num_threads() == 1  # on two grey images in training, elsewhere PyTorch's kernels run
    taken = [size for size in sizes if (size[0] == 1 or size[-1]) and (one_thread or (size[0] == 1 and size[-1]))]
    for depth, channels, side, images, training in taken:
        work = block(images, depth, channels, side, training)
        work()
        rounds = SECONDS_OF_A_SHAPE / (2 * (len(slower) + 1) * seconds(work))
        found = medians(work, min(100, max(5, round(rounds))))
        name = (
            f"{'training' if training else 'evaluation'}, {images} x {depth} x {side} x {side} to {channels} channels"
        )
        report(name, found)
        for version, names in slower.items():
            if found[version] > (1 + NOISE) * found[PYTORCH]:
                names.append(name)
    for version, names in slower.items():
        say(f"{version}: slower than PyTorch by more than {NOISE:.0%} at {len(names)} of {len(taken)} shapes {names}")


def report(name: str, found: dict[str, float]) -> None:
    """One line."""
    alone = found[PYTORCH]
    ours = (
        f"{version} {1e3 * found[version]:.2f} ({alone / found[version]:.2f} times as fast)" for version in runnable()
    )
    say(f"{name}, threads: {torch.get_num_threads()}: PyTorch {1e3 * alone:.2f} ms, {', '.join(ours)}")


def medians(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median seconds of a call by version, and with PyTorch's kernels alone, each in turn."""
    times: dict[str, list[float]] = {version: [] for version in (*runnable(), PYTORCH)}
    for _ in range(repeats + min(WARMUP, repeats // 5)):
        for version, found in times.items():
            with running(version):
                found.append(seconds(work))
    return {version: median(found[-repeats:]) for version, found in times.items()}


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, after one that brings back what the other way pushed out of the caches.

    On one thread these are seconds of the processor, which do not count what else a machine does.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    started = clock()
    work()
    return clock() - started


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
