"""Many small clients as one batched program."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from torch import Tensor

from fedlit.clients.client import ClientModule
from fedlit.core.counts import at_least
from fedlit.core.errors import InputError
from fedlit.core.records import ClientAnswer, ClientTask, ClientUpdate
from fedlit.engines.attempt import attempt
from fedlit.engines.batchable import cannot_vectorize, fails_in_block
from fedlit.engines.block import Block
from fedlit.engines.engine import Engine
from fedlit.engines.loop import needs_trainer
from fedlit.engines.site import Site
from fedlit.engines.traced import Program, StepFunction, plain, traced

#: A block with at least this many steps is traced. A trace costs about as much as 100 plain steps of a small net.
TRACED_FROM = 100


class VectorizedEngine(Engine):
    """Trains a block of clients as one program: in every tensor of the network, the first dimension is the client.

    It is for many small clients, where a step costs mostly Python and kernel launches, which are paid once for a block.
    A block takes as many steps as its longest client and narrows as the others finish; clients with similar numbers of
    steps share a block. Results equal those of the other engines to rounding.

    Blocks of many steps are traced: the network's Python code runs once for each shape of tensors, and the kernels that
    it launched are repeated in every step of every round. If that would be wrong, as in mixed precision, or is not
    possible, the network itself runs.

    Refused, because results would differ: BatchNorm and other writers of buffers, active dropout (its masks could not
    equal those of the other engines), augmented batches, optimizers that are not elementwise, losses that are not plain
    means over samples, networks that draw random numbers or mix the examples of a batch, parameters that the loss does
    not reach, and mixed precision with a gradient scaler.

    Args:
        block_size: Number of clients in a block, at least 1; memory grows with it.
        trace: Whether to trace; false is necessary for a network whose Python code differs from step to step.
    """

    def __init__(self, block_size: int = 100, trace: bool = True) -> None:
        self.block_size = self.together = at_least(1, "block_size", block_size, "100 is the default")
        self.trace = trace
        self._programs: dict[Hashable, Program | None] = {}

    def check(self, client: ClientModule, site: Site) -> None:
        reason, remedy = needs_trainer(client), "TrainerEngine"
        if reason is None:
            reason, remedy = cannot_vectorize(client, site) or fails_in_block(client, site), "LoopEngine"
        if reason is not None:
            raise InputError(f"{reason}, which VectorizedEngine does not support; use federation.engine {remedy}")

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        def program(step: StepFunction, state: Sequence[Tensor], batch: Sequence[Tensor]) -> Program:
            shapes = tuple((tensor.shape, tensor.dtype) for tensor in batch)
            key = client, client.loss, client.net.training, shapes
            if key not in self._programs:
                self._programs[key] = traced(step, state, batch)
            return self._programs[key] or plain(step)

        def fit(block: Sequence[ClientTask]) -> list[ClientUpdate]:
            is_traced = self.trace and site.precision.precision == "32-true" and block[0].steps >= TRACED_FROM
            trace = program if is_traced else None
            try:
                return Block(client, block, site.data, site.precision, trace).fit()
            except Exception:
                self._programs.clear()  # this failure may be the reason why a step could not be traced
                raise

        ordered = sorted(tasks, key=lambda task: (-task.steps, task.client))
        for start in range(0, len(ordered), self.block_size):
            yield from attempt(fit, ordered[start : start + self.block_size])

    def close(self) -> None:
        self._programs.clear()
