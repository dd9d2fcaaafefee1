"""What real sites cost beyond their training: seconds of a round, bytes of a message, memory of the server.

``python -m tests.benchmarks.sites rounds --sites 1 2 4`` starts a server and sites on 127.0.0.1, whose fits take next
to no time; ``fresh`` has each task load PyTorch in a process of its own. ``memory --sites 2 16`` has sites that send
the model back as it came, in the server's own process and by Flower's own messages, so that the memory is the server's;
it says what messages weigh, too.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "flower")]


def rounds(sites: int, count: int, keep_alive_s: float = 3600.0) -> str:
    """Seconds of a round in which sites have nothing to do."""
    import loopback

    from fedlit.runs.read import rows_of

    loopback.SIZES, loopback.SITE["keep_alive_s"] = {f"site{k}": 8 for k in range(sites)}, keep_alive_s
    with tempfile.TemporaryDirectory() as folder:
        loop = loopback.Loopback(Path(folder), rounds=count)
        try:
            loop.server()
            for name in loopback.SIZES:
                loop.site(name)
            loop.run(f"--federation.clients_per_round {sites}")
            loop.wait("run folder:")
        finally:
            loop.close()
        seconds = [float(row["round/seconds"]) for row in rows_of(Path(folder) / "logs" / "federation" / "version_0")]
    kept = "a process that stays" if keep_alive_s else "a process a task"
    span = f"{min(seconds):.1f} to {max(seconds):.1f}"
    return f"{sites} sites, {kept}: {statistics.median(seconds):.1f} s a round ({span})"


def memory(sites: int, count: int) -> str:
    """Memory of the server after a tenth of the rounds and after all of them, and the bytes of its messages."""
    import offices
    from lightning import Callback

    from fedlit.data import Tensors
    from fedlit.federated import FederatedModule
    from fedlit.flower import Sites

    def data() -> Tensors:
        generator = np.random.default_rng(0)
        return Tensors(train=(generator.integers(0, 256, (64, 28, 28), np.uint8), np.arange(64) % 10))

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 10))
        return FederatedModule(net, mu=0.0), {"clients_per_round": sites, "seed": 0}

    place = offices.SiteFile(Path(), "a", {}, Path(), accelerator="cpu")
    one = offices.SiteTrainer(place, data, partial(offices.client_of, make))
    names = [f"site{k}" for k in range(sites)]
    lengths: list[tuple[int, int]] = []
    grid = offices.OfficeGrid({k: offices.Node(echo(one.answer, name, lengths)) for k, name in enumerate(names, 1)})
    found: dict[int, float] = {}

    class Look(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch + 1 in (count // 10, count):
                gc.collect()
                found[trainer.current_epoch] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    held = Sites(names, data(), mean=0.1, std=0.3, registered=False)
    module = offices.train(make, grid, held, rounds=count, callbacks=[Look()], limit_val_batches=0)
    weights = sum(p.numel() for p in module.net.parameters()) * 4
    asked, answered = lengths[-1]
    first, last = found.values()
    return (
        f"{sites} sites: {first:.0f} MB after round {count // 10}, {last:.0f} MB after round {count}; weights of "
        f"{weights:,} bytes, a task {asked / weights:.4f} times and an answer {answered / weights:.4f} times as many"
    )


def echo(honest: Callable[[Any], Any], name: str, lengths: list[tuple[int, int]]) -> Callable[[Any], Any]:
    """A site of this name that sends the model back as it came."""
    from fedlit.flower.frame import Frame, pack, unpack
    from fedlit.flower.kinds import GREETING, INTRODUCTION, STATE, TASK, UPDATE
    from fedlit.flower.vectors import numbers

    def answer(question: Any) -> bytes:
        frame = unpack(question, GREETING, TASK)
        if frame.kind == GREETING.name:
            said = unpack(honest(question), INTRODUCTION)
            return pack(said._replace(values={**said.values, "name": name}))
        values = {key: frame.values[key] for key in ("federation", "client", "round")}
        values |= {"data": data[0], "crc": -1, "measured": ["loss", "accuracy", "proximal", "samples"]}
        blobs = {key: frame.blobs[key] for key in STATE} | {"squares": numbers([0.0] * 4)}
        found = pack(Frame(UPDATE.name, values, {**blobs, "metrics": numbers([1.0, 0.5, 0.0, 128.0])}))
        lengths[:] = [(len(question), len(found))]
        return found

    data = [str(unpack(honest(_GREETING), INTRODUCTION).values["data"])]
    return answer


def _greeting() -> bytes:
    from fedlit.flower.frame import Frame, pack
    from fedlit.flower.kinds import GREETING
    from fedlit.flower.wire import Terms

    return pack(Frame(GREETING.name, *Terms(32, 0.0, 0, [str(k) for k in range(10)], 1, 1, 0.1, 0.3).parts()))


_GREETING = _greeting()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["rounds", "fresh", "memory"])
    parser.add_argument("--sites", type=int, nargs="+", default=[2])
    parser.add_argument("--count", type=int, default=10, help="Rounds.")
    given = parser.parse_args()
    measure = {"rounds": rounds, "fresh": partial(rounds, keep_alive_s=0.0), "memory": memory}[given.what]
    for sites in given.sites:
        sys.stdout.write(f"{measure(sites, given.count)}\n")
        sys.stdout.flush()
