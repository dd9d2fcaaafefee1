"""Who runs: the baselines, fedlit's engines from Python, and the fedlit command; each is a command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.workloads import LEARNING_RATE, MU, SEED, Plan, Workload

#: What all others are compared with.
REFERENCE = "loop"
BASELINES = ("loop", "loop-channels-last", "processes", "processes-channels-last")
OF_CONVOLUTIONS = ("channels-last", "plain")
NETS = {"cnn": "fedlit.models.EmnistCNN", "mlp": "fedlit.models.MLP"}

#: The command as it is, with the number of ranks named, and with a network in which nothing is fedlit's.
COMMANDS: dict[str, tuple[str, dict[str, str]]] = {
    "fit": ("", {}),
    "fit-1-rank": ("--trainer.accelerator cpu --trainer.devices 1", {}),
    "fit-2-ranks": (
        "--trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp",
        {"OMP_NUM_THREADS": "1"},
    ),
    "fit-plain": ("--model.net=tests.benchmarks.plain.PlainCNN", {}),
}


@dataclass(frozen=True)
class Contender:
    """A command, and what it has in its environment beside the benchmark's own."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def python(*words: str | Path) -> tuple[str, ...]:
    """``python -m WORDS``."""
    return (sys.executable, "-m", *map(str, words))


def contenders(plan: Plan, folder: Path) -> list[Contender]:
    """All who can run the plan in FOLDER; only convolutions have another memory layout and a network of their own."""
    everyone = [
        *(Contender(name, python("tests.benchmarks.baselines", name, folder)) for name in BASELINES),
        *(Contender(name, python("tests.benchmarks.api", name, folder)) for name in plan.engines),
        *(
            Contender(name, fit_command(plan.workload, folder) + tuple(options.split()), environment)
            for name, (options, environment) in COMMANDS.items()
        ),
    ]
    return [each for each in everyone if plan.workload.net == "cnn" or not each.name.endswith(OF_CONVOLUTIONS)]


def fit_command(workload: Workload, folder: Path) -> tuple[str, ...]:
    """``fedlit fit`` on a workload's data, with no engine named and the clock added."""
    options = {
        "seed_everything": SEED,
        "trainer.max_epochs": workload.rounds + 1,
        "trainer.callbacks+": "tests.benchmarks.clock.RoundClock",
        "model.net": NETS[workload.net],
        "model.net.image_size": workload.side,
        "model.mu": MU,
        "model.client_optimizer": "torch.optim.SGD",
        "model.client_optimizer.lr": LEARNING_RATE,
        "data": "fedlit.data.Tensors",
        "data.path": folder / "data.npz",
        "data.partition": f"fedlit.data.{workload.partition}",
        "data.num_clients": workload.clients,
        "data.batch_size": workload.batch,
        "federation.clients_per_round": workload.cohort,
        "federation.local_epochs": 1,
        "logs_dir": folder / "logs",
    }
    return python("fedlit", "fit", *(f"--{name}={value}" for name, value in options.items()))
