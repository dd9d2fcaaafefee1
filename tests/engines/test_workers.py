import os
import signal
from pathlib import Path

import pytest
import torch
from federations import Watch, data, fit, net, site, weights
from lightning import Callback

from fedlit.core.errors import InputError
from fedlit.engines import VectorizedEngine, WorkersEngine
from fedlit.engines.auto import auto
from fedlit.engines.loop import LoopEngine
from fedlit.engines.trainer import TrainerEngine
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


class Mistaken(ClientModule):
    def start(self, task):
        raise InputError("mu must be finite; lower it")


def module(client_class: type[ClientModule]) -> FederatedModule:
    made = FederatedModule(net())
    made.client_class = client_class
    return made


def test_workers_end_with_the_run():
    before = children()
    fit(loop=FederatedLoop(4, seed=0, engine=WorkersEngine(workers=3)))
    assert children() == before


@pytest.mark.trust
def test_an_error_in_a_worker_names_the_client_and_where_too_many_ends_the_workers():
    before = children()
    with pytest.raises(RuntimeError, match=r"client 2: RuntimeError: a bad sample[\s\S]*in start\n"):
        fit(module(Failing), FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2), max_rejected=0))
    assert children() == before


@pytest.mark.trust
def test_a_mistake_of_the_config_in_a_worker_ends_the_run():
    before = children()
    with pytest.raises(InputError, match=r"^mu must be finite; lower it$"):
        fit(module(Mistaken), FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2)))
    assert children() == before


@pytest.mark.trust
def test_an_engine_that_fails_in_a_worker_ends_the_run_with_its_traceback():
    class Broken(LoopEngine):
        def run(self, client, tasks, site):
            yield from super().run(client, tasks, site)
            raise LookupError("a mistake in the engine")

    with pytest.raises(RuntimeError, match=r"a worker failed:\n[\s\S]*LookupError: a mistake in the engine"):
        fit(loop=FederatedLoop(6, seed=0, engine=WorkersEngine(Broken(), workers=2)))


@pytest.mark.trust
@pytest.mark.parametrize(("engine", "block_size"), [(LoopEngine(), 1), (LoopEngine(), 3)])
def test_a_worker_that_was_killed_is_replaced_and_changes_no_bit(tmp_path: Path, engine: LoopEngine, block_size: int):
    before = children()

    class Killed(ClientModule):
        """Its process is killed once, in the fit of client 2 in the second round."""

        def finish(self, task, data):
            if (task.client, task.round) == (2, 1) and not (tmp_path / "killed").exists():
                (tmp_path / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().finish(task, data)

    expected = weights(fit(loop=FederatedLoop(6, seed=0, engine=LoopEngine()), rounds=3).net)
    workers = WorkersEngine(engine, workers=2, block_size=block_size)
    with pytest.warns(
        UserWarning, match=r"worker that trained client .*2.* died with exit status -9; fitting it again"
    ):
        run = fit(module(Killed), FederatedLoop(6, seed=0, engine=workers), rounds=3)
    assert torch.equal(weights(run.net), expected)
    assert run.round_metrics["round/rejected"] == 0
    assert children() == before


@pytest.mark.trust
def test_a_worker_killed_between_rounds_is_replaced_too():
    before = children()

    class Killer(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                for child in children() - before:
                    os.kill(child, signal.SIGKILL)

    expected = weights(fit(loop=FederatedLoop(6, seed=0, engine=LoopEngine())).net)
    with pytest.warns(UserWarning, match="died with exit status -9; fitting it again"):
        run = fit(loop=FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2)), callbacks=[Killer()])
    assert torch.equal(weights(run.net), expected)
    assert children() == before


@pytest.mark.trust
def test_a_client_whose_worker_dies_each_time_is_rejected_by_name():
    class Greedy(ClientModule):
        """Stands for a client for which memory never suffices."""

        def training_step(self, batch, batch_idx):
            if self.trains == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().training_step(batch, batch_idx)

        def start(self, task):
            super().start(task)
            self.trains = task.client

    message = r"1 of 6 .* round 1 .*: client 2: its worker died twice, with exit status -9; is there enough memory\?$"
    with pytest.warns(UserWarning, match=message), pytest.warns(UserWarning, match="died with exit status -9; fitting"):
        run = fit(module(Greedy), FederatedLoop(6, seed=0, engine=WorkersEngine(workers=2)), rounds=1)
    assert run.round_metrics["round/rejected"] == 1
    assert run.round_metrics["round/clients"] == 5


@pytest.mark.parametrize("option", [{"workers": 0}, {"block_size": 0}])
def test_counts_below_one_are_refused(option: dict[str, int]):
    with pytest.raises(InputError, match="must be from 1 to 1024, got 0"):
        WorkersEngine(**option)


@pytest.mark.parametrize(("together", "block_size", "given"), [(1, None, 1), (1, 3, 3), (10, None, 10), (10, 20, 20)])
def test_a_worker_is_given_what_its_engine_trains_together(together: int, block_size: int | None, given: int):
    workers = WorkersEngine(LoopEngine() if together == 1 else VectorizedEngine(together), block_size=block_size)
    assert (workers.block_size, workers.together) == (given, together)


@pytest.mark.parametrize("block_size", [1, 5, 25])
def test_a_block_that_divides_clients_that_are_trained_together_is_refused(block_size: int):
    with pytest.raises(InputError, match=f"multiple of the 10 clients that VectorizedEngine .* got {block_size}"):
        WorkersEngine(VectorizedEngine(10), block_size=block_size)


def test_the_default_engine_is_one_worker_per_core_or_the_plain_loop(monkeypatch: pytest.MonkeyPatch):
    for cores, expected in ((4, WorkersEngine), (1, LoopEngine)):
        monkeypatch.setattr("fedlit.engines.auto.available_cores", lambda cores=cores: cores)
        watch = Watch()
        fit(loop=FederatedLoop(2, seed=0), rounds=1, callbacks=[watch])
        running = watch.session.engine
        assert type(running) is expected
        if isinstance(running, WorkersEngine):
            assert running.workers == cores


def test_a_process_that_sees_a_gpu_forks_no_workers_and_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedlit.engines.workers.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("fedlit.engines.auto.available_cores", lambda: 4)
    watch = Watch()
    fit(loop=FederatedLoop(2, seed=0), rounds=1, callbacks=[watch])
    assert type(watch.session.engine) is LoopEngine
    assert "CUDA_VISIBLE_DEVICES= before the command hides it" in watch.session.note
    with pytest.raises(InputError, match="threads for a GPU do not survive a fork; CUDA_VISIBLE_DEVICES= before"):
        fit(loop=FederatedLoop(2, seed=0, engine=WorkersEngine()), rounds=1)


def test_the_default_engine_is_a_trainer_for_a_client_that_needs_one():
    class Hooked(ClientModule):
        def on_train_start(self):
            pass

    watch = Watch()
    fit(module(Hooked), FederatedLoop(2, seed=0), data(), rounds=1, callbacks=[watch])
    assert type(auto(watch.session.client, site())) is TrainerEngine
