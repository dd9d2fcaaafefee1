"""Runs that are killed anywhere, again and again, end with the bits of a run that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from operator import attrgetter
from pathlib import Path

import forks
import pytest
from contents import contents

from fedlit.runs.compare import compare_runs
from fedlit.runs.folder import CHECKPOINTS, versions
from fedlit.runs.read import rows_of

pytestmark = pytest.mark.trust

ROUNDS = 5
COMMAND = (
    f"fit --trainer.max_epochs {ROUNDS} --trainer.accelerator cpu --trainer.limit_val_batches 1 "
    "--model.net.widths [2,4] --model.net.hidden 8 --model.net.norm batch --model.net.dropout 0.2 "
    "--model.server_optimizer Adam --model.server_optimizer.lr 0.01 "
    "--model.mu fedlit.federated.AdaptiveMu --federation.algorithm fedlit.algorithms.Scaffold "
    "--data.partition fedlit.data.Dirichlet --data.num_clients 20 --federation.clients_per_round 5 "
    "--federation.local_epochs 0.5 --name run"
).split()
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: Of a process that a signal stopped: by itself, or by the exits that we turn it into.
STOPPED = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143}
TIMEOUT_S = 120
by_turns = cycle((str, attrgetter("name")))


class Reference:
    """The run that is never stopped: its folder, how long it took, and what can be counted in it."""

    def __init__(self, logs: Path) -> None:
        forks.start(["fit", "--print_config"], logs).join(TIMEOUT_S)  # so that the server has started
        started = time.monotonic()
        process = forks.start(words(logs), logs, forks.Strike("file", 0, 0))
        process.join(TIMEOUT_S)
        assert process.exitcode == 0, forks.said(logs)
        self.seconds = time.monotonic() - started
        self.run = logs / "run" / "version_0"
        files, hooks = map(int, logs.with_suffix(".counts").read_text().split())
        self.counts = {"file": files, "hook": hooks}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(tmp_path_factory.mktemp("straight") / "logs")


def words(logs: Path) -> list[str]:
    """What begins a run, or goes on after its last checkpoint where there is one.

    The folder is named by turns from the current one, as by default, and absolutely: the name is not to matter.
    """
    begun = any((run / CHECKPOINTS / "last.ckpt").is_file() for run in versions(logs, "run"))
    named = next(by_turns)(logs)
    return [*COMMAND, "--logs_dir", named, *(["--ckpt_path", "last"] if begun else [])]


def killed(logs: Path, draw: random.Random, moment: str, straight: Reference) -> bool:
    """Begin or go on, and stop it at a moment that is drawn; whether it came to that before the end of the run."""
    number = draw.choice(SIGNALS)
    if moment == "time":
        process = forks.start(words(logs), logs)
        process.join(draw.uniform(0, straight.seconds))
        if process.pid is not None and process.is_alive():
            send(process.pid, number)
    else:
        strike = forks.Strike(moment, draw.randint(1, straight.counts[moment]), number)  # type: ignore[arg-type]
        process = forks.start(words(logs), logs, strike)
    process.join(TIMEOUT_S)
    assert process.exitcode in STOPPED | {0}, f"{moment}, {number!r}: {process.exitcode}\n{forks.said(logs)}"
    return process.exitcode != 0


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def finished(logs: Path) -> Path:
    """Go on to the end."""
    process = forks.start(words(logs), logs)
    process.join(TIMEOUT_S)
    assert process.exitcode == 0, forks.said(logs)
    return [run for run in versions(logs, "run") if (run / CHECKPOINTS / "last.ckpt").is_file()][-1]


def assert_same(run: Path, straight: Path) -> None:
    assert {each.part: each.difference for each in compare_runs(run, straight) if each.difference} == {}
    assert [row["round"] for row in rows_of(run)] == [str(round) for round in range(1, ROUNDS + 1)]
    assert contents(run) == contents(straight)


def kill_until(kills: int, seed: int, logs: Path, straight: Reference) -> int:
    """One run, stopped until it is finished or was stopped ``kills`` times; how often it was."""
    draw = random.Random(seed)
    done = int(killed(logs, draw, draw.choice(("file", "hook")), straight))  # a new run always comes to that
    while done < kills and killed(logs, draw, draw.choice(("time", "file", "hook")), straight):
        done += 1
    assert_same(finished(logs), straight.run)
    return done


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_at_random_ends_with_the_bits_of_one_that_never_was(
    seed: int, tmp_path: Path, straight: Reference
):
    assert kill_until(4, seed, tmp_path / "logs", straight) > 0


@pytest.mark.slow
def test_fifty_kills_at_random_leave_no_trace(tmp_path: Path, straight: Reference):
    kills, seed = 0, 100
    while kills < 50:
        kills += kill_until(5, seed, tmp_path / f"{seed}", straight)
        seed += 1


def every(moment: str, step: int, straight: Reference) -> Iterator[forks.Strike]:
    for at in range(1, straight.counts[moment] + 1, step):
        yield forks.Strike(moment, at, signal.SIGKILL)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["file", "hook"])
def test_a_kill_before_any_of_a_runs_steps_leaves_no_trace(moment: str, tmp_path: Path, straight: Reference):
    """Before every so-manyth event, with a step that is prime to those of a round, and once more in the resumed run."""
    for strike in every(moment, 37, straight):
        logs = tmp_path / f"{strike.at}"
        for again in (strike, strike._replace(at=strike.at // 2 + 1)):
            process = forks.start(words(logs), logs, again)
            process.join(TIMEOUT_S)
            assert process.exitcode in (-signal.SIGKILL, 0), forks.said(logs)
        assert_same(finished(logs), straight.run)


@pytest.mark.parametrize("engine", ["WorkersEngine", "TrainerEngine"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_polite_signal_ends_a_run_at_once_with_its_state_and_how_to_go_on(
    number: int, status: int, engine: str, tmp_path: Path
):
    logs = tmp_path / "logs"
    long = ["--federation.local_epochs", "500", "--federation.engine", f"fedlit.engines.{engine}"]
    process = forks.start([*words(logs), *long], logs)  # a round takes minutes
    run = logs / "run" / "version_0"
    await_state(run)
    assert process.pid is not None
    send(process.pid, number)
    process.join(20)
    assert process.exitcode == status
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    assert "stopped before the first round was finished" in forks.said(logs)
    assert "Traceback" not in forks.said(logs)


def await_state(run: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not (run / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)  # into the round
