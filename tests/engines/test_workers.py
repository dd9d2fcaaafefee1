import os
import signal
import threading
import time
from pathlib import Path

import pytest
from federations import data, fit, net

from fedlit.engines import WorkersEngine
from fedlit.engines.auto import auto
from fedlit.engines.loop import LoopEngine
from fedlit.engines.trainer import TrainerEngine
from fedlit.errors import InputError
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule


def children() -> set[int]:
    """Processes whose parent is this one, that are not zombies."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


class Failing(ClientModule):
    def start(self, task):
        super().start(task)
        if task.client == 2:
            raise RuntimeError("a bad sample")


class Slow(ClientModule):
    def start(self, task):
        super().start(task)
        time.sleep(5)


def module(client_class: type[ClientModule]) -> FederatedModule:
    made = FederatedModule(net())
    made.client_class = client_class
    return made


def test_workers_end_with_the_run():
    before = children()
    fit(loop=FederatedLoop(4, seed=0, engine=WorkersEngine(workers=3)))
    assert children() == before


def test_an_error_in_a_worker_names_the_client_and_ends_the_workers():
    before = children()
    with pytest.raises(RuntimeError, match=r"training client 2 failed in a worker:[\s\S]*a bad sample"):
        fit(module(Failing), FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2)))
    assert children() == before


def test_a_killed_worker_is_an_error_that_names_its_client_not_a_hang():
    before = children()

    def kill_one() -> None:
        while not (children() - before):
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(min(children() - before), signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(RuntimeError, match=r"the worker that trained client \d+ died with exit status -9"):
        fit(module(Slow), FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2)))
    killer.join()
    assert children() == before


@pytest.mark.parametrize("option", [{"workers": 0}, {"block_size": 0}])
def test_counts_below_one_are_refused(option: dict[str, int]):
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        WorkersEngine(**option)


def test_no_engine_named_is_a_worker_a_core_or_the_bare_loop(monkeypatch: pytest.MonkeyPatch):
    for cores, expected in ((4, WorkersEngine), (1, LoopEngine)):
        monkeypatch.setattr("fedlit.engines.auto.available_cores", lambda cores=cores: cores)
        loop = FederatedLoop(2, seed=0)
        fit(loop=loop, rounds=1)
        assert type(loop.running) is expected
        if isinstance(loop.running, WorkersEngine):
            assert loop.running.workers == cores


def test_no_engine_named_is_a_trainer_for_a_client_that_needs_one():
    class Hooked(ClientModule):
        def on_train_start(self):
            pass

    loop = FederatedLoop(2, seed=0)
    fit(module(Hooked), loop, data(), rounds=1)
    assert type(auto(loop.client, loop.client.trainer)) is TrainerEngine


class Mistaken(ClientModule):
    def start(self, task):
        raise InputError("cannot write clients/2/000001.npy: No space left on device; free space")


def test_a_mistake_met_in_a_worker_is_told_as_one():
    with pytest.raises(InputError, match=r"^cannot write clients/2/000001.npy: No space left on device; free space$"):
        fit(module(Mistaken), FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2)))
