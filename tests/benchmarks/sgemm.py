"""``python -m tests.benchmarks.sgemm``: the peak of float32 matrix multiplication on ``CORES`` threads, in GFLOP/s."""

from __future__ import annotations

import json
import sys
import time

import torch

from tests.benchmarks.workloads import CORES

SIZE = 2048
TRIALS = 20


def gflops() -> float:
    """The best of ``TRIALS`` products of two square matrices, after one to warm up."""
    torch.set_num_threads(CORES)
    a, b, out = (torch.rand(SIZE, SIZE) for _ in range(3))
    torch.mm(a, b, out=out)
    seconds = []
    for _ in range(TRIALS):
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds) / 1e9


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"gflops": gflops()}) + "\n")
