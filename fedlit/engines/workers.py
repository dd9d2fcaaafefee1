"""Uses every core of a CPU: clients are fitted in parallel, in forked worker processes of one thread each."""

from __future__ import annotations

import mmap
import os
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedlit.clients.client import ClientModule
from fedlit.core.counts import as_int
from fedlit.core.errors import ElsewhereError, InputError
from fedlit.core.private_torch import compile_in_process
from fedlit.core.records import Broadcast, ClientAnswer, ClientFailure, ClientTask, ClientUpdate, Weights
from fedlit.engines.attempt import RUN_ERRORS
from fedlit.engines.engine import Engine
from fedlit.engines.loop import LoopEngine
from fedlit.engines.site import Site

#: Blocks that a worker holds: the current one and the next, so that it never waits for the parent.
DEPTH = 2
#: The parts of a broadcast in shared memory; the other parts are sent with each request.
SHARED = ("weights", "message")
#: The most workers, and the most clients in a block; a larger number is taken for a mistake.
MAX_WORKERS = 1024
#: Environment variable with the number of cores to use.
CORES_VARIABLE = "FEDLIT_CORES"


class WorkersEngine(Engine):
    """Runs another engine in worker processes, which are forked in the first round and kept.

    Convolutions of a small batch cannot use more than one or two cores, so one process per core trains faster than one
    thread per core. A fork shares the data and all imports with its parent, so a worker starts in milliseconds and
    needs memory only for its own activations. Clients are given to idle workers, and their updates are yielded in the
    order of the tasks, so the result does not depend on the number of workers.

    A worker that dies (the kernel kills one if memory runs out) is replaced, and its clients are fitted again, with the
    same result. If it dies again, the clients are fitted one by one, and a client whose worker dies then is a
    ``ClientFailure``.

    It needs a CPU, a system with fork (not Windows), and a process that sees no GPU: with one, PyTorch starts threads
    for gradients on it in the first backward pass, also in one on a CPU, and they do not survive a fork.

    Args:
        engine: The engine that workers run; None is ``LoopEngine``.
        workers: Number of processes; None is one for each core that this process may use.
        block_size: Number of clients that a worker is given at a time, a multiple of those that the engine trains
            together; None is their number.
    """

    def __init__(self, engine: Engine | None = None, workers: int | None = None, block_size: int | None = None) -> None:
        if workers is not None and not 1 <= workers <= MAX_WORKERS:
            raise InputError(
                f"workers must be from 1 to {MAX_WORKERS}, got {workers}; leave it out for one worker per core"
            )
        self.engine = engine or LoopEngine()
        self.workers = as_int("workers", workers or available_cores())
        self.together = self.engine.together
        self.block_size = self.together if block_size is None else as_int("block_size", block_size)
        if not 1 <= self.block_size <= MAX_WORKERS:
            raise InputError(
                f"block_size must be from 1 to {MAX_WORKERS}, got {self.block_size}; by default it is the number of "
                f"clients that {type(self.engine).__name__} trains together, {self.together}"
            )
        if self.block_size % self.together:
            raise InputError(
                f"block_size must be a multiple of the {self.together} clients that {type(self.engine).__name__} "
                f"trains together, as their results may depend on it, got {self.block_size}; leave it out"
            )
        self._pool: _Pool | None = None

    def check(self, client: ClientModule, site: Site) -> None:
        if site.device.type != "cpu":
            raise InputError("WorkersEngine is for CPUs; use federation.engine LoopEngine on an accelerator")
        if reason := cannot_fork():
            raise InputError(f"WorkersEngine forks processes, but {reason}; use federation.engine LoopEngine")
        self.engine.check(client, site)

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        if self._pool is None or self._pool.client is not client:
            self.close()
            self._pool = _Pool(self.engine, self.workers, self.block_size, client, site)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the parent only averages; more threads would take cores from the workers
        try:
            yield from self._pool.run([tasks[i : i + self.block_size] for i in range(0, len(tasks), self.block_size)])
        except BaseException:
            self.close()  # so that no answer of this round is read in the next one
            raise
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def available_cores() -> int:
    """Number of cores that this process may use, or the value of ``FEDLIT_CORES``.

    Raises:
        InputError: If the value is not a whole number in range.
    """
    if given := os.environ.get(CORES_VARIABLE):
        if not given.isdecimal() or not 1 <= int(given) <= MAX_WORKERS:
            raise InputError(
                f"{CORES_VARIABLE} must be a whole number from 1 to {MAX_WORKERS}, got {given!r}; unset it to use all "
                "cores"
            )
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cannot_fork() -> str | None:
    """Why a process forked now could not train, with a remedy; None if it could."""
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    if torch.cuda.is_available():
        return "PyTorch's threads for a GPU do not survive a fork; CUDA_VISIBLE_DEVICES= before the command hides it"
    if torch.backends.mps.is_available() or torch.xpu.is_available():
        return "PyTorch's threads for this machine's GPU do not survive a fork"
    return None


class _Reply(NamedTuple):
    """A worker's answer to a block; the vectors are in shared memory, in the order of ``fits``."""

    fits: list[tuple[ClientTask, list[float], dict[str, float], bool]]  # task, squares, metrics, whether it keeps any
    failures: list[ClientFailure]
    stop: Exception | None = None


class _Result(NamedTuple):
    """Shared memory for one client's weights and for the vector that it keeps."""

    weights: Weights
    kept: Tensor


class _Request(NamedTuple):
    """A request to a worker: fit a block with this round's terms and write the weights into a slot."""

    slot: int
    block: Sequence[ClientTask]
    terms: Mapping[str, Any]


class _Pool:
    """The workers for one client module, and the shared broadcast that they read."""

    def __init__(self, engine: Engine, workers: int, block_size: int, client: ClientModule, site: Site) -> None:
        self.client = client
        sent = client.broadcast
        self._shared = sent._replace(weights=_shared(sent.weights), message=_shared_tensor(sent.message))
        self._workers: list[_Worker] = []
        for _ in range(workers):
            self._workers.append(_Worker(engine, block_size, client, site, self._shared, self._workers))

    def run(self, blocks: list[Sequence[ClientTask]]) -> Iterator[ClientAnswer]:
        """Fit the blocks and yield their answers in order; only a few blocks per worker wait for their turn."""
        sent = self.client.broadcast
        terms = {name: value for name, value in sent._asdict().items() if name not in SHARED}
        _copy(sent.weights, self._shared.weights)
        self._shared.message.copy_(sent.message)
        todo = deque(enumerate(blocks))
        done: dict[int, list[ClientAnswer]] = {}
        for turn in range(len(blocks)):
            while True:
                for worker in self._workers * DEPTH:
                    if todo and worker.has_room and todo[0][0] < turn + 2 * DEPTH * len(self._workers):
                        worker.hand_out(*todo.popleft(), terms)
                if turn in done:
                    break
                busy = {worker.pipe: worker for worker in self._workers if worker.is_busy}
                for pipe in wait(list(busy)):
                    index, answers = busy[pipe].take()  # type: ignore[index]
                    done[index] = answers
            yield from done.pop(turn)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


class _Worker:
    """The parent's end of a worker process.

    Args:
        all_workers: All workers of the pool; the list grows.
    """

    def __init__(
        self,
        engine: Engine,
        block_size: int,
        client: ClientModule,
        site: Site,
        broadcast: Broadcast,
        all_workers: list[_Worker],
    ) -> None:
        kept = torch.empty(client.algorithm.kept_size)
        self._results = [
            [_Result(_shared(broadcast.weights), _shared_tensor(kept)) for _ in range(block_size)] for _ in range(DEPTH)
        ]
        self._free = deque(range(DEPTH))
        self._held: deque[tuple[int, _Request]] = deque()  # with the block's index
        self._arguments = (engine, client, site, broadcast, self._results)
        self._all_workers = all_workers
        self._start()

    def _start(self) -> None:
        """Fork the process."""
        self.pipe, theirs = get_context("fork").Pipe()
        parents_ends = [self.pipe, *(worker.pipe for worker in self._all_workers if worker is not self)]
        self._process = ForkProcess(target=_run_worker, args=(theirs, parents_ends, *self._arguments), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that hold locks during a fork. The worker uses no lock that another thread of
            # the parent may hold: it computes, writes to shared memory and answers through its own pipe.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    @property
    def is_busy(self) -> bool:
        return bool(self._held)

    def hand_out(self, index: int, block: Sequence[ClientTask], terms: Mapping[str, Any]) -> None:
        """Give the worker a block to fit with this round's terms."""
        request = _Request(self._free.popleft(), list(block), terms)
        self._held.append((index, request))
        self._send(request)

    def take(self) -> tuple[int, list[ClientAnswer]]:
        """The answers to the oldest block that the worker holds, and that block's index."""
        index, request = self._held.popleft()
        answers = self._receive(request)
        if answers is None:
            names = ", ".join(str(task.client) for task in request.block)
            warnings.warn(
                f"the worker that trained client {names} died with exit status {self._exit_status}; fitting it again",
                stacklevel=2,
            )
            answers = self._retry(request)
            for _, later in self._held:
                self._send(later)
        self._free.append(request.slot)
        return index, answers

    def _send(self, request: _Request) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it died, which _receive will notice
            self.pipe.send(request)

    def _receive(self, request: _Request) -> list[ClientAnswer] | None:
        """The answers to a block; None if the process died, which is then replaced."""
        try:
            reply: _Reply = self.pipe.recv()
        except (EOFError, OSError):
            self.close()
            self._exit_status = self._process.exitcode
            self._start()
            return None
        if reply.stop:
            raise reply.stop
        results = self._results[request.slot]
        updates = [
            ClientUpdate(
                task,
                Weights(*(tensor.clone() for tensor in result.weights)),
                squares,
                metrics,
                result.kept.clone() if keeps else None,
            )
            for (task, squares, metrics, keeps), result in zip(reply.fits, results, strict=False)
        ]
        return [*updates, *reply.failures]

    def _retry(self, request: _Request) -> list[ClientAnswer]:
        """Fit a block again whose worker died: first the whole block, for the same bits, then client by client."""
        self._send(request)
        answers = self._receive(request)
        if answers is not None:
            return answers
        if len(request.block) > 1:
            return [answer for task in request.block for answer in self._retry(request._replace(block=[task]))]
        reason = f"its worker died twice, with exit status {self._exit_status}; is there enough memory?"
        return [ClientFailure(request.block[0], reason)]

    def close(self) -> None:
        """Kill the process."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _run_worker(
    pipe: Connection,
    parents_ends: list[Connection],
    engine: Engine,
    client: ClientModule,
    site: Site,
    broadcast: Broadcast,
    results: list[list[_Result]],
) -> None:
    """Main function of a worker process: fit blocks from the pipe until the parent closes it or dies."""
    for end in parents_ends:
        end.close()  # otherwise a worker would not notice that the parent has died
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    compile_in_process()
    while True:
        try:
            slot, block, terms = pipe.recv()
        except EOFError:
            break
        reply = _Reply([], [])
        try:
            client.receive(broadcast._replace(**terms))
            for answer in engine.run(client, block, site):
                if isinstance(answer, ClientFailure):
                    reply.failures.append(answer)
                else:
                    result, keeps = results[slot][len(reply.fits)], answer.kept is not None
                    _copy(answer.weights, result.weights)
                    if answer.kept is not None:
                        result.kept.copy_(answer.kept)
                    reply.fits.append((answer.task, list(answer.squares), dict(answer.metrics), keeps))
        except RUN_ERRORS as error:
            reply = _Reply([], [], type(error)(*error.args))
        except Exception:
            reply = _Reply([], [], ElsewhereError(f"a worker failed:\n{traceback.format_exc()}"))
        try:
            pipe.send(reply)
        except BrokenPipeError:
            break
    os._exit(0)  # without running or flushing what was inherited from the parent


def _shared(like: Weights) -> Weights:
    """Tensors like those given, in memory that forks share; it is anonymous, so no limit of /dev/shm applies."""
    return Weights(*(_shared_tensor(tensor) for tensor in like))


def _shared_tensor(like: Tensor) -> Tensor:
    if not like.numel():
        return torch.empty_like(like)
    return torch.frombuffer(mmap.mmap(-1, like.nbytes), dtype=like.dtype)


def _copy(source: Weights, target: Weights) -> None:
    for theirs, ours in zip(source, target, strict=True):
        ours.copy_(theirs)
