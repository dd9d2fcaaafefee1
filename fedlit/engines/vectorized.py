"""Many small clients as one batched program."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.members import of_client, overridden
from fedlit.clients.probe import draws, mixes_examples, unreached_parameter, written_buffer
from fedlit.clients.rehearsal import is_plain_mean
from fedlit.core.errors import InputError
from fedlit.core.layout import read_state
from fedlit.core.messages import one_line
from fedlit.core.private_torch import BatchNorm, Dropout, compiled_parts
from fedlit.core.records import Broadcast, ClientAnswer, ClientTask, ClientUpdate
from fedlit.engines.attempt import attempt
from fedlit.engines.block import CALLED_BY_BLOCKS, Block
from fedlit.engines.engine import Engine
from fedlit.engines.loop import needs_trainer, single_optimizer
from fedlit.engines.site import Site
from fedlit.engines.traced import Program, StepFunction, plain, traced

#: Optimizers that treat every scalar by itself, so that a stack of clients is one parameter to them.
ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.Adagrad,
    optim.Adadelta,
    optim.RMSprop,
)

#: Steps of a block from which on its program is traced. A trace costs as much as some 100 plain steps of a small net.
TRACED_FROM = 100


class VectorizedEngine(Engine):
    """Trains a block of clients as one program: every tensor of the network has the clients as its first dimension.

    For many small clients, where a step's cost is mostly Python and kernel launches: they are paid once a block. A
    block takes as many steps as its longest client and narrows as the others finish; clients are blocked by their
    number of steps. Results equal the other engines' to rounding.

    Blocks of many steps run as traces: the network's Python code runs once for shapes of tensors, and the kernels that
    it launched are repeated in every step of every round. Where that would not be right, as in mixed precision, or
    is not possible, the network itself runs.

    Refused, because they would not be right: BatchNorm and whatever else writes buffers, active dropout (its masks
    could not be those of the other engines), augmented batches, optimizers that look at more than one scalar at a time,
    losses that are not plain means over samples, networks that draw random numbers or look at other examples of a
    batch, parameters that the loss does not reach, mixed precision with a gradient scaler.

    Args:
        block_size: Clients to a block, at least 1; memory grows with it.
        trace: Whether to trace; for a network whose Python code does not do the same in every step, it must be false.
    """

    def __init__(self, block_size: int = 100, trace: bool = True) -> None:
        if block_size < 1:
            raise InputError(f"block_size must be at least 1, got {block_size}")
        self.block_size = self.together = block_size
        self.trace = trace
        self._programs: dict[Hashable, Program | None] = {}

    def check(self, client: ClientModule, site: Site) -> None:
        reason, remedy = needs_trainer(client), "TrainerEngine"
        if reason is None:
            reason, remedy = cannot_vectorize(client, site) or fails_in_a_block(client, site), "LoopEngine"
        if reason is not None:
            raise InputError(f"{reason}, which VectorizedEngine does not run; use federation.engine {remedy}")

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
                self._programs.clear()  # a step may not have been traced because of what failed here
                raise

        ordered = sorted(tasks, key=lambda task: (-task.steps, task.client))
        for start in range(0, len(ordered), self.block_size):
            yield from attempt(fit, ordered[start : start + self.block_size])

    def close(self) -> None:
        self._programs.clear()


def cannot_vectorize(client: ClientModule, site: Site) -> str | None:
    """Why a client cannot be one of a batched program, or None."""
    if own := overridden(client, of_client(), CALLED_BY_BLOCKS):
        return own
    if client.algorithm.changes_fit:
        return f"{client.algorithm.name} changes how clients train"
    for what, module in {"net": client.net, "loss": client.loss}.items():
        if isinstance(module, nn.Module) and (parts := compiled_parts(module)):
            return f"{parts[0] or f'the {what}'} is compiled"
    for name, module in client.net.named_modules():
        if isinstance(module, BatchNorm):
            return f"{name} is a {type(module).__name__}"
        if isinstance(module, Dropout) and module.p > 0:
            return f"{name} drops out with p = {module.p}"
    data = site.data
    if data.augmentation:
        return "data.augment draws for each batch of each client anew"
    rows = torch.linspace(0, len(data.train.inputs) - 1, 4).long()
    inputs, name = data.transform(data.train.inputs[rows]), type(client.net).__name__
    if written := written_buffer(client.net, inputs):
        return f"{name} writes its buffer {written} as it trains"
    if draws(client.net, inputs):
        return f"{name} draws random numbers as it trains"
    if mixes_examples(client.net, inputs):  # in a block some are padding
        return f"{name} computes an example's logits from the others of its batch"
    if unreached := unreached_parameter(client.net, inputs):  # it has a gradient of zeros in a block, and else none
        return f"the loss does not reach {unreached}"
    if shared := _shared_module(client.net):
        return f"{shared} is a part of the net under another name"
    if not is_plain_mean(client.loss, data.num_classes, site.device):
        return f"the loss {type(client.loss).__name__} is not a plain mean over samples"
    if site.precision.precision == "16-mixed":
        return "precision 16-mixed scales gradients"
    optimizer = single_optimizer(client)
    if type(optimizer) not in ELEMENTWISE:  # a subclass may step otherwise
        return f"{type(optimizer).__name__} is not known to treat every scalar by itself"
    stacks = [parameter.detach()[None].requires_grad_() for parameter in client.parameters_]
    if _arguments(optimizer, client.parameters_) != _arguments(client.optimizer(stacks), stacks):
        return "model.client_optimizer tells parameters apart by their shapes, which have one dimension more in a block"
    return None


def _arguments(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[dict[str, str]]:
    """The optimizer's arguments for each parameter, as texts; none where it does not have it."""
    found = {
        id(parameter): {name: repr(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return [found.get(id(parameter), {}) for parameter in parameters]


def fails_in_a_block(client: ClientModule, site: Site) -> str | None:
    """What keeps the network's code out of a batched program, as a choice by values does, in words; or None."""
    start, sizes = read_state(client.net, client.layout), site.data.partition.sizes
    client.receive(Broadcast(start, (0.0,) * len(client.layout.trainable), start.floats[:0]))
    largest = int(sizes.argmax())
    task = ClientTask(largest, 0, 0, steps=1, epochs=1.0, num_examples=int(sizes[largest]), weight=1.0)
    try:
        with torch.random.fork_rng(devices=[]):
            Block(client, [task] * 2, site.data, site.precision).rehearse()
    except Exception as error:  # of whatever kind: one by one, it shows whose it is
        return f"{type(client.net).__name__} does not train in a block ({one_line(str(error), 100)})"
    return None


def _shared_module(net: nn.Module) -> str | None:
    """A second name of a module with parameters, which ``torch.func.functional_call`` does not put back as it was."""
    once = {name for name, _ in net.named_modules()}
    for name, module in net.named_modules(remove_duplicate=False):
        if name not in once and any(True for _ in module.parameters()):
            return str(name)
    return None
