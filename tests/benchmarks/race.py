"""All contenders on one workload, in turn, several times; and whether each of them did the work."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.contenders import BASELINES, REFERENCE, Contender, contenders, python
from tests.benchmarks.measure import BenchmarkError, run
from tests.benchmarks.workloads import WARMUP_ROUNDS, Plan, Workload

#: How far the drift of two fedlit contenders may be apart, relative: they round differently, and nothing else.
DRIFT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Run:
    """One run of one contender.

    Attributes:
        samples: Training samples of the timed rounds.
        clients: Client fits of the timed rounds.
        seconds: Sum over the timed rounds, evaluation, logging and checkpoints excluded.
        wall_seconds: The same with all that happens in a round and between rounds.
        drift: Mean ||w_k - w_t|| of the last round; none for baselines, which start from other weights.
    """

    samples: int
    clients: int
    seconds: float
    wall_seconds: float
    drift: float | None

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds

    @property
    def ms_per_client(self) -> float:
        return 1e3 * self.seconds / self.clients

    @property
    def wall_ms_per_client(self) -> float:
        return 1e3 * self.wall_seconds / self.clients


@dataclass
class Race:
    """The runs of all contenders on one workload, a list a contender with a run for each repeat that it finished.

    Attributes:
        plan: What was trained.
        runs: By contender's name, by repeat.
        peak_mb: By contender's name, the peak memory of its processes, 10^6 bytes, from a run of its own.
        gflops: The machine's sgemm peak in each repeat, GFLOP/s.
        failures: By contender's name, why it is out.
    """

    plan: Plan
    runs: dict[str, dict[int, Run]] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    gflops: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str, value: Callable[[Run], float]) -> float:
        """Median over repeats of ``value``, divided by that of the reference in the same repeat."""
        reference = self.runs[REFERENCE]
        return median(value(run) / value(reference[i]) for i, run in self.runs[name].items() if i in reference)

    def bounds(self) -> tuple[float, float]:
        """How many times faster than the reference its rounds could be at the sgemm peak, and rounds with evaluation.

        All products are counted that a forward pass and its gradients have by definition. Medians over repeats.
        """
        workload, found = self.plan.workload, []
        for i, done in self.runs[REFERENCE].items():
            training = done.samples * workload.flop_per_sample
            testing = workload.rounds * workload.test_size * workload.flop_per_test
            at_peak = (flop / (1e9 * self.gflops[i]) for flop in (training, training + testing))
            found.append([done.wall_seconds / seconds for seconds in at_peak])
        rounds, all_in = zip(*found, strict=True)
        return median(rounds), median(all_in)

    @property
    def standing(self) -> list[str]:
        """Contenders that have not failed."""
        return [name for name in self.runs if name not in self.failures]


@contextmanager
def prepared(workload: Workload) -> Iterator[tuple[Plan, Path]]:
    """The workload's plan, and the folder with its data."""
    with tempfile.TemporaryDirectory(prefix="fedlit-benchmark-") as name:
        folder = Path(name)
        (folder / "workload.json").write_text(json.dumps(asdict(workload)))
        run(python("tests.benchmarks.prepare", folder))
        yield Plan.load(folder), folder


def race(workload: Workload, repeats: int, only: Collection[str], tell: Callable[[str], None]) -> Race:
    """Run every contender ``repeats`` times, one after the other and then again from the first.

    A contender that fails, or trains other samples or steps than the plan's, is out and named in ``failures``.

    Args:
        workload: What to train.
        repeats: Runs of each contender, at least 1.
        only: Names of contenders, beside the reference; empty is all.
        tell: Told what is going on.

    Raises:
        BenchmarkError: When the reference fails: there is nothing to compare with.
    """
    with prepared(workload) as (plan, folder):
        outcome = Race(plan)
        everyone = contenders(plan, folder)
        chosen = [c for c in everyone if not only or c.name in only or c.name == REFERENCE]
        for name in set(only) - {c.name for c in everyone} - set(BASELINES):
            outcome.failures[name] = f"there is none of that name, only {', '.join(c.name for c in everyone)}"
        for repeat in range(repeats):
            outcome.gflops.append(run(python("tests.benchmarks.sgemm")).result["gflops"])
            for contender in chosen:
                if contender.name in outcome.failures:
                    continue
                tell(f"{workload.name}, repeat {repeat + 1} of {repeats}: {contender.name}")
                try:
                    outcome.runs.setdefault(contender.name, {})[repeat] = run_once(contender, plan)
                except BenchmarkError as error:
                    if contender.name == REFERENCE:
                        raise
                    outcome.failures[contender.name] = str(error)
        check_drift(outcome)
        for contender in chosen:
            if contender.name in outcome.standing:
                tell(f"{workload.name}, memory: {contender.name}")
                outcome.peak_mb[contender.name] = run(contender.command, contender.environment, weigh=True).peak_mb
        return outcome


def run_once(contender: Contender, plan: Plan) -> Run:
    """Run a contender and check that it did the plan's work.

    Raises:
        BenchmarkError: When it fails, or did not.
    """
    finished = run(contender.command, contender.environment)
    result = finished.result
    check(result, plan)
    timed = slice(WARMUP_ROUNDS, None)
    return Run(
        samples=sum(plan.samples[timed]),
        clients=sum(map(len, plan.cohorts[timed])),
        seconds=sum(result["seconds"][timed]),
        wall_seconds=sum(result["wall_seconds"][timed]),
        drift=result.get("drift"),
    )


def check(result: dict[str, Any], plan: Plan) -> None:
    """Compare what was counted in each round with the plan.

    One call of an optimizer may step several clients at once. Only then may there be more steps than the plan's, those
    of clients that are done and wait for others of their batch.

    Raises:
        BenchmarkError: When they differ.
    """
    if result["samples"] != plan.samples:
        raise BenchmarkError(f"it trained {result['samples']} samples a round, the cohorts have {plan.samples}")
    for calls, steps, needed in zip(result["calls"], result["steps"], plan.steps, strict=True):
        if steps < needed or (steps > needed and calls >= needed):
            raise BenchmarkError(f"it made {result['steps']} steps a round, the cohorts need {plan.steps}")


def check_drift(outcome: Race) -> None:
    """Put out whoever moved the clients' models by another distance than most of fedlit's contenders did."""
    drifts = {name: run.drift for name, runs in outcome.runs.items() for run in runs.values() if run.drift is not None}
    usual = median(drifts.values()) if drifts else 0.0
    for name, drift in drifts.items():
        if not math.isclose(drift, usual, rel_tol=DRIFT_TOLERANCE):
            outcome.failures[name] = f"its clients moved by {drift:.6f} in the last round, the others' by {usual:.6f}"
